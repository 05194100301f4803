//! Archives and directories that hold whole images: OCI layouts and what `docker save` makes.
//!
//! Writing: [`write_layout_archive`] and [`write_docker_archive`] stream a tar; [`crate::layout`] writes directories.
//! Reading: [`ImageArchive`] opens any of them, says which images are in it, and gives their blobs, verified.

mod legacy;
mod members;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use members::MalformedArchive;
pub use read::{ArchivedImage, BlobReader, ImageArchive, ReadArchiveError};
pub use write::{write_docker_archive, write_docker_archive_without, write_layout_archive};
