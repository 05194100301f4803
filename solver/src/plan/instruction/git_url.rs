//! Which sources of ADD are git repositories, told by their text alone.
//!
//! `git://` and `ssh://` URLs and `user@host:path` are; http(s) URLs are when their path ends in `.git`. What looks like
//! `github.com/owner/name` is a path here, though it names a repository where a build context is asked for.

use mica_parser::go::parse_bool;

/// What the text of a git source says besides where the repository is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GitUrl {
    pub(super) keep_git_dir: Option<bool>,
    pub(super) checksum: Option<String>,
}

/// Reads a source as a git URL: `None` when it is something else, an error when it is one with a mistake.
pub(super) fn parse(text: &str) -> Option<Result<GitUrl, String>> {
    let query = query_of(text)?;
    Some(query.map(read_query).unwrap_or_else(|| Ok(GitUrl::default())))
}

/// Returns the query of a git URL, if it has one; `None` when the text is no git URL.
fn query_of(text: &str) -> Option<Option<&str>> {
    let Some((scheme, rest)) = split_scheme(text) else { return scp_query(text) };
    let (before, _) = rest.split_once('#').unwrap_or((rest, ""));
    let (place, query) = match before.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (before, None),
    };
    let path = place.find('/').map_or("", |slash| &place[slash..]);
    match scheme.to_ascii_lowercase().as_str() {
        "git" | "ssh" => Some(query),
        "http" | "https" if unescape(path).ends_with(".git") => Some(query),
        _ => None,
    }
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    (!scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some((scheme, rest))
}

/// Returns the query of `user@host:path?query#fragment`.
fn scp_query(text: &str) -> Option<Option<&str>> {
    let (place, rest) = text.split_once(':')?;
    let (user, host) = place.split_once('@')?;
    let is_word = |word: &str, more: &[u8]| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if !is_word(user, b"-_") || !is_word(host, b"-.") || text.contains('\n') {
        return None;
    }
    let before = rest.split_once('#').map_or(rest, |(before, _)| before);
    Some(before.split_once('?').map(|(_, query)| query))
}

fn read_query(query: &str) -> Result<GitUrl, String> {
    let mut url = GitUrl::default();
    let mut names = GitNames::default();
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (unescape(key), unescape(value));
        if seen.contains(&key) {
            return Err(format!("query `{key}` has multiple values"));
        }
        match key.as_str() {
            "keep-git-dir" => url.keep_git_dir = Some(boolean(&key, &value)?),
            "submodules" | "fetch-by-commit" => drop(boolean(&key, &value)?),
            "ref" | "tag" | "branch" | "subdir" | "checksum" | "commit" | "mtime" if value.is_empty() => {
                return Err(format!("query `{key}` has no value"));
            }
            "checksum" | "commit" => url.checksum = Some(value),
            "mtime" if !matches!(value.as_str(), "checkout" | "commit") => {
                return Err(format!("invalid mtime value `{value}`, expected `checkout` or `commit`"));
            }
            "tag" => names.tag = true,
            "branch" => names.branch = true,
            "ref" | "subdir" | "mtime" => {}
            _ => return Err(format!("unexpected query `{key}`")),
        }
        seen.push(key);
    }
    if names.tag && names.branch {
        return Err("branch conflicts with tag".to_owned());
    }
    Ok(url)
}

/// Which ways of naming a commit a query uses.
#[derive(Default)]
struct GitNames {
    tag: bool,
    branch: bool,
}

/// A key without a value is true.
fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match (value, parse_bool(value)) {
        ("", _) => Ok(true),
        (_, Some(read)) => Ok(read),
        (_, None) => Err(format!("invalid {key} value: `{value}`")),
    }
}

/// Undoes percent-encoding; what is not encoded rightly stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_told_from_files_and_downloads() {
        let cases = [
            ("https://example.com/a/b.git", true),
            ("https://example.com/a/b.git#main:dir", true),
            ("https://example.com/a/b.git?ref=x", true),
            ("HTTPS://example.com/b%2Egit", true),
            ("https://example.com/a/b.git/", false),
            ("https://example.com/b.tar?x=.git", false),
            ("https://example.git", false),
            ("git://example.com/b", true),
            ("ssh://git@example.com/b", true),
            ("git@example.com:a/b", true),
            ("git@example.com:a/b#v1", true),
            ("user name@example.com:a", false),
            ("github.com/a/b", false),
            ("./git@host:x", false),
            ("file:///a.git", false),
            ("dir/file", false),
            ("c:/x", false),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn queries_are_read_and_checked() {
        let url = |query: &str| parse(&format!("https://h/r.git?{query}")).expect("a git URL");
        let kept = GitUrl { keep_git_dir: Some(true), checksum: Some("abc".to_owned()) };
        assert_eq!(url("keep-git-dir&commit=abc&tag=v1&submodules=false"), Ok(kept));
        for bad in ["ref", "ref=a&ref=b", "mtime=never", "what=1", "keep-git-dir=maybe", "tag=a&branch=b"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
