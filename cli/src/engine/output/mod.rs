//! What a build writes besides the image in the store: archives, layouts, trees.

mod blobs;
mod tree;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::archive::{write_docker_archive, write_layout_archive};
use mica_image::layout::{NamedImage, WithDocuments, WriteLayoutError, write_layout_directory};
use mica_image::tree::Tree;
use mica_image::{
    ContentDigest, Descriptor, Dialect, ImageConfig, Index, Manifest, MediaType, Platform, Reference,
};
use mica_solver::{BuildEvent, EventSender, TaskState};

use super::blocking::blocking;
use super::build::BuildError;
use super::request::{BuildRequest, Output, OutputKind};
use super::{Engine, Host};
use blobs::{Compression, StoreBlobs};

/// An image in the store, read.
#[derive(Debug, Clone)]
pub(crate) struct StoredImage {
    /// The digest of its config.
    pub id: ContentDigest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers.
    pub tree: Tree,
    /// Its platform.
    pub platform: Platform,
    /// The manifest it was pulled with.
    pub manifest: Option<ContentDigest>,
}

/// An output could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// A file or directory could not be written.
    #[error("cannot write `{}`", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive or layout could not be written.
    #[error("cannot write {target}")]
    Layout {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: WriteLayoutError,
    },
    /// The tree could not be written.
    #[error("cannot write the file tree to {target}")]
    Tree {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: tree::TreeOutputError,
    },
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// A blob could not be written or read.
    #[error(transparent)]
    Blob(#[from] mica_cache::BlobError),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// A layer could not be compressed.
    #[error("cannot compress layer `{layer}`")]
    Compress {
        /// Its tar.
        layer: mica_image::DiffId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Several images cannot be one archive of this kind.
    #[error("a docker archive holds one platform: build one, or write `type=oci`")]
    SeveralPlatforms,
}

impl Engine {
    /// Writes all outputs of a build.
    pub(super) async fn write_outputs(
        &self,
        request: &Arc<BuildRequest>,
        images: &[StoredImage],
        events: &EventSender,
    ) -> Result<(), BuildError> {
        for output in request.outputs.iter().filter(|output| output.kind != OutputKind::Image) {
            let what = format!("writing {}", target_name(output.destination.as_deref()));
            events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
            let (host, images, output, tags) =
                (self.host.clone(), images.to_vec(), output.clone(), request.tags.clone());
            blocking(move || write(&host, &images, &output, &tags)).await?;
            events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
        }
        Ok(())
    }
}

/// Writes one output.
pub(crate) fn write(
    host: &Host,
    images: &[StoredImage],
    output: &Output,
    tags: &[Reference],
) -> Result<(), OutputError> {
    match output.kind {
        OutputKind::Image => Ok(()),
        OutputKind::OciArchive | OutputKind::OciLayout => {
            write_layout(host, images, output, tags, Compression::Gzip)
        }
        OutputKind::DockerArchive => write_layout(host, images, output, tags, Compression::None),
        OutputKind::Tar => to_file(output.destination.as_deref(), |out, target| {
            tree::write_tar(host, images, out)
                .map_err(|source| OutputError::Tree { target: target.to_owned(), source })
        }),
        OutputKind::Local => {
            let path = output.destination.clone().unwrap_or_else(|| PathBuf::from("."));
            let target = target_name(Some(&path));
            tree::write_directory(host, images, &path).map_err(|source| OutputError::Tree { target, source })
        }
    }
}

fn write_layout(
    host: &Host,
    images: &[StoredImage],
    output: &Output,
    tags: &[Reference],
    compression: Compression,
) -> Result<(), OutputError> {
    let dialect = Dialect::Oci;
    let blobs = StoreBlobs::new(&host.store);
    let mut source = WithDocuments::new(&blobs);
    let mut manifests = Vec::new();
    for image in images {
        let (mut descriptor, bytes) = match blobs.pulled_manifest(image)? {
            Some(pulled) => pulled,
            None => {
                let manifest = blobs.manifest(image, dialect, compression, host.threads)?;
                (manifest.descriptor(), manifest.to_bytes())
            }
        };
        descriptor.platform = Some(image.platform.clone());
        source.add(bytes);
        manifests.push(descriptor);
    }
    let target = match manifests.as_slice() {
        [only] => Descriptor { platform: None, ..only.clone() },
        _ if output.kind == OutputKind::DockerArchive => return Err(OutputError::SeveralPlatforms),
        _ => {
            let index = Index::new(dialect, manifests.clone());
            source.add(index.to_bytes());
            index.descriptor()
        }
    };
    let named = [NamedImage { target, names: tags.to_vec() }];
    let failed = |target: &str| {
        let target = target.to_owned();
        move |source| OutputError::Layout { target, source }
    };
    match output.kind {
        OutputKind::OciLayout => {
            let path = output.destination.clone().unwrap_or_else(|| PathBuf::from("."));
            write_layout_directory(&path, &named, &source).map_err(failed(&target_name(Some(&path))))
        }
        OutputKind::DockerArchive => to_file(output.destination.as_deref(), |out, target| {
            write_docker_archive(out, &named, &source).map_err(failed(target))
        }),
        _ => to_file(output.destination.as_deref(), |out, target| {
            write_layout_archive(out, &named, &source).map_err(failed(target))
        }),
    }
}

/// Writes to a file, which appears only when it is complete, or to standard output.
fn to_file(
    path: Option<&Path>,
    write: impl FnOnce(&mut dyn Write, &str) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    const BUFFER: usize = 1 << 20;
    let target = target_name(path);
    let Some(path) = path else {
        let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
        write(&mut out, &target)?;
        return out.flush().map_err(|source| OutputError::File { path: PathBuf::from("-"), source });
    };
    let failed = |source| OutputError::File { path: path.to_owned(), source };
    if is_special(path) {
        // A pipe or device cannot be replaced by a file of that name.
        let mut out =
            BufWriter::with_capacity(BUFFER, File::options().write(true).open(path).map_err(failed)?);
        write(&mut out, &target)?;
        return out.flush().map_err(failed);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = Removed(path.with_file_name(name));
    let mut out = BufWriter::with_capacity(BUFFER, File::create(&part.0).map_err(failed)?);
    write(&mut out, &target)?;
    out.flush().map_err(failed)?;
    std::fs::rename(&part.0, path).map_err(failed)
}

fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// A file that goes away unless it was renamed.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn target_name(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard output".to_owned(), |path| format!("`{}`", path.display()))
}

/// Builds the manifest of an image from its config and layers.
fn manifest_of(dialect: Dialect, image: &StoredImage, config_size: u64, layers: Vec<Descriptor>) -> Manifest {
    let config = Descriptor::new(MediaType::config(dialect), image.id, config_size);
    Manifest::new(dialect, config, layers)
}
