//! Image references as Docker normalises them: `ubuntu` means `docker.io/library/ubuntu`.
//!
//! A [`Reference`] names a repository and, optionally, a tag and a digest in it. It is normalised when it is parsed, so two
//! references that mean the same compare equal. It does not say where the registry's server is (`docker.io` is served
//! elsewhere) and no default tag is implied: ask for it with [`Reference::with_default_tag`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ContentDigest;

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const REPOSITORY_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A normalised name of an image: registry, repository, and perhaps a tag and a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<ContentDigest>,
}

/// A text that is not an image reference, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// There is no text.
    #[error("the image reference is empty")]
    Empty,
    /// The text is a bare identifier, which would be taken for a repository.
    #[error("`{text}` is an image id, not an image reference")]
    Identifier {
        /// The reference as written.
        text: String,
    },
    /// The repository has upper-case letters.
    #[error(
        "invalid image reference `{text}`: invalid reference format: repository name `{repository}` must be lowercase"
    )]
    Uppercase {
        /// The reference as written.
        text: String,
        /// The repository part.
        repository: String,
    },
    /// The registry is not a host name with an optional port.
    #[error("invalid image reference `{text}`: `{registry}` is not a host name with an optional port")]
    Registry {
        /// The reference as written.
        text: String,
        /// The registry part.
        registry: String,
    },
    /// The repository has characters that are not allowed, or an empty component.
    #[error(
        "invalid image reference `{text}`: invalid reference format: `{repository}` is not a repository name"
    )]
    Repository {
        /// The reference as written.
        text: String,
        /// The repository part.
        repository: String,
    },
    /// The repository is too long.
    #[error(
        "invalid image reference `{text}`: the repository name is longer than {REPOSITORY_MAX} characters"
    )]
    TooLong {
        /// The reference as written.
        text: String,
    },
    /// The tag has characters that are not allowed, or is too long.
    #[error("invalid image reference `{text}`: invalid reference format: `{tag}` is not a tag")]
    Tag {
        /// The reference as written.
        text: String,
        /// The tag part.
        tag: String,
    },
    /// The digest is not a SHA-256 digest.
    #[error(
        "invalid image reference `{text}`: `{digest}` is not a digest of the form `sha256:<64 hexadecimal digits>`"
    )]
    Digest {
        /// The reference as written.
        text: String,
        /// The digest part.
        digest: String,
    },
}

impl InvalidReference {
    /// Returns what the person could write instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Empty => "name an image, for example `alpine:3.22`".to_owned(),
            Self::Identifier { text } => format!("to name an image by digest write `<repository>@sha256:{text}`"),
            Self::Uppercase { text, repository } => {
                format!("did you mean `{}`?", text.replacen(repository, &repository.to_lowercase(), 1))
            }
            Self::Registry { .. } => "a registry looks like `registry.example.com` or `localhost:5000`".to_owned(),
            Self::Repository { text, .. } if text.contains("://") => {
                "an image reference has no scheme: leave out everything up to `://`".to_owned()
            }
            Self::Repository { .. } => {
                "components of a repository are lower-case letters and digits, joined by `.`, `_`, `__` or `-`"
                    .to_owned()
            }
            Self::Tag { .. } => {
                format!("a tag is up to {TAG_MAX} letters, digits, `_`, `.` and `-`, and starts with none of the last two")
            }
            Self::TooLong { .. } | Self::Digest { .. } => return None,
        })
    }
}

impl Reference {
    /// Parses and normalises a reference.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Empty);
        }
        if is_identifier(text) {
            return Err(InvalidReference::Identifier { text: text.to_owned() });
        }
        let (registry, rest) = split_registry(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(text, digest)?)),
            None => (rest, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        check_repository(text, repository)?;
        if !is_registry(registry) {
            return Err(InvalidReference::Registry { text: text.to_owned(), registry: registry.to_owned() });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Tag { text: text.to_owned(), tag: tag.to_owned() });
        }
        let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
        let repository =
            if official { format!("{OFFICIAL_PREFIX}{repository}") } else { repository.to_owned() };
        if repository.len() > REPOSITORY_MAX {
            return Err(InvalidReference::TooLong { text: text.to_owned() });
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the registry's name, with its port if one was given: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository within the registry: `library/ubuntu`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag, if one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&ContentDigest> {
        self.digest.as_ref()
    }

    /// Returns registry and repository: `docker.io/library/ubuntu`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the short form people use: `ubuntu:24.04` for `docker.io/library/ubuntu:24.04`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let repository = match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.repository,
        };
        let name = if self.registry == DEFAULT_REGISTRY {
            repository.to_owned()
        } else {
            format!("{}/{}", self.registry, self.repository)
        };
        name + &self.suffix()
    }

    /// Returns the same repository and tag with this digest.
    #[must_use]
    pub fn with_digest(&self, digest: ContentDigest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns the same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Tag {
                text: format!("{}:{tag}", self.familiar()),
                tag: tag.to_owned(),
            });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns the reference with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(&self) -> Self {
        let mut reference = self.clone();
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some(DEFAULT_TAG.to_owned());
        }
        reference
    }

    fn suffix(&self) -> String {
        let mut suffix = String::new();
        if let Some(tag) = &self.tag {
            suffix.push(':');
            suffix.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            suffix.push('@');
            suffix.push_str(&digest.to_string());
        }
        suffix
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Splits off the registry. The first component is one if it could not be a repository: it has a dot, a colon or an upper-case
/// letter, or is `localhost`.
fn split_registry(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else { return (DEFAULT_REGISTRY, text) };
    if first == LEGACY_DEFAULT_REGISTRY {
        return (DEFAULT_REGISTRY, rest);
    }
    let is_registry =
        first == "localhost" || first.contains(['.', ':']) || first.contains(|c: char| c.is_uppercase());
    if is_registry && !first.contains('@') { (first, rest) } else { (DEFAULT_REGISTRY, text) }
}

fn parse_digest(text: &str, digest: &str) -> Result<ContentDigest, InvalidReference> {
    digest.parse().map_err(|_| InvalidReference::Digest { text: text.to_owned(), digest: digest.to_owned() })
}

fn check_repository(text: &str, repository: &str) -> Result<(), InvalidReference> {
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    let (text, repository) = (text.to_owned(), repository.to_owned());
    if repository.to_lowercase().split('/').all(is_path_component) {
        return Err(InvalidReference::Uppercase { text, repository });
    }
    Err(InvalidReference::Repository { text, repository })
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Runs of lower-case letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |c: char| matches!(c, 'a'..='z' | '0'..='9');
    if !text.starts_with(is_alphanumeric) || !text.ends_with(is_alphanumeric) {
        return false;
    }
    text.split(is_alphanumeric)
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port_is_good = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    port_is_good && (is_ipv6(host) || host.split('.').all(is_host_component))
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(|b| b == b':' || b.is_ascii_hexdigit()))
}

fn is_host_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa";

    fn check(text: &str, canonical: &str, familiar: &str) {
        let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.to_string(), canonical, "canonical form of {text}");
        assert_eq!(reference.familiar(), familiar, "familiar form of {text}");
        assert_eq!(Reference::parse(canonical).unwrap(), reference, "{canonical} means the same");
        assert_eq!(Reference::parse(familiar).unwrap(), reference, "{familiar} means the same");
    }

    #[test]
    fn names_are_normalised() {
        check("ubuntu", "docker.io/library/ubuntu", "ubuntu");
        check("docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu");
        check("index.docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu");
        check("library/a/b", "docker.io/library/a/b", "library/a/b");
        check("user/app:1.0", "docker.io/user/app:1.0", "user/app:1.0");
        check("example.com/app", "example.com/app", "example.com/app");
        check("localhost/app", "localhost/app", "localhost/app");
        check("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x");
        check("host:80/a/b/c", "host:80/a/b/c", "host:80/a/b/c");
        check("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app");
        check("[2001:db8::1]/app", "[2001:db8::1]/app", "[2001:db8::1]/app");
        check("Registry/app", "Registry/app", "Registry/app");
        check("a--b/c__d/e.f_g", "docker.io/a--b/c__d/e.f_g", "a--b/c__d/e.f_g");
        check("app:_v1.0-rc", "docker.io/library/app:_v1.0-rc", "app:_v1.0-rc");
        // Without a slash, what looks like a port is a tag.
        check("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000");
    }

    #[test]
    fn digests_stand_alone_or_beside_a_tag() {
        let by_digest = format!("docker.io/library/busybox@sha256:{HEX}");
        check(&format!("busybox@sha256:{HEX}"), &by_digest, &format!("busybox@sha256:{HEX}"));
        let both = Reference::parse(&format!("busybox:1@sha256:{HEX}")).unwrap();
        assert_eq!(both.tag(), Some("1"));
        assert_eq!(both.digest().unwrap().hex(), HEX);
        assert_eq!(both.to_string(), format!("docker.io/library/busybox:1@sha256:{HEX}"));
    }

    #[test]
    fn the_default_tag_is_only_added_when_nothing_else_is_there() {
        let tagged = |text: &str| Reference::parse(text).unwrap().with_default_tag().familiar();
        assert_eq!(tagged("app"), "app:latest");
        assert_eq!(tagged("app:1"), "app:1");
        assert_eq!(tagged(&format!("app@sha256:{HEX}")), format!("app@sha256:{HEX}"));
        assert_eq!(Reference::parse("app:1").unwrap().with_tag("2").unwrap().familiar(), "app:2");
        Reference::parse("app").unwrap().with_tag("not ok").unwrap_err();
    }

    fn check_error(text: &str, expected: &str) {
        match Reference::parse(text) {
            Ok(reference) => panic!("{text} was taken for {reference}"),
            Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
        }
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        check_error("", "empty");
        check_error(HEX, "is an image id");
        check_error("Ubuntu", "repository name `Ubuntu` must be lowercase");
        check_error("example.com/Foo/bar:1", "repository name `Foo/bar` must be lowercase");
        check_error("user//app", "not a repository name");
        check_error("app/", "not a repository name");
        check_error("a..b/c", "not a host name");
        check_error("a___b", "not a repository name");
        check_error("_app", "not a repository name");
        check_error("app:", "`` is not a tag");
        check_error("app:-x", "`-x` is not a tag");
        check_error(&format!("app:{}", "x".repeat(129)), "is not a tag");
        check_error("app@sha256:123", "is not a digest");
        check_error("app@md5:d41d8cd98f00b204e9800998ecf8427e", "is not a digest");
        check_error("https://example.com/app", "invalid image reference");
        check_error("my_host.com/app", "not a host name");
        check_error("host:port/app", "not a host name");
        check_error(&format!("example.com/{}", "a".repeat(256)), "longer than 255");
        check_error("app name", "not a repository name");
        check_error("$BASE", "not a repository name");
    }

    #[test]
    fn limits_are_inclusive() {
        Reference::parse(&format!("example.com/{}", "a".repeat(255))).unwrap();
        Reference::parse(&format!("app:{}", "x".repeat(128))).unwrap();
        // The implied `library/` counts.
        check_error(&"a".repeat(248), "longer than 255");
    }

    #[test]
    fn hints_show_the_way() {
        let hint = |text: &str| Reference::parse(text).unwrap_err().hint().unwrap();
        assert_eq!(hint("Ubuntu:22.04"), "did you mean `ubuntu:22.04`?");
        assert!(hint(HEX).contains(&format!("<repository>@sha256:{HEX}")));
    }

    #[test]
    fn serde_uses_the_canonical_text() {
        let json = serde_json::to_string(&Reference::parse("app:1").unwrap()).unwrap();
        assert_eq!(json, "\"docker.io/library/app:1\"");
        assert_eq!(serde_json::from_str::<Reference>(&json).unwrap().familiar(), "app:1");
    }
}
