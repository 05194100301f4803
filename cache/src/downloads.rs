//! What http servers gave: where the bytes are, and what to ask the server with the next time.
//!
//! ```text
//! downloads/ab/<hash of the address>   a download, sealed; its bytes are a blob, which may have been collected
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use mica_image::{ContentDigest, FileDigest};
use serde::{Deserialize, Serialize};

use crate::files::{FileError, sharded};
use crate::sealed::{read_sealed, seal};
use crate::store::{Shared, Store};

/// A file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Its bytes, a blob.
    pub blob: ContentDigest,
    /// The digest of its bytes as layers know them.
    pub digest: FileDigest,
    /// Its size in bytes.
    pub size: u64,
    /// The name the server or the address gave it.
    pub name: String,
    /// When the server says it was changed last, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    pub last_modified_header: Option<String>,
}

/// The downloads of a store.
#[derive(Debug, Clone)]
pub struct DownloadStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns the store's downloads.
    #[must_use]
    pub fn downloads(&self) -> DownloadStore {
        DownloadStore { shared: self.shared.clone() }
    }
}

impl DownloadStore {
    /// Returns what `url` gave last.
    pub fn get(&self, url: &str) -> Result<Option<Download>, FileError> {
        read_sealed(&self.path(url))
    }

    /// Remembers what `url` gave.
    pub fn put(&self, url: &str, download: &Download) -> Result<(), FileError> {
        self.shared.write(&self.path(url), &seal(download))
    }

    /// Addresses may hold passwords, so only their hash is kept.
    fn path(&self, url: &str) -> PathBuf {
        let name = blake3::hash(url.as_bytes()).to_hex();
        sharded(&self.shared.root.join("downloads"), name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Ownership;

    #[test]
    fn a_download_is_found_by_its_address() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("store"), Ownership::Root).unwrap();
        let download = Download {
            blob: ContentDigest::of(b"x"),
            digest: FileDigest::of(b"x"),
            size: 1,
            name: "x".to_owned(),
            last_modified: Some(5),
            etag: Some("\"1\"".to_owned()),
            last_modified_header: None,
        };
        store.downloads().put("http://user:secret@host/x", &download).unwrap();
        assert_eq!(store.downloads().get("http://user:secret@host/x").unwrap(), Some(download));
        assert_eq!(store.downloads().get("http://host/x").unwrap(), None);
    }
}
