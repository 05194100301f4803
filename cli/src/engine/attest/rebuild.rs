//! `mica verify --rebuild`: builds again from what the provenance says, and compares with what was published.
//!
//! Steps run anew, whatever is cached. Bases, downloads and repositories are those of the provenance, held as by a lock file; the
//! context and secrets are given by whoever rebuilds, and what the provenance says of the context is checked. Times are compared only
//! where the build fixed them (`--reproducible`), for nobody builds at the same moment twice.

use std::collections::BTreeMap;

use mica_image::{ContentDigest, Platform};
use mica_solver::EventSender;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::altered::altered_layer;
use super::provenance::BUILD_TYPE;
use super::seat::{Seat, SeatError};
use super::sign::attached;
use super::statement::PROVENANCE;
use super::verify::content;
use crate::engine::bases::BaseError;
use crate::engine::blocking::blocking;
use crate::engine::build_error::BuildError;
use crate::engine::diff::{self, DiffOptions, FileChange};
use crate::engine::history::{LookError, OpenImage};
use crate::engine::images;
use crate::engine::lock::{LockFile, LockedCheckout, LockedDownload, LockedImage};
use crate::engine::output::StoredImage;
use crate::engine::reproducible::{Reproducible, TIMES};
use crate::engine::request::{
    Attest, BuildRequest, ContextInput, DockerfileInput, LockUse, NoCache, ProvenanceOptions,
};
use crate::engine::{Engine, chain};

/// What came of a rebuild.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    /// What is different, in words.
    pub problems: Vec<String>,
    /// For which platform images were compared.
    pub platform: Platform,
    /// Whether even the digests of both images are the same.
    pub is_same: bool,
}

/// It could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebuildError {
    /// The image cannot be found.
    #[error(transparent)]
    Seat(#[from] SeatError),
    /// It does not say what it was made from.
    #[error("`{0}` has no provenance for {1}, so it is not known what it was made from")]
    NoProvenance(String, Platform),
    /// Another builder made it.
    #[error("the provenance is of another kind of build: {0}")]
    OtherBuild(String),
    /// It leaves out what matters.
    #[error("the provenance was made with `mode=min`, which leaves out build arguments")]
    Least,
    /// It lacks a field.
    #[error("the provenance cannot be read: {0}")]
    Form(String),
    /// The rebuild failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An image could not be looked into.
    #[error(transparent)]
    Look(#[from] LookError),
}

impl RebuildError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Seat(error) => error.hint(),
            Self::NoProvenance(..) | Self::Least => {
                Some("images built with `--provenance=true` can be rebuilt".to_owned())
            }
            Self::Build(error) => error.hint(),
            Self::Look(error) => error.hint(),
            Self::OtherBuild(_) | Self::Form(_) => None,
        }
    }
}

/// What provenance says, as far as a rebuild needs it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provenance {
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

impl Engine {
    /// Rebuilds an image; `request` has the context and what else only this machine knows.
    pub(crate) async fn rebuild(
        &self,
        image: &str,
        request: BuildRequest,
        events: &EventSender,
    ) -> Result<Rebuilt, RebuildError> {
        let seat = self.seat(image, request.offline).await?;
        let platform = Platform::host();
        let is_ours =
            |entry: &mica_image::Descriptor| entry.platform.as_ref().is_none_or(|found| platform.runs(found));
        let said = attached(&seat).await?;
        let said = said
            .into_iter()
            .find(|said| said.statement.predicate_type == PROVENANCE && is_ours(&said.manifest));
        let Some(said) = said else {
            return Err(RebuildError::NoProvenance(image.to_owned(), platform));
        };
        let recorded = Provenance::read(&said.statement.predicate)?;
        let published = self.published(&seat, &platform, events).await?;
        seat.remember(published.as_ref().ok().map(|image| image.id))?;
        let mut request = recorded.request(request)?;
        // Provenance does not tell, but the image itself does.
        request.inline_cache = published.as_ref().is_ok_and(|image| image.config.carries_cache());
        let fixed_times = request.normalises(TIMES);
        let report = self.build(request, events, &CancellationToken::new()).await?;
        let made = report.images.iter().find(|made| platform.runs(&made.platform));
        let Some(made) = made else {
            return Err(RebuildError::NoProvenance(image.to_owned(), platform));
        };
        let mut problems = Vec::new();
        if !said.fits() {
            let digest = said.manifest.digest;
            problems
                .push(format!("the provenance does not speak of the manifest it is attached to ({digest})"));
        }
        for said in made.said.iter().filter(|said| said.kind == PROVENANCE) {
            problems.extend(other_inputs(&recorded, &Provenance::read(&said.value)?));
        }
        let id = made.id;
        let rebuilt = self.open_stored(id).await?;
        let is_same = match published {
            Ok(published) => {
                let published = self.open_stored(published.id).await?;
                let is_same = published.image.id == id;
                problems.extend(differences(&published, &rebuilt)?);
                if fixed_times && !is_same && problems.is_empty() {
                    problems.extend(other_digests(&published, &rebuilt));
                }
                is_same
            }
            Err(altered) => {
                let layers = seat.manifest(&platform).await?.map(|found| found.layers).unwrap_or_default();
                for (digest, why) in altered {
                    problems.extend(altered_layer(&seat, &layers, &digest, &why, &rebuilt).await);
                }
                false
            }
        };
        Ok(Rebuilt { problems, platform, is_same })
    }
}

/// Blobs that are not what their digests say, and what is wrong with them.
type AlteredBlobs = Vec<(ContentDigest, String)>;

impl Engine {
    /// Brings what was published into the store, unless parts of it are not what their digests say.
    ///
    /// A layout is read whole first: of what the store has already nothing would be read again.
    async fn published(
        &self,
        seat: &Seat,
        platform: &Platform,
        events: &EventSender,
    ) -> Result<Result<StoredImage, AlteredBlobs>, RebuildError> {
        if let Some(archive) = seat.layout() {
            let (archive, target) = (archive.clone(), seat.target.clone());
            let (altered, _) = blocking(move || content(&archive, &target)).await;
            if !altered.is_empty() {
                return Ok(Err(altered.into_iter().map(|found| (found.digest, found.why)).collect()));
            }
        }
        match seat.bring(self, platform, events).await {
            Err(RebuildError::Look(LookError::Base(BaseError::Import { source, reference }))) => {
                match source.altered() {
                    Some(digest) => Ok(Err(vec![(digest, chain(&source))])),
                    None => Err(LookError::Base(BaseError::Import { source, reference }).into()),
                }
            }
            published => Ok(Ok(published?)),
        }
    }

    async fn open_stored(&self, id: ContentDigest) -> Result<OpenImage, LookError> {
        let store = self.host.store.clone();
        blocking(move || {
            let image = images::open(&store, &id)?.ok_or(images::FindError::Unknown(id.to_string()))?;
            OpenImage::open(&store, image)
        })
        .await
    }
}

impl Provenance {
    fn read(predicate: &Value) -> Result<Self, RebuildError> {
        let form = |error: serde_json::Error| RebuildError::Form(error.to_string());
        let read: Self = serde_json::from_value(predicate.clone()).map_err(form)?;
        match read.build_definition.build_type.as_str() {
            BUILD_TYPE => Ok(read),
            other => Err(RebuildError::OtherBuild(other.to_owned())),
        }
    }

    /// Puts what was recorded into a request that knows the context.
    fn request(&self, given: BuildRequest) -> Result<BuildRequest, RebuildError> {
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

/// Tells which inputs of a rebuild are not those that were recorded.
fn other_inputs(recorded: &Provenance, taken: &Provenance) -> Vec<String> {
    let (recorded, taken) = (recorded.inputs(), taken.inputs());
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

fn differences(published: &OpenImage, rebuilt: &OpenImage) -> Result<Vec<String>, LookError> {
    // The store knows times as they were, not as they were clamped: those are told by the digests.
    let options = DiffOptions { semantic: true };
    let found = diff::compare(published, rebuilt, options)?;
    let mut problems: Vec<String> =
        found.files.iter().map(|change| file_problem(change, published, rebuilt)).collect();
    for change in &found.config {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        problems.push(format!(
            "configuration: {} is `{}`, and is `{}` when rebuilt",
            change.field,
            value(&change.before),
            value(&change.after)
        ));
    }
    Ok(problems)
}

/// Where times were fixed, and nothing else is different: the layers that hold other times.
fn other_digests(published: &OpenImage, rebuilt: &OpenImage) -> Vec<String> {
    let ids = |image: &OpenImage| image.image.config.rootfs.diff_ids.clone();
    let pairs = ids(published).into_iter().zip(ids(rebuilt)).enumerate();
    let mut problems: Vec<String> = pairs
        .filter(|(_, (there, here))| there != here)
        .map(|(number, (there, here))| {
            let line = rebuilt.line(number).place();
            format!(
                "layer {} ({line}): times in it are others: it is {there}, and {here} when rebuilt",
                number + 1
            )
        })
        .collect();
    if problems.is_empty() {
        problems.push("configuration: times in it are others".to_owned());
    }
    problems
}

/// `layer 2 (line 3: COPY a /a): /a: content`.
fn file_problem(change: &FileChange, published: &OpenImage, rebuilt: &OpenImage) -> String {
    let path = change.path.trim_start_matches('/').as_bytes();
    let (there, here) = (published.last_deed(path), rebuilt.last_deed(path));
    let layer = there.as_ref().or(here.as_ref()).map_or(0, |(layer, _)| *layer);
    let line = here.map_or(layer, |(layer, _)| layer);
    let line = if line < rebuilt.layers.len() {
        rebuilt.line(line).place()
    } else {
        "no line of the Dockerfile".to_owned()
    };
    let aspects: Vec<String> =
        change.aspects.iter().map(|aspect| format!("{aspect:?}").to_lowercase()).collect();
    let what = match change.change {
        diff::Change::Added => "is missing".to_owned(),
        diff::Change::Removed => "is there and should not be".to_owned(),
        diff::Change::Changed => format!("has another {}", aspects.join(", ")),
    };
    format!("layer {} ({line}): {} {what}", layer + 1, change.path)
}
