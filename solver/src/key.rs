//! Cache keys: what a step's result depends on, part by part.
//!
//! A key is the BLAKE3 digest of its parts, each length-prefixed, under a format version. The parts themselves are kept with the
//! record, so that a miss can be explained by comparing them. A key holds what inputs *are* (layer ids, content digests), never
//! how they were made.
//!
//! What is not here, on purpose: proxy variables, values of secrets and ssh agents, addresses of extra hosts, CPU and memory
//! limits, and of a cache mount its name, sharing and content, which are the step's own business.
//! A COPY's key does not hold its parent tree: what it reads there becomes conditions of its record.

use std::fmt;

use mica_image::tree::Tree;
use serde::{Deserialize, Serialize};

use crate::graph::{CopyOp, NetworkMode, Op, RunMountKind, RunOp, SecurityMode, Step, Unpack, WorkdirOp};

/// Version of the key format; a change of any part's meaning raises it.
pub const KEY_VERSION: u32 = 1;

/// The name under which a step's result is recorded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Returns the 64 hexadecimal digits of the key.
    #[must_use]
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Returns the raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({})", &self.hex()[..12])
    }
}

/// One named thing a key depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// What it is: `command`, `env PATH`, `content COPY src`.
    pub name: String,
    /// Its value or digest.
    pub value: String,
}

/// All parts of a key in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts(pub Vec<KeyPart>);

impl KeyParts {
    /// Adds a part.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push(KeyPart { name: name.into(), value: value.into() });
    }

    /// Returns the key these parts make.
    #[must_use]
    pub fn key(&self) -> CacheKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"mica cache key\0");
        hasher.update(&KEY_VERSION.to_le_bytes());
        for part in &self.0 {
            hash_text(&mut hasher, &part.name);
            hash_text(&mut hasher, &part.value);
        }
        CacheKey(*hasher.finalize().as_bytes())
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Returns the parts of `step`'s key that follow from its description and, for RUN, from its parent tree.
///
/// The runner adds what it alone knows: the content each step takes from contexts, stages and files, and the version of its sandbox.
/// Source steps have no key: they are resolved, not run.
#[must_use]
pub fn step_parts(step: &Step, parent: &Tree) -> KeyParts {
    let mut parts = KeyParts::default();
    match &step.op {
        Op::Run(run) => run_parts(&mut parts, step, run, parent),
        Op::Copy(copy) => copy_parts(&mut parts, copy),
        Op::Workdir(workdir) => workdir_parts(&mut parts, workdir),
        Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) | Op::Inline(_) => {}
    }
    parts
}

fn run_parts(parts: &mut KeyParts, step: &Step, run: &RunOp, parent: &Tree) {
    parts.push("step", "run");
    parts.push("platform", step.platform.to_string());
    for (number, argument) in run.argv.iter().enumerate() {
        parts.push(format!("command {number}"), argument);
    }
    for (name, value) in &run.env {
        parts.push(format!("env {name}"), value);
    }
    parts.push("workdir", &run.cwd);
    parts.push("user", &run.user);
    parts.push("hostname", &run.hostname);
    parts.push(
        "network",
        match run.network {
            NetworkMode::Default => "default",
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
        },
    );
    parts.push(
        "security",
        match run.security {
            SecurityMode::Sandbox => "sandbox",
            SecurityMode::Insecure => "insecure",
        },
    );
    for (name, _) in &run.extra_hosts {
        parts.push("extra host", name);
    }
    for limit in &run.ulimits {
        parts.push("ulimit", limit);
    }
    if let Some(size) = run.shm_size {
        parts.push("shm size", size.to_string());
    }
    if let Some(cgroup) = &run.cgroup_parent {
        parts.push("cgroup parent", cgroup);
    }
    for mount in &run.mounts {
        parts.push(format!("mount {}", mount.target), mount_value(&mount.kind));
    }
    if !run.left_out.is_empty() {
        parts.push("reproducible", run.left_out.join(", "));
    }
    for (number, layer) in parent.iter().enumerate() {
        parts.push(format!("layer {number}"), layer.id.to_string());
    }
}

/// What of a mount a command can notice, its content left out.
fn mount_value(kind: &RunMountKind) -> String {
    match kind {
        RunMountKind::Bind { read_only, .. } => format!("bind read-only={read_only}"),
        RunMountKind::Cache { read_only, mode, uid, gid, .. } => {
            format!("cache read-only={read_only} mode={mode:o} owner={uid}:{gid}")
        }
        RunMountKind::Tmpfs { size } => format!("tmpfs size={}", size.unwrap_or(0)),
        RunMountKind::Secret { id, env, required, mode, uid, gid } => format!(
            "secret id={id} env={} required={required} mode={mode:o} owner={uid}:{gid}",
            env.as_deref().unwrap_or("")
        ),
        RunMountKind::Ssh { id, required, mode, uid, gid } => {
            format!("ssh id={id} required={required} mode={mode:o} owner={uid}:{gid}")
        }
        RunMountKind::Script { content } => format!("script {content}"),
    }
}

fn copy_parts(parts: &mut KeyParts, copy: &CopyOp) {
    parts.push("step", "copy");
    parts.push("destination", &copy.destination);
    parts.push("chown", option_text(copy.chown.as_deref()));
    parts.push("chmod", option_text(copy.chmod.as_deref()));
    parts.push("link", copy.link.to_string());
    parts.push("parents", copy.parents.to_string());
    for source in &copy.sources {
        parts.push(
            "unpack",
            match source.unpack {
                Unpack::No => "no",
                Unpack::Archive => "archive",
            },
        );
    }
}

fn workdir_parts(parts: &mut KeyParts, workdir: &WorkdirOp) {
    parts.push("step", "workdir");
    parts.push("path", &workdir.path);
    parts.push("user", &workdir.user);
}

/// Absent and empty are told apart.
fn option_text(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!("={value}"))
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
