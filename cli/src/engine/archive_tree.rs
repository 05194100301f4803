//! Contexts that come as archives.

use std::io::Read;
use std::path::Path;

use mica_image::compress::Decoder;
use mica_image::index::{LayerIndex, Node};
use mica_image::root_dir::{Links, RootDir};
use mica_image::tar::{IndexOnly, Removals, TarError, TarLimits, read_layer};
use mica_image::unpack::{DirectorySink, Ownership, UnpackError, UnpackOptions};

/// An archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackArchiveError {
    /// It could not be read.
    #[error("cannot read it")]
    Read(#[source] std::io::Error),
    /// It is malformed.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Its files could not be made.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// Unpacks the archive in `stream`, compressed or not, into the empty directory `to`.
///
/// Owners are not kept: a context's files belong to nobody in particular. Returns when the newest of its files was changed.
pub(crate) fn unpack(stream: impl Read + Send, to: &Path) -> Result<Option<i64>, UnpackArchiveError> {
    let root = RootDir::open(to, Links::Refused).map_err(UnpackArchiveError::Read)?;
    let decoder = Decoder::new(stream).map_err(UnpackArchiveError::Read)?;
    let mut sink = DirectorySink::new(&root);
    let index = read_layer(decoder, &limits(), &mut sink)?;
    sink.finish(&index, &UnpackOptions { ownership: Ownership::Ignore, devices: false, opaque_xattr: None })?;
    Ok(newest(&index))
}

/// Returns when the newest file of the archive in `stream` was changed; `None` of what is no archive, or has no file.
pub(crate) fn newest_file(stream: impl Read + Send) -> Option<i64> {
    let decoder = Decoder::new(stream).ok()?;
    newest(&read_layer(decoder, &limits(), &mut IndexOnly).ok()?)
}

fn limits() -> TarLimits<'static> {
    TarLimits { removals: Removals::Named, ..TarLimits::default() }
}

fn newest(index: &LayerIndex) -> Option<i64> {
    let files = index.entries.iter().filter(|entry| matches!(entry.node, Node::File { .. }));
    files.map(|entry| entry.mtime.seconds).max()
}
