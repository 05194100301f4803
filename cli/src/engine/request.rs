//! What the engine is asked for: plain values, made by a front end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use mica_image::{Dialect, LayerCompression, Platform, Reference};
use mica_solver::graph::{NetworkMode, Resources};
pub(crate) use mica_solver::plan::NoCache;

use super::exchange::options::{CacheExport, CacheImport};
use super::lock::LockFile;
use super::repro::Conditions;
use super::reproducible::Reproducible;

/// A build.
#[derive(Debug, Clone)]
pub(crate) struct BuildRequest {
    /// The main context.
    pub context: ContextInput,
    /// The Dockerfile.
    pub dockerfile: DockerfileInput,
    /// `--build-context` in order: name and place.
    pub named_contexts: Vec<(String, String)>,
    /// `-t`, normalised.
    pub tags: Vec<Reference>,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`; values already taken from the environment where only a name was given.
    pub build_args: BTreeMap<String, String>,
    /// `--label` in order.
    pub labels: Vec<(String, String)>,
    /// `--platform`; empty is the host's.
    pub platforms: Vec<Platform>,
    /// `--no-cache`, `--no-cache-filter`.
    pub no_cache: NoCache,
    /// `--pull`: ask registries again for tags already resolved.
    pub pull: bool,
    /// `--offline`: touch no network for images and sources.
    pub offline: bool,
    /// `--locked`, `--lock-file`.
    pub lock: LockUse,
    /// `--network` of RUN.
    pub network: NetworkMode,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `--ulimit` as `name=soft[:hard]`.
    pub ulimits: Vec<String>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--resource` and the memory and cpu flags.
    pub resources: Resources,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--allow`.
    pub allow: Vec<String>,
    /// `--secret`: by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: agent socket (or key files) by id.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// `--cache-from`, in order.
    pub cache_from: Vec<CacheImport>,
    /// `--cache-to`, in order.
    pub cache_to: Vec<CacheExport>,
    /// Whether images carry the cache of their steps: `--cache-to type=inline`.
    pub inline_cache: bool,
    /// `-o`, in order; the image in the store is always made unless only trees are asked for.
    pub outputs: Vec<Output>,
    /// What is said of the image where it goes out.
    pub attest: Attest,
    /// How many steps run at once.
    pub jobs: usize,
    /// What is made the same in every build; `None` where nothing was said of it.
    pub reproducible: Option<Reproducible>,
    /// What times are clamped to where a provenance says it, whatever the sources say.
    pub recorded_clamp: Option<i64>,
    /// What RUN steps find otherwise than usual, to learn what they depend on.
    pub conditions: Option<Conditions>,
    /// no_new_privs for RUN.
    pub no_new_privileges: bool,
}

/// What is said of an image: `--provenance`, `--sbom`, `--attest`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attest {
    /// What it was made from.
    pub provenance: Option<ProvenanceOptions>,
    /// The packages in it.
    pub sbom: bool,
}

impl Attest {
    /// Whether anything is to be said.
    pub(crate) fn is_asked(&self) -> bool {
        self.provenance.is_some() || self.sbom
    }
}

/// How provenance is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ProvenanceOptions {
    /// How much.
    pub mode: ProvenanceMode,
    /// Who builds.
    pub builder_id: Option<String>,
}

/// How much provenance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ProvenanceMode {
    /// Without the values of build arguments and labels.
    Min,
    /// Everything.
    #[default]
    Max,
}

impl ProvenanceMode {
    /// Returns the word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

/// How a lock file is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LockUse {
    /// What everything is held to, instead of a file.
    pub given: Option<LockFile>,
    /// The file; otherwise it is looked for beside the Dockerfile and in the context.
    pub file: Option<PathBuf>,
    /// How.
    pub mode: LockMode,
}

/// Whether there must be a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LockMode {
    /// One that is there is used.
    #[default]
    WhenThere,
    /// There must be one, and it must cover everything.
    Required,
    /// None is looked for.
    Ignored,
}

/// Where the main context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContextInput {
    /// A directory.
    Directory(PathBuf),
    /// A tar archive (a file; standard input has been spooled to one).
    Archive(PathBuf),
    /// A http(s) tarball or a git repository.
    Url(String),
    /// Nothing: only a Dockerfile was given.
    Empty,
}

/// Where the Dockerfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DockerfileInput {
    /// `Dockerfile` (or `dockerfile`) at the top of the context.
    Default,
    /// A path as given with `-f`: of the file system when it exists there, otherwise inside the context.
    Path(PathBuf),
    /// The text itself (standard input).
    Text(Vec<u8>),
}

/// Where a secret's value is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: Vec<u8>,
    },
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Variable { name, .. } => {
                f.debug_struct("Variable").field("name", name).finish_non_exhaustive()
            }
        }
    }
}

/// Something a build writes besides the image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// What.
    pub kind: OutputKind,
    /// Where to; `None` is standard output (for archives).
    pub destination: Option<PathBuf>,
    /// Its names, where they are not the build's: `name=`.
    pub names: Vec<Reference>,
    /// How images are written.
    pub packing: Packing,
    /// Whether times in new layers are to be clamped (`rewrite-timestamp`); one image is made, so it holds for all outputs.
    pub clamps_times: bool,
}

impl BuildRequest {
    /// Settles what is made the same in every build: what was said of it, else `usual`; outputs may ask for times besides.
    pub(crate) fn settle_reproducible(&mut self, usual: Option<Reproducible>) {
        let settled = self.reproducible.get_or_insert_with(|| usual.unwrap_or_default());
        if self.outputs.iter().any(|output| output.clamps_times) {
            settled.add_times();
        }
    }

    /// Returns whether an item is made the same in every build.
    pub(crate) fn normalises(&self, item: &str) -> bool {
        self.reproducible.as_ref().is_some_and(|reproducible| reproducible.has(item))
    }
}

impl Output {
    /// Returns an output with the usual names and packing.
    pub(crate) fn new(kind: OutputKind, destination: Option<PathBuf>) -> Self {
        Self { kind, destination, names: Vec::new(), packing: Packing::default(), clamps_times: false }
    }

    /// Returns whether it is an image with a manifest.
    pub(crate) fn is_packed(&self) -> bool {
        !matches!(self.kind, OutputKind::Image | OutputKind::Tar | OutputKind::Local)
    }

    /// Returns whether it goes to standard output.
    pub(crate) fn is_stream(&self) -> bool {
        let to_a_place =
            matches!(self.kind, OutputKind::Image | OutputKind::Registry(_) | OutputKind::Daemon);
        self.destination.is_none() && !to_a_place
    }
}

/// The forms of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// An OCI layout as one tar.
    OciArchive,
    /// An OCI layout as a directory (`type=oci,tar=false`).
    OciLayout,
    /// A docker archive.
    DockerArchive,
    /// An image in docker's daemon (`--load`).
    Daemon,
    /// The file tree as a tar.
    Tar,
    /// The file tree as a directory.
    Local,
    /// The image in the store only (`type=image`).
    Image,
    /// The image in a registry (`type=registry`, or `type=image,push=true`).
    Registry(Push),
}

impl OutputKind {
    /// Whether what is said of an image goes there with it.
    pub(crate) const fn has_statements(self) -> bool {
        matches!(self, Self::OciArchive | Self::OciLayout | Self::Registry(_))
    }
}

/// How an image goes to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Push {
    /// Under its digest alone, without a tag.
    pub by_digest: bool,
    /// Plain HTTP, or a certificate nobody vouches for, will do.
    pub insecure: bool,
}

/// How the parts of an image are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Packing {
    /// The media types; OCI's where nothing is said.
    pub dialect: Option<Dialect>,
    /// How layers made here are compressed.
    pub compression: Option<LayerCompression>,
    /// The compressor's level.
    pub level: Option<i32>,
    /// Whether layers that came compressed in another way are compressed anew.
    pub force: bool,
    /// Annotations.
    pub annotations: Vec<Annotation>,
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    /// What it is about.
    pub subject: Annotated,
    /// The platform it is for, of several.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where an annotation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Annotated {
    /// Into the manifest.
    Manifest,
    /// Beside the manifest's entry in an index.
    ManifestDescriptor,
    /// Into the index.
    Index,
    /// Beside the index's entry in a layout.
    IndexDescriptor,
}

/// A command to be run in an image.
#[derive(Debug, Clone)]
pub(crate) struct RunRequest {
    /// The image.
    pub image: String,
    /// The command; empty is the image's own.
    pub command: Vec<String>,
    /// `--entrypoint`.
    pub entrypoint: Option<String>,
    /// `-e`.
    pub env: Vec<(String, String)>,
    /// `-u`.
    pub user: Option<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `--network`.
    pub network: NetworkMode,
    /// `-t`: a terminal.
    pub tty: bool,
    /// `-i`: standard input.
    pub interactive: bool,
    /// `--rm` not given: the container's changes are kept for a look (their path is told).
    pub keep: bool,
}
