//! SLSA provenance, version 1: what was asked for, what it was made from, by whom.
//!
//! ```text
//! buildDefinition
//!   externalParameters     context · dockerfile · target · platforms · args, labels (mode=max) · named contexts · reproducible
//!   internalParameters     builder's platform · what times were clamped to
//!   resolvedDependencies   context · dockerfile · bases · downloads · repositories
//! runDetails
//!   builder.id             `builder-id=`, or this mica
//!   metadata               when, unless SOURCE_DATE_EPOCH says that times are not to be told
//! ```
//!
//! Values of build arguments and labels may be confidential: `mode=min` leaves both out.

use std::collections::BTreeMap;

use mica_image::{ContentDigest, Platform, Reference, Timestamp};
use serde_json::{Map, Value, json};

use super::statement::{PROVENANCE, Predicate, image_purl, resource};
use crate::engine::context::DockerfileText;
use crate::engine::lock::bare_url;
use crate::engine::materials::{RemoteContent, RemoteMaterial};
use crate::engine::reproducible::Reproducible;
use crate::engine::request::{BuildRequest, ContextInput, ProvenanceMode};

/// What the parameters mean is written there.
pub(crate) const BUILD_TYPE: &str =
    "https://github.com/mica-build/mica/blob/main/docs/attestations.md#build-type-1";
/// The algorithm of [`crate::engine::materials::context_digest`].
pub(crate) const CONTEXT_ALGORITHM: &str = "micaContext1";

/// A base image as a material.
#[derive(Debug, Clone)]
pub(crate) struct BaseMaterial {
    /// How it was asked for: a name, or `oci-layout://…`.
    pub name: String,
    /// For which platform.
    pub platform: Platform,
    /// The manifest or index, where a registry has it.
    pub digest: Option<ContentDigest>,
    /// The digest of its config.
    pub id: ContentDigest,
}

/// What a build took.
#[derive(Debug, Clone)]
pub(crate) struct Materials {
    /// The digest of every context that is files, by name; the main one has none.
    pub contexts: BTreeMap<Option<String>, String>,
    /// The commit that a main context on disk is at.
    pub revision: Option<String>,
    /// Base images.
    pub bases: Vec<BaseMaterial>,
    /// Downloads and repositories.
    pub remote: Vec<RemoteMaterial>,
    /// When the build began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// Makes the provenance of a build.
pub(crate) fn provenance(
    request: &BuildRequest,
    dockerfile: &DockerfileText,
    materials: &Materials,
    epoch: Option<i64>,
) -> Option<Predicate> {
    let wanted = request.attest.provenance.as_ref()?;
    let mut run = json!({"builder": {"id": builder_id(wanted.builder_id.as_deref())}});
    if epoch.is_none() {
        run["metadata"] = json!({
            "startedOn": materials.started.as_str(),
            "finishedOn": materials.finished.as_str(),
        });
    }
    let value = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external(request, dockerfile, wanted.mode),
            "internalParameters": {"builderPlatform": Platform::host().to_string(), "time": epoch},
            "resolvedDependencies": dependencies(request, dockerfile, materials),
        },
        "runDetails": run,
    });
    Some(Predicate { kind: PROVENANCE, value })
}

fn builder_id(given: Option<&str>) -> String {
    let usual = || format!("https://github.com/mica-build/mica@{}", env!("CARGO_PKG_VERSION"));
    given.map_or_else(usual, str::to_owned)
}

fn external(request: &BuildRequest, dockerfile: &DockerfileText, mode: ProvenanceMode) -> Value {
    let mut parameters = Map::new();
    let context = match &request.context {
        ContextInput::Url(url) => bare_url(url),
        ContextInput::Empty => "empty".to_owned(),
        ContextInput::Directory(_) | ContextInput::Archive(_) => "local".to_owned(),
    };
    parameters.insert("context".to_owned(), context.into());
    parameters.insert("dockerfile".to_owned(), dockerfile_name(request, dockerfile).into());
    if let Some(target) = &request.target {
        parameters.insert("target".to_owned(), target.clone().into());
    }
    if !request.platforms.is_empty() {
        let platforms: Vec<String> = request.platforms.iter().map(Platform::to_string).collect();
        parameters.insert("platforms".to_owned(), platforms.into());
    }
    let contexts: BTreeMap<&str, String> =
        request.named_contexts.iter().map(|(name, place)| (name.as_str(), named_place(place))).collect();
    if !contexts.is_empty() {
        parameters.insert("namedContexts".to_owned(), json!(contexts));
    }
    if mode == ProvenanceMode::Max {
        parameters.insert("args".to_owned(), json!(request.build_args));
        parameters.insert("labels".to_owned(), json!(request.labels));
    }
    let items: Vec<&str> = request.reproducible.iter().flat_map(Reproducible::items).collect();
    if !items.is_empty() {
        parameters.insert("reproducible".to_owned(), items.into());
    }
    parameters.insert("mode".to_owned(), mode.name().into());
    Value::Object(parameters)
}

/// The file as it has to be named for another build: inside the context where it lies there.
fn dockerfile_name(request: &BuildRequest, dockerfile: &DockerfileText) -> String {
    let inside = match (&request.context, &dockerfile.path) {
        (ContextInput::Directory(root), Some(path)) => {
            let real = |path: &std::path::Path| std::fs::canonicalize(path).ok();
            real(path).and_then(|path| Some(path.strip_prefix(real(root)?).ok()?.display().to_string()))
        }
        _ => None,
    };
    inside.unwrap_or_else(|| dockerfile.name.clone())
}

/// Places of this machine are nobody else's affair.
fn named_place(place: &str) -> String {
    let remote = ["docker-image://", "oci-layout://", "http://", "https://", "git://", "ssh://", "git@"];
    if remote.iter().any(|start| place.starts_with(start)) { bare_url(place) } else { "local".to_owned() }
}

fn dependencies(request: &BuildRequest, dockerfile: &DockerfileText, materials: &Materials) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, digest) in &materials.contexts {
        let mut found = json!({
            "name": name.as_ref().map_or_else(|| "context".to_owned(), |name| format!("context {name}")),
            "digest": {CONTEXT_ALGORITHM: digest},
        });
        if name.is_none() {
            if let ContextInput::Url(url) = &request.context {
                found["uri"] = bare_url(url).into();
            }
            if let Some(revision) = &materials.revision {
                found["digest"]["gitCommit"] = revision.clone().into();
            }
        }
        all.push(found);
    }
    let digest = ContentDigest::of(&dockerfile.text).hex();
    all.push(json!({"name": "dockerfile", "digest": {"sha256": digest}}));
    all.extend(materials.bases.iter().map(base));
    all.extend(materials.remote.iter().map(remote));
    all
}

fn base(base: &BaseMaterial) -> Value {
    let uri = match Reference::parse(&base.name) {
        Ok(name) => image_purl(&name, Some(&base.platform)),
        Err(_) => base.name.clone(),
    };
    // What only a store has is known by its config alone.
    let digest = base.digest.unwrap_or(base.id).hex();
    let mut found = resource(&uri, "sha256", &digest);
    found["annotations"] = json!({
        "image": base.name,
        "platform": base.platform.to_string(),
        "config": base.id.to_string(),
        "inRegistry": base.digest.is_some(),
    });
    found
}

fn remote(material: &RemoteMaterial) -> Value {
    match &material.content {
        RemoteContent::File { digest, size, name, modified } => {
            let mut found = resource(&material.url, "sha256", &digest.hex());
            found["annotations"] = json!({"size": size, "name": name, "modified": modified});
            found
        }
        RemoteContent::Commit(commit) => resource(&format!("git+{}", material.url), "gitCommit", commit),
    }
}
