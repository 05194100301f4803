//! Fault points: the named places where mica touches disks and networks, at each of which a debug build can be made to fail or
//! to die, as if the disk were full or the process killed at just that instant.
//!
//! ```text
//! MICA_FAULT=PLACE@N=WHAT     at the N-th time PLACE is reached (`any`: all places together)
//! MICA_FAULT=PLACE@N+=WHAT    from then on
//! MICA_FAULT=trace=FILE       appends a line with the name of each place as it is reached
//! ```
//!
//! WHAT is `kill` or an error: `EIO` `ENOSPC` `EMFILE` `EROFS`. A release build has none of it: [`reach`] is empty there.

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place where disk or network are touched.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Returns the name by which it is asked for.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// The store's directory and its format file are made.
    StoreMake = "store-make",
    /// A lock file is opened.
    LockOpen = "lock-open",
    /// A lock is taken.
    LockTake = "lock-take",
    /// What a process uses is written to its lease.
    PinWrite = "pin-write",
    /// A directory of the store is made.
    DirectoryMake = "directory-make",
    /// A file is created in the scratch directory.
    ScratchCreate = "scratch-create",
    /// A file in the scratch directory is written.
    ScratchWrite = "scratch-write",
    /// Something is renamed to a free name.
    Place = "place",
    /// A file is renamed over another.
    Replace = "replace",
    /// Something is removed or renamed away.
    Remove = "remove",
    /// Something is marked as used.
    Touch = "touch",
    /// A small file of the store is read.
    StoreRead = "store-read",
    /// A directory of the store is listed.
    StoreList = "store-list",
    /// All that was written is put on the disk.
    Sync = "sync",
    /// What was put on the disk is marked so.
    MarkDurable = "mark-durable",
    /// Bytes of a blob are written.
    BlobWrite = "blob-write",
    /// A blob is opened.
    BlobOpen = "blob-open",
    /// Bytes of a blob are read.
    BlobRead = "blob-read",
    /// The index of a layer is opened.
    IndexOpen = "index-open",
    /// The index of a layer, or what is known of it, is written.
    IndexWrite = "index-write",
    /// The bytes of a file of a layer are opened.
    LayerOpen = "layer-open",
    /// What a step wrote is listed.
    UpperList = "upper-list",
    /// A file that a step wrote is read.
    UpperRead = "upper-read",
    /// Bytes of an archive's file are kept while a layer is unpacked.
    SpoolWrite = "spool-write",
    /// A directory, link or node is made while a layer is unpacked or written in full.
    ObjectMake = "object-make",
    /// A file is written then.
    ObjectWrite = "object-write",
    /// Its owner, mode, attributes or times are set.
    ObjectAttributes = "object-attributes",
    /// A directory of a build context is listed.
    ContextList = "context-list",
    /// A file of a build context is read.
    ContextRead = "context-read",
    /// A directory, link or node is made for a COPY.
    CopyMake = "copy-make",
    /// A file is opened or created for a COPY.
    CopyOpen = "copy-open",
    /// Bytes are written for a COPY.
    CopyWrite = "copy-write",
    /// An owner, mode, attribute or time is set for a COPY.
    CopyAttributes = "copy-attributes",
    /// A step's process is started.
    StepStart = "step-start",
    /// A step has ended and its changes have not been looked at.
    StepEnd = "step-end",
    /// The log or report of a build is written.
    LogWrite = "log-write",
    /// A file or directory of an output is made.
    OutputMake = "output-make",
    /// Bytes of an output are written.
    OutputWrite = "output-write",
    /// A finished output is renamed into place.
    OutputPlace = "output-place",
    /// A request is sent.
    RequestSend = "request-send",
    /// A piece of an answer is received.
    AnswerReceive = "answer-receive",
}

/// Comes to a place: fails or does not return where that was asked for.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: Point) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use armed::{InvalidFault, arm, reach};

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::io::{self, Write};
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::io::Errno;

    use super::Point;

    static ARMED: OnceLock<Armed> = OnceLock::new();

    #[derive(Debug)]
    enum Armed {
        Trace(File),
        Fault { fault: Fault, reached: AtomicU64 },
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Fault {
        /// `None` is any.
        point: Option<Point>,
        at: u64,
        stays: bool,
        /// `None` is death.
        error: Option<Errno>,
    }

    /// What was asked for is no fault.
    #[derive(Debug, thiserror::Error)]
    #[error("`{0}` is no fault: it is `PLACE@N=WHAT`, `PLACE@N+=WHAT` or `trace=FILE`")]
    pub struct InvalidFault(String);

    /// Arms this process; only the first call counts.
    pub fn arm(text: &str) -> Result<(), InvalidFault> {
        let invalid = || InvalidFault(text.to_owned());
        let armed = match text.strip_prefix("trace=") {
            Some(path) => {
                Armed::Trace(File::options().append(true).create(true).open(path).map_err(|_| invalid())?)
            }
            None => Armed::Fault { fault: text.parse().map_err(|()| invalid())?, reached: AtomicU64::new(0) },
        };
        // A process that is armed already stays as it is.
        let _ = ARMED.set(armed);
        Ok(())
    }

    /// Comes to a place: fails or does not return where that was asked for.
    pub fn reach(point: Point) -> io::Result<()> {
        match ARMED.get() {
            None => Ok(()),
            Some(Armed::Trace(file)) => {
                // What cannot be traced is missed by whoever reads the trace.
                let _ = (&*file).write_all(
                    format!(
                        "{}
",
                        point.name()
                    )
                    .as_bytes(),
                );
                Ok(())
            }
            Some(Armed::Fault { fault, reached }) => fault.meet(point, reached),
        }
    }

    impl Fault {
        fn meet(&self, point: Point, reached: &AtomicU64) -> io::Result<()> {
            if self.point.is_some_and(|wanted| wanted != point) {
                return Ok(());
            }
            let count = reached.fetch_add(1, Ordering::SeqCst) + 1;
            match self.error {
                _ if count < self.at || (count > self.at && !self.stays) => Ok(()),
                Some(error) => Err(error.into()),
                None => die(),
            }
        }
    }

    fn die() -> ! {
        // Whatever comes of it, nothing after this runs.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort()
    }

    impl FromStr for Fault {
        type Err = ();

        fn from_str(text: &str) -> Result<Self, ()> {
            let (place, what) = text.split_once('=').ok_or(())?;
            let (name, at) = place.split_once('@').ok_or(())?;
            let (at, stays) = at.strip_suffix('+').map_or((at, false), |at| (at, true));
            let point = match name {
                "any" => None,
                name => Some(*Point::ALL.iter().find(|point| point.name() == name).ok_or(())?),
            };
            let error = match what {
                "kill" => None,
                "EIO" => Some(Errno::IO),
                "ENOSPC" => Some(Errno::NOSPC),
                "EMFILE" => Some(Errno::MFILE),
                "EROFS" => Some(Errno::ROFS),
                _ => return Err(()),
            };
            Ok(Self { point, at: at.parse().map_err(drop)?, stays, error })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_fault_happens_at_its_place_and_time() {
            let counts = |text: &str| {
                let (fault, reached) = (text.parse::<Fault>().unwrap(), AtomicU64::new(0));
                let places = [Point::Place, Point::Sync, Point::Place, Point::Place];
                places.map(|point| fault.meet(point, &reached).is_err())
            };
            assert_eq!(counts("place@2=EIO"), [false, false, true, false]);
            assert_eq!(counts("place@2+=ENOSPC"), [false, false, true, true]);
            assert_eq!(counts("any@2=EMFILE"), [false, true, false, false]);
        }

        #[test]
        fn what_is_no_fault_is_refused() {
            for text in ["", "place", "place=EIO", "place@x=EIO", "nowhere@1=EIO", "place@1=EWHAT"] {
                assert!(text.parse::<Fault>().is_err(), "{text}");
            }
        }

        #[test]
        fn names_are_told_apart() {
            let names: std::collections::BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
            assert_eq!(names.len(), Point::ALL.len());
        }
    }
}
