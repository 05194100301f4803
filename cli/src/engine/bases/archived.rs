//! Base images in OCI layouts and archives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::archive::ImageArchive;
use mica_image::{Document, Platform};

use super::{Base, BaseError, Origin, check_counts};
use crate::engine::Host;

/// Opens `path[:tag]` or `path[@digest]`.
pub(super) fn open_layout(host: &Host, text: &str, platform: &Platform) -> Result<Base, BaseError> {
    let (path, wanted) = split_layout(text);
    let archive = Arc::new(ImageArchive::open(&path, &host.store.layers().begin()?.files())?);
    open_archived(&archive, wanted.as_deref(), platform, &format!("oci-layout://{text}"))
}

/// Finds the image of an archive for `platform`.
pub(in crate::engine) fn open_archived(
    archive: &Arc<ImageArchive>,
    wanted: Option<&str>,
    platform: &Platform,
    location: &str,
) -> Result<Base, BaseError> {
    let mut target = archive.find(wanted)?.target.clone();
    let manifest = loop {
        match archive.read_document(&target)?.0 {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) => {
                target = index.select(platform).cloned().ok_or_else(|| BaseError::NoPlatform {
                    location: location.to_owned(),
                    platform: platform.to_string(),
                })?;
            }
        }
    };
    let (config, _) = archive.read_config(&manifest.config)?;
    check_counts(location, &config, &manifest)?;
    Ok(Base {
        name: location.to_owned(),
        id: manifest.config.digest,
        platform: config.platform(),
        config,
        digest: None,
        origin: Origin::Archive { archive: archive.clone(), manifest },
    })
}

/// Splits `PATH:NAME` where there is nothing at all of it as a path, and something at PATH.
pub(in crate::engine) fn path_and_name(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, name)) if !Path::new(text).exists() && Path::new(path).exists() => (path, Some(name)),
        _ => (text, None),
    }
}

fn split_layout(text: &str) -> (PathBuf, Option<String>) {
    if let Some((path, digest)) = text.rsplit_once('@') {
        return (PathBuf::from(path), Some(digest.to_owned()));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (PathBuf::from(path), Some(tag.to_owned())),
        _ => (PathBuf::from(text), None),
    }
}
