//! The sources of COPY and ADD, told apart: paths, downloads, git repositories.

use mica_parser::syntax::Spanned;

use super::git_url::{self, GitUrl};
use crate::graph::{GitSource, HttpSource};
use crate::plan::epoch::EpochSource;
use crate::plan::paths;
use crate::plan::report::{OrProblem, Problem, problem};

/// What a source word of COPY or ADD names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceWord {
    /// A path in a context, stage or image.
    Path,
    /// An http(s) URL, and the name its file gets.
    Http { filename: String },
    /// A git URL.
    Git(GitUrl),
}

impl SourceWord {
    /// Tells what a source is.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match git_url::parse(text) {
            Some(git) => git.map(Self::Git),
            None if text.starts_with("http://") || text.starts_with("https://") => {
                Ok(Self::Http { filename: filename(text) })
            }
            None => Ok(Self::Path),
        }
    }
}

/// Reads a source of ADD as what it has a time of; a path has none.
pub(in crate::plan) fn remote_source(
    source: &Spanned<String>,
    keep_git_dir: Option<bool>,
    checksum: Option<String>,
) -> Result<Option<EpochSource>, Problem> {
    let word = SourceWord::parse(&source.value).or_problem("bad-source", source.span, &source.value)?;
    Ok(match word {
        SourceWord::Path => None,
        SourceWord::Http { filename } => {
            check_digest(checksum.as_deref())
                .map_err(|message| problem("bad-checksum", source.span, message))?;
            Some(EpochSource::Download(HttpSource { url: source.value.clone(), checksum, filename }))
        }
        SourceWord::Git(url) => Some(EpochSource::Checkout(git_source(source, &url, keep_git_dir, checksum))),
    })
}

/// Returns a repository as a step takes it; flags win over what its address says.
pub(super) fn git_source(
    source: &Spanned<String>,
    url: &GitUrl,
    keep_git_dir: Option<bool>,
    checksum: Option<String>,
) -> GitSource {
    GitSource {
        url: source.value.clone(),
        keep_git_dir: keep_git_dir.or(url.keep_git_dir),
        checksum: checksum.or_else(|| url.checksum.clone()),
    }
}

/// Checks the checksum of a download.
pub(super) fn check_digest(checksum: Option<&str>) -> Result<(), String> {
    match checksum {
        Some(text) if !is_digest(text) => {
            Err(format!("invalid checksum `{text}`: expected `sha256:` and 64 hexadecimal digits"))
        }
        _ => Ok(()),
    }
}

/// Returns the last component of a URL's path; a URL without one still needs a name for its file.
fn filename(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    let path = place.find('/').map_or("", |slash| &place[slash..]);
    match git_url::unescape(path).as_str() {
        "" => "__unnamed__".to_owned(),
        path => match paths::base_name(path) {
            "." | "/" => "__unnamed__".to_owned(),
            name => name.to_owned(),
        },
    }
}

/// Returns whether a text is a digest such as `sha256:…`.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a `--chmod`: octal up to 7777, or symbolic as `chmod` takes it.
pub(super) fn check_mode(text: &str) -> Result<(), String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let number = u32::from_str_radix(text, 8).ok().filter(|number| *number <= 0o7777);
        let wrong =
            || format!("invalid chmod parameter `{text}`: it should be octal and between 0 and 07777");
        return number.map(drop).ok_or_else(wrong);
    }
    match text.split(',').all(is_symbolic_clause) {
        true => Ok(()),
        false => {
            Err(format!("invalid chmod parameter `{text}`: neither octal nor of the form `u=rwX,go=rX`"))
        }
    }
}

/// `[ugoa]*` and then one or more of `+-=` with permissions or one class to copy them from.
fn is_symbolic_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if !actions.starts_with(['+', '-', '=']) {
        return false;
    }
    actions[1..].split(['+', '-', '=']).all(|permissions| {
        matches!(permissions, "u" | "g" | "o") || permissions.bytes().all(|byte| b"rwxXst".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_are_named_by_their_path() {
        let cases = [
            ("https://h/a/b.txt?x=1#y", "b.txt"),
            ("http://h/a%20b", "a b"),
            ("http://h/", "__unnamed__"),
            ("http://h", "__unnamed__"),
            ("http://h/a/", "a"),
            ("http://h?a/b", "__unnamed__"),
        ];
        for (url, expected) in cases {
            assert_eq!(
                SourceWord::parse(url),
                Ok(SourceWord::Http { filename: expected.to_owned() }),
                "{url}"
            );
        }
        assert_eq!(SourceWord::parse("HTTP://h/a"), Ok(SourceWord::Path));
    }

    #[test]
    fn modes() {
        for good in
            ["0", "755", "7777", "0644", "u=rwX,go=rX", "+x", "a-w", "g=u", "u+x-w", "=", "u=s,+t", "go="]
        {
            assert_eq!(check_mode(good), Ok(()), "{good}");
        }
        for bad in ["8", "10000", "0o755", "755a", "rwx", "u", "u=rwz", "u=rw,", "u+gu", "", ","] {
            assert!(check_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests() {
        assert!(is_digest(&format!("sha256:{}", "a1".repeat(32))));
        for bad in [
            "sha256:abc",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "abc",
            &format!("sha256:{}", "A1".repeat(32)),
        ] {
            assert!(!is_digest(bad), "{bad}");
        }
    }
}
