//! Images of the store: finding them by what people type, listing, naming, removing.

use mica_cache::{BlobError, FileError, ImageRecord, Store, Version, VersionInfo};
use mica_image::config::{CONFIG_SIZE_MAX, InvalidConfig};
use mica_image::{ContentDigest, ImageConfig, Platform, Reference};

use super::output::StoredImage;
use crate::environment::now;

/// An image could not be found or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// Nothing goes by that name.
    #[error("no image `{0}` in the store")]
    Unknown(String),
    /// Several ids begin like that.
    #[error("`{0}` is the beginning of several image ids")]
    Ambiguous(String),
    /// It is not a name.
    #[error(transparent)]
    Reference(#[from] mica_image::InvalidReference),
    /// The tag has no such version.
    #[error("`{name}` has no version {version}")]
    NoVersion {
        /// The tag.
        name: String,
        /// The version asked for.
        version: u64,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] FileError),
    /// The config could not be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The config is damaged.
    #[error("the config of image `{id}` cannot be read")]
    Config {
        /// The image.
        id: ContentDigest,
        /// Why.
        #[source]
        source: InvalidConfig,
    },
}

impl FindError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => {
                Some("`mica images` lists what is there; `mica pull` fetches from a registry".to_owned())
            }
            Self::Ambiguous(_) => Some("give more digits".to_owned()),
            Self::Reference(error) => error.hint(),
            Self::NoVersion { name, .. } => Some(format!("`mica log {name}` shows what there is")),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Blob(_) | Self::Config { .. } => None,
        }
    }
}

/// Finds an image by name, `name@version`, id, or the beginning of an id.
pub(crate) fn find(store: &Store, text: &str) -> Result<StoredImage, FindError> {
    match find_id(store, text)? {
        Some(id) => open(store, &id)?.ok_or_else(|| FindError::Unknown(text.to_owned())),
        None => Err(FindError::Unknown(text.to_owned())),
    }
}

/// Finds an image as [`find`] does, with its other platforms where its name stands for several.
pub(crate) fn find_all(store: &Store, text: &str) -> Result<Vec<StoredImage>, FindError> {
    let first = find(store, text)?;
    let version = match Reference::parse(text) {
        Ok(name) => store.images().current(&name.with_default_tag().to_string())?,
        Err(_) => None,
    };
    let mut all = Vec::new();
    for id in
        version.filter(|version| version.image == first.id).iter().flat_map(|it| it.info.platforms.values())
    {
        all.extend(open(store, id)?);
    }
    Ok(if all.is_empty() { vec![first] } else { all })
}

fn find_id(store: &Store, text: &str) -> Result<Option<ContentDigest>, FindError> {
    let images = store.images();
    if let Ok(id) = text.parse::<ContentDigest>() {
        return Ok(Some(id));
    }
    if let Some((name, version)) = versioned(text)? {
        let found = images.version(&name, version)?;
        return found.map(|found| Some(found.image)).ok_or(FindError::NoVersion { name, version });
    }
    let by_id = by_id_prefix(store, text)?;
    // A name that could be the beginning of an id is a name first, as docker has it.
    match Reference::parse(text) {
        Ok(reference) => {
            let named = images.current(&reference.with_default_tag().to_string())?;
            Ok(named.map(|version| version.image).or(by_id))
        }
        Err(_) if by_id.is_some() => Ok(by_id),
        Err(error) => Err(error.into()),
    }
}

/// Splits `name@version`.
fn versioned(text: &str) -> Result<Option<(String, u64)>, FindError> {
    let Some((name, version)) = text.rsplit_once('@') else { return Ok(None) };
    let Ok(version) = version.parse::<u64>() else { return Ok(None) };
    Ok(Some((Reference::parse(name)?.with_default_tag().to_string(), version)))
}

fn by_id_prefix(store: &Store, text: &str) -> Result<Option<ContentDigest>, FindError> {
    const SHORTEST_PREFIX: usize = 4;
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if prefix.len() < SHORTEST_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let all = store.images().list()?;
    let mut found = all.into_iter().map(|image| image.id).filter(|id| id.hex().starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(FindError::Ambiguous(text.to_owned())),
        (first, _) => Ok(first),
    }
}

/// Reads an image with its config.
pub(crate) fn open(store: &Store, id: &ContentDigest) -> Result<Option<StoredImage>, FindError> {
    let Some(record) = store.images().get(id)? else { return Ok(None) };
    let bytes = store.blobs().read(id, CONFIG_SIZE_MAX)?;
    let config = ImageConfig::parse(&bytes).map_err(|source| FindError::Config { id: *id, source })?;
    let ImageRecord { id, tree, platform, manifest, .. } = record;
    let platform = Platform::parse(&platform).unwrap_or_else(|_| config.platform());
    Ok(Some(StoredImage { id, config, tree, platform, manifest, said: Vec::new() }))
}

/// One line of `mica images`.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Listed {
    /// The name, or nothing.
    pub name: Option<String>,
    /// The version of the name.
    pub version: Option<u64>,
    /// The image.
    pub id: ContentDigest,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Bytes of its files.
    pub size: u64,
    /// Its platform.
    pub platform: String,
}

/// Lists all images: every name's newest version, and images without a name.
pub(crate) fn list(store: &Store) -> Result<Vec<Listed>, FindError> {
    let mut lines = Vec::new();
    let tags = store.images().tags()?;
    for image in store.images().list()? {
        let names: Vec<&Version> = tags.iter().filter(|version| version.image == image.id).collect();
        let size = size(store, &image)?;
        let line = |version: Option<&Version>| Listed {
            name: version.map(|version| familiar(&version.reference)),
            version: version.map(|version| version.number),
            id: image.id,
            created: image.created,
            size,
            platform: image.platform.clone(),
        };
        match names.as_slice() {
            [] => lines.push(line(None)),
            names => lines.extend(names.iter().map(|version| line(Some(version)))),
        }
    }
    lines.sort_by(|a, b| (a.name.is_none(), &a.name, a.id).cmp(&(b.name.is_none(), &b.name, b.id)));
    Ok(lines)
}

fn familiar(reference: &str) -> String {
    Reference::parse(reference).map_or_else(|_| reference.to_owned(), |reference| reference.familiar())
}

fn size(store: &Store, image: &ImageRecord) -> Result<u64, FileError> {
    let mut size = 0;
    for layer in &image.tree {
        size += store.layers().get(&layer.id)?.map_or(0, |layer| layer.meta().total_bytes);
    }
    Ok(size)
}

/// Gives an image one more name.
pub(crate) fn tag(store: &Store, image: ContentDigest, name: &Reference) -> Result<(), FileError> {
    let name = name.with_default_tag().to_string();
    if store.images().current(&name)?.is_some_and(|version| version.image == image) {
        return Ok(());
    }
    let when = now().unix().map_or(0, |(seconds, _)| seconds);
    store.images().tag(&name, image, VersionInfo { when, ..VersionInfo::default() })?;
    Ok(())
}

/// What a removal did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// This name is gone.
    Name(String),
    /// This image is gone.
    Image(ContentDigest),
}

/// Removes a name; the image goes with its last one. An id removes the image with all its names.
pub(crate) fn remove(store: &Store, text: &str) -> Result<Vec<Removed>, FindError> {
    let images = store.images();
    let id = find_id(store, text)?.ok_or_else(|| FindError::Unknown(text.to_owned()))?;
    if let Some((name, number)) = versioned(text)? {
        images.remove_version(&name, number)?;
        return Ok(vec![Removed::Name(format!("{}@{number}", familiar(&name)))]);
    }
    let name = Reference::parse(text).ok().map(|name| name.with_default_tag().to_string());
    let mut removed = Vec::new();
    let by_name = match name {
        Some(name) => images.current(&name)?.is_some().then_some(name),
        None => None,
    };
    let names = match by_name {
        Some(name) => vec![name],
        None => images.tags()?.into_iter().filter(|tag| tag.image == id).map(|tag| tag.reference).collect(),
    };
    for name in names {
        images.untag(&name)?;
        removed.push(Removed::Name(familiar(&name)));
    }
    if !images.all_versions()?.iter().any(|version| version.image == id) && images.remove(&id)? {
        removed.push(Removed::Image(id));
    }
    if removed.is_empty() {
        return Err(FindError::Unknown(text.to_owned()));
    }
    Ok(removed)
}

/// What `mica inspect` shows of an image.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Described {
    id: ContentDigest,
    repo_tags: Vec<String>,
    created: Option<mica_image::Timestamp>,
    author: String,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    config: mica_image::config::ContainerConfig,
    #[serde(rename = "RootFS")]
    root_fs: DescribedLayers,
    history: Vec<mica_image::config::History>,
}

/// The layers of a [`Described`] image.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribedLayers {
    #[serde(rename = "Type")]
    kind: String,
    layers: Vec<mica_image::DiffId>,
    /// Mica's own names of the layers: equal wherever steps made equal files, whenever they did.
    layer_ids: Vec<mica_image::LayerId>,
}

/// Describes an image in the words of `docker inspect`.
pub(crate) fn describe(store: &Store, text: &str) -> Result<Described, FindError> {
    let image = find(store, text)?;
    let record = store.images().get(&image.id)?.ok_or_else(|| FindError::Unknown(text.to_owned()))?;
    let tags = store.images().tags()?;
    let repo_tags =
        tags.iter().filter(|tag| tag.image == image.id).map(|tag| familiar(&tag.reference)).collect();
    Ok(Described {
        id: image.id,
        repo_tags,
        size: size(store, &record)?,
        created: image.config.created,
        author: image.config.author,
        architecture: image.config.architecture,
        variant: image.config.variant,
        os: image.config.os,
        config: image.config.config,
        root_fs: DescribedLayers {
            kind: image.config.rootfs.kind,
            layers: image.config.rootfs.diff_ids,
            layer_ids: record.tree.iter().map(|layer| layer.id).collect(),
        },
        history: image.config.history,
    })
}

/// The names an image is saved under: the one it was asked for by, or all when that was its id.
pub(crate) fn names(store: &Store, asked: &str, image: &StoredImage) -> Result<Vec<Reference>, FindError> {
    let tags = store.images().tags()?;
    let all = tags
        .iter()
        .filter(|tag| tag.image == image.id)
        .filter_map(|tag| Reference::parse(&tag.reference).ok());
    let all: Vec<Reference> = all.collect();
    let named = Reference::parse(asked).ok().map(|name| name.with_default_tag());
    match named {
        Some(name) if all.contains(&name) => Ok(vec![name]),
        _ => Ok(all),
    }
}
