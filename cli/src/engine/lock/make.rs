//! `mica lock`: what names stand for now, or stood for when they were locked before.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::Timestamp;
use mica_parser::diagnostic::Severity;
use mica_solver::graph::Op;
use mica_solver::{EventSender, Step, StepContext};
use tokio_util::sync::CancellationToken;

use super::cover::source_to_lock;
use super::file::{LockFile, LockedCheckout, LockedDownload, LockedImage, bare_url, image_name};
use super::place::{Lock, LockError, places, read};
use crate::engine::Engine;
use crate::engine::bases::{BaseError, Bases};
use crate::engine::build_error::BuildError;
use crate::engine::fetch::FetchError;
use crate::engine::planned::{PlannedBuild, Purpose};
use crate::engine::request::{BuildRequest, LockMode, LockUse};

/// What `mica lock` is asked for.
#[derive(Debug)]
pub(crate) struct LockRequest {
    /// The build whose names are locked.
    pub build: BuildRequest,
    /// Whether everything is looked at again.
    pub update_all: bool,
    /// What is looked at again, by name or address.
    pub update: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct LockReport {
    /// The lock as it is now.
    pub lock: Lock,
    /// What is different from before.
    pub changes: Vec<Change>,
}

/// One difference between two locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was not locked before.
    Added {
        /// Its name or address.
        name: String,
        /// What it stands for.
        to: String,
    },
    /// It stands for something else.
    Moved {
        /// Its name or address.
        name: String,
        /// What it stood for.
        from: String,
        /// What it stands for.
        to: String,
    },
    /// Nothing asks for it any more.
    Dropped {
        /// Its name or address.
        name: String,
    },
}

/// A lock could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeLockError {
    /// The Dockerfile could not be planned.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The lock that is there cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Something could not be looked at.
    #[error("cannot lock `{name}`")]
    Fetch {
        /// The address.
        name: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// An image of the store could not be looked at.
    #[error("cannot lock an image")]
    Image(#[source] BaseError),
    /// The context is no directory of this machine.
    #[error("the context is no directory that a lock file could be written to")]
    NoPlace,
    /// There is no such entry.
    #[error("`{name}` is not in `{}`", path.display())]
    Unknown {
        /// What was named.
        name: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl MakeLockError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Build(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::NoPlace => Some("name one with `--lock-file FILE`".to_owned()),
            Self::Unknown { .. } => Some("name it as the file does, or leave the name out".to_owned()),
            Self::Fetch { .. } | Self::Image(_) | Self::Write { .. } => None,
        }
    }
}

impl Engine {
    /// Makes or renews the lock file of a build. Images are resolved and sources looked at; no step runs.
    pub(crate) async fn lock(
        &self,
        request: LockRequest,
        events: &EventSender,
    ) -> Result<LockReport, MakeLockError> {
        let LockRequest { mut build, update_all, update } = request;
        let wanted =
            std::mem::replace(&mut build.lock, LockUse { mode: LockMode::Ignored, ..LockUse::default() });
        // What is not kept is asked for, whatever the store remembers.
        build.pull = !build.offline;
        let build = Arc::new(build);
        let opened = self.open_build(&build, events).await?;
        let places = places(&wanted, opened.main(), &opened.dockerfile);
        let there = places.iter().find(|path| path.exists()).or(places.first());
        let Some(path) = there.filter(|_| wanted.file.is_some() || opened.main().in_place()).cloned() else {
            return Err(MakeLockError::NoPlace);
        };
        let before = read(&path, opened.main())?.unwrap_or_else(LockFile::empty);
        let kept = kept(&before, update_all, &update, &path)?;
        let lock = Arc::new(Lock { path: path.clone(), file: kept.clone(), strict: false });
        let all_stages = build.target.is_none();
        let purpose = if all_stages { Purpose::AllStages } else { Purpose::Target };
        let planned = self.plan_opened(&build, events, opened, Some(lock), purpose).await?;
        let found = self.look(&build, &planned, &kept, events).await?;
        let file = if all_stages { found } else { with_others(found, &before) };
        write(&path, &file.print())?;
        let changes = changes(&before, &file);
        Ok(LockReport { lock: Lock { path, file, strict: false }, changes })
    }

    /// Fills a lock with all that a plan names.
    async fn look(
        &self,
        request: &Arc<BuildRequest>,
        planned: &PlannedBuild,
        kept: &LockFile,
        events: &EventSender,
    ) -> Result<LockFile, MakeLockError> {
        let is_error = |found: &&mica_parser::diagnostic::Diagnostic| found.severity == Severity::Error;
        let Some(plan) =
            planned.plan.as_ref().filter(|_| !planned.diagnostics.iter().any(|it| is_error(&it)))
        else {
            let (diagnostics, dockerfile) = (planned.diagnostics.clone(), planned.dockerfile.copy());
            return Err(BuildError::Diagnostics { diagnostics, dockerfile }.into());
        };
        let mut lock = LockFile::empty();
        let directives = mica_parser::parse(&planned.dockerfile.text).dockerfile.directives;
        lock.syntax = directives.syntax.map(|syntax| syntax.value);
        lock.images = self.images(&planned.bases, kept).map_err(MakeLockError::Image)?;
        for step in plan.graph.steps() {
            let Some(url) = source_to_lock(&step.op) else { continue };
            let failed = |source| MakeLockError::Fetch { name: bare_url(url), source };
            if lock.download(url).is_some() || lock.repository(url).is_some() {
                continue;
            }
            match (&step.op, kept.download(url), kept.repository(url)) {
                (Op::Http(_), Some(download), _) => lock.downloads.push(download.clone()),
                (Op::Git(_), _, Some(checkout)) => lock.repositories.push(checkout.clone()),
                _ => self.look_at(step, url, request, &mut lock, events).await.map_err(failed)?,
            }
        }
        Ok(lock)
    }

    fn images(&self, bases: &Bases, kept: &LockFile) -> Result<Vec<LockedImage>, BaseError> {
        let mut images: BTreeMap<String, LockedImage> = BTreeMap::new();
        for (source, base) in bases.iter() {
            let Some(name) = image_name(&source.location) else { continue };
            let locked = images.entry(name.clone()).or_insert_with(|| match kept.image(source) {
                Some(kept) => kept.clone(),
                None => LockedImage { name, digest: None, ids: BTreeMap::new() },
            });
            if locked.digest.is_none() {
                locked.digest = base.name_digest(&self.host, source)?;
            }
            locked.ids.entry(source.platform.to_string()).or_insert(base.id());
        }
        Ok(images.into_values().collect())
    }

    /// Asks what an address gives now.
    async fn look_at(
        &self,
        step: &Step,
        url: &str,
        request: &Arc<BuildRequest>,
        lock: &mut LockFile,
        events: &EventSender,
    ) -> Result<(), FetchError> {
        let url = bare_url(url);
        match &step.op {
            Op::Http(source) => {
                let cx = StepContext { events: events.clone(), cancel: CancellationToken::new() };
                let given = self.host.fetch_download(source, request, step.id, &cx).await?;
                lock.downloads.push(LockedDownload {
                    url,
                    checksum: given.blob,
                    size: given.size,
                    name: given.name,
                    modified: given.last_modified,
                });
            }
            Op::Git(source) => {
                let resolved = self.host.resolve_git(source, request).await?;
                let (commit, reference) = (resolved.commit, resolved.reference);
                lock.repositories.push(LockedCheckout { url, commit, reference });
            }
            _ => unreachable!("only downloads and repositories have addresses to lock"),
        }
        Ok(())
    }
}

/// Returns what of a lock is not to be looked at again.
fn kept(lock: &LockFile, all: bool, names: &[String], path: &Path) -> Result<LockFile, MakeLockError> {
    if all {
        return Ok(LockFile::empty());
    }
    let entries = entries(lock);
    let meant = |name: &str| -> Option<String> {
        let full = mica_image::Reference::parse(name).map(|parsed| parsed.with_default_tag().to_string());
        [Some(name.to_owned()), full.ok()].into_iter().flatten().find(|name| entries.contains_key(name))
    };
    let mut kept = lock.clone();
    for name in names {
        let Some(found) = meant(name) else {
            return Err(MakeLockError::Unknown { name: name.clone(), path: path.to_owned() });
        };
        kept.images.retain(|image| image.name != found);
        kept.downloads.retain(|download| download.url != found);
        kept.repositories.retain(|checkout| checkout.url != found);
    }
    Ok(kept)
}

/// Adds what an earlier lock has of other stages.
fn with_others(mut lock: LockFile, before: &LockFile) -> LockFile {
    let known = entries(&lock);
    let is_new = |name: &str| !known.contains_key(name);
    lock.images.extend(before.images.iter().filter(|it| is_new(&it.name)).cloned());
    lock.downloads.extend(before.downloads.iter().filter(|it| is_new(&it.url)).cloned());
    lock.repositories.extend(before.repositories.iter().filter(|it| is_new(&it.url)).cloned());
    lock
}

/// What each entry stands for, in words.
fn entries(lock: &LockFile) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for image in &lock.images {
        let digest = image.digest.or_else(|| image.ids.values().next().copied());
        all.insert(image.name.clone(), digest.map_or_else(String::new, |digest| digest.to_string()));
    }
    for found in &lock.downloads {
        let time = found.modified.map(|seconds| format!(" of {}", Timestamp::from_unix(seconds, 0)));
        all.insert(found.url.clone(), format!("{}{}", found.checksum, time.unwrap_or_default()));
    }
    for found in &lock.repositories {
        all.insert(found.url.clone(), found.commit.clone());
    }
    all
}

fn changes(before: &LockFile, after: &LockFile) -> Vec<Change> {
    let (before, after) = (entries(before), entries(after));
    let mut changes = Vec::new();
    for (name, to) in &after {
        let (name, to) = (name.clone(), to.clone());
        match before.get(&name) {
            None => changes.push(Change::Added { name, to }),
            Some(from) if *from != to => changes.push(Change::Moved { name, from: from.clone(), to }),
            Some(_) => {}
        }
    }
    let dropped = before.keys().filter(|name| !after.contains_key(*name));
    changes.extend(dropped.map(|name| Change::Dropped { name: name.clone() }));
    changes
}

/// Writes the file whole, or leaves the one that is there.
fn write(path: &Path, text: &str) -> Result<(), MakeLockError> {
    let failed = |source| MakeLockError::Write { path: path.to_owned(), source };
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&part, path));
    written.map_err(|source| {
        // What is left of an attempt is worth nothing; the failure itself is told.
        let _ = std::fs::remove_file(&part);
        failed(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mica_image::ContentDigest;

    fn lock(images: &[(&str, &str)]) -> LockFile {
        let image = |(name, content): &(&str, &str)| LockedImage {
            name: (*name).to_owned(),
            digest: Some(ContentDigest::of(content.as_bytes())),
            ids: BTreeMap::new(),
        };
        LockFile { images: images.iter().map(image).collect(), ..LockFile::empty() }
    }

    #[test]
    fn what_moved_came_and_went_is_told() {
        let before = lock(&[("a:1", "x"), ("b:1", "x"), ("c:1", "x")]);
        let after = lock(&[("a:1", "x"), ("b:1", "y"), ("d:1", "x")]);
        let digest = |content: &str| ContentDigest::of(content.as_bytes()).to_string();
        let expected = [
            Change::Moved { name: "b:1".to_owned(), from: digest("x"), to: digest("y") },
            Change::Added { name: "d:1".to_owned(), to: digest("x") },
            Change::Dropped { name: "c:1".to_owned() },
        ];
        assert_eq!(changes(&before, &after), expected);
        assert_eq!(changes(&after, &after), []);
    }

    #[test]
    fn only_what_is_named_is_looked_at_again() {
        let all = lock(&[("docker.io/library/a:latest", "x"), ("h/b:1", "x")]);
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let kept =
                kept(&all, false, &words, Path::new("mica.lock")).map_err(|error| error.to_string())?;
            Ok::<_, String>(kept.images.into_iter().map(|image| image.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["a"]).unwrap(), ["h/b:1"]);
        assert_eq!(names(&["h/b:1"]).unwrap(), ["docker.io/library/a:latest"]);
        assert_eq!(names(&["c"]).unwrap_err(), "`c` is not in `mica.lock`");
    }
}
