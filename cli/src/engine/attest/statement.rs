//! in-toto statements: who is spoken of, and what is said.

use mica_image::{ContentDigest, Platform, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The type of every statement.
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Provenance.
pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// A list of packages.
pub(crate) const SPDX: &str = "https://spdx.dev/Document";

/// What is said of an image, before it is known under which digest it goes out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Predicate {
    /// What kind of saying it is: [`PROVENANCE`] or [`SPDX`].
    pub kind: &'static str,
    /// What is said.
    pub value: Value,
}

/// A statement as it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statement {
    /// Always [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// Who is spoken of.
    pub subject: Vec<Subject>,
    /// What kind of saying it is.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is said.
    pub predicate: Value,
}

/// One image that is spoken of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its digests by algorithm.
    pub digest: std::collections::BTreeMap<String, String>,
}

impl Statement {
    /// Says `predicate` of the image whose manifest has `digest`.
    pub(crate) fn of(
        predicate: &Predicate,
        names: &[Reference],
        platform: &Platform,
        digest: &ContentDigest,
    ) -> Self {
        let subject = |name: String| Subject {
            name,
            digest: [("sha256".to_owned(), digest.hex())].into_iter().collect(),
        };
        let mut subjects: Vec<Subject> =
            names.iter().map(|name| subject(image_purl(name, Some(platform)))).collect();
        if subjects.is_empty() {
            subjects.push(subject("_".to_owned()));
        }
        Self { subject: subjects, ..Self::bare(predicate.kind, predicate.value.clone()) }
    }

    /// Says something of a kind, of nobody yet.
    pub(crate) fn bare(kind: &str, predicate: Value) -> Self {
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: Vec::new(),
            predicate_type: kind.to_owned(),
            predicate,
        }
    }

    /// Whether it speaks of what has this digest.
    pub(crate) fn speaks_of(&self, digest: &ContentDigest) -> bool {
        let hex = digest.hex();
        self.subject.iter().any(|subject| subject.digest.get("sha256") == Some(&hex))
    }

    /// Returns the digests it speaks of, for messages.
    pub(crate) fn digests(&self) -> String {
        let all = self.subject.iter().filter_map(|subject| subject.digest.get("sha256").cloned());
        all.collect::<Vec<_>>().join(", ")
    }

    /// Returns its bytes; the same statement has the same ones.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a statement has text keys")
    }
}

/// The package URL of an image, as the reference writes it.
pub(crate) fn image_purl(name: &Reference, platform: Option<&Platform>) -> String {
    let familiar = match (name.tag(), name.digest()) {
        (None, None) => name.with_default_tag(),
        _ => name.clone(),
    };
    let text = familiar.familiar();
    let text = text.split('@').next().unwrap_or_default();
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    };
    let path: Vec<String> = path.split('/').map(percent).collect();
    let tag = tag.map_or_else(String::new, |tag| format!("@{}", percent(tag)));
    let qualifiers = platform.map(|platform| format!("?platform={}", percent(&platform.to_string())));
    format!("pkg:docker/{}{tag}{}", path.join("/"), qualifiers.unwrap_or_default())
}

/// Writes what is no letter, digit or one of `-._~` as `%XX`, as package URLs have it.
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// A resource as in-toto describes one: an address and digests.
pub(crate) fn resource(uri: &str, algorithm: &str, digest: &str) -> Value {
    json!({"uri": uri, "digest": {algorithm: digest}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_packages() {
        let purl = |name: &str| {
            let platform = Platform::new("linux", "amd64", "");
            image_purl(&Reference::parse(name).unwrap(), Some(&platform))
        };
        assert_eq!(purl("debian:12"), "pkg:docker/debian@12?platform=linux%2Famd64");
        assert_eq!(
            purl("localhost:5000/a/b"),
            "pkg:docker/localhost%3A5000/a/b@latest?platform=linux%2Famd64"
        );
        assert_eq!(percent("1.0+dfsg~1"), "1.0%2Bdfsg~1");
    }

    #[test]
    fn a_statement_speaks_of_every_name_with_the_same_digest() {
        let predicate = Predicate { kind: SPDX, value: json!({"a": 1}) };
        let names = ["a:1", "b:1"].map(|name| Reference::parse(name).unwrap());
        let digest = ContentDigest::of(b"x");
        let made = Statement::of(&predicate, &names, &Platform::new("linux", "amd64", ""), &digest);
        assert_eq!(made.subject.len(), 2);
        assert!(made.subject.iter().all(|subject| subject.digest["sha256"] == digest.hex()));
        let read: Statement = serde_json::from_slice(&made.to_bytes()).unwrap();
        assert_eq!(read, made);
    }
}
