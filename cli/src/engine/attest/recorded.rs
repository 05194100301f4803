//! Provenance as a rebuild reads it: what was asked for becomes a request, what was taken a lock.

use std::collections::BTreeMap;

use mica_image::{ContentDigest, Platform};
use serde::Deserialize;
use serde_json::Value;

use super::provenance::BUILD_TYPE;
use super::rebuild::RebuildError;
use crate::engine::lock::{LockFile, LockedCheckout, LockedDownload, LockedImage};
use crate::engine::reproducible::Reproducible;
use crate::engine::request::{
    Attest, BuildRequest, ContextInput, DockerfileInput, LockUse, NoCache, ProvenanceOptions,
};

/// What provenance says, as far as a rebuild needs it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provenance {
    build_definition: Definition,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    build_type: String,
    external_parameters: Value,
    #[serde(default)]
    internal_parameters: Value,
    #[serde(default)]
    resolved_dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, Deserialize)]
struct Parameters {
    dockerfile: String,
    mode: String,
    target: Option<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    args: BTreeMap<String, String>,
    #[serde(default)]
    labels: Vec<(String, String)>,
    #[serde(default)]
    reproducible: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    uri: Option<String>,
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Value,
}

impl Provenance {
    pub(super) fn read(predicate: &Value) -> Result<Self, RebuildError> {
        let form = |error: serde_json::Error| RebuildError::Form(error.to_string());
        let read: Self = serde_json::from_value(predicate.clone()).map_err(form)?;
        match read.build_definition.build_type.as_str() {
            BUILD_TYPE => Ok(read),
            other => Err(RebuildError::OtherBuild(other.to_owned())),
        }
    }

    /// Puts what was recorded into a request that knows the context.
    pub(super) fn request(&self, given: BuildRequest) -> Result<BuildRequest, RebuildError> {
        let form = |error: serde_json::Error| RebuildError::Form(error.to_string());
        let parameters: Parameters =
            serde_json::from_value(self.build_definition.external_parameters.clone()).map_err(form)?;
        if parameters.mode != "max" {
            return Err(RebuildError::Least);
        }
        let platform =
            |text: &String| Platform::parse(text).map_err(|error| RebuildError::Form(error.to_string()));
        let items = parameters.reproducible.iter().map(String::as_str);
        let reproducible = Reproducible::only(items)
            .map_err(|name| RebuildError::Form(format!("`{name}` is nothing that can be made the same")))?;
        let dockerfile = match (&given.dockerfile, &given.context) {
            (DockerfileInput::Default, ContextInput::Directory(context)) => {
                DockerfileInput::Path(context.join(&parameters.dockerfile))
            }
            (DockerfileInput::Default, _) => DockerfileInput::Path(parameters.dockerfile.into()),
            (other, _) => other.clone(),
        };
        Ok(BuildRequest {
            dockerfile,
            target: parameters.target,
            platforms: parameters.platforms.iter().map(platform).collect::<Result<_, _>>()?,
            reproducible: Some(reproducible),
            recorded_clamp: self.build_definition.internal_parameters["time"].as_i64(),
            build_args: parameters.args,
            labels: parameters.labels,
            no_cache: NoCache::All,
            pull: false,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            inline_cache: false,
            tags: Vec::new(),
            outputs: Vec::new(),
            attest: Attest { provenance: Some(ProvenanceOptions::default()), sbom: false },
            lock: LockUse { given: Some(self.lock()?), ..LockUse::default() },
            ..given
        })
    }

    /// Holds every name to what it stood for.
    fn lock(&self) -> Result<LockFile, RebuildError> {
        let mut images: BTreeMap<String, LockedImage> = BTreeMap::new();
        let (mut downloads, mut repositories) = (Vec::new(), Vec::new());
        for found in &self.build_definition.resolved_dependencies {
            if let Some((name, platform, config)) = found.base() {
                let image = images.entry(name.clone()).or_insert_with(|| LockedImage {
                    name,
                    digest: None,
                    ids: BTreeMap::new(),
                });
                image.digest = found.sha256().filter(|_| found.annotations["inRegistry"] == true);
                image.ids.insert(platform, config);
            } else if let (Some(uri), Some(commit)) = (&found.uri, found.digest.get("gitCommit")) {
                let url = uri.strip_prefix("git+").unwrap_or(uri).to_owned();
                repositories.push(LockedCheckout { url, commit: commit.clone(), reference: commit.clone() });
            } else if let (Some(url), Some(checksum)) = (&found.uri, found.sha256()) {
                downloads.push(LockedDownload {
                    url: url.clone(),
                    checksum,
                    size: found.annotations["size"].as_u64().unwrap_or(0),
                    name: found.annotations["name"].as_str().unwrap_or_default().to_owned(),
                    modified: found.annotations["modified"].as_i64(),
                });
            }
        }
        LockFile::holding(images.into_values().collect(), downloads, repositories)
            .map_err(|error| RebuildError::Form(error.to_string()))
    }

    /// Tells which inputs of a rebuild are not those that were recorded.
    pub(super) fn other_inputs(&self, taken: &Self) -> Vec<String> {
        let (recorded, taken) = (self.inputs(), taken.inputs());
        let mut problems = Vec::new();
        for (name, before) in &recorded {
            let Some(now) = taken.get(name) else {
                problems.push(format!("input `{name}` was recorded, and nothing asked for it"));
                continue;
            };
            for (algorithm, digest) in &before.digest {
                // The commit a directory is at says nothing that its content does not.
                let is_told = algorithm != "gitCommit" || !before.digest.contains_key("micaContext1");
                if let Some(other) = now.digest.get(algorithm).filter(|other| is_told && *other != digest) {
                    problems.push(format!("input `{name}` is {algorithm}:{other} here, and was {digest}"));
                }
            }
        }
        let added = taken.keys().filter(|name| !recorded.contains_key(*name));
        problems.extend(added.map(|name| format!("input `{name}` was not recorded")));
        problems
    }

    /// What was taken, by address or name.
    fn inputs(&self) -> BTreeMap<String, &Dependency> {
        let named = |found: &Dependency| {
            let platform = found.annotations["platform"].as_str();
            let name = found.uri.clone().or_else(|| found.name.clone()).unwrap_or_default();
            platform.map_or(name.clone(), |platform| format!("{name} for {platform}"))
        };
        self.build_definition.resolved_dependencies.iter().map(|found| (named(found), found)).collect()
    }
}

impl Dependency {
    /// The name, platform and config of a base.
    fn base(&self) -> Option<(String, String, ContentDigest)> {
        let text = |key: &str| self.annotations[key].as_str().map(str::to_owned);
        Some((text("image")?, text("platform")?, text("config")?.parse().ok()?))
    }

    fn sha256(&self) -> Option<ContentDigest> {
        format!("sha256:{}", self.digest.get("sha256")?).parse().ok()
    }
}
