//! A cache in a directory, which is an OCI layout: documents are what its `index.json` names.
//!
//! ```text
//! <directory>/
//! ├── oci-layout
//! ├── index.json             names and manifests; replaced as a whole
//! ├── .lock                  held (`flock`) while the index is changed
//! └── blobs/sha256/<hex>     written under another name and renamed
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _};
use mica_image::manifest::{ANNOTATION_REF_NAME, MANIFEST_SIZE_MAX};
use mica_image::{ContentDigest, Descriptor, Dialect, Document, Index, MediaType};
use mica_remote::registry::{BlobContent, ContentStream};
use tokio_util::io::ReaderStream;

use super::error::ExchangeError;
use super::options::DocumentName;
use crate::engine::blocking::blocking;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A directory.
#[derive(Debug)]
pub(super) struct DirectoryPlace {
    path: PathBuf,
    next: AtomicU64,
}

impl DirectoryPlace {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), next: AtomicU64::new(0) }
    }

    pub(super) async fn manifest(
        self: Arc<Self>,
        name: DocumentName,
    ) -> Result<Option<Vec<u8>>, ExchangeError> {
        blocking(move || {
            let digest = match name {
                DocumentName::Digest(digest) => Some(digest),
                DocumentName::Tag(tag) => {
                    let named =
                        |entry: &&Descriptor| entry.annotations.get(ANNOTATION_REF_NAME) == Some(&tag);
                    self.index()?.manifests.iter().find(named).map(|entry| entry.digest)
                }
            };
            let Some(digest) = digest else { return Ok(None) };
            let Some(bytes) = read_optional(&self.blob_path(&digest), MANIFEST_SIZE_MAX)? else {
                return Ok(None);
            };
            match ContentDigest::of(&bytes) == digest {
                true => Ok(Some(bytes)),
                false => Err(ExchangeError::Format(format!("its manifest `{digest}` is damaged"))),
            }
        })
        .await
    }

    pub(super) async fn put_manifest(
        self: Arc<Self>,
        name: String,
        bytes: Vec<u8>,
    ) -> Result<(), ExchangeError> {
        blocking(move || {
            let mut entry = Descriptor::of(MediaType::OCI_MANIFEST, &bytes);
            entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.clone());
            self.write(&self.blob_path(&entry.digest), &bytes)?;
            self.replace(&name, Some(entry))
        })
        .await
    }

    pub(super) async fn names(self: Arc<Self>) -> Result<Vec<String>, ExchangeError> {
        let name = |entry: Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).cloned();
        blocking(move || Ok(self.index()?.manifests.into_iter().filter_map(name).collect())).await
    }

    pub(super) async fn remove(self: Arc<Self>, name: String) -> Result<(), ExchangeError> {
        blocking(move || self.replace(&name, None)).await
    }

    /// Lets a name stand for something else, or for nothing.
    fn replace(&self, name: &str, entry: Option<Descriptor>) -> Result<(), ExchangeError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let is_other =
            |other: &Descriptor| other.annotations.get(ANNOTATION_REF_NAME).is_none_or(|known| known != name);
        index.manifests.retain(is_other);
        index.manifests.extend(entry);
        self.write(&self.path.join("oci-layout"), LAYOUT)?;
        self.write(&self.path.join("index.json"), &index.to_bytes())
    }

    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<ContentStream, ExchangeError> {
        let path = self.blob_path(&blob.digest);
        match tokio::fs::File::open(&path).await {
            Ok(file) => Ok(ReaderStream::with_capacity(file, 1 << 18).boxed()),
            Err(error) => Err(ExchangeError::file("open", path, error)),
        }
    }

    pub(super) fn has(&self, blob: &Descriptor) -> Result<bool, ExchangeError> {
        let path = self.blob_path(&blob.digest);
        match fs::metadata(&path) {
            // One that was cut short is written again.
            Ok(found) => Ok(found.len() == blob.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ExchangeError::file("look at", path, error)),
        }
    }

    pub(super) async fn put(
        &self,
        blob: &Descriptor,
        content: &dyn BlobContent,
    ) -> Result<(), ExchangeError> {
        use tokio::io::AsyncWriteExt as _;
        let part = self.part()?;
        let failed = |error| ExchangeError::file("write", &part.0, error);
        let mut file = tokio::fs::File::create(&part.0).await.map_err(failed)?;
        let mut stream = content.open(0).await.map_err(failed)?;
        while let Some(piece) = stream.try_next().await.map_err(failed)? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        fs::rename(&part.0, self.blob_path(&blob.digest)).map_err(failed)
    }

    /// Returns what the directory has; nothing where there is no index.
    fn index(&self) -> Result<Index, ExchangeError> {
        let path = self.path.join("index.json");
        let Some(bytes) = read_optional(&path, MANIFEST_SIZE_MAX)? else {
            return Ok(Index::new(Dialect::Oci, Vec::new()));
        };
        match Document::parse(&bytes, &MediaType::default()) {
            Ok(Document::Index(index)) => Ok(index),
            _ => Err(ExchangeError::Format(format!("`{}` is no index of a layout", path.display()))),
        }
    }

    fn lock(&self) -> Result<File, ExchangeError> {
        let path = self.path.join(".lock");
        let failed = |error| ExchangeError::file("lock", &path, error);
        let file = File::create(&path).map_err(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|errno| failed(errno.into()))?;
        Ok(file)
    }

    fn write(&self, to: &Path, bytes: &[u8]) -> Result<(), ExchangeError> {
        let part = self.part()?;
        let failed = |error| ExchangeError::file("write", to, error);
        File::create(&part.0).and_then(|mut file| file.write_all(bytes)).map_err(failed)?;
        fs::rename(&part.0, to).map_err(failed)
    }

    /// Returns the path of a file in the making; it goes away unless it is renamed.
    fn part(&self) -> Result<Part, ExchangeError> {
        let directory = self.path.join("blobs/sha256");
        fs::create_dir_all(&directory).map_err(|error| ExchangeError::file("create", &directory, error))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Part(directory.join(format!(".part-{}-{number}", std::process::id()))))
    }

    fn blob_path(&self, digest: &ContentDigest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }
}

struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ExchangeError> {
    use io::Read as _;
    let failed = |error| ExchangeError::file("read", path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > limit {
        true => Err(ExchangeError::Format(format!("`{}` is larger than any real one", path.display()))),
        false => Ok(Some(bytes)),
    }
}
