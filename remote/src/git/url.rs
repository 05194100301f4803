//! Addresses of git repositories as they stand in ADD and on the command line.
//!
//! ```text
//! https://host/path.git            http(s) only if the path ends in `.git`
//! ssh://user@host/path  git://host/path  user@host:path
//! github.com/owner/repo            for contexts only
//! …#reference:directory            what to take of it
//! …?ref=&tag=&branch=&subdir=&checksum=&commit=&keep-git-dir=&submodules=&mtime=&fetch-by-commit=
//! ```

use std::fmt;

use crate::disposition::percent_decoded;
use crate::transport::Secret;

/// A repository and what to take of it.
#[derive(Clone, PartialEq, Eq)]
pub struct GitUrl {
    remote: String,
    credentials: Option<Secret>,
    /// The repository's own name: `bar` of `https://example.com/foo/bar.git`.
    pub short_name: String,
    /// A branch, tag or commit; nothing means the default branch.
    pub reference: Option<String>,
    /// The commit it must be, or the beginning of its id.
    pub checksum: Option<String>,
    /// The directory of the repository to take.
    pub subdir: Option<String>,
    /// Whether `.git` is kept, if it was said.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched, if it was said.
    pub submodules: Option<bool>,
    /// Which times files get, if it was said.
    pub times: Option<CommitTimes>,
    /// Whether the checksum is fetched without asking what the reference is.
    pub fetch_by_commit: bool,
    /// Whether the connection is not encrypted.
    pub is_unencrypted: bool,
}

/// The times of checked-out files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitTimes {
    /// The time of the checkout.
    Checkout,
    /// The time of the commit.
    Commit,
}

/// Where an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitUrlUse {
    /// As a build context: `github.com/…` is a repository.
    Context,
    /// As a source of ADD: `github.com/…` is a path.
    Add,
}

/// The address of a repository with a query that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGitUrl {
    /// A key stands twice.
    #[error("query `{key}` of the git address has multiple values")]
    Repeated {
        /// The key.
        key: String,
    },
    /// A key that needs a value has none.
    #[error("query `{key}` of the git address has no value")]
    Empty {
        /// The key.
        key: String,
    },
    /// A key is unknown.
    #[error("unexpected query `{key}` in the git address")]
    Unknown {
        /// The key.
        key: String,
    },
    /// A value is not one of those allowed.
    #[error("invalid {key} value in the git address: `{value}` ({expected})")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Two parts say different things.
    #[error("{what} conflicts in the git address: `{first}` vs `{second}`")]
    Conflict {
        /// What they say it about.
        what: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The reference would be taken for an option.
    #[error("invalid git reference `{reference}`")]
    Reference {
        /// As it was given.
        reference: String,
    },
}

impl GitUrl {
    /// Returns the address without any password.
    #[must_use]
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// Returns `user:password` if the address had it.
    #[must_use]
    pub fn credentials(&self) -> Option<&Secret> {
        self.credentials.as_ref()
    }
}

impl fmt::Debug for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitUrl")
            .field("remote", &self.remote)
            .field("reference", &self.reference)
            .field("checksum", &self.checksum)
            .field("subdir", &self.subdir)
            .finish_non_exhaustive()
    }
}

/// Reads the address of a repository; `None` means that the text is something else.
pub fn parse_git_url(text: &str, used_as: GitUrlUse) -> Result<Option<GitUrl>, InvalidGitUrl> {
    let Some(parts) = split(text, used_as) else { return Ok(None) };
    let short_name = parts.remote.rsplit('/').next().unwrap_or_default();
    let mut url = GitUrl {
        short_name: short_name.strip_suffix(".git").unwrap_or(short_name).to_owned(),
        remote: parts.remote,
        credentials: parts.credentials,
        reference: None,
        checksum: None,
        subdir: None,
        keep_git_dir: None,
        submodules: None,
        times: None,
        fetch_by_commit: false,
        is_unencrypted: parts.is_unencrypted,
    };
    if let Some(fragment) = parts.fragment.filter(|fragment| !fragment.is_empty()) {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        url.reference = non_empty(reference.to_owned());
        url.subdir = non_empty(clean(subdir));
    }
    url.apply_query(&parts.query)?;
    if let Some(reference) = url.reference.as_ref().filter(|reference| reference.starts_with('-')) {
        return Err(InvalidGitUrl::Reference { reference: reference.clone() });
    }
    Ok(Some(url))
}

struct Parts {
    remote: String,
    credentials: Option<Secret>,
    query: Vec<(String, String)>,
    fragment: Option<String>,
    is_unencrypted: bool,
}

fn split(text: &str, used_as: GitUrlUse) -> Option<Parts> {
    if text.starts_with("./") || text.starts_with("../") || text.chars().any(|c| c.is_control()) {
        return None;
    }
    if text.starts_with("github.com/") {
        return if used_as == GitUrlUse::Context { split_url("https", text) } else { None };
    }
    let scheme = text.find("://").map(|end| &text[..end]);
    match scheme.filter(|scheme| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())) {
        Some(scheme) => {
            let rest = &text[scheme.len() + 3..];
            let scheme = scheme.to_ascii_lowercase();
            let parts = split_url(&scheme, rest)?;
            match scheme.as_str() {
                "http" | "https" => path_of(rest)?.ends_with(".git").then_some(parts),
                "ssh" | "git" => Some(parts),
                _ => None,
            }
        }
        None => split_scp(text),
    }
}

fn split_url(scheme: &str, rest: &str) -> Option<Parts> {
    let (rest, fragment) = cut(rest, '#');
    let (bare, query) = cut(rest, '?');
    let (authority, path) = bare.find('/').map_or((bare, ""), |slash| bare.split_at(slash));
    if authority.contains([' ', '\\', '"', '<', '>', '^', '`', '{', '|', '}'])
        || percent_decoded(bare).is_none()
    {
        return None;
    }
    let fragment = match fragment {
        Some(fragment) => Some(percent_decoded(fragment)?),
        None => None,
    };
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let (authority, credentials) = match user {
        Some(user) if matches!(scheme, "http" | "https") => (host.to_owned(), Some(Secret::new(user))),
        // SSH takes no password from an address.
        Some(user) => (format!("{}@{host}", user.split(':').next().unwrap_or_default()), None),
        None => (host.to_owned(), None),
    };
    // A leading dash would be an option to ssh.
    if authority.starts_with('-') || host.starts_with('-') {
        return None;
    }
    Some(Parts {
        remote: format!("{scheme}://{authority}{path}"),
        credentials,
        // Pairs that cannot be decoded are dropped, as the reference drops them.
        query: pairs(query).into_iter().flatten().collect(),
        fragment,
        is_unencrypted: matches!(scheme, "http" | "git"),
    })
}

/// Reads `user@host:path?query#fragment`.
fn split_scp(text: &str) -> Option<Parts> {
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let is_user = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let is_good = |text: &str, is_good: &dyn Fn(u8) -> bool| !text.is_empty() && text.bytes().all(is_good);
    // A leading dash would be an option to ssh.
    if !is_good(user, &is_user) || !is_good(host, &is_host) || user.starts_with('-') || host.starts_with('-')
    {
        return None;
    }
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (path, rest) = rest.split_at(end);
    let (query, fragment) = match rest.strip_prefix('?') {
        Some(rest) => cut(rest, '#'),
        None => ("", rest.strip_prefix('#')),
    };
    let query: Option<Vec<(String, String)>> = pairs(Some(query)).into_iter().collect();
    Some(Parts {
        remote: format!("{user}@{host}:{path}"),
        credentials: None,
        query: query?,
        fragment: fragment.map(str::to_owned),
        is_unencrypted: false,
    })
}

fn cut(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Returns the decoded path of what follows `scheme://`.
fn path_of(rest: &str) -> Option<String> {
    let bare = rest.split(['?', '#']).next()?;
    percent_decoded(&bare[bare.find('/')?..])
}

/// Splits a query; what cannot be decoded is `None`.
fn pairs(query: Option<&str>) -> Vec<Option<(String, String)>> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| percent_decoded(&text.replace('+', " "));
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if pair.contains(';') {
                return None;
            }
            Some((decode(key)?, decode(value)?))
        })
        .collect()
}

impl GitUrl {
    fn apply_query(&mut self, query: &[(String, String)]) -> Result<(), InvalidGitUrl> {
        let (mut tag, mut branch) = (None, None);
        for (position, (key, value)) in query.iter().enumerate() {
            let key = key.as_str();
            if query[..position].iter().any(|(earlier, _)| earlier == key) {
                return Err(InvalidGitUrl::Repeated { key: key.to_owned() });
            }
            let is_flag = matches!(key, "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_flag {
                return Err(InvalidGitUrl::Empty { key: key.to_owned() });
            }
            match key {
                "ref" => agree("ref", &mut self.reference, value.clone())?,
                "tag" => tag = Some(with_prefix("refs/tags/", value)),
                "branch" => branch = Some(with_prefix("refs/heads/", value)),
                "subdir" => agree("subdir", &mut self.subdir, value.clone())?,
                "checksum" | "commit" => self.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(flag(key, value)?),
                "submodules" => self.submodules = Some(flag(key, value)?),
                "fetch-by-commit" => self.fetch_by_commit = flag(key, value)?,
                "mtime" => self.times = Some(times(value)?),
                _ => return Err(InvalidGitUrl::Unknown { key: key.to_owned() }),
            }
        }
        if let (Some(tag), Some(branch)) = (&tag, &branch) {
            return Err(InvalidGitUrl::Conflict { what: "ref", first: tag.clone(), second: branch.clone() });
        }
        match tag.or(branch) {
            Some(reference) => agree("ref", &mut self.reference, reference),
            None => Ok(()),
        }
    }
}

fn agree(what: &'static str, slot: &mut Option<String>, value: String) -> Result<(), InvalidGitUrl> {
    match slot {
        Some(first) if *first != value => {
            Err(InvalidGitUrl::Conflict { what, first: first.clone(), second: value })
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn with_prefix(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn flag(key: &str, value: &str) -> Result<bool, InvalidGitUrl> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(InvalidGitUrl::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            expected: "true or false",
        }),
    }
}

fn times(value: &str) -> Result<CommitTimes, InvalidGitUrl> {
    match value {
        "checkout" => Ok(CommitTimes::Checkout),
        "commit" => Ok(CommitTimes::Commit),
        _ => Err(InvalidGitUrl::Value {
            key: "mtime".to_owned(),
            value: value.to_owned(),
            expected: "must be \"checkout\" or \"commit\"",
        }),
    }
}

/// Resolves `.` and `..` as if the text were a path from the root.
fn clean(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            other => components.push(other),
        }
    }
    components.join("/")
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<GitUrl> {
        parse_git_url(text, GitUrlUse::Context).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Checks remote, reference and directory.
    fn check(text: &str, remote: &str, reference: &str, subdir: &str) {
        let url = parse(text).unwrap_or_else(|| panic!("{text} is not taken for a repository"));
        assert_eq!(url.remote, remote, "{text}");
        assert_eq!(url.reference.as_deref().unwrap_or_default(), reference, "{text}");
        assert_eq!(url.subdir.as_deref().unwrap_or_default(), subdir, "{text}");
    }

    #[test]
    fn repositories_are_recognised() {
        check("https://example.com/foo/bar.git", "https://example.com/foo/bar.git", "", "");
        check("HTTPS://example.com/foo.git", "https://example.com/foo.git", "", "");
        check("http://example.com:80/a%2Egit#main", "http://example.com:80/a%2Egit", "main", "");
        check("https://u:p@example.com/a.git#v1:x/../y/", "https://example.com/a.git", "v1", "y");
        check("https://example.com/a.git#:sub", "https://example.com/a.git", "", "sub");
        check("https://example.com/a.git#feature/x:/", "https://example.com/a.git", "feature/x", "");
        check("ssh://git@example.com:22/a", "ssh://git@example.com:22/a", "", "");
        check("git://example.com/a#x", "git://example.com/a", "x", "");
        check("git@example.com:foo/bar", "git@example.com:foo/bar", "", "");
        check("git@example.com:foo/bar.git#v1:a/b", "git@example.com:foo/bar.git", "v1", "a/b");
        check("git@example.com:foo?tag=v1", "git@example.com:foo", "refs/tags/v1", "");
        check("github.com/foo/bar#main:x", "https://github.com/foo/bar", "main", "x");
    }

    #[test]
    fn other_things_are_not() {
        for text in [
            ".",
            "./a.git",
            "../a.git",
            "/srv/a.git",
            "a.git",
            "example.com/foo.git",
            "https://example.com/foo",
            "https://example.com/foo.git/",
            "https://example.com/foo.tar.gz#.git",
            "https://example.com?x=.git",
            "ftp://example.com/a.git",
            "docker-image://a.git",
            "https://exa mple.com/a.git",
            "git@:a",
            "@host:a",
            "-oProxyCommand=x@host:a",
            "user@-oProxyCommand=x:a",
            "us er@host:a",
            "ssh://-oProxyCommand=x/a",
            "git@host:a?x=%zz",
            "https://h/a%zz.git",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse_git_url("github.com/foo/bar", GitUrlUse::Add), Ok(None));
    }

    #[test]
    fn queries_are_applied() {
        check("https://h/a.git?ref=v1&subdir=x", "https://h/a.git", "v1", "x");
        check("https://h/a.git?ref=v1#v1:x", "https://h/a.git", "v1", "x");
        check("https://h/a.git?branch=main", "https://h/a.git", "refs/heads/main", "");
        check("https://h/a.git?tag=refs/tags/v1", "https://h/a.git", "refs/tags/v1", "");
        let url =
            parse("https://h/a.git?commit=abc&keep-git-dir&submodules=false&mtime=commit&fetch-by-commit=1")
                .unwrap();
        assert_eq!(url.checksum.as_deref(), Some("abc"));
        assert_eq!((url.keep_git_dir, url.submodules), (Some(true), Some(false)));
        assert_eq!((url.times, url.fetch_by_commit), (Some(CommitTimes::Commit), true));
        assert_eq!(parse("https://h/foo/bar.git").unwrap().short_name, "bar");
        assert!(parse("git://h/a").unwrap().is_unencrypted && !parse("ssh://h/a").unwrap().is_unencrypted);
    }

    #[test]
    fn bad_queries_are_errors() {
        for (query, expected) in [
            ("ref=a#b", "ref conflicts in the git address: `b` vs `a`"),
            ("ref=a&ref=b", "query `ref` of the git address has multiple values"),
            ("ref=", "query `ref` of the git address has no value"),
            ("subdir=a#:b", "subdir conflicts in the git address: `b` vs `a`"),
            ("tag=a&branch=b", "ref conflicts in the git address: `refs/tags/a` vs `refs/heads/b`"),
            ("tag=a#a", "ref conflicts in the git address: `a` vs `refs/tags/a`"),
            (
                "mtime=now",
                "invalid mtime value in the git address: `now` (must be \"checkout\" or \"commit\")",
            ),
            ("submodules=maybe", "invalid submodules value in the git address: `maybe` (true or false)"),
            ("depth=1", "unexpected query `depth` in the git address"),
            ("ref=--upload-pack%3Devil", "invalid git reference `--upload-pack=evil`"),
        ] {
            let error = parse_git_url(&format!("https://h/a.git?{query}"), GitUrlUse::Add).unwrap_err();
            assert_eq!(error.to_string(), expected, "{query}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url = parse("https://user:s3cret@example.com/a.git").unwrap();
        assert_eq!(url.remote(), "https://example.com/a.git");
        assert_eq!(url.credentials().unwrap().expose(), "user:s3cret");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert_eq!(parse("ssh://git:s3cret@example.com/a").unwrap().remote(), "ssh://git@example.com/a");
    }
}
