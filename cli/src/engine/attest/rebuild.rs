//! `mica verify --rebuild`: builds again from what the provenance says, and compares with what was published.
//!
//! Steps run anew, whatever is cached. Bases, downloads and repositories are those of the provenance, held as by a lock file; the
//! context and secrets are given by whoever rebuilds, and what the provenance says of the context is checked. Times are compared only
//! where the build fixed them (`--reproducible`), for nobody builds at the same moment twice.

use mica_image::{ContentDigest, Platform};
use mica_solver::EventSender;
use tokio_util::sync::CancellationToken;

use super::altered::{AlteredBlobs, altered_layer};
use super::recorded::Provenance;
use super::seat::{Seat, SeatError};
use super::sign::{Attached, attached};
use super::statement::PROVENANCE;
use super::verify::content;
use crate::engine::bases::BaseError;
use crate::engine::blocking::blocking;
use crate::engine::build_error::BuildError;
use crate::engine::diff::{self, DiffOptions, FileChange};
use crate::engine::history::{LookError, OpenImage};
use crate::engine::images;
use crate::engine::output::StoredImage;
use crate::engine::reproducible::TIMES;
use crate::engine::request::BuildRequest;
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
        let lacking = || RebuildError::NoProvenance(image.to_owned(), platform.clone());
        let said = provenance_for(&seat, &platform).await?.ok_or_else(lacking)?;
        let recorded = Provenance::read(&said.statement.predicate)?;
        let published = self.published(&seat, &platform, events).await?;
        seat.remember(published.as_ref().ok().map(|image| image.id))?;
        let mut request = recorded.request(request)?;
        // Provenance does not tell, but the image itself does.
        request.inline_cache = published.as_ref().is_ok_and(|image| image.config.carries_cache());
        let fixed_times = request.normalises(TIMES);
        let report = self.build(request, events, &CancellationToken::new()).await?;
        let made = report.images.iter().find(|made| platform.runs(&made.platform)).ok_or_else(lacking)?;
        let mut problems = Vec::new();
        if !said.fits() {
            let digest = said.manifest.digest;
            problems
                .push(format!("the provenance does not speak of the manifest it is attached to ({digest})"));
        }
        for said in made.said.iter().filter(|said| said.kind == PROVENANCE) {
            problems.extend(recorded.other_inputs(&Provenance::read(&said.value)?));
        }
        let rebuilt = self.open_stored(made.id).await?;
        let is_same = match published {
            Ok(published) => {
                let published = self.open_stored(published.id).await?;
                problems.extend(differences(&published, &rebuilt, fixed_times && problems.is_empty())?);
                published.image.id == made.id
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

/// Returns the provenance of the image for a platform.
async fn provenance_for(seat: &Seat, platform: &Platform) -> Result<Option<Attached>, SeatError> {
    let is_ours = |said: &Attached| {
        let named = said.manifest.platform.as_ref();
        said.statement.predicate_type == PROVENANCE && named.is_none_or(|named| platform.runs(named))
    };
    Ok(attached(seat).await?.into_iter().find(is_ours))
}

impl Engine {
    /// Brings what was published into the store, unless parts of it are not what their digests say.
    ///
    /// What the store has already is read first where it is published: it would not be read again.
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
        let altered = self.altered_in_registry(seat, platform).await?;
        if !altered.is_empty() {
            return Ok(Err(altered));
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

/// Tells what is different; of times only that they are, where nothing else is and `fixed_times`.
fn differences(
    published: &OpenImage,
    rebuilt: &OpenImage,
    fixed_times: bool,
) -> Result<Vec<String>, LookError> {
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
    if fixed_times && problems.is_empty() && published.image.id != rebuilt.image.id {
        problems = other_digests(published, rebuilt);
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
