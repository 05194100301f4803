//! The document.
//!
//! ```toml
//! version = 1
//!
//! [[image]]
//! name = "docker.io/library/debian:12"
//! digest = "sha256:…"                     # of the index or manifest; none where only a store has the image
//! [image.ids]
//! "linux/amd64" = "sha256:…"              # of the configuration
//!
//! [[download]]
//! url = "https://example.com/tool.tar.gz"
//! checksum = "sha256:…"
//! size = 1234
//! name = "tool.tar.gz"                    # as the server or the address has it
//! modified = 1700000000                   # Last-Modified, in seconds since 1970
//!
//! [[repository]]
//! url = "https://example.com/app.git#main"
//! commit = "…"
//! reference = "refs/heads/main"
//! ```
//!
//! Entries are sorted by name and each value has a line of its own, so that a change is seen as one.

use std::collections::BTreeMap;

use mica_image::ContentDigest;
use mica_solver::graph::{ImageLocation, ImageSource};
use serde::{Deserialize, Serialize};

/// The version of the document this code reads and writes.
pub(super) const VERSION: u32 = 1;

const HEADER: &str =
    "# Made by `mica lock`; builds beside it use what it says. `mica lock --update` looks again.\n";

/// A lock file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockFile {
    pub(super) version: u32,
    /// What the Dockerfile's `syntax` directive says; no frontend is ever run, so nothing is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) syntax: Option<String>,
    #[serde(default, rename = "image", skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<LockedImage>,
    #[serde(default, rename = "download", skip_serializing_if = "Vec::is_empty")]
    pub(super) downloads: Vec<LockedDownload>,
    #[serde(default, rename = "repository", skip_serializing_if = "Vec::is_empty")]
    pub(super) repositories: Vec<LockedCheckout>,
}

/// What the name of an image stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedImage {
    /// The normalised name, or `oci-layout://…`.
    pub name: String,
    /// The index or manifest; none where no registry has the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ContentDigest>,
    /// The image itself for each platform that was asked for.
    #[serde(default)]
    pub ids: BTreeMap<String, ContentDigest>,
}

/// What an http address gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedDownload {
    /// The address, without user and password.
    pub url: String,
    /// SHA-256 of the bytes.
    pub checksum: ContentDigest,
    /// How many there are.
    pub size: u64,
    /// The name the file gets.
    pub name: String,
    /// The time the file gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
}

/// What the reference of a repository is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedCheckout {
    /// The address, without user and password.
    pub url: String,
    /// The commit.
    pub commit: String,
    /// The full name of the reference it was found by; it matters where `.git` is kept.
    pub reference: String,
}

/// The document cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidLock {
    /// It is no such document.
    #[error("line {line}: {message}")]
    Syntax {
        /// 1-based.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It was written by another version.
    #[error("it has version {0}, and this mica reads version {VERSION}")]
    Version(u32),
    /// An image has no digest of any kind.
    #[error("the image `{0}` has neither a digest nor an id")]
    Nothing(String),
    /// A commit is none.
    #[error("`{0}` is not a commit")]
    Commit(String),
}

impl LockFile {
    /// Returns a lock that covers nothing.
    pub(super) fn empty() -> Self {
        Self { version: VERSION, syntax: None, images: vec![], downloads: vec![], repositories: vec![] }
    }

    /// Returns a lock with these entries.
    pub(crate) fn holding(
        images: Vec<LockedImage>,
        downloads: Vec<LockedDownload>,
        repositories: Vec<LockedCheckout>,
    ) -> Result<Self, InvalidLock> {
        Self { images, downloads, repositories, ..Self::empty() }.checked()
    }

    /// Reads a document.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidLock> {
        let syntax = |error: toml::de::Error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
            InvalidLock::Syntax {
                line: before.matches('\n').count() + 1,
                message: error.message().replace('\n', " "),
            }
        };
        // The version first: another one may have other keys.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = toml::from_str(text).map_err(syntax)?;
        if version != VERSION {
            return Err(InvalidLock::Version(version));
        }
        toml::from_str::<Self>(text).map_err(syntax)?.checked()
    }

    /// Refuses what could not be looked for.
    fn checked(self) -> Result<Self, InvalidLock> {
        let is_commit =
            |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(image) = self.images.iter().find(|image| image.digest.is_none() && image.ids.is_empty()) {
            return Err(InvalidLock::Nothing(image.name.clone()));
        }
        match self.repositories.iter().find(|found| !is_commit(&found.commit)) {
            Some(found) => Err(InvalidLock::Commit(found.commit.clone())),
            None => Ok(self),
        }
    }

    /// Writes the document; the same entries give the same bytes.
    pub(super) fn print(&self) -> String {
        let mut sorted = self.clone();
        sorted.images.sort_by(|a, b| a.name.cmp(&b.name));
        sorted.downloads.sort_by(|a, b| a.url.cmp(&b.url));
        sorted.repositories.sort_by(|a, b| a.url.cmp(&b.url));
        let text = toml::to_string(&sorted).expect("the document has only texts and numbers");
        format!("{HEADER}{text}")
    }

    /// Returns what an image's name stands for; none where the name says it itself.
    pub(crate) fn image(&self, source: &ImageSource) -> Option<&LockedImage> {
        let name = image_name(&source.location)?;
        self.images.iter().find(|locked| locked.name == name)
    }

    /// Returns what an address gives.
    pub(crate) fn download(&self, url: &str) -> Option<&LockedDownload> {
        let url = bare_url(url);
        self.downloads.iter().find(|locked| locked.url == url)
    }

    /// Returns what a repository's address stands for.
    pub(crate) fn repository(&self, url: &str) -> Option<&LockedCheckout> {
        let url = bare_url(url);
        self.repositories.iter().find(|locked| locked.url == url)
    }
}

/// The name an image is locked under; none where it names its content itself.
pub(super) fn image_name(location: &ImageLocation) -> Option<String> {
    match location {
        ImageLocation::Reference(reference) if reference.digest().is_some() => None,
        ImageLocation::Reference(reference) => Some(reference.to_string()),
        ImageLocation::OciLayout(text) => Some(format!("oci-layout://{text}")),
    }
}

/// An address without user and password, which do not change what it names and are nobody else's affair.
pub(crate) fn bare_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{}", &rest[end..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> LockFile {
        let digest = ContentDigest::of(b"x");
        let image = |name: &str| LockedImage {
            name: name.to_owned(),
            digest: Some(digest),
            ids: [("linux/amd64".to_owned(), digest)].into(),
        };
        LockFile {
            syntax: Some("docker/dockerfile:1".to_owned()),
            images: vec![image("b:1"), image("a:1")],
            downloads: vec![LockedDownload {
                url: "http://h/x".to_owned(),
                checksum: digest,
                size: 1,
                name: "x".to_owned(),
                modified: None,
            }],
            repositories: vec![LockedCheckout {
                url: "http://h/x.git#main".to_owned(),
                commit: "0123456789".repeat(4),
                reference: "refs/heads/main".to_owned(),
            }],
            ..LockFile::empty()
        }
    }

    #[test]
    fn what_is_printed_is_read_again_and_sorted() {
        let printed = lock().print();
        let read = LockFile::parse(&printed).unwrap();
        assert_eq!(read.print(), printed);
        assert_eq!(read.images[0].name, "a:1");
        assert!(printed.contains("[image.ids]\n\"linux/amd64\" = \"sha256:2d711642"), "{printed}");
        assert_eq!(LockFile::parse(&LockFile::empty().print()).unwrap(), LockFile::empty());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let message = |text: &str| LockFile::parse(text).unwrap_err().to_string();
        assert_eq!(message("version = 2\nother = 1\n"), "it has version 2, and this mica reads version 1");
        assert!(message("version = 1\n\nimages = 1\n").starts_with("line 3: unknown field"), "typo");
        assert!(message("version = 1\n[[image]]\nname = \"a\"\ndigest = \"md5:1\"\n").starts_with("line "));
        assert!(message("").contains("missing field `version`"));
        assert!(message("version = 1\n[[image]]\nname = \"a\"\n").contains("neither a digest nor an id"));
        let text = lock().print().replace("commit = \"0123456789", "commit = \"--upload-p");
        assert!(message(&text).contains("is not a commit"), "{}", message(&text));
    }

    #[test]
    fn addresses_are_kept_without_passwords() {
        assert_eq!(bare_url("https://u:p@h/a@b?x=1"), "https://h/a@b?x=1");
        assert_eq!(bare_url("https://h/a@b"), "https://h/a@b");
        assert_eq!(bare_url("git@h:a.git"), "git@h:a.git");
    }
}
