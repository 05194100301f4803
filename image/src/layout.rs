//! Writing OCI layouts: a directory, or the parts a tar of one is made of.
//!
//! ```text
//! oci-layout              {"imageLayoutVersion":"1.0.0"}
//! index.json              the images: one entry per name, or one without a name
//! blobs/sha256/<hex>      manifests, configs, layers
//! ```
//!
//! Nothing here depends on time or order of arguments but the order of the entries in `index.json`. Each blob is verified
//! while it is written, and `index.json` is written last, so a layout never names what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::fault::{Point, reach};
use crate::manifest::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, InvalidManifest, MANIFEST_SIZE_MAX};
use crate::verify::VerifyingWriter;
use crate::{ContentDigest, Descriptor, Dialect, Document, Index, Manifest, Reference};

pub(crate) const LAYOUT_FILE: &str = "oci-layout";
pub(crate) const LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(crate) const INDEX_FILE: &str = "index.json";
pub(crate) const BLOBS: &str = "blobs/sha256";

/// An index of indexes of indexes is as deep as anything sensible goes.
const DEPTH_MAX: usize = 4;

/// Where the bytes of blobs come from.
pub trait BlobSource {
    /// Writes the whole blob; a blob that is not there is an error of kind `NotFound`.
    fn write_to(&self, blob: &Descriptor, out: &mut dyn Write) -> io::Result<()>;
}

/// Documents held in memory, such as manifests just made, over another source for everything else.
pub struct WithDocuments<'a> {
    documents: BTreeMap<ContentDigest, Vec<u8>>,
    rest: &'a dyn BlobSource,
}

impl<'a> WithDocuments<'a> {
    /// Puts no documents over `rest`.
    pub fn new(rest: &'a dyn BlobSource) -> Self {
        Self { documents: BTreeMap::new(), rest }
    }

    /// Adds a document and returns its digest.
    pub fn add(&mut self, bytes: Vec<u8>) -> ContentDigest {
        let digest = ContentDigest::of(&bytes);
        self.documents.insert(digest, bytes);
        digest
    }
}

impl BlobSource for WithDocuments<'_> {
    fn write_to(&self, blob: &Descriptor, out: &mut dyn Write) -> io::Result<()> {
        match self.documents.get(&blob.digest) {
            Some(bytes) => out.write_all(bytes),
            None => self.rest.write_to(blob, out),
        }
    }
}

/// One image (or index of images) to write, and the names it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// Its manifest or index.
    pub target: Descriptor,
    /// Its names; there may be none.
    pub names: Vec<Reference>,
}

/// A layout or archive that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteLayoutError {
    /// A file or directory could not be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A blob could not be read or written, or is not what its digest says.
    #[error("cannot write blob {digest}")]
    Blob {
        /// The blob.
        digest: ContentDigest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream of an archive could not be written.
    #[error("cannot write the archive")]
    Stream(#[source] io::Error),
    /// A manifest or index is not one.
    #[error("manifest {digest} cannot be exported")]
    Manifest {
        /// The manifest.
        digest: ContentDigest,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// Indexes are nested too deeply.
    #[error("index {digest} is nested more than {DEPTH_MAX} levels deep")]
    TooDeep {
        /// The index.
        digest: ContentDigest,
    },
    /// A format that holds single images was given an index.
    #[error("a docker archive holds images of one platform each, but {digest} is an index of several")]
    SeveralPlatforms {
        /// The index.
        digest: ContentDigest,
    },
    /// The directory has a layout that cannot be added to.
    #[error("{} is not a valid index of an OCI layout", path.display())]
    ExistingIndex {
        /// Its `index.json`.
        path: PathBuf,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
}

/// Everything some images consist of.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// All blobs, sorted by digest.
    pub(crate) blobs: BTreeMap<ContentDigest, Descriptor>,
    /// The manifests among them.
    pub(crate) manifests: BTreeMap<ContentDigest, Manifest>,
}

impl Contents {
    /// Lists what `images` refer to.
    pub(crate) fn of(images: &[NamedImage], source: &dyn BlobSource) -> Result<Self, WriteLayoutError> {
        let mut contents = Self::default();
        for image in images {
            contents.add(&image.target, source, 0)?;
        }
        Ok(contents)
    }

    fn add(
        &mut self,
        target: &Descriptor,
        source: &dyn BlobSource,
        depth: usize,
    ) -> Result<(), WriteLayoutError> {
        if depth > DEPTH_MAX {
            return Err(WriteLayoutError::TooDeep { digest: target.digest });
        }
        if self.blobs.insert(target.digest, target.clone()).is_some() {
            return Ok(());
        }
        match read_document(target, source)? {
            Document::Index(index) => {
                index.manifests.iter().try_for_each(|manifest| self.add(manifest, source, depth + 1))
            }
            Document::Manifest(manifest) => {
                let distributed = manifest.layers.iter().filter(|layer| !layer.media_type.is_foreign());
                for blob in distributed.chain([&manifest.config]) {
                    self.blobs.insert(blob.digest, blob.clone());
                }
                self.manifests.insert(target.digest, manifest);
                Ok(())
            }
        }
    }
}

fn read_document(target: &Descriptor, source: &dyn BlobSource) -> Result<Document, WriteLayoutError> {
    let digest = target.digest;
    if target.size > MANIFEST_SIZE_MAX {
        let source = InvalidManifest::TooLarge { size: target.size };
        return Err(WriteLayoutError::Manifest { digest, source });
    }
    let mut bytes = Vec::new();
    write_blob(target, source, &mut bytes)?;
    Document::parse(&bytes, &target.media_type)
        .map_err(|source| WriteLayoutError::Manifest { digest, source })
}

/// Writes and verifies one blob.
pub(crate) fn write_blob(
    blob: &Descriptor,
    source: &dyn BlobSource,
    out: &mut dyn Write,
) -> Result<(), WriteLayoutError> {
    let mut out = VerifyingWriter::new(out, blob);
    source
        .write_to(blob, &mut out)
        .and_then(|()| out.finish())
        .map_err(|source| WriteLayoutError::Blob { digest: blob.digest, source })
}

/// Returns the entries of `index.json`: one per name, with the annotations that say it.
pub(crate) fn index_entries(images: &[NamedImage]) -> Vec<Descriptor> {
    let mut entries = Vec::new();
    for image in images {
        if image.names.is_empty() {
            entries.push(image.target.clone());
        }
        for name in &image.names {
            let name = name.with_default_tag();
            let mut entry = image.target.clone();
            let short = name.tag().map_or_else(|| name.to_string(), str::to_owned);
            entry.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), name.to_string());
            entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), short);
            entries.push(entry);
        }
    }
    entries
}

pub(crate) fn index_bytes(entries: Vec<Descriptor>) -> Vec<u8> {
    serde_json::to_vec(&Index::new(Dialect::Oci, entries)).expect("the maps of an index have text keys")
}

/// Writes images into an OCI layout directory, which is made if it does not exist. A layout that is there already is added
/// to: other images stay, and one of the same name is replaced in the index (its blobs are left).
pub fn write_layout_directory(
    directory: &Path,
    images: &[NamedImage],
    source: &dyn BlobSource,
) -> Result<(), WriteLayoutError> {
    let contents = Contents::of(images, source)?;
    let mut entries = kept_entries(directory, images)?;
    let blobs = directory.join(BLOBS);
    reach(Point::OutputMake).and_then(|()| fs::create_dir_all(&blobs)).map_err(file_error(&blobs))?;
    for blob in contents.blobs.values() {
        let path = blobs.join(blob.digest.hex());
        write_file(&path, |out| write_blob(blob, source, out))?;
    }
    entries.extend(index_entries(images));
    write_bytes(&directory.join(LAYOUT_FILE), LAYOUT_CONTENT)?;
    write_bytes(&directory.join(INDEX_FILE), &index_bytes(entries))
}

/// Returns the entries of an existing layout that stay.
fn kept_entries(directory: &Path, images: &[NamedImage]) -> Result<Vec<Descriptor>, WriteLayoutError> {
    let path = directory.join(INDEX_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(WriteLayoutError::File { path, source }),
    };
    let document = Document::parse(&bytes, &crate::MediaType::default())
        .map_err(|source| WriteLayoutError::ExistingIndex { path: path.clone(), source })?;
    let Document::Index(index) = document else {
        let source = InvalidManifest::MediaType(crate::MediaType::OCI_MANIFEST);
        return Err(WriteLayoutError::ExistingIndex { path, source });
    };
    let new = index_entries(images);
    let name_of = |entry: &Descriptor| entry.annotations.get(ANNOTATION_IMAGE_NAME).cloned();
    let names: BTreeSet<String> = new.iter().filter_map(name_of).collect();
    let digests: BTreeSet<ContentDigest> = new.iter().map(|entry| entry.digest).collect();
    let stays = |entry: &Descriptor| match name_of(entry) {
        Some(name) => !names.contains(&name),
        None => !digests.contains(&entry.digest),
    };
    Ok(index.manifests.into_iter().filter(stays).collect())
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), WriteLayoutError> {
    write_file(path, |out| out.write_all(bytes).map_err(file_error(path)))
}

/// Writes a file under another name and moves it into place when it is complete.
fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), WriteLayoutError>,
) -> Result<(), WriteLayoutError> {
    let directory = path.parent().expect("the path has the layout's directory before it");
    reach(Point::OutputMake).map_err(file_error(path))?;
    let mut file = tempfile::Builder::new()
        .prefix(".mica-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(file_error(path))?;
    write(&mut file)?;
    reach(Point::OutputPlace).map_err(file_error(path))?;
    file.persist(path).map_err(|error| file_error(path)(error.error))?;
    Ok(())
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> WriteLayoutError {
    let path = path.to_owned();
    move |source| WriteLayoutError::File { path, source }
}
