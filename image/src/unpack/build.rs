//! Making a directory of an index.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use rayon::prelude::*;
use rustix::fs::{self, FileType, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::copy::copy_bytes;
use crate::RootDir;
use crate::index::{Bytes, Entry, LayerIndex, LayerPath, Node, name, parent, shown};

/// Neighbouring entries that one thread makes in one go.
const CHUNK: usize = 128;

/// How a layer becomes a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions<'a> {
    /// Whether files get their owners.
    pub ownership: Ownership,
    /// Whether device nodes are made; otherwise they are left out. Removals always are made.
    pub devices: bool,
    /// The attribute that marks a directory as opaque to overlayfs; without it nothing does.
    pub opaque_xattr: Option<&'a str>,
}

/// Whether files on disk have the owners the index gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// They have; an id that the user namespace does not map stays that of the process.
    Real,
    /// All belong to the process. Attributes that it may not set are left out.
    Ignore,
}

/// A layer could not be made a directory.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A system call failed.
    #[error("cannot {action} `{}`", shown(path))]
    Make {
        /// What was tried.
        action: &'static str,
        /// The entry's path.
        path: LayerPath,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file does not have the size it is known with.
    #[error("`{}` has {found} bytes instead of {expected}", shown(path))]
    Size {
        /// The file's path.
        path: LayerPath,
        /// The size in the index.
        expected: u64,
        /// How many bytes there were.
        found: u64,
    },
}

/// Gives the bytes of a file.
pub(super) type OpenBytes<'a> = dyn Fn(&Entry) -> io::Result<File> + Sync + 'a;

/// Where the bytes of files come from.
pub(super) enum Files<'a> {
    /// They are copied.
    Copied(&'a OpenBytes<'a>),
    /// Those that lie in this layer are in the directory already.
    Present,
}

/// Makes `root`, an empty directory, what `index` says; `open_bytes` gives the bytes of each file.
///
/// Parents that the index has no entry for get mode 0755. Files are made on several threads.
pub fn materialise(
    index: &LayerIndex,
    open_bytes: &(dyn Fn(&Entry) -> io::Result<File> + Sync),
    root: &RootDir,
    options: &UnpackOptions<'_>,
) -> Result<(), UnpackError> {
    build(index, Files::Copied(open_bytes), root, options)
}

pub(super) fn build(
    index: &LayerIndex,
    files: Files<'_>,
    root: &RootDir,
    options: &UnpackOptions<'_>,
) -> Result<(), UnpackError> {
    let build = Build { index, files, root, options };
    let directories = directories(index);
    directories.iter().try_for_each(|(path, _)| build.make_directory(path))?;
    let is_link = |entry: &&Entry| matches!(entry.node, Node::HardLink { .. });
    let objects: Vec<&Entry> =
        index.entries.iter().filter(|entry| !entry.is_directory() && !is_link(entry)).collect();
    objects.par_chunks(CHUNK).try_for_each(|chunk| build.make_objects(chunk))?;
    index.entries.iter().filter(is_link).try_for_each(|entry| build.make_link(entry))?;
    directories.iter().rev().try_for_each(|(path, entry)| build.finish_directory(path, *entry))
}

/// All directories of a layer in order, those without an entry too, but not a root without one.
fn directories(index: &LayerIndex) -> Directories<'_> {
    let mut known: HashSet<&[u8]> = HashSet::from([&b""[..]]);
    let mut directories = Vec::new();
    for entry in &index.entries {
        let mut missing = Vec::new();
        let mut above = parent(&entry.path);
        while known.insert(above) {
            missing.push((above, None));
            above = parent(above);
        }
        directories.extend(missing.into_iter().rev());
        if entry.is_directory() {
            known.insert(&entry.path);
            directories.push((&entry.path, Some(entry)));
        }
    }
    directories
}

type Directories<'a> = Vec<(&'a [u8], Option<&'a Entry>)>;

struct Build<'a> {
    index: &'a LayerIndex,
    files: Files<'a>,
    root: &'a RootDir,
    options: &'a UnpackOptions<'a>,
}

impl Build<'_> {
    fn make_directory(&self, path: &[u8]) -> Result<(), UnpackError> {
        if path.is_empty() {
            return Ok(());
        }
        match self.root.create_dir(path, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.root.create_dirs(path, 0o700).map_err(failed("create the directory", path))
            }
            other => other.map_err(failed("create the directory", path)),
        }
    }

    fn make_objects(&self, entries: &[&Entry]) -> Result<(), UnpackError> {
        let mut place: Option<(&[u8], RootDir)> = None;
        for entry in entries {
            let above = parent(&entry.path);
            if place.as_ref().is_none_or(|(path, _)| *path != above) {
                let opened = self.root.open_dir(above).map_err(failed("open the directory", above))?;
                place = Some((above, opened));
            }
            let (_, directory) = place.as_ref().expect("it was opened just now");
            self.make_object(directory, entry)?;
        }
        Ok(())
    }

    fn make_object(&self, directory: &RootDir, entry: &Entry) -> Result<(), UnpackError> {
        let name = name(&entry.path);
        let node = |kind, major, minor| {
            let made = directory.mknod(name, kind, 0o600, major, minor);
            made.map_err(failed("create the node", &entry.path))?;
            self.set_attributes(directory, name, entry)
        };
        match &entry.node {
            Node::File { size, bytes, .. } => self.make_file(directory, entry, *size, bytes),
            Node::Symlink { target } => {
                directory.symlink(target, name).map_err(failed("create the symbolic link", &entry.path))?;
                self.set_attributes(directory, name, entry)
            }
            Node::Fifo => node(FileType::Fifo, 0, 0),
            Node::CharDevice { major, minor } if self.options.devices => {
                node(FileType::CharacterDevice, *major, *minor)
            }
            Node::BlockDevice { major, minor } if self.options.devices => {
                node(FileType::BlockDevice, *major, *minor)
            }
            Node::CharDevice { .. } | Node::BlockDevice { .. } => Ok(()),
            Node::Whiteout => {
                let made = directory.mknod(name, FileType::CharacterDevice, 0, 0, 0);
                made.map_err(failed("mark the removal of", &entry.path))
            }
            Node::Directory { .. } | Node::HardLink { .. } => unreachable!("these are made before and after"),
        }
    }

    fn make_file(
        &self,
        directory: &RootDir,
        entry: &Entry,
        size: u64,
        bytes: &Bytes,
    ) -> Result<(), UnpackError> {
        let name = name(&entry.path);
        let open_bytes = match (&self.files, bytes) {
            (Files::Copied(open_bytes), _) => open_bytes,
            (Files::Present, Bytes::Here) => return self.set_attributes(directory, name, entry),
            (Files::Present, Bytes::In { .. }) => return Ok(()),
        };
        let from = open_bytes(entry).map_err(failed("open", &entry.path))?;
        let to = directory.create_file(name, 0o600).map_err(failed("create the file", &entry.path))?;
        let found = copy_bytes(&from, &to).map_err(failed("copy", &entry.path))?;
        if found != size {
            return Err(UnpackError::Size { path: entry.path.clone(), expected: size, found });
        }
        self.set_file_attributes(&to, entry)
    }

    fn make_link(&self, entry: &Entry) -> Result<(), UnpackError> {
        let Node::HardLink { target } = &entry.node else { return Ok(()) };
        let is_made = match self.index.find(target).map(|entry| &entry.node) {
            Some(Node::File { bytes: Bytes::In { .. }, .. }) => matches!(self.files, Files::Copied(_)),
            Some(Node::CharDevice { .. } | Node::BlockDevice { .. }) => self.options.devices,
            _ => true,
        };
        if !is_made {
            return Ok(());
        }
        self.root.link(target, &entry.path).map_err(failed("create the hard link", &entry.path))
    }

    fn finish_directory(&self, path: &[u8], entry: Option<&Entry>) -> Result<(), UnpackError> {
        let Some(entry) = entry else {
            return self.root.set_mode(path, 0o755).map_err(failed("set the mode of", path));
        };
        if let (Node::Directory { opaque: true }, Some(attribute)) = (&entry.node, self.options.opaque_xattr)
        {
            let set = self.root.set_xattr(path, attribute.as_bytes(), b"y");
            set.map_err(failed("mark as opaque", path))?;
        }
        self.set_attributes(self.root, path, entry)
    }

    /// Sets owner, mode, attributes and time by path.
    fn set_attributes(&self, place: &RootDir, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let is_link = matches!(entry.node, Node::Symlink { .. });
        if self.options.ownership == Ownership::Real {
            let set = place.set_owner(path, entry.uid, entry.gid);
            tolerate_unmapped(set).map_err(failed("set the owner of", &entry.path))?;
        }
        if !is_link {
            place.set_mode(path, entry.mode).map_err(failed("set the mode of", &entry.path))?;
        }
        for (attribute, value) in &entry.xattrs {
            let set = place.set_xattr(path, attribute, value);
            self.tolerate_refused(set).map_err(failed("set the attributes of", &entry.path))?;
        }
        let time = entry.mtime;
        place.set_mtime(path, time.seconds, time.nanoseconds).map_err(failed("set the time of", &entry.path))
    }

    /// The same for a file that is open.
    fn set_file_attributes(&self, file: &File, entry: &Entry) -> Result<(), UnpackError> {
        if self.options.ownership == Ownership::Real {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let set = fs::fchown(file, Some(uid), Some(gid)).map_err(io::Error::from);
            tolerate_unmapped(set).map_err(failed("set the owner of", &entry.path))?;
        }
        let action = |action| move |error: Errno| failed(action, &entry.path)(error.into());
        fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(action("set the mode of"))?;
        for (attribute, value) in &entry.xattrs {
            let set =
                fs::fsetxattr(file, &attribute[..], value, XattrFlags::empty()).map_err(io::Error::from);
            self.tolerate_refused(set).map_err(failed("set the attributes of", &entry.path))?;
        }
        let times = crate::root_dir::only_mtime(entry.mtime.seconds, entry.mtime.nanoseconds);
        fs::futimens(file, &times).map_err(action("set the time of"))
    }

    fn tolerate_refused(&self, result: io::Result<()>) -> io::Result<()> {
        let is_refusal =
            |error: &io::Error| matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::OPNOTSUPP));
        match result {
            Err(error) if self.options.ownership == Ownership::Ignore && is_refusal(&error) => Ok(()),
            other => other,
        }
    }
}

/// The index keeps an id that the user namespace does not map; on disk it is that of the process.
fn tolerate_unmapped(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn failed(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> UnpackError {
    move |source| UnpackError::Make { action, path: path.to_vec(), source }
}
