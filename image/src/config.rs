//! The image configuration: what a container of the image runs, and how the image came about.
//!
//! Reading is lenient (`null` for anything, unknown fields are kept), writing is canonical: the same value always gives the
//! same bytes, with the fields of the image in alphabetical order, those of `config` in the order the specification lists
//! them, and empty ones left out, as the reference builder writes them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::lenient::{is_false, is_zero, null_as_default, text_map, text_set, words, write_text_set};
use crate::{ContentDigest, DiffId, Platform, Timestamp};

/// The field of a configuration in which mica keeps the cache of the steps the image is made of.
pub const CACHE_FIELD: &str = "mica.cache.v1";
/// The one of the reference builder.
const BUILDKIT_CACHE_FIELD: &str = "moby.buildkit.cache.v0";
/// The largest configuration that is read.
pub const CONFIG_SIZE_MAX: u64 = 8 << 20;

/// A configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// It is larger than any real one.
    #[error("the image config has {size} bytes, more than the allowed {CONFIG_SIZE_MAX}")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// It is not JSON, or a field has the wrong type.
    #[error("the image config is not valid")]
    Json(#[source] serde_json::Error),
}

/// An OCI image configuration with Docker's additions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ImageConfig {
    /// Who made the image.
    #[serde(default, deserialize_with = "null_as_default")]
    pub author: String,
    /// The processor architecture.
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    /// The operating system.
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    /// The version of the operating system.
    #[serde(rename = "os.version", default, deserialize_with = "null_as_default")]
    pub os_version: String,
    /// Features of the operating system that the image needs.
    #[serde(rename = "os.features", default, deserialize_with = "null_as_default")]
    pub os_features: Vec<String>,
    /// The variant of the architecture.
    #[serde(default, deserialize_with = "null_as_default")]
    pub variant: String,
    /// When the image was made.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// What a container starts with.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ContainerConfig,
    /// The layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub rootfs: RootFs,
    /// What made each layer, oldest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
    /// Fields this program does not know.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What a container of the image starts with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// User and group, as `USER` wrote them.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports in the form `80/tcp`.
    #[serde(
        deserialize_with = "text_set",
        serialize_with = "write_text_set",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// Environment in the form `NAME=value`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The words before the command.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The command, or arguments to the entry point.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories that are volumes.
    #[serde(
        deserialize_with = "text_set",
        serialize_with = "write_text_set",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// The directory commands start in.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "text_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the container to end.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether the command is already escaped (Windows).
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// How to find out whether the container works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that start from this image.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Fields this program does not know.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// How to find out whether a container works; times are in nanoseconds, 0 means inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// The test: empty is inherited, else `NONE`, `CMD` or `CMD-SHELL` and its words.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between tests.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time after which a test has failed.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time the container has before failures count.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between tests during the start period.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers_word")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One step in the making of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The instruction.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who made it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A remark.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it added no layer.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        let size = bytes.len() as u64;
        if size > CONFIG_SIZE_MAX {
            return Err(InvalidConfig::TooLarge { size });
        }
        serde_json::from_slice(bytes).map_err(InvalidConfig::Json)
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the maps of a config have text keys")
    }

    /// Returns the digest of the canonical bytes, the image's id.
    #[must_use]
    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of(&self.to_bytes())
    }

    /// Returns whether the image carries a cache of mica's.
    #[must_use]
    pub fn carries_cache(&self) -> bool {
        self.other.contains_key(CACHE_FIELD)
    }

    /// Takes away what is only true of this very image, for one that is made from it.
    pub fn forget_cache(&mut self) {
        self.other.remove(CACHE_FIELD);
        self.other.remove(BUILDKIT_CACHE_FIELD);
    }

    /// Returns the platform the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Sets the platform the image is for.
    pub fn set_platform(&mut self, platform: &Platform) {
        let platform = platform.clone();
        self.architecture = platform.architecture;
        self.os = platform.os;
        self.os_version = platform.os_version;
        self.os_features = platform.os_features;
        self.variant = platform.variant;
    }
}

/// One field of the image, borrowed for writing.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Text(&'a str),
    Texts(&'a [String]),
    Time(&'a Timestamp),
    Config(&'a ContainerConfig),
    RootFs(&'a RootFs),
    History(&'a [History]),
    Other(&'a Value),
}

impl Serialize for ImageConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields: BTreeMap<&str, Field<'_>> =
            self.other.iter().map(|(name, value)| (name.as_str(), Field::Other(value))).collect();
        fields.insert("architecture", Field::Text(&self.architecture));
        fields.insert("config", Field::Config(&self.config));
        fields.insert("os", Field::Text(&self.os));
        fields.insert("rootfs", Field::RootFs(&self.rootfs));
        let optional =
            [("author", &self.author), ("os.version", &self.os_version), ("variant", &self.variant)];
        for (name, text) in optional.into_iter().filter(|(_, text)| !text.is_empty()) {
            fields.insert(name, Field::Text(text));
        }
        if let Some(created) = &self.created {
            fields.insert("created", Field::Time(created));
        }
        if !self.os_features.is_empty() {
            fields.insert("os.features", Field::Texts(&self.os_features));
        }
        if !self.history.is_empty() {
            fields.insert("history", Field::History(&self.history));
        }
        serializer.collect_map(fields)
    }
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers_word(), diff_ids: Vec::new() }
    }
}

fn layers_word() -> String {
    "layers".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(json: &str) -> String {
        String::from_utf8(ImageConfig::parse(json.as_bytes()).unwrap().to_bytes()).unwrap()
    }

    #[test]
    fn a_full_config_is_written_as_it_was_read() {
        let json = concat!(
            r#"{"architecture":"arm","author":"me","config":{"User":"1:2","ExposedPorts":{"53/udp":{},"80/tcp":{}},"#,
            r#""Env":["PATH=/bin"],"Entrypoint":["/e"],"Cmd":["a","b"],"Volumes":{"/v":{}},"WorkingDir":"/w","#,
            r#""Labels":{"a":"1","b":""},"StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD","x"],"#,
            r#""Interval":1,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5},"OnBuild":["RUN x"],"#,
            r#""Shell":["/bin/bash","-c"],"Hostname":"h"},"created":"2024-01-01T00:00:00.5Z","docker_version":"20","#,
            r#""history":[{"created":"2024-01-01T00:00:00Z","created_by":"RUN a && b","author":"x","comment":"c","#,
            r#""empty_layer":true},{}],"os":"linux","os.features":["f"],"os.version":"1","rootfs":{"type":"layers","#,
            r#""diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"variant":"v7"}"#,
        );
        assert_eq!(round_trip(json), json);
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.config.other["Hostname"], "h");
        assert_eq!(config.platform().to_string(), "linux(1+f)/arm/v7");
    }

    #[test]
    fn null_and_missing_mean_empty() {
        let empty = r#"{"architecture":"","config":{},"os":"","rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(round_trip("{}"), empty);
        let nulls = concat!(
            r#"{"architecture":null,"created":null,"config":null,"history":null,"os.features":null,"#,
            r#""rootfs":{"type":"layers","diff_ids":null}}"#
        );
        assert_eq!(round_trip(nulls), empty);
        let inner = concat!(
            r#"{"config":{"User":null,"ExposedPorts":null,"Env":null,"Entrypoint":null,"Cmd":[],"Volumes":null,"#,
            r#""Labels":null,"OnBuild":null,"Healthcheck":null,"Shell":null,"ArgsEscaped":null},"rootfs":null}"#
        );
        assert_eq!(round_trip(inner), empty);
    }

    #[test]
    fn oddities_of_old_configs_are_read() {
        let json = r#"{"config":{"Entrypoint":"/run.sh","Labels":{"a":null},"ExposedPorts":{"80":null}}}"#;
        let config = ImageConfig::parse(json.as_bytes()).unwrap().config;
        assert_eq!(config.entrypoint, ["/run.sh"]);
        assert_eq!(config.labels["a"], "");
        assert!(config.exposed_ports.contains("80"));
    }

    #[test]
    fn what_is_not_a_config_is_refused() {
        for bad in ["", "[]", "null", r#"{"config":{"Env":"x"}}"#, r#"{"rootfs":{"diff_ids":["md5:1"]}}"#] {
            assert!(matches!(ImageConfig::parse(bad.as_bytes()), Err(InvalidConfig::Json(_))), "{bad}");
        }
        let huge = vec![b' '; CONFIG_SIZE_MAX as usize + 1];
        assert!(matches!(ImageConfig::parse(&huge), Err(InvalidConfig::TooLarge { .. })));
    }
}
