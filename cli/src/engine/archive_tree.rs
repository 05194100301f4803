//! Unpacks a context that came as an archive.

use std::io::Read;
use std::path::Path;

use mica_image::compress::Decoder;
use mica_image::root_dir::{Links, RootDir};
use mica_image::tar::{Removals, TarError, TarLimits, read_layer};
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
/// Owners are not kept: a context's files belong to nobody in particular.
pub(crate) fn unpack(stream: impl Read + Send, to: &Path) -> Result<(), UnpackArchiveError> {
    let root = RootDir::open(to, Links::Refused).map_err(UnpackArchiveError::Read)?;
    let decoder = Decoder::new(stream).map_err(UnpackArchiveError::Read)?;
    let limits = TarLimits { removals: Removals::Named, ..TarLimits::default() };
    let mut sink = DirectorySink::new(&root);
    let index = read_layer(decoder, &limits, &mut sink)?;
    sink.finish(&index, &UnpackOptions { ownership: Ownership::Ignore, devices: false, opaque_xattr: None })?;
    Ok(())
}
