//! Reading an archive as a layer.

use std::io::{self, Read};

use super::error::TarError;
use super::member::{MemberKind, TarReader};
use super::placement::{Object, Placement};
use crate::FileDigest;
use crate::index::LayerIndex;
use crate::tree::FileTree;

/// What is accepted from an archive, and how it is understood.
#[derive(Clone, Copy)]
pub struct TarLimits<'a> {
    /// Most headers, extended ones included.
    pub entries: usize,
    /// Most bytes of all files together, holes included.
    pub bytes: u64,
    /// Longest path.
    pub path: usize,
    /// Most components of a path.
    pub depth: usize,
    /// Most bytes of one extended header.
    pub extension: u64,
    /// What names that begin with `.wh.` mean.
    pub removals: Removals,
    /// The tree below the layer, where hard links may point and directories may get their attributes from.
    pub lower: Option<&'a dyn FileTree>,
}

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// They mark removals and opaque directories, as in the layers of images.
    Marked,
    /// They are names like any other, as in archives somebody made.
    Named,
}

impl Default for TarLimits<'_> {
    fn default() -> Self {
        Self {
            entries: 8_000_000,
            bytes: 1 << 40,
            path: 4096,
            depth: 512,
            extension: 4 << 20,
            removals: Removals::Marked,
            lower: None,
        }
    }
}

/// Takes the bytes of an archive's files while it is read.
///
/// Paths are free of symbolic links. A file is begun at a path where no other is; should a later member replace it, it is
/// removed first. Everything but the bytes of files is known only when the index is returned.
pub trait LayerSink {
    /// Starts the file at `path`.
    fn begin_file(&mut self, path: &[u8]) -> io::Result<()>;

    /// Adds bytes to the file.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends the file.
    fn end_file(&mut self) -> io::Result<()>;

    /// Gives the file that was stored at `from` the path `to` instead, where nothing is stored.
    fn rename(&mut self, from: &[u8], to: &[u8]) -> io::Result<()>;

    /// Removes whatever is stored at `path` and below it, if there is anything.
    fn remove(&mut self, path: &[u8]) -> io::Result<()>;
}

/// A sink that keeps nothing, for when only the index is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexOnly;

impl LayerSink for IndexOnly {
    fn begin_file(&mut self, _path: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn end_file(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _from: &[u8], _to: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _path: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the archive in `reader`, uncompressed, as a layer, and gives the bytes of its files to `sink`.
///
/// Members are placed as unpacking one after the other would: a later one replaces an earlier one at its path, and one
/// below a symbolic link of the archive goes where that leads, inside the layer. The stream is read to its very end.
pub fn read_layer(
    reader: impl Read,
    limits: &TarLimits<'_>,
    sink: &mut dyn LayerSink,
) -> Result<LayerIndex, TarError> {
    let mut archive = TarReader::new(reader, limits);
    let mut placement = Placement::new(limits, sink);
    while let Some(member) = archive.next_member()? {
        let Some(path) = placement.place(&member)? else { continue };
        let object = match &member.kind {
            MemberKind::File { size } => {
                let digest = store(&mut archive, &path, placement.sink())?;
                Object::File { size: *size, digest }
            }
            MemberKind::Directory => Object::Directory,
            MemberKind::Symlink { target } => Object::Symlink(target.clone()),
            MemberKind::HardLink { target } => Object::HardLink(target.clone()),
            MemberKind::CharDevice { major, minor } => Object::CharDevice(*major, *minor),
            MemberKind::BlockDevice { major, minor } => Object::BlockDevice(*major, *minor),
            MemberKind::Fifo => Object::Fifo,
        };
        placement.add(path, member, object)?;
    }
    archive.drain()?;
    placement.finish()
}

/// Passes a file's bytes on and returns their digest.
fn store<R: Read>(
    archive: &mut TarReader<'_, R>,
    path: &[u8],
    sink: &mut dyn LayerSink,
) -> Result<FileDigest, TarError> {
    let failed = |source| TarError::Store { path: path.to_vec(), source };
    let mut hasher = blake3::Hasher::new();
    sink.begin_file(path).map_err(failed)?;
    archive.read_data(|bytes| {
        hasher.update(bytes);
        sink.write(bytes).map_err(failed)
    })?;
    sink.end_file().map_err(failed)?;
    Ok(FileDigest::from_bytes(*hasher.finalize().as_bytes()))
}
