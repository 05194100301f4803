//! Opening archives and layout directories of any kind.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::legacy;
use super::members::{Extent, MalformedArchive, Members};
use crate::compress::{Codec, Decoder};
use crate::config::{CONFIG_SIZE_MAX, InvalidConfig};
use crate::layout::{BLOBS, INDEX_FILE, LAYOUT_FILE};
use crate::manifest::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, InvalidManifest, MANIFEST_SIZE_MAX};
use crate::root_dir::{Links, RootDir};
use crate::verify::VerifyingReader;
use crate::{ContentDigest, Descriptor, Document, ImageConfig, MediaType, Reference};

pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// A blob being read; reading to the end fails unless size and digest are right.
pub type BlobReader = VerifyingReader<Box<dyn Read + Send>>;

/// An opened archive or layout directory.
#[derive(Debug)]
pub struct ImageArchive {
    path: PathBuf,
    storage: Storage,
    images: Vec<ArchivedImage>,
    /// Entries of a layout that are no images.
    artifacts: Vec<Descriptor>,
    /// Manifests that old archives lack, made from what they have.
    documents: BTreeMap<ContentDigest, Vec<u8>>,
    /// Where the blobs of old archives are.
    extents: BTreeMap<ContentDigest, Extent>,
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// Its manifest or index.
    pub target: Descriptor,
    /// Its names as they are written there; there may be none, and one may be just a tag.
    pub names: Vec<String>,
}

#[derive(Debug)]
enum Storage {
    Directory(RootDir),
    Tar(Members),
}

/// An archive or layout that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadArchiveError {
    /// A file could not be opened or read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no tar, or a damaged one.
    #[error("{} is not a valid archive", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: MalformedArchive,
    },
    /// There is no image in it.
    #[error("{} is neither an OCI layout nor a docker archive: it has no `oci-layout` and no `manifest.json`", path.display())]
    NotAnImage {
        /// The archive or directory.
        path: PathBuf,
    },
    /// A file or blob that should be in it is missing.
    #[error("`{name}` is missing in {}", path.display())]
    Missing {
        /// The archive or directory.
        path: PathBuf,
        /// The file's name there.
        name: String,
    },
    /// A file in it is larger than any real one.
    #[error("`{name}` in {} has {size} bytes, which is too many", path.display())]
    TooLarge {
        /// The archive or directory.
        path: PathBuf,
        /// The file's name there.
        name: String,
        /// Its size.
        size: u64,
    },
    /// A file in it could not be read, or is not what its digest says.
    #[error("cannot read `{name}` in {}", path.display())]
    Content {
        /// The archive or directory.
        path: PathBuf,
        /// The file's name there.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A manifest or index in it is not valid.
    #[error("`{name}` in {} is not a valid manifest", path.display())]
    Manifest {
        /// The archive or directory.
        path: PathBuf,
        /// The file's name there.
        name: String,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// A config in it is not valid.
    #[error("`{name}` in {} is not a valid image config", path.display())]
    Config {
        /// The archive or directory.
        path: PathBuf,
        /// The file's name there.
        name: String,
        /// Why.
        #[source]
        source: InvalidConfig,
    },
    /// The `manifest.json` of a docker archive is not valid.
    #[error("`manifest.json` in {} is not valid", path.display())]
    DockerManifest {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An old docker archive contradicts itself.
    #[error("the image `{config}` in {} has {layers} layers but its config names {diff_ids}", path.display())]
    LayerCount {
        /// The archive.
        path: PathBuf,
        /// The config's name there.
        config: String,
        /// How many layers there are.
        layers: usize,
        /// How many there should be.
        diff_ids: usize,
    },
    /// No image of that name is in it.
    #[error("there is no image `{wanted}` in {}; it has: {}", path.display(), names.join(", "))]
    NoSuchImage {
        /// The archive or directory.
        path: PathBuf,
        /// The name that was asked for.
        wanted: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// There are several images and none was asked for by name.
    #[error("there are several images in {}; name one of: {}", path.display(), names.join(", "))]
    Ambiguous {
        /// The archive or directory.
        path: PathBuf,
        /// The names there are.
        names: Vec<String>,
    },
}

impl ImageArchive {
    /// Opens a layout directory or an archive. A compressed archive is unpacked into a nameless file in `spool` first,
    /// because blobs are read in the order they are needed.
    pub fn open(path: &Path, spool: &Path) -> Result<Self, ReadArchiveError> {
        let file_error = |source| ReadArchiveError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(file_error)?;
        let storage = if file.metadata().map_err(file_error)?.is_dir() {
            Storage::Directory(RootDir::open(path, Links::Inside).map_err(file_error)?)
        } else {
            let file = decompressed(file, spool).map_err(file_error)?;
            let malformed = |source| ReadArchiveError::Malformed { path: path.to_owned(), source };
            Storage::Tar(Members::read(file).map_err(malformed)?)
        };
        let mut archive = Self {
            path: path.to_owned(),
            storage,
            images: Vec::new(),
            artifacts: Vec::new(),
            documents: BTreeMap::new(),
            extents: BTreeMap::new(),
        };
        archive.find_images()?;
        Ok(archive)
    }

    /// Lists the images in it.
    #[must_use]
    pub fn images(&self) -> &[ArchivedImage] {
        &self.images
    }

    /// Lists the manifests of a layout that are no images: signatures and the like.
    #[must_use]
    pub fn artifacts(&self) -> &[Descriptor] {
        &self.artifacts
    }

    /// Finds an image by its full name, its tag or its digest; without a name there must be exactly one.
    pub fn find(&self, wanted: Option<&str>) -> Result<&ArchivedImage, ReadArchiveError> {
        let names = || self.images.iter().map(ArchivedImage::label).collect();
        let Some(wanted) = wanted else {
            return match self.images.as_slice() {
                [only] => Ok(only),
                _ => Err(ReadArchiveError::Ambiguous { path: self.path.clone(), names: names() }),
            };
        };
        let exact = self.images.iter().find(|image| image.names.iter().any(|name| name == wanted));
        exact.or_else(|| self.images.iter().find(|image| image.is_called(wanted))).ok_or_else(|| {
            ReadArchiveError::NoSuchImage {
                path: self.path.clone(),
                wanted: wanted.to_owned(),
                names: names(),
            }
        })
    }

    /// Opens a blob. Its bytes are verified as they are read.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<BlobReader, ReadArchiveError> {
        if let Some(bytes) = self.documents.get(&blob.digest) {
            return Ok(VerifyingReader::new(Box::new(io::Cursor::new(bytes.clone())), blob));
        }
        let content = match (&self.storage, self.extents.get(&blob.digest)) {
            (Storage::Tar(members), Some(&extent)) => Box::new(members.open(extent)),
            _ => self.open_member(&blob_name(blob))?.0,
        };
        Ok(VerifyingReader::new(content, blob))
    }

    /// Reads a manifest or index; also returns its bytes, which are what its digest names.
    pub fn read_document(&self, target: &Descriptor) -> Result<(Document, Vec<u8>), ReadArchiveError> {
        let bytes = self.read_blob(target, MANIFEST_SIZE_MAX)?;
        let document = Document::parse(&bytes, &target.media_type).map_err(|source| {
            ReadArchiveError::Manifest { path: self.path.clone(), name: blob_name(target), source }
        })?;
        Ok((document, bytes))
    }

    /// Reads an image config; also returns its bytes, which are what its digest names.
    pub fn read_config(&self, blob: &Descriptor) -> Result<(ImageConfig, Vec<u8>), ReadArchiveError> {
        let bytes = self.read_blob(blob, CONFIG_SIZE_MAX)?;
        let config = ImageConfig::parse(&bytes).map_err(|source| ReadArchiveError::Config {
            path: self.path.clone(),
            name: blob_name(blob),
            source,
        })?;
        Ok((config, bytes))
    }

    fn read_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, ReadArchiveError> {
        let (path, name, size) = (self.path.clone(), blob_name(blob), blob.size);
        if size > limit {
            return Err(ReadArchiveError::TooLarge { path, name, size });
        }
        let mut bytes = Vec::new();
        self.open_blob(blob)?.read_to_end(&mut bytes).map_err(|source| ReadArchiveError::Content {
            path,
            name,
            source,
        })?;
        Ok(bytes)
    }

    fn find_images(&mut self) -> Result<(), ReadArchiveError> {
        if self.has_member(LAYOUT_FILE)? || self.has_member(INDEX_FILE)? {
            let bytes = self.read_member(INDEX_FILE, MANIFEST_SIZE_MAX)?;
            (self.artifacts, self.images) = self.layout_images(&bytes)?;
            return Ok(());
        }
        if !self.has_member(MANIFEST_FILE)? {
            return Err(ReadArchiveError::NotAnImage { path: self.path.clone() });
        }
        let bytes = self.read_member(MANIFEST_FILE, MANIFEST_SIZE_MAX)?;
        for entry in legacy::parse(&bytes)
            .map_err(|source| ReadArchiveError::DockerManifest { path: self.path.clone(), source })?
        {
            self.add_legacy_image(entry)?;
        }
        Ok(())
    }

    /// Groups the entries of `index.json` by what they name, those that are no images apart.
    fn layout_images(&self, bytes: &[u8]) -> Result<(Vec<Descriptor>, Vec<ArchivedImage>), ReadArchiveError> {
        let error = |source| ReadArchiveError::Manifest {
            path: self.path.clone(),
            name: INDEX_FILE.to_owned(),
            source,
        };
        let index = match Document::parse(bytes, &MediaType::default()).map_err(error)? {
            Document::Index(index) => index,
            Document::Manifest(_) => return Err(error(InvalidManifest::MediaType(MediaType::OCI_MANIFEST))),
        };
        let mut images: Vec<ArchivedImage> = Vec::new();
        let (artifacts, targets): (Vec<_>, Vec<_>) =
            index.manifests.into_iter().partition(|entry| !entry.artifact_type.is_empty());
        for mut target in targets {
            let tag = target.annotations.remove(ANNOTATION_REF_NAME);
            let name = target.annotations.remove(ANNOTATION_IMAGE_NAME).or(tag);
            match images.iter_mut().find(|image| image.target.digest == target.digest) {
                Some(image) => image.names.extend(name),
                None => images.push(ArchivedImage { target, names: name.into_iter().collect() }),
            }
        }
        Ok((artifacts, images))
    }

    fn add_legacy_image(&mut self, entry: legacy::Entry) -> Result<(), ReadArchiveError> {
        let bytes = self.read_member(&entry.config, CONFIG_SIZE_MAX)?;
        let config = ImageConfig::parse(&bytes).map_err(|source| ReadArchiveError::Config {
            path: self.path.clone(),
            name: entry.config.clone(),
            source,
        })?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            return Err(ReadArchiveError::LayerCount {
                path: self.path.clone(),
                config: entry.config,
                layers: entry.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let mut layers = Vec::new();
        for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
            let extent = self.extent(name)?;
            let layer = legacy::describe_layer(
                || self.open_member(name).map(|(reader, _)| reader),
                extent.size,
                diff_id,
            )
            .map_err(|error| error.naming(&self.path, name))?;
            self.extents.insert(layer.digest, extent);
            layers.push(layer);
        }
        let config = Descriptor::of(MediaType::DOCKER_CONFIG, &bytes);
        self.documents.insert(config.digest, bytes);
        let manifest = crate::Manifest::new(crate::Dialect::Docker, config, layers);
        let target = manifest.descriptor();
        self.documents.insert(target.digest, manifest.to_bytes());
        self.images.push(ArchivedImage { target, names: entry.repo_tags });
        Ok(())
    }

    fn extent(&self, name: &str) -> Result<Extent, ReadArchiveError> {
        let missing = || ReadArchiveError::Missing { path: self.path.clone(), name: name.to_owned() };
        match &self.storage {
            Storage::Tar(members) => members.find(name).ok_or_else(missing),
            // `docker save` makes no directories; an unpacked old archive is not worth a second way of finding blobs.
            Storage::Directory(_) => Err(ReadArchiveError::NotAnImage { path: self.path.clone() }),
        }
    }

    fn has_member(&self, name: &str) -> Result<bool, ReadArchiveError> {
        match self.open_member(name) {
            Ok(_) => Ok(true),
            Err(ReadArchiveError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_member(&self, name: &str, limit: u64) -> Result<Vec<u8>, ReadArchiveError> {
        let (reader, size) = self.open_member(name)?;
        if size > limit {
            return Err(ReadArchiveError::TooLarge { path: self.path.clone(), name: name.to_owned(), size });
        }
        let mut bytes = Vec::new();
        reader.take(limit).read_to_end(&mut bytes).map_err(|source| ReadArchiveError::Content {
            path: self.path.clone(),
            name: name.to_owned(),
            source,
        })?;
        Ok(bytes)
    }

    fn open_member(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64), ReadArchiveError> {
        let missing = || ReadArchiveError::Missing { path: self.path.clone(), name: name.to_owned() };
        match &self.storage {
            Storage::Tar(members) => {
                let extent = members.find(name).ok_or_else(missing)?;
                Ok((Box::new(members.open(extent)), extent.size))
            }
            Storage::Directory(directory) => match open_below(directory, name) {
                Ok((file, size)) => Ok((Box::new(file), size)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                Err(source) => {
                    Err(ReadArchiveError::Content { path: self.path.clone(), name: name.to_owned(), source })
                }
            },
        }
    }
}

impl ArchivedImage {
    fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.target.digest.to_string())
    }

    /// Returns whether `wanted` is its digest, its tag, or another way to write one of its names.
    fn is_called(&self, wanted: &str) -> bool {
        let parse = |text: &str| Reference::parse(text).ok().map(|reference| reference.with_default_tag());
        let wanted_reference = parse(wanted);
        self.target.digest.to_string() == wanted
            || self
                .names
                .iter()
                .filter_map(|name| parse(name))
                .any(|name| name.tag() == Some(wanted) || wanted_reference.as_ref() == Some(&name))
    }
}

fn blob_name(blob: &Descriptor) -> String {
    format!("{BLOBS}/{}", blob.digest.hex())
}

/// Opens a regular file below a directory; no link leads out of it.
fn open_below(directory: &RootDir, name: &str) -> io::Result<(File, u64)> {
    // Some tools lay a blob in one place of the layout and link to it from others.
    let file = directory.open_linked_file(name.as_bytes())?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Returns the file itself if it is not compressed, else a nameless file with what was in it.
fn decompressed(mut file: File, spool: &Path) -> io::Result<File> {
    let mut decoder = Decoder::new(&mut file)?;
    if decoder.codec() != Codec::Plain {
        let mut unpacked = tempfile::tempfile_in(spool)?;
        io::copy(&mut decoder, &mut unpacked)?;
        return Ok(unpacked);
    }
    drop(decoder);
    Ok(file)
}
