//! What a plan is made from, besides the Dockerfile: the request of a build and what is known of base images.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use mica_image::{ContentDigest, ImageConfig, Platform, Reference};

use crate::graph::{ImageSource, NetworkMode, Resources};

/// What the person asked for.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// `--target`; the last stage when absent.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in order; the last of equal names wins.
    pub labels: Vec<(String, String)>,
    /// `--platform`; empty is the build platform, and then a base image's own platform fields are kept.
    pub platforms: Vec<Platform>,
    /// The platform of this machine.
    pub build_platform: Platform,
    /// `--no-cache` and `--no-cache-filter`.
    pub no_cache: NoCache,
    /// `--build-context` by name (`name` or `name::platform`).
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// The network of RUN steps that do not name one; asking for the host's here also allows it.
    pub network: NetworkMode,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `--ulimit` as `name=soft[:hard]`.
    pub ulimits: Vec<String>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// CPU and memory limits.
    pub resources: Resources,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// The host name of RUN steps.
    pub hostname: Option<String>,
    /// `--allow`: granted entitlements, `network.host` and `security.insecure`.
    pub allow: Vec<String>,
    /// Which paths of the main context its ignore file leaves out, for a check; `None` when there is no such file.
    pub ignore: Option<IgnoredPaths>,
    /// The time of what SOURCE_DATE_EPOCH names, where that was asked for.
    pub source_time: SourceTime,
    /// What RUN steps are given and denied so that they do the same everywhere.
    pub normalised: Normalised,
    /// Whether every stage is planned, needed or not (`--check`).
    pub all_stages: bool,
}

/// What RUN steps are given and denied so that they do the same everywhere; an image's own settings win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Normalised {
    /// `LC_ALL=C.UTF-8`.
    pub locale: bool,
    /// `TZ=UTC`.
    pub time_zone: bool,
    /// `SOURCE_DATE_EPOCH`: the one asked for, else the time at which the base was made.
    pub epoch: bool,
    /// What is left out of their layers, by names that change with its meaning.
    pub left_out: Vec<String>,
}

impl PlanRequest {
    /// Returns a request for the last stage on `build_platform`, with nothing else asked for.
    #[must_use]
    pub fn new(build_platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            platforms: Vec::new(),
            build_platform,
            no_cache: NoCache::None,
            named_contexts: BTreeMap::new(),
            network: NetworkMode::Default,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            resources: Resources::default(),
            cgroup_parent: None,
            hostname: None,
            allow: Vec::new(),
            ignore: None,
            source_time: SourceTime::NotAsked,
            normalised: Normalised::default(),
            all_stages: false,
        }
    }
}

/// Which steps may not use the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// All may.
    #[default]
    None,
    /// None may.
    All,
    /// The steps of these stages may not.
    Stages(Vec<String>),
}

/// The answer to [`super::Planned::NeedTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceTime {
    /// There is none yet.
    #[default]
    NotAsked,
    /// Nobody knows, as of a directory: the build has no fixed time.
    Unknown,
    /// Seconds since 1970.
    Seconds(i64),
}

/// What stands behind the name of a `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory.
    Local,
    /// `docker-image://…`.
    Image(Reference),
    /// `oci-layout://…`, by the text after the scheme.
    OciLayout(String),
    /// An http(s) file.
    Http(String),
    /// A git repository.
    Git(String),
    /// Nothing at all (`docker-image://scratch`).
    Scratch,
}

/// Asks whether the ignore file leaves a path of the main context out.
#[derive(Clone)]
pub struct IgnoredPaths(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl IgnoredPaths {
    /// Wraps the answer to “is this clean, relative path (`.` is the whole context) left out, itself or through a parent?”.
    ///
    /// Give none for an ignore file with `!` lines: what it leaves out cannot be told from a path alone.
    pub fn new(ignores: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(ignores))
    }

    /// Returns whether `path` is left out.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        (self.0)(path)
    }
}

impl fmt::Debug for IgnoredPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IgnoredPaths")
    }
}

/// A base image whose configuration is known, or will not be.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// Whether it is known what is in it.
    pub knowledge: Knowledge,
    /// The digest of its configuration.
    pub id: ContentDigest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The platform it was chosen for in its index, as found there.
    pub platform: Platform,
}

impl ResolvedImage {
    /// Stands for an image that cannot be looked at, so that the rest of a file can be checked.
    #[must_use]
    pub fn out_of_reach(platform: &Platform) -> Self {
        let mut config = ImageConfig::default();
        config.set_platform(platform);
        let knowledge = Knowledge::OutOfReach;
        Self { knowledge, id: config.digest(), platform: platform.clone(), config }
    }
}

/// Whether what an image brings is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// All of it is.
    Known,
    /// Nothing is: it may set any variable.
    OutOfReach,
}

/// The base images known so far.
pub trait BaseImages {
    /// Returns the image, or `None` while it has not been resolved.
    fn get(&self, source: &ImageSource) -> Option<&ResolvedImage>;
}

impl BaseImages for std::collections::HashMap<ImageSource, ResolvedImage> {
    fn get(&self, source: &ImageSource) -> Option<&ResolvedImage> {
        std::collections::HashMap::get(self, source)
    }
}
