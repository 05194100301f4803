//! Media types of manifests, configs and layers, OCI's and Docker's.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type, without parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

/// How the tar of a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// The two dialects of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// The OCI image specification's media types.
    Oci,
    /// Docker's media types (image manifest version 2, schema 2).
    Docker,
}

macro_rules! media_types {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        impl MediaType {
            $(#[doc = $doc] pub const $name: Self = Self(Cow::Borrowed($text));)*
        }
    };
}

media_types! {
    OCI_INDEX = "application/vnd.oci.image.index.v1+json", "An OCI index of manifests.";
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json", "An OCI manifest.";
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json", "An OCI image config.";
    OCI_LAYER_TAR = "application/vnd.oci.image.layer.v1.tar", "A layer, not compressed.";
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip", "A layer compressed with gzip.";
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd", "A layer compressed with zstd.";
    OCI_EMPTY = "application/vnd.oci.empty.v1+json", "The empty JSON object of artifacts.";
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json", "Docker's list of manifests.";
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json", "Docker's manifest.";
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json", "Docker's image config.";
    DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar", "Docker's layer, not compressed.";
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip", "Docker's layer compressed with gzip.";
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd", "Docker's layer compressed with zstd.";
}

impl MediaType {
    /// Reads a media type, as in a `Content-Type` header: parameters are dropped and case does not count.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or_default().trim();
        Self(Cow::Owned(essence.to_ascii_lowercase()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is an index of manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_INDEX
    }

    /// Returns whether this is a manifest of one image.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// Returns whether this is an image config.
    #[must_use]
    pub fn is_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// Returns how a layer of this type is compressed, or `None` if it is not the type of a layer.
    #[must_use]
    pub fn layer_compression(&self) -> Option<LayerCompression> {
        let text = self.as_str();
        let suffix = [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
        ]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
        match suffix {
            "" => Some(LayerCompression::None),
            "+gzip" | ".gzip" => Some(LayerCompression::Gzip),
            "+zstd" | ".zstd" => Some(LayerCompression::Zstd),
            _ => None,
        }
    }

    /// Returns whether a layer of this type is fetched from the addresses in its descriptor and never pushed.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.as_str().contains(".nondistributable.") || self.as_str().contains(".foreign.")
    }

    /// Returns the type of a layer.
    #[must_use]
    pub fn layer(dialect: Dialect, compression: LayerCompression) -> Self {
        match (dialect, compression) {
            (Dialect::Oci, LayerCompression::None) => Self::OCI_LAYER_TAR,
            (Dialect::Oci, LayerCompression::Gzip) => Self::OCI_LAYER_GZIP,
            (Dialect::Oci, LayerCompression::Zstd) => Self::OCI_LAYER_ZSTD,
            (Dialect::Docker, LayerCompression::None) => Self::DOCKER_LAYER_TAR,
            (Dialect::Docker, LayerCompression::Gzip) => Self::DOCKER_LAYER_GZIP,
            (Dialect::Docker, LayerCompression::Zstd) => Self::DOCKER_LAYER_ZSTD,
        }
    }

    /// Returns the type of a config.
    #[must_use]
    pub fn config(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Oci => Self::OCI_CONFIG,
            Dialect::Docker => Self::DOCKER_CONFIG,
        }
    }

    /// Returns the type of a manifest.
    #[must_use]
    pub fn manifest(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Oci => Self::OCI_MANIFEST,
            Dialect::Docker => Self::DOCKER_MANIFEST,
        }
    }

    /// Returns the type of an index.
    #[must_use]
    pub fn index(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Oci => Self::OCI_INDEX,
            Dialect::Docker => Self::DOCKER_INDEX,
        }
    }

    /// Returns whether there is no media type.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_all_dialects_are_known() {
        let compression = |text: &str| MediaType::parse(text).layer_compression();
        for dialect in [Dialect::Oci, Dialect::Docker] {
            for expected in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
                assert_eq!(MediaType::layer(dialect, expected).layer_compression(), Some(expected));
            }
            assert!(MediaType::manifest(dialect).is_manifest());
            assert!(MediaType::index(dialect).is_index());
            assert!(MediaType::config(dialect).is_config());
        }
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert_eq!(compression(foreign), Some(LayerCompression::Gzip));
        assert!(MediaType::parse(foreign).is_foreign());
        assert!(!MediaType::OCI_LAYER_GZIP.is_foreign());
        assert_eq!(compression("application/vnd.oci.image.layer.v1.tar+lz4"), None);
        assert_eq!(compression("text/plain"), None);
    }

    #[test]
    fn parameters_and_case_do_not_count() {
        assert!(MediaType::parse("Application/vnd.oci.image.index.v1+JSON; charset=utf-8").is_index());
    }
}
