//! What a build writes besides the image in the store: archives, layouts, trees, and images in registries.

mod blobs;
mod documents;
mod load;
mod push;
mod tree;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::archive::{write_docker_archive, write_layout_archive};
use mica_image::fault::{Point, reach};
use mica_image::layout::{NamedImage, WithDocuments, WriteLayoutError, write_layout_directory};
use mica_image::tree::Tree;
use mica_image::{ContentDigest, Descriptor, ImageConfig, LayerCompression, Platform, Reference};
use mica_remote::RegistryError;
use mica_solver::{BuildEvent, EventSender, TaskState};

use super::attest::statement::Predicate;
use super::blocking::blocking;
use super::build_error::BuildError;
use super::request::{BuildRequest, Output, OutputKind};
use super::{Engine, Host, NetworkSetupError};
pub(crate) use blobs::{Codec, StoreBlobs, as_it_came};
pub(crate) use push::Content;

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
    /// What is said of it where it goes out.
    pub said: Vec<Predicate>,
}

/// An image as it went out.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    /// What its names stand for: a manifest, or an index over several.
    pub target: Descriptor,
    /// Its names.
    pub names: Vec<String>,
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
    /// An index was to be annotated where there is none.
    #[error("`{key}` cannot be annotated on an index: an image of one platform has none")]
    NoIndex {
        /// The annotation.
        key: String,
    },
    /// There is nowhere to push to.
    #[error("the image has no name, which says where to push it")]
    NoName,
    /// A registry did not take an image.
    #[error("cannot push to `{repository}`")]
    Push {
        /// Where.
        repository: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// An image could not be loaded into a daemon.
    #[error(transparent)]
    Daemon(#[from] mica_remote::DaemonError),
    /// The daemon is somewhere mica cannot reach.
    #[error("mica cannot speak to the docker daemon at `{address}`")]
    DaemonAddress {
        /// Where.
        address: String,
    },
    /// A context of docker's is not there, or says nothing of a daemon.
    #[error("docker's context `{context}` names no daemon")]
    DaemonContext {
        /// Its name.
        context: String,
    },
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkSetupError),
}

impl OutputError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Push { source, .. } => source.hint(),
            Self::Daemon(mica_remote::DaemonError::Unreachable { .. }) => Some(
                "start it, say where it is with DOCKER_HOST, or write an archive with `-o type=docker,dest=FILE`"
                    .to_owned(),
            ),
            Self::DaemonAddress { .. } => {
                Some("unix:// and tcp:// without encryption are known; forward a socket with ssh".to_owned())
            }
            Self::NoName => Some("give one with `-t REGISTRY/NAME`".to_owned()),
            _ => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Push { source: RegistryError::Transport(_), .. }
                | Self::Daemon(mica_remote::DaemonError::Unreachable { .. })
        )
    }
}

impl Engine {
    /// Writes all outputs of a build and returns the images among them.
    pub(super) async fn write_outputs(
        &self,
        request: &Arc<BuildRequest>,
        images: &[StoredImage],
        events: &EventSender,
    ) -> Result<Vec<Exported>, BuildError> {
        let mut exported = Vec::new();
        for output in request.outputs.iter().filter(|output| output.kind != OutputKind::Image) {
            let names = if output.names.is_empty() { &request.tags } else { &output.names };
            if request.attest.is_asked() && !output.kind.has_statements() {
                let place = match output.kind {
                    OutputKind::Daemon => "docker's daemon".to_owned(),
                    _ => target_name(output.destination.as_deref()),
                };
                let message = format!("{place} has no place for attestations, and gets none");
                events.send(BuildEvent::Warning { message }).await;
            }
            if let OutputKind::Registry(push) = output.kind {
                exported.push(self.push(images, names, push, &output.packing, events).await?);
                continue;
            }
            if output.kind == OutputKind::Daemon {
                exported.push(self.load_into_daemon(images, names, &output.packing, events).await?);
                continue;
            }
            let what = format!("writing {}", target_name(output.destination.as_deref()));
            events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
            let (host, images, output, names) =
                (self.host.clone(), images.to_vec(), output.clone(), names.clone());
            exported.extend(blocking(move || write(&host, &images, &output, &names)).await?);
            events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
        }
        Ok(exported)
    }
}

/// Writes one output; returns the image where it is one.
pub(crate) fn write(
    host: &Host,
    images: &[StoredImage],
    output: &Output,
    names: &[Reference],
) -> Result<Option<Exported>, OutputError> {
    match output.kind {
        OutputKind::Image | OutputKind::Registry(_) | OutputKind::Daemon => Ok(None),
        OutputKind::OciArchive | OutputKind::OciLayout => {
            write_layout(host, images, output, names, LayerCompression::Gzip).map(Some)
        }
        OutputKind::DockerArchive => {
            write_layout(host, images, output, names, LayerCompression::None).map(Some)
        }
        OutputKind::Tar => to_file(output.destination.as_deref(), |out, target| {
            tree::write_tar(host, images, out)
                .map_err(|source| OutputError::Tree { target: target.to_owned(), source })
        })
        .map(|()| None),
        OutputKind::Local => {
            let path = output.destination.clone().unwrap_or_else(|| PathBuf::from("."));
            let target = target_name(Some(&path));
            tree::write_directory(host, images, &path)
                .map_err(|source| OutputError::Tree { target, source })
                .map(|()| None)
        }
    }
}

fn write_layout(
    host: &Host,
    images: &[StoredImage],
    output: &Output,
    names: &[Reference],
    usual: LayerCompression,
) -> Result<Exported, OutputError> {
    if output.kind == OutputKind::DockerArchive && images.len() > 1 {
        return Err(OutputError::SeveralPlatforms);
    }
    let blobs = StoreBlobs::new(&host.store, host.threads);
    let manifests = documents::manifests(&host.store, &blobs, images, &output.packing, usual)?;
    let attestations = match output.kind {
        // There a file of another kind could not be told from an image.
        OutputKind::DockerArchive => Vec::new(),
        _ => documents::attestations(&host.store, images, &manifests, names)?,
    };
    let (target, index) = documents::target(&manifests, &attestations, &output.packing)?;
    let mut source = WithDocuments::new(&blobs);
    let attestations = attestations.into_iter().map(|attestation| attestation.document);
    for document in manifests.into_iter().chain(attestations).chain(index) {
        source.add(document.bytes);
    }
    let named = [NamedImage { target: target.clone(), names: names.to_vec() }];
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
    }?;
    Ok(Exported { target, names: names.iter().map(Reference::to_string).collect() })
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
    let file = reach(Point::OutputMake).and_then(|()| File::create(&part.0)).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, file);
    write(&mut out, &target)?;
    out.flush().map_err(failed)?;
    reach(Point::OutputPlace).and_then(|()| std::fs::rename(&part.0, path)).map_err(failed)
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
