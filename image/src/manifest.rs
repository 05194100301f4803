//! Descriptors, manifests and indexes: the documents that tie the blobs of an image together.
//!
//! The types are mica's own because their bytes are digests: fields are written in the order of the specification and maps
//! sorted. Documents that are passed on (a pulled manifest) must be kept as bytes, not written anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lenient::{null_as_default, text_map};
use crate::{ContentDigest, Dialect, MediaType, Platform};

/// The largest manifest or index that is read.
pub const MANIFEST_SIZE_MAX: u64 = 4 << 20;

/// The annotation of a tag in an OCI layout.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of a full image name in an OCI layout, as containerd writes it.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// What a blob is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    #[serde(default)]
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: ContentDigest,
    /// The number of bytes.
    pub size: u64,
    /// Other places to fetch it from.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "text_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself in base64, if it is small.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// What the manifest runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

/// One image: its config and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI allows it to be missing.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "MediaType::is_empty")]
    pub media_type: MediaType,
    /// The type of an artifact.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "text_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests, usually one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI allows it to be missing.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "MediaType::is_empty")]
    pub media_type: MediaType,
    /// The type of an artifact.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// The manifests.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest this index says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "text_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a tag or digest of a registry names: one image or an index of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// A document that is no manifest and no index.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// It is larger than any real one.
    #[error("the manifest has {size} bytes, more than the allowed {MANIFEST_SIZE_MAX}")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// It is not JSON, or a field has the wrong type.
    #[error("the manifest is not valid")]
    Json(#[source] serde_json::Error),
    /// It uses a format older than any supported.
    #[error("the manifest has schema version {version}, which is too old; only version 2 is supported")]
    SchemaVersion {
        /// The version it names.
        version: u32,
    },
    /// It could be read as both, and two programs might disagree which it is.
    #[error("the manifest has both `layers` and `manifests`")]
    Ambiguous,
    /// It says that it is something else.
    #[error("the manifest has the media type `{0}`, which is neither a manifest nor an index")]
    MediaType(MediaType),
    /// It says that it is another thing than the one who delivered it said.
    #[error("the manifest says it is `{inside}` but was delivered as `{outside}`")]
    Mismatch {
        /// The type in the document.
        inside: MediaType,
        /// The type in the descriptor or header.
        outside: MediaType,
    },
}

impl Descriptor {
    /// Describes `bytes`.
    #[must_use]
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, ContentDigest::of(bytes), bytes.len() as u64)
    }

    /// Describes a blob of which digest and size are known.
    #[must_use]
    pub fn new(media_type: MediaType, digest: ContentDigest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: String::new(),
            platform: None,
            artifact_type: String::new(),
        }
    }
}

impl Manifest {
    /// Returns a manifest of these blobs.
    #[must_use]
    pub fn new(dialect: Dialect, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::manifest(dialect),
            artifact_type: String::new(),
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the canonical bytes: indented by two spaces, without a final line end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("the maps of a manifest have text keys")
    }

    /// Describes the canonical bytes.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), &self.to_bytes())
    }
}

impl Index {
    /// Returns an index of these manifests.
    #[must_use]
    pub fn new(dialect: Dialect, manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::index(dialect),
            artifact_type: String::new(),
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the canonical bytes: indented by two spaces, without a final line end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("the maps of an index have text keys")
    }

    /// Describes the canonical bytes.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), &self.to_bytes())
    }

    /// Returns the manifest that suits `platform` best. An index whose only manifest names no platform is taken to mean it.
    #[must_use]
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        if let [only] = self.manifests.as_slice()
            && only.platform.is_none()
        {
            return Some(only);
        }
        let named: Vec<(&Descriptor, &Platform)> =
            self.manifests.iter().filter_map(|entry| Some((entry, entry.platform.as_ref()?))).collect();
        platform.choose(named.iter().map(|(_, platform)| *platform)).map(|position| named[position].0)
    }

    /// Lists the platforms there are images for, without attestations.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        self.manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(Platform::normalized)
            .collect()
    }
}

impl Document {
    /// Reads a manifest or index delivered as `media_type` (from a descriptor or a header; empty if unknown).
    pub fn parse(bytes: &[u8], media_type: &MediaType) -> Result<Self, InvalidManifest> {
        let size = bytes.len() as u64;
        if size > MANIFEST_SIZE_MAX {
            return Err(InvalidManifest::TooLarge { size });
        }
        match classify(bytes, media_type)? {
            Kind::Manifest => serde_json::from_slice(bytes).map(Self::Manifest),
            Kind::Index => serde_json::from_slice(bytes).map(Self::Index),
        }
        .map_err(InvalidManifest::Json)
    }
}

enum Kind {
    Manifest,
    Index,
}

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u32,
    #[serde(default, deserialize_with = "null_as_default")]
    media_type: MediaType,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

fn classify(bytes: &[u8], outside: &MediaType) -> Result<Kind, InvalidManifest> {
    let outline: Outline = serde_json::from_slice(bytes).map_err(InvalidManifest::Json)?;
    if outline.schema_version != 2 {
        return Err(InvalidManifest::SchemaVersion { version: outline.schema_version });
    }
    let looks_like_manifest = outline.layers.is_some() || outline.config.is_some();
    if looks_like_manifest && outline.manifests.is_some() {
        return Err(InvalidManifest::Ambiguous);
    }
    let inside = outline.media_type;
    if known(outside) && !inside.is_empty() && inside != *outside {
        return Err(InvalidManifest::Mismatch { inside, outside: outside.clone() });
    }
    let media_type = if inside.is_empty() { outside } else { &inside };
    match media_type {
        media_type if media_type.is_manifest() => Ok(Kind::Manifest),
        media_type if media_type.is_index() => Ok(Kind::Index),
        // Servers that know nothing of images deliver them as plain JSON, and OCI documents need not name their type.
        _ if !inside.is_empty() => Err(InvalidManifest::MediaType(inside)),
        _ if outline.manifests.is_some() => Ok(Kind::Index),
        _ if looks_like_manifest => Ok(Kind::Manifest),
        _ => Err(InvalidManifest::MediaType(outside.clone())),
    }
}

fn known(media_type: &MediaType) -> bool {
    media_type.is_manifest() || media_type.is_index()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Descriptor {
        Descriptor::of(MediaType::OCI_LAYER_GZIP, text.as_bytes())
    }

    fn manifest() -> Manifest {
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        Manifest::new(Dialect::Oci, config, vec![layer("a"), layer("b")])
    }

    #[test]
    fn bytes_are_pinned() {
        let mut manifest = manifest();
        manifest.annotations = [("b".into(), "2".into()), ("a".into(), "1".into())].into();
        let expected = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
      "size": 1
    },
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
      "size": 1
    }
  ],
  "annotations": {
    "a": "1",
    "b": "2"
  }
}"#;
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), expected);
        assert_eq!(
            Document::parse(&manifest.to_bytes(), &MediaType::OCI_MANIFEST).unwrap(),
            Document::Manifest(manifest)
        );
    }

    #[test]
    fn what_a_document_is_follows_its_own_word_then_the_delivery_then_its_fields() {
        let parse = |json: &str, outside: &str| Document::parse(json.as_bytes(), &outside.into());
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(parse(index, "application/json"), Ok(Document::Index(_))));
        assert!(matches!(parse(index, ""), Ok(Document::Index(_))));
        let docker = Manifest::new(Dialect::Docker, layer("c"), vec![]).to_bytes();
        assert!(matches!(Document::parse(&docker, &MediaType::default()), Ok(Document::Manifest(_))));
        assert!(matches!(
            Document::parse(&docker, &MediaType::DOCKER_INDEX),
            Err(InvalidManifest::Mismatch { .. })
        ));
    }

    #[test]
    fn doubtful_documents_are_refused() {
        let parse = |json: &str| Document::parse(json.as_bytes(), &MediaType::OCI_INDEX).unwrap_err();
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(parse(both), InvalidManifest::Ambiguous));
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(parse(old), InvalidManifest::SchemaVersion { version: 1 }));
        assert!(matches!(parse("{"), InvalidManifest::Json(_)));
        let nothing = Document::parse(br#"{"schemaVersion":2}"#, &MediaType::default());
        assert!(matches!(nothing, Err(InvalidManifest::MediaType(_))));
        let odd_digest = r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:xyz","size":1}]}"#;
        assert!(matches!(parse(odd_digest), InvalidManifest::Json(_)));
        let huge = vec![b' '; MANIFEST_SIZE_MAX as usize + 1];
        assert!(matches!(
            Document::parse(&huge, &MediaType::OCI_INDEX),
            Err(InvalidManifest::TooLarge { .. })
        ));
    }

    #[test]
    fn null_lists_are_empty() {
        let json = r#"{"schemaVersion":2,"manifests":null,"annotations":null}"#;
        let document = Document::parse(json.as_bytes(), &MediaType::OCI_INDEX).unwrap();
        assert_eq!(
            document,
            Document::Index(Index { media_type: MediaType::default(), ..Index::new(Dialect::Oci, vec![]) })
        );
    }

    #[test]
    fn the_manifest_for_a_platform_is_selected() {
        let entry = |text: &str, platform: &str| {
            let platform = Platform::parse(platform).ok();
            Descriptor { platform, media_type: MediaType::OCI_MANIFEST, ..layer(text) }
        };
        let mut attestation = entry("x", "linux/amd64");
        attestation.platform =
            Some(Platform { os: "unknown".into(), architecture: "unknown".into(), ..Platform::default() });
        let index =
            Index::new(Dialect::Oci, vec![attestation, entry("1", "linux/arm64"), entry("2", "linux/amd64")]);
        assert_eq!(index.select(&Platform::new("linux", "amd64", "")), Some(&index.manifests[2]));
        assert_eq!(index.select(&Platform::new("linux", "s390x", "")), None);
        let platforms: Vec<String> = index.platforms().iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/arm64", "linux/amd64"]);
        let single = Index::new(Dialect::Oci, vec![layer("1")]);
        assert_eq!(single.select(&Platform::new("linux", "s390x", "")), Some(&single.manifests[0]));
    }
}
