//! The build graph: steps, and which results each of them sees.
//!
//! Planning makes a graph once; nothing changes it afterwards. What a step's progress is lives in the scheduler alone.

use std::collections::HashSet;
use std::net::IpAddr;

use mica_image::{ImageConfig, Platform, Reference};
use mica_parser::syntax::Span;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};

/// Number of a step in its graph; the build shows `#1` for step 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId(pub u32);

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0 + 1)
    }
}

/// The steps of one build and their edges; an edge goes from the step that is seen to the step that sees it.
#[derive(Debug, Default)]
pub struct BuildGraph {
    graph: DiGraph<Step, Slot>,
}

/// How a step sees the result of another: the `n`-th slot of its operation.
///
/// Slot 0 of [`Op::Run`], [`Op::Copy`] and [`Op::Workdir`] is the parent tree when [`Step::has_parent`]; the operation names
/// the further slots by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// What people see: `[build 2/5] RUN make`.
    pub name: String,
    /// The stage it belongs to, by name or number.
    pub stage: Option<String>,
    /// Where in the Dockerfile it was written (in the base image for an ONBUILD trigger: then `None`).
    pub span: Option<Span>,
    /// 1-based line of the instruction.
    pub line: Option<u32>,
    /// The platform the step runs for.
    #[serde(serialize_with = "as_text")]
    pub platform: Platform,
    /// Whether slot 0 is the tree of the stage so far; `false` for sources and at the start of `FROM scratch`.
    pub has_parent: bool,
    /// Whether a cached result must not be used (`--no-cache`, `--no-cache-filter`).
    pub ignore_cache: bool,
    /// What it does.
    pub op: Op,
}

fn as_text<S: serde::Serializer>(platform: &Platform, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(platform)
}

/// What a step does. The set is closed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A base image's tree.
    Image(ImageSource),
    /// The files of a build context.
    Context(ContextSource),
    /// One file from an http(s) URL.
    Http(HttpSource),
    /// A git checkout.
    Git(GitSource),
    /// Files written in the Dockerfile (heredocs).
    Inline(InlineSource),
    /// A command in a sandbox.
    Run(RunOp),
    /// COPY and ADD.
    Copy(CopyOp),
    /// A directory for WORKDIR.
    Workdir(WorkdirOp),
}

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ImageSource {
    /// Where it comes from.
    pub location: ImageLocation,
    /// The platform wanted.
    #[serde(serialize_with = "as_text")]
    pub platform: Platform,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageLocation {
    /// A name: the local store, then the registry.
    Reference(Reference),
    /// A named context `oci-layout://path[:tag|@digest]`, by the text after the scheme.
    OciLayout(String),
}

/// A build context.
#[derive(Debug, Clone, Serialize)]
pub struct ContextSource {
    /// `None` is the main context, otherwise the name of a `--build-context`.
    pub name: Option<String>,
    /// Paths any step takes from it (as written after expansion, wildcards included); nothing else needs to be read.
    pub wanted: Vec<String>,
}

/// An http(s) file for ADD, or a named context that is one.
#[derive(Debug, Clone, Serialize)]
pub struct HttpSource {
    /// The URL.
    pub url: String,
    /// Expected `sha256:…`.
    pub checksum: Option<String>,
    /// The name its file gets where it is shown as a directory.
    pub filename: String,
}

/// A git source.
#[derive(Debug, Clone, Serialize)]
pub struct GitSource {
    /// The URL as written, fragment or query included.
    pub url: String,
    /// Whether `.git` stays (`--keep-git-dir`, or the URL's own query).
    pub keep_git_dir: Option<bool>,
    /// Expected commit prefix.
    pub checksum: Option<String>,
}

/// Files whose content is in the Dockerfile.
#[derive(Debug, Clone, Serialize)]
pub struct InlineSource {
    /// Name and content, expanded.
    pub files: Vec<(String, String)>,
}

/// RUN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOp {
    /// The command.
    pub argv: Vec<String>,
    /// The environment in order: the image's, then ARGs in effect; PATH included. Not the proxy variables.
    pub env: Vec<(String, String)>,
    /// Proxy variables: given to the command, not part of the key.
    pub proxy_env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER as written; empty is root.
    pub user: String,
    /// Host name the command sees.
    pub hostname: String,
    /// Network.
    pub network: NetworkMode,
    /// Security mode.
    pub security: SecurityMode,
    /// Further lines of /etc/hosts.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `name=soft[:hard]`.
    pub ulimits: Vec<String>,
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// CPU and memory limits.
    pub resources: Resources,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// Mounts in order.
    pub mounts: Vec<RunMount>,
    /// What is left out of its layer, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// Limits of a step; they do not enter the key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is the flag of that name; memory in bytes, times in microseconds")]
pub struct Resources {
    pub memory: Option<u64>,
    pub memory_swap: Option<i64>,
    pub cpu_shares: Option<u64>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// An interface of its own.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// The security mode of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityMode {
    /// Everything the sandbox offers.
    #[default]
    Sandbox,
    /// All capabilities, no filter, no masks.
    Insecure,
}

/// One mount of a RUN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunMount {
    /// Where, absolute; empty only for a secret that is an environment variable alone.
    pub target: String,
    /// What.
    pub kind: RunMountKind,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunMountKind {
    /// Files of another step's result.
    Bind {
        /// The slot that gives them.
        slot: u32,
        /// The path there.
        source: String,
        /// Whether writes are refused; otherwise they are thrown away.
        read_only: bool,
    },
    /// A directory that lives on between builds.
    Cache {
        /// Its name.
        id: String,
        /// How concurrent steps use it.
        sharing: Sharing,
        /// Slot whose files it starts with, and the path there.
        from: Option<(u32, String)>,
        /// Whether writes are refused.
        read_only: bool,
        /// Mode of the directory when made.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// A secret as file (when `target` is not empty) and as variable.
    Secret {
        /// Its id.
        id: String,
        /// The variable to set.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// An ssh agent's socket.
    Ssh {
        /// Its id.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A heredoc with an interpreter line, as a read-only executable file.
    Script {
        /// The file's content.
        content: String,
    },
}

/// How concurrent steps use one cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// A second directory for a concurrent user.
    Private,
    /// One after another.
    Locked,
}

/// COPY or ADD after its sources are told apart.
#[derive(Debug, Clone, Serialize)]
pub struct CopyOp {
    /// Sources in order.
    pub sources: Vec<CopySource>,
    /// Destination, absolute (joined to the working directory); a trailing slash counts.
    pub destination: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// `--link`: placed on nothing, whatever the parent has.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude` patterns.
    pub excludes: Vec<String>,
}

/// One source of a [`CopyOp`].
#[derive(Debug, Clone, Serialize)]
pub struct CopySource {
    /// The slot it comes from.
    pub slot: u32,
    /// The path there, wildcards included; for http sources the file name to give (empty: as the server says).
    pub path: String,
    /// Whether archives are unpacked.
    pub unpack: Unpack,
}

/// Whether an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpack {
    /// Never (COPY, `--unpack=false`, remote files).
    No,
    /// When the content is an archive (ADD of local files, `--unpack`).
    Archive,
}

/// The directory of a WORKDIR.
#[derive(Debug, Clone, Serialize)]
pub struct WorkdirOp {
    /// The path, absolute and clean.
    pub path: String,
    /// USER in effect, which owns what is made; empty is root.
    pub user: String,
}

/// One image the build is asked for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its platform.
    pub platform: Platform,
    /// The stage's name or number.
    pub stage: String,
    /// The step whose tree it has; `None` is an empty image.
    pub step: Option<StepId>,
    /// The image configuration, `rootfs`, `history` of new entries and `created` left to the assembly.
    pub config: ImageConfig,
    /// New history entries in order; the base's are in `config.history`.
    pub history: Vec<HistoryItem>,
}

/// A history entry to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// `created_by`.
    pub created_by: String,
    /// The step that makes its layer; `None` for an empty layer.
    pub step: Option<StepId>,
    /// 1-based line in the Dockerfile; 0 for ONBUILD triggers of a base image.
    pub line: u32,
}

impl BuildGraph {
    /// Adds a step that sees `inputs` (slot number, step), and returns its number.
    pub fn add(&mut self, mut step: Step, inputs: &[(u32, StepId)]) -> StepId {
        let id =
            StepId(u32::try_from(self.graph.node_count()).expect("a Dockerfile has fewer than 2^32 steps"));
        step.id = id;
        let node = self.graph.add_node(step);
        for (slot, input) in inputs {
            self.graph.add_edge(NodeIndex::new(input.0 as usize), node, Slot(*slot));
        }
        id
    }

    /// Returns the steps in the order they were planned; inputs come before what sees them.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.graph.node_weights()
    }

    /// Returns one step.
    #[must_use]
    pub fn step(&self, id: StepId) -> &Step {
        &self.graph[NodeIndex::new(id.0 as usize)]
    }

    /// Makes a step run although its result may be known.
    pub fn ignore_cache(&mut self, id: StepId) {
        self.graph[NodeIndex::new(id.0 as usize)].ignore_cache = true;
    }

    /// Returns how many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what a step sees, by slot.
    #[must_use]
    pub fn inputs(&self, id: StepId) -> Vec<(u32, StepId)> {
        let node = NodeIndex::new(id.0 as usize);
        let mut inputs: Vec<_> = self
            .graph
            .edges_directed(node, petgraph::Direction::Incoming)
            .map(|edge| (edge.weight().0, node_id(petgraph::visit::EdgeRef::source(&edge))))
            .collect();
        inputs.sort_unstable();
        inputs
    }

    /// Returns the steps that the trees of these are made of: themselves, and all that they stand on.
    #[must_use]
    pub fn lineages(&self, of: impl IntoIterator<Item = StepId>) -> HashSet<StepId> {
        let mut found = HashSet::new();
        for step in of {
            let mut next = Some(step);
            while let Some(step) = next
                && found.insert(step)
            {
                next = self.parent(step);
            }
        }
        found
    }

    /// Returns the step whose tree a step goes on with.
    #[must_use]
    pub fn parent(&self, id: StepId) -> Option<StepId> {
        let first = || self.inputs(id).into_iter().find(|(slot, _)| *slot == 0).map(|(_, step)| step);
        if self.step(id).has_parent { first() } else { None }
    }

    /// Returns the steps that see the result of `id`.
    #[must_use]
    pub fn dependants(&self, id: StepId) -> Vec<StepId> {
        let mut found: Vec<_> = self
            .graph
            .neighbors_directed(NodeIndex::new(id.0 as usize), petgraph::Direction::Outgoing)
            .map(node_id)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn node_id(node: NodeIndex) -> StepId {
    StepId(u32::try_from(node.index()).expect("a graph has fewer than 2^32 steps"))
}
