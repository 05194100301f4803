//! Platforms: what an image runs on, how people write it, and which image of an index suits a machine.
//!
//! Names are normalised the way container engines do it (`x86_64` is `amd64`, `aarch64` is `arm64`, `arm` means `arm/v7`), and
//! an older variant of the same architecture is acceptable where the wanted one runs it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const KNOWN_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const KNOWN_ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// An operating system and a processor architecture, as in an OCI descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture in Go's words: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system (used for Windows only).
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system that the image needs, sorted.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "crate::lenient::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the architecture: `v7` of `arm`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A text that is not a platform, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// A wildcard.
    #[error("invalid platform `{0}`: wildcards are not supported")]
    Wildcard(String),
    /// A part with characters that do not belong there.
    #[error("invalid platform `{text}`: `{component}` is not a valid component")]
    Component {
        /// The platform as written.
        text: String,
        /// The offending part.
        component: String,
    },
    /// One word that is neither a system nor an architecture.
    #[error("invalid platform `{0}`: unknown operating system or architecture")]
    Unknown(String),
    /// Too many slashes.
    #[error("invalid platform `{0}`: expected `os/architecture[/variant]`")]
    TooManyParts(String),
}

impl Platform {
    /// Returns a platform of these parts, normalised.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let platform = Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Self::default()
        };
        platform.normalized()
    }

    /// Returns the platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            other => other,
        };
        Self::new(std::env::consts::OS, architecture, "")
    }

    /// Parses `os`, `architecture`, `os/architecture` or `os/architecture/variant`; what is missing is taken from the host.
    pub fn parse(text: &str) -> Result<Self, InvalidPlatform> {
        if text.contains('*') {
            return Err(InvalidPlatform::Wildcard(text.to_owned()));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let mut platform = parse_system(text, parts[0])?;
        if let Some(component) = parts[1..].iter().find(|part| !is_component(part)) {
            return Err(InvalidPlatform::Component {
                text: text.to_owned(),
                component: (*component).to_owned(),
            });
        }
        match parts.as_slice() {
            [_] if KNOWN_SYSTEMS.contains(&platform.os.as_str()) => {
                platform.architecture = Self::host().architecture
            }
            [word] => {
                platform = Self::new(std::env::consts::OS, word, "");
                if !KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Err(InvalidPlatform::Unknown(text.to_owned()));
                }
            }
            [_, architecture] => platform.architecture = (*architecture).to_owned(),
            [_, architecture, variant] => {
                platform.architecture = (*architecture).to_owned();
                platform.variant = (*variant).to_owned();
            }
            _ => return Err(InvalidPlatform::TooManyParts(text.to_owned())),
        }
        Ok(platform.normalized())
    }

    /// Returns the platform with the usual names in place of their synonyms and without variants that mean nothing.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normalize_architecture(&self.architecture, &self.variant);
        let mut os_features = self.os_features.clone();
        os_features.sort_unstable();
        os_features.dedup();
        Self {
            os: normalize_system(&self.os),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
    }

    /// Returns whether an image for `candidate` runs here at all.
    #[must_use]
    pub fn runs(&self, candidate: &Self) -> bool {
        self.preference(candidate).is_some()
    }

    /// Returns how well an image for `candidate` suits this platform: 0 is best, `None` means it does not run.
    #[must_use]
    pub fn preference(&self, candidate: &Self) -> Option<usize> {
        let candidate = candidate.normalized();
        let wanted = self.normalized();
        if wanted.os != candidate.os
            || !wanted.has_features_of(&candidate)
            || !wanted.has_build_of(&candidate)
        {
            return None;
        }
        wanted.acceptable().into_iter().position(|(architecture, variant)| {
            (architecture, variant) == (candidate.architecture.clone(), candidate.variant.clone())
        })
    }

    /// Returns the position of the best candidate; the first one wins among equals.
    #[must_use]
    pub fn choose<'a>(&self, candidates: impl IntoIterator<Item = &'a Self>) -> Option<usize> {
        let ranked = candidates.into_iter().enumerate().filter_map(|(position, candidate)| {
            let features = usize::MAX - candidate.os_features.len();
            Some((self.preference(candidate)?, features, position))
        });
        ranked.min().map(|(_, _, position)| position)
    }

    /// Lists the architectures and variants that run here, best first.
    fn acceptable(&self) -> Vec<(String, String)> {
        let architecture = self.architecture.as_str();
        match architecture {
            "amd64" => {
                let mut all = vec![(architecture.to_owned(), self.variant.clone())];
                all.extend(older_variants(architecture, &self.variant, 1));
                all.push(("386".to_owned(), String::new()));
                all
            }
            "arm" => {
                let mut all = vec![(architecture.to_owned(), self.variant.clone())];
                all.extend(older_variants(architecture, &self.variant, 5));
                all
            }
            "arm64" => acceptable_arm64(&self.variant),
            _ => vec![(architecture.to_owned(), self.variant.clone())],
        }
    }

    fn has_features_of(&self, candidate: &Self) -> bool {
        // Every Windows has win32k as far as matching is concerned.
        let ignored = |feature: &str| self.os == "windows" && feature == "win32k";
        candidate.os_features.iter().all(|feature| ignored(feature) || self.os_features.contains(feature))
    }

    fn has_build_of(&self, candidate: &Self) -> bool {
        let build = |version: &str| version.splitn(4, '.').take(3).map(str::to_owned).collect::<Vec<_>>();
        self.os != "windows"
            || self.os_version.is_empty()
            || candidate.os_version.is_empty()
            || build(&self.os_version) == build(&candidate.os_version)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        if !self.os_version.is_empty() || !self.os_features.is_empty() {
            write!(f, "({}", self.os_version)?;
            self.os_features.iter().try_for_each(|feature| write!(f, "+{feature}"))?;
            f.write_str(")")?;
        }
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Parses `os`, `os(version)` or `os(version+feature+feature)`.
fn parse_system(text: &str, part: &str) -> Result<Platform, InvalidPlatform> {
    let bad = || InvalidPlatform::Component { text: text.to_owned(), component: part.to_owned() };
    let (os, options) = match part.split_once('(') {
        Some((os, options)) => (os, options.strip_suffix(')').ok_or_else(bad)?),
        None => (part, ""),
    };
    let is_system = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if os.is_empty() || !os.bytes().all(is_system) {
        return Err(bad());
    }
    let mut words = options.split('+');
    let os_version = words.next().unwrap_or_default().to_owned();
    let os_features: Vec<String> = words.map(str::to_owned).collect();
    let features_are_good = os_features.iter().all(|feature| is_component(feature));
    if !features_are_good || !(os_version.is_empty() || is_component(&os_version)) {
        return Err(bad());
    }
    Ok(Platform { os: normalize_system(os), os_version, os_features, ..Platform::default() })
}

fn is_component(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn normalize_system(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => normalize_system(std::env::consts::OS),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normalize_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        unchanged => unchanged,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// Lists `v<n-1>` … `v<oldest>` for the variant `v<n>`, and the nameless variant where `v1` has no name.
fn older_variants(architecture: &str, variant: &str, oldest: u32) -> Vec<(String, String)> {
    let Some(version) = variant.strip_prefix('v').and_then(|version| version.parse::<u32>().ok()) else {
        return Vec::new();
    };
    (oldest..version.min(100))
        .rev()
        .map(|older| normalize_architecture(architecture, &format!("v{older}")))
        .collect()
}

/// ARMv9.n runs ARMv8.(n+5), and both run 32-bit ARM.
fn acceptable_arm64(variant: &str) -> Vec<(String, String)> {
    let text = if variant.is_empty() { "v8" } else { variant };
    let (major, minor) =
        text.trim_start_matches('v').split_once('.').unwrap_or((text.trim_start_matches('v'), "0"));
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return vec![("arm64".to_owned(), variant.to_owned())];
    };
    let ranges = match (major, minor) {
        (8, 0..=9) => vec![(8, minor)],
        (9, 0..=7) => vec![(9, minor), (8, (minor + 5).min(9))],
        _ => return vec![("arm64".to_owned(), variant.to_owned())],
    };
    let mut all = Vec::new();
    for (major, newest) in ranges {
        for minor in (0..=newest).rev() {
            let variant = if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") };
            all.push(normalize_architecture("arm64", &variant));
        }
    }
    all.push(("arm".to_owned(), "v8".to_owned()));
    all.extend(older_variants("arm", "v8", 5));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(Platform::parse(text).unwrap().to_string(), expected, "{text}");
    }

    #[test]
    fn names_are_normalised() {
        check("linux/amd64", "linux/amd64");
        check("Linux/x86_64", "linux/amd64");
        check("linux/amd64/v1", "linux/amd64");
        check("linux/amd64/v3", "linux/amd64/v3");
        check("linux/aarch64", "linux/arm64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm64/9", "linux/arm64/v9");
        check("linux/arm", "linux/arm/v7");
        check("linux/arm/6", "linux/arm/v6");
        check("linux/armhf", "linux/arm/v7");
        check("linux/armel", "linux/arm/v6");
        check("linux/i386", "linux/386");
        check("macos/arm64", "darwin/arm64");
        check("windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64");
        check("linux/some_arch", "linux/some_arch");
        check("arm64", "linux/arm64");
        check("s390x", "linux/s390x");
    }

    #[test]
    fn a_system_alone_takes_the_architecture_of_the_host() {
        let host = Platform::host();
        assert_eq!(Platform::parse("linux").unwrap().architecture, host.architecture);
        assert!(KNOWN_ARCHITECTURES.contains(&host.architecture.as_str()), "{host}");
    }

    #[test]
    fn bad_platforms_are_refused() {
        for text in [
            "",
            "linux/*",
            "nonsense",
            "linux/amd64/v1/x",
            "linux//v7",
            "lin ux/amd64",
            "windows(1/amd64",
            "/amd64",
        ] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    fn check_choice(wanted: &str, candidates: &[&str], expected: Option<&str>) {
        let parsed: Vec<Platform> = candidates.iter().map(|text| Platform::parse(text).unwrap()).collect();
        let chosen = Platform::parse(wanted).unwrap().choose(&parsed).map(|position| candidates[position]);
        assert_eq!(chosen, expected, "{wanted} among {candidates:?}");
    }

    #[test]
    fn the_nearest_platform_that_runs_is_chosen() {
        check_choice("linux/amd64", &["linux/arm64", "linux/386", "linux/amd64"], Some("linux/amd64"));
        check_choice("linux/amd64", &["linux/arm64", "linux/386"], Some("linux/386"));
        check_choice("linux/amd64", &["linux/amd64/v3", "windows/amd64"], None);
        check_choice("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"], Some("linux/amd64/v2"));
        check_choice("linux/amd64/v3", &["linux/386", "linux/amd64"], Some("linux/amd64"));
        check_choice("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"], Some("linux/arm/v6"));
        check_choice("linux/arm/v6", &["linux/arm/v7"], None);
        check_choice("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some("linux/arm64/v8"));
        check_choice("linux/arm64", &["linux/arm/v6", "linux/arm/v7"], Some("linux/arm/v7"));
        check_choice("linux/arm64/v9", &["linux/arm64", "linux/arm64/v8.5"], Some("linux/arm64/v8.5"));
        check_choice("linux/arm64", &["linux/arm64/v8.1"], None);
        check_choice("linux/riscv64", &["linux/riscv64"], Some("linux/riscv64"));
    }

    #[test]
    fn attestations_never_match() {
        let unknown =
            Platform { os: "unknown".into(), architecture: "unknown".into(), ..Platform::default() };
        assert!(!Platform::host().runs(&unknown));
    }

    #[test]
    fn features_and_windows_builds_must_be_there() {
        check_choice("linux/amd64", &["linux(+erofs)/amd64"], None);
        check_choice(
            "linux(+erofs)/amd64",
            &["linux/amd64", "linux(+erofs)/amd64"],
            Some("linux(+erofs)/amd64"),
        );
        check_choice(
            "windows(10.0.17763.1)/amd64",
            &["windows(10.0.14393.9)/amd64", "windows(10.0.17763.99+win32k)/amd64"],
            Some("windows(10.0.17763.99+win32k)/amd64"),
        );
    }

    #[test]
    fn json_has_the_fields_of_a_descriptor_in_order() {
        let platform = Platform::parse("linux/arm/v7").unwrap();
        let json = serde_json::to_string(&platform).unwrap();
        assert_eq!(json, r#"{"architecture":"arm","os":"linux","variant":"v7"}"#);
        assert_eq!(serde_json::from_str::<Platform>(&json).unwrap(), platform);
    }
}
