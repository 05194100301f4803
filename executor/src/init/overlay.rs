//! Overlay mounts from opened directories.
//!
//! Paths in options are limited to 255 bytes, so every directory is named by its descriptor.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use super::failure::{Attempt, Failed};

/// An overlay to be mounted.
pub(super) struct Overlay<'a> {
    /// Topmost first.
    pub(super) lowers: &'a [OwnedFd],
    pub(super) writes: Option<Writable<'a>>,
    /// Keeps the bookkeeping in attributes that are writable in a user namespace.
    pub(super) user_xattr: bool,
}

pub(super) struct Writable<'a> {
    pub(super) upper: &'a OwnedFd,
    pub(super) work: &'a OwnedFd,
}

impl Overlay<'_> {
    /// Mounts the overlay on the directory `at` and returns its root.
    pub(super) fn mount_at(&self, at: &Path) -> Result<OwnedFd, Failed> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).attempt(|| "open an overlay".into())?;
        match self.add_lowers(&context) {
            Ok(()) => self.create(&context, at),
            // Linux before 6.5 cannot add layers one by one.
            Err(Errno::INVAL) => self.mount_in_one_call(at),
            Err(error) => Err(Failed::new("add a layer to the overlay", error)),
        }
    }

    fn add_lowers(&self, context: &OwnedFd) -> Result<(), Errno> {
        self.lowers.iter().try_for_each(|lower| fsconfig_set_string(context, "lowerdir+", by_number(lower)))
    }

    fn create(&self, context: &OwnedFd, at: &Path) -> Result<OwnedFd, Failed> {
        let build = || {
            for (key, value) in self.options() {
                match value {
                    Some(value) => fsconfig_set_string(context, key, value)?,
                    None => fsconfig_set_flag(context, key)?,
                }
            }
            fsconfig_set_string(context, "source", "overlay")?;
            fsconfig_create(context)?;
            fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let tree =
            build().map_err(|error| Failed::new("mount the overlay", error).with_detail(log(context)))?;
        move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .attempt(|| format!("attach the overlay at `{}`", at.display()))?;
        Ok(tree)
    }

    fn mount_in_one_call(&self, at: &Path) -> Result<OwnedFd, Failed> {
        let lowers: Vec<String> = self.lowers.iter().map(by_number).collect();
        let mut options = format!("lowerdir={}", lowers.join(":"));
        for (key, value) in self.options() {
            options.push(',');
            options.push_str(key);
            if let Some(value) = value {
                options.push('=');
                options.push_str(&value);
            }
        }
        let options = CString::new(options).expect("numbers and keys hold no zero byte");
        mount("overlay", at, "overlay", MountFlags::empty(), options.as_c_str())
            .attempt(|| format!("mount an overlay of {} layers", self.lowers.len()))?;
        let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, at, path, Mode::empty()).attempt(|| "open the overlay".into())
    }

    fn options(&self) -> Vec<(&'static str, Option<String>)> {
        let mut options = vec![
            // The diff must show renamed and changed files in full.
            ("redirect_dir", Some("nofollow".to_owned())),
            ("metacopy", Some("off".to_owned())),
            ("index", Some("off".to_owned())),
        ];
        if let Some(writes) = &self.writes {
            options.push(("upperdir", Some(by_number(writes.upper))));
            options.push(("workdir", Some(by_number(writes.work))));
            // A layer is made durable later or not at all; syncing at unmount would only cost time.
            options.push(("volatile", None));
        }
        if self.user_xattr {
            options.push(("userxattr", None));
        }
        options
    }
}

fn by_number(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

/// Returns what the kernel says about a failed mount.
fn log(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0u8; 1024];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim_start_matches("e ").trim().to_owned());
        if length == 0 || lines.len() > 8 {
            break;
        }
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::UnshareFlags;
    use std::path::PathBuf;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn open(&self, name: &str) -> OwnedFd {
            let path = self.make(name);
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        }

        fn make(&self, name: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        }

        /// Mounts two layers in the given way and returns what a file of the upper one says.
        fn mount(&self, way: impl FnOnce(&Overlay<'_>, &Path) -> Result<OwnedFd, Failed>) -> String {
            std::fs::write(self.make("top").join("f"), "top").unwrap();
            std::fs::write(self.make("low").join("f"), "low").unwrap();
            let lowers = [self.open("top"), self.open("low")];
            let (upper, work) = (self.open("upper"), self.open("work"));
            let writes = Some(Writable { upper: &upper, work: &work });
            let overlay = Overlay { lowers: &lowers, writes, user_xattr: false };
            let at = self.make("at");
            let root = way(&overlay, &at).map_err(|failed| failed.at("mount")).unwrap();
            std::fs::write(at.join("new"), "x").unwrap();
            assert!(self.directory.path().join("upper/new").exists());
            let found = openat(&root, "f", OFlags::RDONLY, Mode::empty()).unwrap();
            std::io::read_to_string(std::fs::File::from(found)).unwrap()
        }
    }

    /// Runs on a thread with mounts of its own; says so where this is not allowed.
    fn with_own_mounts(test: impl FnOnce(&Place) + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if sys::unshare(UnshareFlags::NEWNS).is_err() {
                    eprintln!("SKIPPED: mounting needs root");
                    return;
                }
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                test(&Place { directory: tempfile::tempdir().unwrap() });
            });
        });
    }

    #[test]
    fn both_ways_of_mounting_give_the_same_tree() {
        with_own_mounts(|place| assert_eq!(place.mount(|overlay, at| overlay.mount_at(at)), "top"));
        with_own_mounts(|place| assert_eq!(place.mount(|overlay, at| overlay.mount_in_one_call(at)), "top"));
    }

    #[test]
    fn the_kernel_says_in_its_own_words_what_it_refuses() {
        with_own_mounts(|_| {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
            assert_eq!(fsconfig_set_string(&context, "nonsense", "x"), Err(Errno::INVAL));
            assert!(log(&context).contains("nonsense"));
        });
    }
}
