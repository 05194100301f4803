//! `mica.toml`: what is true of a machine or a person and not of one build.
//!
//! ```toml
//! ca-certificates = ["lab.pem"]                     # trusted beside the system's; relative to this file
//! insecure-registries = ["lab.example.com:5000"]    # plain HTTP or any certificate will do
//!
//! [build]
//! reproducible = true                               # as with `--reproducible`; or { keep = ["apt-logs"] }
//!
//! [mirrors]                                         # asked before a registry, in order
//! "docker.io" = ["https://mirror.example.com/hub"]
//!
//! [store]
//! max-size = "20g"                                  # what the store may take on the disk; kept to after each command
//! keep-versions = 10                                # versions of each name that are kept whatever they take; otherwise all
//! ```
//!
//! A key that is not known is a mistake: what it was meant for would silently not be done.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::arguments::size_in_bytes;
use crate::engine::reproducible::Reproducible;
use crate::environment::Environment;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Configuration {
    /// Files with certificates that are trusted beside the system's.
    pub(crate) ca_certificates: Vec<PathBuf>,
    /// Registries that may use plain HTTP or certificates nobody vouches for.
    pub(crate) insecure_registries: Vec<String>,
    /// Servers to pull from before a registry.
    pub(crate) mirrors: BTreeMap<String, Vec<String>>,
    /// What builds do unless they are told otherwise.
    pub(crate) build: BuildDefaults,
    /// What the store may take.
    pub(crate) store: StoreConfiguration,
}

/// What builds do unless they are told otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BuildDefaults {
    /// What is made the same in every build.
    #[serde(deserialize_with = "reproducible")]
    pub(crate) reproducible: Option<Reproducible>,
}

fn reproducible<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Reproducible>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Setting {
        Switch(bool),
        Items(Items),
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Items {
        keep: Vec<String>,
    }
    match Setting::deserialize(from)? {
        Setting::Switch(true) => Ok(Some(Reproducible::everything())),
        Setting::Switch(false) => Ok(Some(Reproducible::default())),
        Setting::Items(Items { keep }) => Reproducible::keeping(keep.iter().map(String::as_str))
            .map(Some)
            .map_err(|name| D::Error::custom(format!("there is no item `{name}` to keep"))),
    }
}

/// What the store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StoreConfiguration {
    /// Bytes on the disk; `None` is as much as there is.
    #[serde(deserialize_with = "size")]
    pub(crate) max_size: Option<u64>,
    /// Versions of each name that are kept whatever they take; `None` is all.
    pub(crate) keep_versions: Option<NonZeroUsize>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = size_in_bytes(&text);
    let wrong =
        || serde::de::Error::custom(format!("`{text}` is not a size: one looks like `500m` or `20g`"));
    bytes.ok_or_else(wrong).map(Some)
}

/// The file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// It could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has a mistake.
    #[error("`{}` has a mistake: {}", path.display(), source.message())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Which.
        source: Box<toml::de::Error>,
    },
}

impl Configuration {
    /// Reads `MICA_CONFIG`, or else the person's file, or else the machine's; none of them need be there but the first.
    pub(crate) fn find(environment: &dyn Environment) -> Result<Self, ConfigurationError> {
        let variable = |name| environment.var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = variable("MICA_CONFIG") {
            return Self::read(&path)?
                .ok_or_else(|| ConfigurationError::Read { path, source: io::ErrorKind::NotFound.into() });
        }
        let own = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        for directory in own.into_iter().chain([PathBuf::from("/etc")]) {
            if let Some(found) = Self::read(&directory.join("mica/mica.toml"))? {
                return Ok(found);
            }
        }
        Ok(Self::default())
    }

    fn read(path: &Path) -> Result<Option<Self>, ConfigurationError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(source) => Err(ConfigurationError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigurationError> {
        let mut made: Self = toml::from_str(text).map_err(|source| ConfigurationError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        for file in &mut made.ca_certificates {
            *file = directory.join(&file);
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(text, Path::new("/etc/mica/mica.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn all_keys_are_read() {
        let text = "ca-certificates = [\"lab.pem\", \"/ssl/a.pem\"]\ninsecure-registries = [\"lab:5000\"]\n\
                    [mirrors]\n\"docker.io\" = [\"https://m.example.com\", \"other\"]\n\
                    [build]\nreproducible = { keep = [\"times\"] }\n\
                    [store]\nmax-size = \"2g\"\nkeep-versions = 3\n";
        let made = parse(text).unwrap();
        assert_eq!(made.ca_certificates, [Path::new("/etc/mica/lab.pem"), Path::new("/ssl/a.pem")]);
        assert_eq!(made.insecure_registries, ["lab:5000"]);
        assert_eq!(made.mirrors["docker.io"], ["https://m.example.com", "other"]);
        assert_eq!(made.build.reproducible, Reproducible::keeping(["times"]).ok());
        assert_eq!(made.store.max_size, Some(2 << 30));
        assert_eq!(made.store.keep_versions, NonZeroUsize::new(3));
        assert_eq!(parse("").unwrap(), Configuration::default());
    }

    #[test]
    fn mistakes_name_the_file_and_the_key() {
        let error = parse("insecure-registry = []").unwrap_err();
        assert!(error.contains("/etc/mica/mica.toml") && error.contains("insecure-registry"), "{error}");
        parse("mirrors = 1").unwrap_err();
        let error = parse("[build]\nreproducible = { keep = [\"time\"] }").unwrap_err();
        assert!(error.contains("`time`"), "{error}");
        let error = parse("[store]\nmax-size = \"much\"").unwrap_err();
        assert!(error.contains("`much` is not a size"), "{error}");
        parse("[store]\nkeep-versions = 0").unwrap_err();
    }

    #[test]
    fn the_variable_comes_first_and_must_name_a_file() {
        use crate::arguments::Fake;
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("mica");
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("mica.toml"), "insecure-registries = [\"own\"]").unwrap();
        let other = directory.path().join("other.toml");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let find = |config: &str| {
            let variables = [("XDG_CONFIG_HOME", path(directory.path())), ("MICA_CONFIG", config.to_owned())];
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Configuration::find(&Fake::with(&variables))
        };
        assert_eq!(find("").unwrap().insecure_registries, ["own"]);
        find(&path(&other)).unwrap_err();
        std::fs::write(&other, "").unwrap();
        assert_eq!(find(&path(&other)).unwrap(), Configuration::default());
    }
}
