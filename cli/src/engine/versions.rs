//! The versions of a tag: what they were, what changed from one to the next, and going back.

use std::collections::BTreeMap;

use mica_cache::{Store, Version, VersionInfo};
use mica_image::{ContentDigest, Reference};

use super::diff::{self, Counts, DiffOptions};
use super::history::{LookError, OpenImage};
use super::images::{self, FindError};
use crate::environment::now;

/// One version as `mica log` shows it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct LoggedVersion {
    /// Its number.
    pub version: u64,
    /// When it was made, in seconds since 1970.
    pub when: i64,
    /// The image.
    pub id: ContentDigest,
    /// Bytes of its files; nothing when the image is gone.
    pub size: Option<u64>,
    /// The commit the context was at.
    pub commit: Option<String>,
    /// The digest of the Dockerfile.
    pub dockerfile: Option<ContentDigest>,
    /// Build arguments and bases.
    pub inputs: BTreeMap<String, String>,
    /// The version that was gone back to.
    pub rollback_to: Option<u64>,
    /// What changed since the version before; nothing for the first, or when an image is gone.
    pub changes: Option<Counts>,
}

/// A tag cannot go back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RollbackError {
    /// The tag or version is not there.
    #[error(transparent)]
    Find(#[from] FindError),
    /// There is nothing before.
    #[error("`{0}` has no earlier version")]
    First(String),
    /// The version's image was removed.
    #[error("the image of `{name}@{version}` is gone")]
    Gone {
        /// The tag.
        name: String,
        /// The version.
        version: u64,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
}

impl RollbackError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Find(error) => error.hint(),
            Self::First(name) | Self::Gone { name, .. } => {
                Some(format!("`mica log {name}` shows what there is"))
            }
            Self::Store(error) => error.hint().map(str::to_owned),
        }
    }
}

/// Returns the versions of a tag, newest first.
pub(crate) fn log(store: &Store, name: &str) -> Result<Vec<LoggedVersion>, LookError> {
    let reference = Reference::parse(name).map_err(FindError::from)?.with_default_tag().to_string();
    let versions = store.images().versions(&reference)?;
    if versions.is_empty() {
        return Err(FindError::Unknown(name.to_owned()).into());
    }
    let mut logged: Vec<LoggedVersion> = Vec::new();
    let mut before: Option<OpenImage> = None;
    for version in versions {
        let image = images::open(store, &version.image)?;
        let image = image.map(|image| OpenImage::open(store, image)).transpose()?;
        let changes = match (&before, &image) {
            (Some(before), Some(after)) => {
                Some(diff::compare(before, after, DiffOptions { semantic: true })?.counts())
            }
            _ => None,
        };
        let size = image.as_ref().map(|image| image.history.iter().filter_map(|line| line.size).sum());
        logged.push(logged_version(version, size, changes));
        before = image;
    }
    logged.reverse();
    Ok(logged)
}

fn logged_version(version: Version, size: Option<u64>, changes: Option<Counts>) -> LoggedVersion {
    let mut inputs = version.info.inputs;
    LoggedVersion {
        version: version.number,
        when: version.info.when,
        id: version.image,
        size,
        commit: inputs.remove("commit"),
        dockerfile: version.info.dockerfile,
        inputs,
        rollback_to: version.info.rollback_to,
        changes,
    }
}

/// A tag that went back.
#[derive(Debug)]
pub(crate) struct RolledBack {
    /// The tag.
    pub name: Reference,
    /// The version it has now.
    pub version: u64,
    /// The version that was, and is again.
    pub to: u64,
    /// The image.
    pub image: ContentDigest,
}

/// Makes an earlier version of a tag its newest again; without a number, the one before what it is now.
pub(crate) fn rollback(store: &Store, name: &str, to: Option<u64>) -> Result<RolledBack, RollbackError> {
    let reference = Reference::parse(name).map_err(FindError::from)?.with_default_tag();
    let (key, images) = (reference.to_string(), store.images());
    let current = images.current(&key)?.ok_or_else(|| FindError::Unknown(name.to_owned()))?;
    let target = match to {
        Some(number) => images
            .version(&key, number)?
            .ok_or_else(|| FindError::NoVersion { name: reference.familiar(), version: number })?,
        None => previous(&images.versions(&key)?, &current)
            .ok_or_else(|| RollbackError::First(name.to_owned()))?,
    };
    let gone = || RollbackError::Gone { name: reference.familiar(), version: target.number };
    images.get(&target.image)?.ok_or_else(gone)?;
    let info = VersionInfo {
        when: now().unix().map_or(0, |(seconds, _)| seconds),
        rollback_to: Some(target.number),
        ..target.info.clone()
    };
    let version = images.tag(&key, target.image, info)?;
    // A collection may have come in between: then the name goes back to what it was.
    if images.get(&target.image)?.is_none() {
        images.remove_version(&key, version)?;
        return Err(gone());
    }
    Ok(RolledBack { name: reference, version, to: target.number, image: target.image })
}

/// Returns the version before what is current now; going back twice goes back two versions.
fn previous(versions: &[Version], current: &Version) -> Option<Version> {
    let here = current.info.rollback_to.unwrap_or(current.number);
    let is_other = |version: &&Version| version.number < here && version.info.rollback_to.is_none();
    versions.iter().rev().find(is_other).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, rollback_to: Option<u64>) -> Version {
        let info = VersionInfo { rollback_to, ..VersionInfo::default() };
        Version { reference: "app".into(), number, image: ContentDigest::of(&[number as u8]), info }
    }

    #[test]
    fn going_back_twice_goes_back_two_versions() {
        let mut versions = vec![version(1, None), version(2, None), version(3, None)];
        assert_eq!(previous(&versions, &versions[2]).unwrap().number, 2);
        versions.push(version(4, Some(2)));
        assert_eq!(previous(&versions, &versions[3]).unwrap().number, 1);
        versions.push(version(5, Some(1)));
        assert_eq!(previous(&versions, &versions[4]), None);
        versions.push(version(6, None));
        assert_eq!(previous(&versions, &versions[5]).unwrap().number, 3);
    }
}
