//! From a branch, a tag, or nothing, to a commit.

use std::path::Path;

use super::url::GitUrl;
use super::{Git, GitError, is_commit};

/// What a reference is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedCommit {
    /// The commit.
    pub commit: String,
    /// The tag object that names the commit, where the reference is an annotated tag.
    pub tag: Option<String>,
    /// The full name of the reference (`refs/heads/main`), or the commit if there is none.
    pub reference: String,
}

impl Git {
    /// Finds out which commit `url` means. A commit that is named in full is not looked up.
    pub async fn resolve(&self, url: &GitUrl) -> Result<ResolvedCommit, GitError> {
        if let Some(checksum) = &url.checksum
            && (checksum.is_empty() || !checksum.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(GitError::Checksum { checksum: checksum.clone(), full: false });
        }
        if let Some(commit) = url.reference.as_ref().filter(|reference| is_commit(reference)) {
            let resolved = ResolvedCommit { commit: commit.clone(), tag: None, reference: commit.clone() };
            return check(url, resolved);
        }
        if url.fetch_by_commit {
            return by_commit(url);
        }
        let reference = match &url.reference {
            Some(reference) => reference.clone(),
            None => self.default_branch(url).await?,
        };
        check_reference(&reference)?;
        let peeled = format!("{reference}^{{}}");
        let arguments = ["ls-remote", "--", url.remote(), &reference, &peeled];
        let listing = self.run(url, Path::new("/"), "list the references of", arguments).await?;
        let resolved = pick(&listing, &reference).ok_or_else(|| GitError::NoSuchReference {
            remote: url.remote().to_owned(),
            reference: reference.clone(),
        })?;
        if !is_commit(&resolved.commit) || resolved.tag.as_deref().is_some_and(|tag| !is_commit(tag)) {
            return Err(GitError::Answer { remote: url.remote().to_owned() });
        }
        check(url, resolved)
    }

    async fn default_branch(&self, url: &GitUrl) -> Result<String, GitError> {
        let arguments = ["ls-remote", "--symref", "--", url.remote(), "HEAD"];
        let listing = self.run(url, Path::new("/"), "list the references of", arguments).await?;
        let branch = listing.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        branch.map(str::to_owned).ok_or_else(|| GitError::NoDefaultBranch { remote: url.remote().to_owned() })
    }
}

/// Takes the checksum for the commit without asking.
fn by_commit(url: &GitUrl) -> Result<ResolvedCommit, GitError> {
    let checksum = url.checksum.clone().unwrap_or_default();
    if !is_commit(&checksum) {
        return Err(GitError::Checksum { checksum, full: true });
    }
    let reference = match &url.reference {
        Some(full) if full.starts_with("refs/") => full.clone(),
        Some(short) => format!("refs/heads/{short}"),
        None => checksum.clone(),
    };
    check_reference(&reference)?;
    Ok(ResolvedCommit { commit: checksum, tag: None, reference })
}

/// Picks a reference from a listing as `git checkout` would: branches before tags.
fn pick(listing: &str, reference: &str) -> Option<ResolvedCommit> {
    let find = |wanted: &str| {
        listing
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .find(|(_, name)| *name == wanted)
            .map(|(id, _)| id.to_owned())
    };
    let full = |prefix: &str| format!("{prefix}{}", reference.strip_prefix(prefix).unwrap_or(reference));
    for name in [full("refs/"), full("refs/heads/"), full("refs/tags/")] {
        let Some(id) = find(&name) else { continue };
        let peeled = name.starts_with("refs/tags/").then(|| find(&format!("{name}^{{}}"))).flatten();
        return Some(match peeled {
            Some(commit) => ResolvedCommit { commit, tag: Some(id), reference: name },
            None => ResolvedCommit { commit: id, tag: None, reference: name },
        });
    }
    None
}

fn check(url: &GitUrl, resolved: ResolvedCommit) -> Result<ResolvedCommit, GitError> {
    let Some(expected) = &url.checksum else { return Ok(resolved) };
    let ids: Vec<String> =
        [Some(resolved.commit.clone()), resolved.tag.clone()].into_iter().flatten().collect();
    if ids.iter().any(|id| id.starts_with(expected)) {
        return Ok(resolved);
    }
    Err(GitError::Mismatch {
        remote: url.remote().to_owned(),
        reference: resolved.reference,
        expected: expected.clone(),
        actual: ids,
    })
}

/// Refuses what git would take for an option, a range, or a pattern.
pub(super) fn check_reference(reference: &str) -> Result<(), GitError> {
    let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let is_bad = reference.is_empty()
        || reference.starts_with('-')
        || reference.contains("..")
        || reference.contains(forbidden)
        || reference.ends_with('/');
    if is_bad { Err(GitError::Reference { reference: reference.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_come_before_tags_and_annotated_tags_are_peeled() {
        let listing =
            "1\trefs/heads/x\n2\trefs/tags/x\n3\trefs/tags/v\n4\trefs/tags/v^{}\n5\trefs/pull/1/head\n";
        let picked = |reference: &str| {
            pick(listing, reference).map(|found| (found.commit, found.tag, found.reference))
        };
        let own = |text: &str| text.to_owned();
        assert_eq!(picked("x"), Some((own("1"), None, own("refs/heads/x"))));
        assert_eq!(picked("refs/tags/x"), Some((own("2"), None, own("refs/tags/x"))));
        assert_eq!(picked("v"), Some((own("4"), Some(own("3")), own("refs/tags/v"))));
        assert_eq!(picked("pull/1/head"), Some((own("5"), None, own("refs/pull/1/head"))));
        assert_eq!(picked("y"), None);
    }

    #[test]
    fn what_git_would_misread_is_refused() {
        for bad in ["", "-x", "--upload-pack=x", "a..b", "a b", "a:b", "a^", "a~1", "a*", "a\nb", "a/"] {
            assert!(check_reference(bad).is_err(), "{bad:?}");
        }
        for good in ["main", "refs/heads/feature/x-1", "v1.0", "pull/1/head"] {
            check_reference(good).unwrap();
        }
    }
}
