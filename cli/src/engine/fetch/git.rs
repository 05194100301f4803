//! Repositories, checked out.

use std::sync::Arc;

use mica_cache::{ContextTree, Decision, ScanOptions, Scratch};
use mica_remote::git::{
    CheckoutOptions, Git, GitEnvironment, GitUrl, GitUrlUse, ProcessRunner, ResolvedCommit, parse_git_url,
};
use mica_solver::graph::GitSource;

use super::{FetchError, checkouts, host, secret, shown};
use crate::engine::Host;
use crate::engine::blocking::blocking;
use crate::engine::lock::{Lock, LockedCheckout};
use crate::engine::request::BuildRequest;
use crate::engine::ssh::Agent;

/// A repository's files at one commit.
pub(in crate::engine) struct Checkout {
    /// The files.
    pub(in crate::engine) tree: ContextTree,
    /// Where they lie for as long as this lives.
    pub(in crate::engine) scratch: Scratch,
    /// The commit.
    pub(in crate::engine) commit: String,
}

/// A repository's files, checked out.
pub(super) struct Cloned {
    pub(super) scratch: Scratch,
    commit: String,
    /// When the commit was made, in seconds since 1970.
    pub(super) made: i64,
}

impl Host {
    /// Checks a repository out for ADD.
    pub(in crate::engine) async fn checkout(
        &self,
        source: &GitSource,
        lock: Option<&Lock>,
        request: &BuildRequest,
    ) -> Result<Checkout, FetchError> {
        let url = added_git_url(source)?;
        let locked = lock.and_then(|lock| lock.file.repository(&source.url));
        let Cloned { scratch, commit, .. } = self.clone_repository(&url, locked, request).await?;
        blocking(move || {
            let options = ScanOptions { ignored: &|_, _| Decision::Keep, wanted: None, store: None };
            Ok(Checkout { tree: ContextTree::scan(&scratch.files(), &options)?, scratch, commit })
        })
        .await
    }

    /// Finds out when the commit was made that ADD takes.
    pub(in crate::engine) async fn checkout_time(
        &self,
        source: &GitSource,
        lock: Option<&Lock>,
        request: &BuildRequest,
    ) -> Result<i64, FetchError> {
        let locked = lock.and_then(|lock| lock.file.repository(&source.url));
        Ok(self.clone_repository(&added_git_url(source)?, locked, request).await?.made)
    }

    /// Finds out when the commit was made that a named context is.
    pub(in crate::engine) async fn context_time(
        &self,
        address: &str,
        lock: Option<&Lock>,
        request: &BuildRequest,
    ) -> Result<i64, FetchError> {
        let url = parse_git_url(address, GitUrlUse::Context)?;
        let url = url.ok_or_else(|| FetchError::NotGit(shown(address)))?;
        let locked = lock.and_then(|lock| lock.file.repository(address));
        Ok(self.clone_repository(&url, locked, request).await?.made)
    }

    /// Asks what a repository's reference is now.
    pub(in crate::engine) async fn resolve_git(
        &self,
        source: &GitSource,
        request: &BuildRequest,
    ) -> Result<ResolvedCommit, FetchError> {
        let url = added_git_url(source)?;
        if request.offline {
            return Err(FetchError::Offline(url.remote().to_owned()));
        }
        let (git, _agent) = self.git(&url, request).await?;
        Ok(git.resolve(&url).await?)
    }

    /// Checks out the repository, or the directory of it that the address names.
    pub(super) async fn clone_repository(
        &self,
        url: &GitUrl,
        locked: Option<&LockedCheckout>,
        request: &BuildRequest,
    ) -> Result<Cloned, FetchError> {
        let options = CheckoutOptions::for_url(url);
        let resolved = match (locked_commit(url, locked, options)?, request.offline) {
            (Some(resolved), _) => resolved,
            (None, true) => return Err(FetchError::Offline(url.remote().to_owned())),
            (None, false) => self.git(url, request).await?.0.resolve(url).await?,
        };
        let (store, key) = (self.store.clone(), checkouts::key(url, &resolved, options));
        let name = key.clone();
        if let Some((scratch, made)) = blocking(move || checkouts::find(&store, &name)).await? {
            return Ok(Cloned { scratch, commit: resolved.commit, made });
        }
        if request.offline {
            return Err(FetchError::Offline(format!("{} at {}", url.remote(), resolved.commit)));
        }
        let (git, _agent) = self.git(url, request).await?;
        let (scratch, working) = (self.store.layers().begin()?, self.store.layers().begin()?);
        let made =
            git.checkout(url, &resolved, &scratch.files(), &working.files(), options).await?.commit_time;
        let (store, commit, files) = (self.store.clone(), resolved.commit.clone(), scratch.files());
        blocking(move || checkouts::keep(&store, &key, (&commit, made), &files)).await?;
        Ok(Cloned { scratch, commit: resolved.commit, made })
    }

    /// Returns git as it may be used for an address, and the agent that has to live as long as it is used.
    async fn git(&self, url: &GitUrl, request: &BuildRequest) -> Result<(Git, Option<Agent>), FetchError> {
        let mut environment = GitEnvironment::new(self.path.clone());
        environment.proxies =
            self.proxy.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let agent = match request.ssh.get("default").cloned() {
            Some(given) => {
                let (store, path) = (self.store.clone(), self.path.clone());
                Some(blocking(move || Agent::open(&store, &given, &path)).await?)
            }
            None => None,
        };
        environment.ssh_agent = agent.as_ref().map(|agent| agent.socket().to_owned());
        environment.authorization = git_authorization(url, request)?;
        Ok((Git::new(environment, Arc::new(ProcessRunner)), agent))
    }
}

/// The address of a repository with what the instruction says of it.
fn added_git_url(source: &GitSource) -> Result<GitUrl, FetchError> {
    let url = parse_git_url(&source.url, GitUrlUse::Add)?;
    let mut url = url.ok_or_else(|| FetchError::NotGit(shown(&source.url)))?;
    url.keep_git_dir = source.keep_git_dir.or(url.keep_git_dir);
    url.checksum = source.checksum.clone().or(url.checksum);
    Ok(url)
}

/// Returns the commit that an address names in full or is held to, without asking anybody.
fn locked_commit(
    url: &GitUrl,
    locked: Option<&LockedCheckout>,
    options: CheckoutOptions,
) -> Result<Option<ResolvedCommit>, FetchError> {
    let at = |commit: &str, reference: &str| ResolvedCommit {
        commit: commit.to_owned(),
        tag: None,
        reference: reference.to_owned(),
    };
    let named = url.reference.as_deref().filter(|reference| is_commit(reference));
    let wanted = url.checksum.as_deref();
    if let Some(commit) = named.filter(|commit| wanted.is_none_or(|wanted| commit.starts_with(wanted))) {
        return Ok(Some(at(commit, commit)));
    }
    let Some(locked) = locked.filter(|_| named.is_none() && !wanted.is_some_and(is_commit)) else {
        return Ok(None);
    };
    if let Some(wanted) = wanted.filter(|wanted| !locked.commit.starts_with(*wanted)) {
        let (expected, actual) = (locked.commit.clone(), wanted.to_owned());
        return Err(FetchError::Locked { name: url.remote().to_owned(), expected, actual });
    }
    // Where `.git` is kept it tells the name of the branch.
    let reference = if options.keep_git_dir { &locked.reference } else { &locked.commit };
    Ok(Some(at(&locked.commit, reference)))
}

/// Whether the fragment of a repository's address is a whole commit id.
pub(in crate::engine) fn names_commit(url: &str) -> bool {
    let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
    is_commit(fragment.split(':').next().unwrap_or_default())
}

/// Whether a text is a whole commit id.
pub(in crate::engine) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN`, for one host (`.host` at the end) or all.
fn git_authorization(
    url: &GitUrl,
    request: &BuildRequest,
) -> Result<Option<mica_remote::Secret>, FetchError> {
    let host = host(url.remote());
    for suffix in [format!(".{host}"), String::new()] {
        if let Some(header) = secret(request, &format!("GIT_AUTH_HEADER{suffix}"))? {
            return Ok(Some(header.as_str().into()));
        }
        if let Some(token) = secret(request, &format!("GIT_AUTH_TOKEN{suffix}"))? {
            return Ok(Some(GitEnvironment::token_authorization(&token.as_str().into())));
        }
    }
    Ok(None)
}
