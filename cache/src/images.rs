//! Images, the versions of their tags, and what registries said a tag was.
//!
//! ```text
//! images/<config digest>            an image, sealed
//! tags/<escaped reference>/00000001  a version, sealed; a new one gets the next free number, none is ever changed
//! resolved/ab/<hash of reference and platform>   what a registry's tag pointed to, sealed
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mica_image::ContentDigest;
use mica_image::tree::Tree;
use serde::{Deserialize, Serialize};

use crate::details::DetailId;
use crate::files::{FileError, Placed, list, remove_file, sharded};
use crate::record::numbered;
use crate::sealed::{read_sealed, seal};
use crate::store::{Shared, Store};

/// An image in the store, named by the digest of its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its config, which is a blob of the store.
    pub id: ContentDigest,
    /// Its layers from the base up.
    pub tree: Tree,
    /// Its platform in text.
    pub platform: String,
    /// When it came into the store, in seconds since 1970.
    pub created: i64,
    /// The manifest it was pulled with, a blob of the store: pushing it again keeps its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ContentDigest>,
    /// The line of the Dockerfile each history entry stands on, 0 where that is another file's; empty for images from elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<u32>,
    /// The steps it was built by; nothing for images from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_by: Option<BuiltBy>,
}

/// The steps of the build that made an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltBy {
    /// All of them, a detail.
    pub steps: DetailId,
    /// The number of the one whose tree the image has.
    pub last: u32,
}

/// What is known about a version of a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// When it was made, in seconds since 1970.
    pub when: i64,
    /// The digest of the Dockerfile it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<ContentDigest>,
    /// What went into the build, by name: build arguments, bases with their digests, commits of contexts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// For several platforms: the image of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub platforms: BTreeMap<String, ContentDigest>,
    /// The version that was gone back to, where this is no build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_to: Option<u64>,
}

/// One version of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The tag's normalised reference.
    pub reference: String,
    /// Its number: 1 is the oldest.
    #[serde(skip)]
    pub number: u64,
    /// The image.
    pub image: ContentDigest,
    /// When and from what.
    #[serde(flatten)]
    pub info: VersionInfo,
}

/// What a registry's tag pointed to when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The reference; stores of earlier versions did not keep it.
    #[serde(default)]
    pub reference: String,
    /// The digest of the manifest or index the tag named.
    pub manifest: ContentDigest,
    /// The image, as it lies in the store.
    pub image: ContentDigest,
    /// When, in seconds since 1970.
    pub when: i64,
}

/// The images of a store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns the store's images.
    #[must_use]
    pub fn images(&self) -> ImageStore {
        ImageStore { shared: self.shared.clone() }
    }
}

impl ImageStore {
    /// Stores an image; one that is there already stays as it is, but learns the manifest it can be pushed with, the lines
    /// it is written on now and the steps it was built by. These two are kept also when it comes back from elsewhere.
    pub fn put(&self, image: &ImageRecord) -> Result<(), FileError> {
        let path = self.image_path(&image.id);
        let Some(known) = self.get(&image.id)? else { return self.shared.write(&path, &seal(image)) };
        let mut merged = if known.tree == image.tree { known.clone() } else { image.clone() };
        merged.manifest = merged.manifest.or(image.manifest);
        merged.built_by = image.built_by.or(known.built_by);
        merged.lines = if image.lines.is_empty() { known.lines.clone() } else { image.lines.clone() };
        if merged != known {
            return self.shared.write(&path, &seal(&merged));
        }
        crate::files::touch(&path).map_err(|source| FileError::new("mark as used", path, source))
    }

    /// Returns an image; `None` when it is not there.
    pub fn get(&self, id: &ContentDigest) -> Result<Option<ImageRecord>, FileError> {
        let image = read_sealed::<ImageRecord>(&self.image_path(id))?;
        Ok(image.filter(|image| image.id == *id))
    }

    /// Returns all images, ordered by digest.
    pub fn list(&self) -> Result<Vec<ImageRecord>, FileError> {
        let mut images = Vec::new();
        for (name, _) in list(&self.shared.root.join("images"))? {
            if let Ok(id) = ContentDigest::from_hex(&name) {
                images.extend(self.get(&id)?);
            }
        }
        Ok(images)
    }

    /// Removes an image and returns whether it was there; its layers go with the next collection, its tags' versions stay.
    pub fn remove(&self, id: &ContentDigest) -> Result<bool, FileError> {
        let path = self.image_path(id);
        let known = path.exists();
        remove_file(&path)?;
        Ok(known)
    }

    /// Appends a version to a tag and returns its number.
    pub fn tag(&self, reference: &str, image: ContentDigest, info: VersionInfo) -> Result<u64, FileError> {
        let directory = self.tag_directory(reference);
        let version = Version { reference: reference.to_owned(), number: 0, image, info };
        let bytes = seal(&version);
        self.note_use(&image)?;
        loop {
            let number = numbered(&directory)?.last().map_or(0, |(number, _)| *number) + 1;
            if self.shared.write_new(&directory.join(format!("{number:08}")), &bytes)? == Placed::New {
                return Ok(number);
            }
        }
    }

    /// Returns a tag's versions, oldest first; none when there is no such tag.
    pub fn versions(&self, reference: &str) -> Result<Vec<Version>, FileError> {
        let mut versions = Vec::new();
        for (number, path) in numbered(&self.tag_directory(reference))? {
            versions.extend(read_version(number, &path)?);
        }
        Ok(versions)
    }

    /// Returns a tag's newest version.
    pub fn current(&self, reference: &str) -> Result<Option<Version>, FileError> {
        newest_version(&self.tag_directory(reference))
    }

    /// Returns one version of a tag.
    pub fn version(&self, reference: &str, number: u64) -> Result<Option<Version>, FileError> {
        read_version(number, &self.tag_directory(reference).join(format!("{number:08}")))
    }

    /// Removes one version of a tag and returns whether it was there.
    pub fn remove_version(&self, reference: &str, number: u64) -> Result<bool, FileError> {
        let path = self.tag_directory(reference).join(format!("{number:08}"));
        let known = path.exists();
        remove_file(&path)?;
        Ok(known)
    }

    /// Removes a tag with its history and returns whether there was one.
    pub fn untag(&self, reference: &str) -> Result<bool, FileError> {
        let directory = self.tag_directory(reference);
        let known = !numbered(&directory)?.is_empty();
        self.shared.lease()?.discard(&directory)?;
        Ok(known)
    }

    /// Returns the newest version of every tag, ordered by reference.
    pub fn tags(&self) -> Result<Vec<Version>, FileError> {
        let mut tags = Vec::new();
        for (_, directory) in list(&self.shared.root.join("tags"))? {
            tags.extend(newest_version(&directory)?);
        }
        tags.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(tags)
    }

    /// Returns every version of every tag.
    pub fn all_versions(&self) -> Result<Vec<Version>, FileError> {
        let mut versions = Vec::new();
        for (_, directory) in list(&self.shared.root.join("tags"))? {
            for (number, path) in numbered(&directory)? {
                versions.extend(read_version(number, &path)?);
            }
        }
        Ok(versions)
    }

    /// Returns what `reference` was resolved to for a platform.
    pub fn resolved(&self, reference: &str, platform: &str) -> Result<Option<Resolved>, FileError> {
        read_sealed(&self.resolved_path(reference, platform))
    }

    /// Remembers what `reference` was resolved to for a platform.
    pub fn remember_resolved(
        &self,
        reference: &str,
        platform: &str,
        resolved: &Resolved,
    ) -> Result<(), FileError> {
        self.shared.write(&self.resolved_path(reference, platform), &seal(resolved))
    }

    /// Returns the references that were resolved, each with its image.
    pub fn resolved_references(&self) -> Result<Vec<(String, ContentDigest)>, FileError> {
        let all = self.all_resolved()?.into_iter().map(|(_, resolved)| (resolved.reference, resolved.image));
        Ok(all.filter(|(reference, _)| !reference.is_empty()).collect())
    }

    /// Returns all images that resolved references name.
    pub(crate) fn all_resolved(&self) -> Result<Vec<(PathBuf, Resolved)>, FileError> {
        let mut found = Vec::new();
        for (_, path) in crate::files::list_sharded(&self.shared.root.join("resolved"))? {
            found.extend(read_sealed(&path)?.map(|resolved| (path, resolved)));
        }
        Ok(found)
    }

    /// Keeps an image that is being named from a collection that has begun.
    fn note_use(&self, id: &ContentDigest) -> Result<(), FileError> {
        let path = self.image_path(id);
        self.shared.gate.shared(|| match crate::files::touch(&path) {
            Err(error) if crate::files::is_absent(&error) => Ok(()),
            result => result.map_err(|source| FileError::new("mark as used", &path, source)),
        })
    }

    pub(crate) fn image_path(&self, id: &ContentDigest) -> PathBuf {
        self.shared.root.join("images").join(id.hex())
    }

    fn tag_directory(&self, reference: &str) -> PathBuf {
        self.shared.root.join("tags").join(escape(reference))
    }

    fn resolved_path(&self, reference: &str, platform: &str) -> PathBuf {
        let name = blake3::hash(format!("{reference}\0{platform}").as_bytes()).to_hex();
        sharded(&self.shared.root.join("resolved"), name.as_str())
    }
}

fn newest_version(directory: &std::path::Path) -> Result<Option<Version>, FileError> {
    for (number, path) in numbered(directory)?.into_iter().rev() {
        if let Some(version) = read_version(number, &path)? {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

fn read_version(number: u64, path: &std::path::Path) -> Result<Option<Version>, FileError> {
    let version = read_sealed::<Version>(path)?;
    Ok(version.map(|version| Version { number, ..version }))
}

/// Makes one file name of a reference: readable, and of its hash where it would be too long.
fn escape(reference: &str) -> String {
    let mut name = String::new();
    for character in reference.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => name.push(character),
            '/' => name.push('+'),
            ':' => name.push('='),
            other => name.extend(other.to_string().bytes().map(|byte| format!("%{byte:02x}"))),
        }
    }
    if name.len() <= 180 && !name.starts_with('.') {
        return name;
    }
    let hash = blake3::hash(reference.as_bytes()).to_hex();
    let start: String = name.trim_start_matches('.').chars().take(100).collect();
    format!("{start}~{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::store;

    fn image(number: u8) -> ImageRecord {
        let id = ContentDigest::from_bytes([number; 32]);
        ImageRecord {
            id,
            tree: Tree::new(),
            platform: "linux/amd64".into(),
            created: 5,
            manifest: None,
            lines: vec![],
            built_by: None,
        }
    }

    #[test]
    fn an_image_is_kept_and_learns_its_manifest() {
        let (_home, store) = store();
        let images = store.images();
        images.put(&image(1)).unwrap();
        let pulled = ImageRecord { manifest: Some(ContentDigest::of(b"m")), ..image(1) };
        images.put(&pulled).unwrap();
        images.put(&image(1)).unwrap();
        assert_eq!(images.get(&image(1).id).unwrap(), Some(pulled.clone()));
        let pulled = ImageRecord { lines: vec![3], ..pulled };
        images.put(&pulled).unwrap();
        let diff_id = mica_image::DiffId::from_bytes([1; 32]);
        let layer = mica_image::LayerId::from_bytes([1; 32]);
        let tree = vec![mica_image::tree::TreeLayer::imported(layer, diff_id)];
        let back = ImageRecord { tree: tree.clone(), ..image(1) };
        images.put(&back).unwrap();
        assert_eq!(images.get(&image(1).id).unwrap(), Some(ImageRecord { lines: vec![3], ..back }));
        images.put(&pulled).unwrap();
        assert_eq!(images.get(&image(1).id).unwrap(), Some(pulled));
        assert_eq!(images.list().unwrap().len(), 1);
        assert!(images.remove(&image(1).id).unwrap());
        assert!(!images.remove(&image(1).id).unwrap());
        assert_eq!(images.get(&image(1).id).unwrap(), None);
    }

    #[test]
    fn a_tag_keeps_its_history() {
        let (_home, store) = store();
        let images = store.images();
        let app = "docker.io/library/app:latest";
        assert_eq!(images.current(app).unwrap(), None);
        assert_eq!(
            images.tag(app, image(1).id, VersionInfo { when: 1, ..VersionInfo::default() }).unwrap(),
            1
        );
        assert_eq!(
            images.tag(app, image(2).id, VersionInfo { when: 2, ..VersionInfo::default() }).unwrap(),
            2
        );
        let rollback = VersionInfo { when: 3, rollback_to: Some(1), ..VersionInfo::default() };
        assert_eq!(images.tag(app, image(1).id, rollback).unwrap(), 3);
        assert_eq!(images.current(app).unwrap().unwrap().number, 3);
        assert_eq!(images.version(app, 2).unwrap().unwrap().image, image(2).id);
        let all: Vec<_> =
            images.versions(app).unwrap().into_iter().map(|version| version.info.when).collect();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(images.tags().unwrap().len(), 1);
        assert_eq!(images.tags().unwrap()[0].reference, app);
        assert!(images.untag(app).unwrap());
        assert!(!images.untag(app).unwrap());
        assert!(images.versions(app).unwrap().is_empty());
    }

    #[test]
    fn many_writers_of_one_tag_all_get_their_own_number() {
        let (_home, store) = store();
        let numbers = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let number = store.images().tag("a:b", image(1).id, VersionInfo::default()).unwrap();
                        numbers.lock().unwrap().push(number);
                    }
                });
            }
        });
        let mut numbers = numbers.into_inner().unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    }

    #[test]
    fn names_of_tags_are_one_file_name_and_differ() {
        assert_eq!(escape("docker.io/library/app:latest"), "docker.io+library+app=latest");
        let long = |end: &str| format!("{}{end}", "x".repeat(300));
        assert!(escape(&long("a")).len() < 200);
        assert_ne!(escape(&long("a")), escape(&long("b")));
        assert!(!escape("..").starts_with('.'));
        assert_ne!(escape("a+b"), escape("a/b"));
    }

    #[test]
    fn what_a_registry_said_is_remembered_by_platform() {
        let (_home, store) = store();
        let resolved = Resolved {
            reference: "docker.io/library/app:1".to_owned(),
            manifest: image(1).id,
            image: image(2).id,
            when: 9,
        };
        store.images().remember_resolved("alpine:3", "linux/amd64", &resolved).unwrap();
        assert_eq!(store.images().resolved("alpine:3", "linux/amd64").unwrap(), Some(resolved));
        assert_eq!(store.images().resolved("alpine:3", "linux/arm64").unwrap(), None);
    }
}
