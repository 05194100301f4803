//! Checkouts that the store keeps, so that a commit is fetched once and is there when there is no network.
//!
//! A checkout is kept as a tar, which is found by the repository, the commit and how it was checked out.

use std::io::{self, Write};
use std::path::Path;

use mica_cache::{ContextTree, Decision, Download, Ingest, ScanOptions, Scratch, Store};
use mica_image::FileDigest;
use mica_image::index::LayerIndex;
use mica_image::tar::{TarOptions, write_layer};
use mica_remote::git::{CheckoutOptions, GitUrl, ResolvedCommit};

use crate::engine::archive_tree::{UnpackArchiveError, unpack};

/// A checkout could not be kept or taken out again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckoutError {
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// The tar could not be stored or read.
    #[error(transparent)]
    Blob(#[from] mica_cache::BlobError),
    /// The checkout could not be read.
    #[error(transparent)]
    Scan(#[from] mica_cache::ScanError),
    /// The checkout could not be listed.
    #[error(transparent)]
    Tree(#[from] mica_image::tree::TreeError),
    /// The tar could not be written.
    #[error("cannot keep the checkout")]
    Tar(#[from] mica_image::tar::WriteTarError),
    /// The tar could not be unpacked.
    #[error("cannot unpack the checkout that was kept")]
    Unpack(#[from] UnpackArchiveError),
}

/// Names a checkout by all that decides what is in it.
pub(super) fn key(url: &GitUrl, resolved: &ResolvedCommit, options: CheckoutOptions) -> String {
    let reference = if options.keep_git_dir { resolved.reference.as_str() } else { "" };
    format!("git\n{}\n{}\n{:?}\n{options:?}\n{reference}", url.remote(), resolved.commit, url.subdir)
}

/// Takes a checkout out of the store, with the time of its commit; none where it is not there.
pub(super) fn find(store: &Store, key: &str) -> Result<Option<(Scratch, i64)>, CheckoutError> {
    let Some(known) = store.downloads().get(key)? else { return Ok(None) };
    let Some(made) = known.last_modified.filter(|_| matches!(store.blobs().has(&known.blob), Ok(true)))
    else {
        return Ok(None);
    };
    let scratch = store.layers().begin()?;
    unpack(io::BufReader::new(store.blobs().open(&known.blob)?), &scratch.files())?;
    Ok(Some((scratch, made)))
}

/// Keeps the checkout in `directory` of a commit that was made then.
pub(super) fn keep(
    store: &Store,
    key: &str,
    (commit, made): (&str, i64),
    directory: &Path,
) -> Result<(), CheckoutError> {
    let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted: None, store: None };
    let tree = ContextTree::scan(directory, &options)?;
    let index = LayerIndex::from_tree(&tree)?;
    let mut out = Hashed { ingest: store.blobs().ingest()?, hasher: blake3::Hasher::new() };
    write_layer(&index, |entry| tree.open(&entry.path), &mut out, &TarOptions::default())?;
    let Hashed { ingest, hasher } = out;
    let size = ingest.size();
    let kept = Download {
        blob: ingest.commit(None)?,
        digest: FileDigest::from_bytes(*hasher.finalize().as_bytes()),
        size,
        name: format!("{commit}.tar"),
        last_modified: Some(made),
        etag: None,
        last_modified_header: None,
    };
    Ok(store.downloads().put(key, &kept)?)
}

/// A blob on its way into the store, hashed as layers know files.
struct Hashed {
    ingest: Ingest,
    hasher: blake3::Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.ingest.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ingest.flush()
    }
}
