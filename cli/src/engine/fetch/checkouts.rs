//! Checkouts that the store keeps, so that a commit is fetched once and is there when there is no network.
//!
//! A checkout is kept as a tar, which is found by the repository, the commit and how it was checked out.

use std::io;
use std::path::Path;

use mica_cache::{ContextTree, Decision, Download, ScanOptions, Scratch, Store};
use mica_image::index::LayerIndex;
use mica_image::tar::{TarOptions, write_layer};
use mica_remote::git::{CheckoutOptions, GitUrl, ResolvedCommit};

use super::{FetchError, keep_received, receive};
use crate::engine::archive_tree::unpack;

/// Names a checkout by all that decides what is in it.
pub(super) fn key(url: &GitUrl, resolved: &ResolvedCommit, options: CheckoutOptions) -> String {
    let reference = if options.keep_git_dir { resolved.reference.as_str() } else { "" };
    format!("git\n{}\n{}\n{:?}\n{options:?}\n{reference}", url.remote(), resolved.commit, url.subdir)
}

/// Takes a checkout out of the store, with the time of its commit; none where it is not there.
pub(super) fn find(store: &Store, key: &str) -> Result<Option<(Scratch, i64)>, FetchError> {
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
) -> Result<(), FetchError> {
    let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted: None, store: None };
    let tree = ContextTree::scan(directory, &options)?;
    let index = LayerIndex::from_tree(&tree)?;
    let mut out = receive(store)?;
    write_layer(&index, |entry| tree.open(&entry.path), &mut out, &TarOptions::default())?;
    let (blob, digest, size) = keep_received(out)?;
    let kept = Download {
        blob,
        digest,
        size,
        name: format!("{commit}.tar"),
        last_modified: Some(made),
        etag: None,
        last_modified_header: None,
    };
    Ok(store.downloads().put(key, &kept)?)
}
