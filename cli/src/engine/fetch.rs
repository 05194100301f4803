//! Files from the network: http downloads, git checkouts, contexts that are one or the other.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use mica_cache::{ContextTree, Decision, ScanOptions, Scratch};
use mica_image::compress::is_archive;
use mica_image::{ContentDigest, FileDigest, Reference};
use mica_remote::git::{
    CheckoutOptions, CommitTimes, Git, GitEnvironment, GitError, GitUrl, GitUrlUse, InvalidGitUrl,
    ProcessRunner, ResolvedCommit, parse_git_url,
};
use mica_remote::http::{HttpError, HttpRequest, HttpResponse, Validators, fetch};
use mica_solver::graph::{GitSource, HttpSource};
use mica_solver::plan::NamedContext;
use mica_solver::{BuildEvent, EventSender, StepContext, StepId, TaskState};

use super::blocking::blocking;
use super::checkouts;
use super::context::{BuildContext, ContextError};
use super::lock::{Lock, LockedCheckout, LockedDownload};
use super::request::BuildRequest;
use super::runner::Download;
use super::secret::{self, SecretError};
use super::ssh::{Agent, AgentError};
use super::{Engine, Host, NetworkSetupError};

/// The build argument that fixes times; with it a checked-out context has those of its commit.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The build argument that keeps `.git` in a context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The server did not give it.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// git did not.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The address of a repository is not valid.
    #[error(transparent)]
    GitUrl(#[from] InvalidGitUrl),
    /// It is not an address of a repository.
    #[error("`{0}` is not the address of a git repository")]
    NotGit(String),
    /// The content is not what was asked for.
    #[error("digest mismatch for `{url}`: it has {actual}, `--checksum` says {expected}")]
    Checksum {
        /// The address.
        url: String,
        /// What the Dockerfile says.
        expected: String,
        /// What came.
        actual: ContentDigest,
    },
    /// The content is not what the lock file holds its name to.
    #[error("`{name}` is {actual}, and the lock file says {expected}")]
    Locked {
        /// The address.
        name: String,
        /// What the lock file says.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A checkout could not be kept.
    #[error(transparent)]
    Checkout(#[from] super::checkouts::CheckoutError),
    /// Nothing may be fetched.
    #[error("`{0}` is not in the store, and the build is offline")]
    Offline(String),
    /// The server says that a copy is up to date which there is not.
    #[error("`{0}`: the server says that nothing changed, although it was asked for the first time")]
    Unmodified(String),
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkSetupError),
    /// There is no ssh agent.
    #[error("ssh `default`")]
    Agent(#[from] AgentError),
    /// A secret cannot be used.
    #[error("secret `{id}`")]
    Secret {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The bytes could not be stored.
    #[error("cannot store what `{url}` gave")]
    Receive {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// The blob could not be stored.
    #[error(transparent)]
    Blob(#[from] mica_cache::BlobError),
    /// A checkout could not be read.
    #[error(transparent)]
    Scan(#[from] mica_cache::ScanError),
}

/// A repository's files at one commit.
pub(super) struct Checkout {
    /// The files.
    pub(super) tree: ContextTree,
    /// Where they lie for as long as this lives.
    pub(super) scratch: Scratch,
    /// The commit.
    pub(super) commit: String,
}

/// A repository's files, checked out.
struct Cloned {
    scratch: Scratch,
    commit: String,
    /// When the commit was made, in seconds since 1970.
    made: i64,
}

impl Host {
    /// Downloads a file, or finds out that the store still has it; with a checksum that is known nothing is asked.
    pub(super) async fn download(
        &self,
        source: &HttpSource,
        lock: Option<&Lock>,
        request: &BuildRequest,
        step: StepId,
        cx: &StepContext,
    ) -> Result<Download, FetchError> {
        let locked = lock.and_then(|lock| lock.file.download(&source.url));
        let known = match locked.filter(|_| source.checksum.is_none()) {
            Some(locked) => self.locked_download(source, locked, request, step, cx).await?,
            None => self.fetch_download(source, request, step, cx).await?,
        };
        self.opened(source, &known)
    }

    /// Finds or downloads what an address is held to.
    async fn locked_download(
        &self,
        source: &HttpSource,
        locked: &LockedDownload,
        request: &BuildRequest,
        step: StepId,
        cx: &StepContext,
    ) -> Result<mica_cache::Download, FetchError> {
        let given = if self.store.blobs().has(&locked.checksum)? {
            let (store, blob) = (self.store.clone(), locked.checksum);
            blocking(move || stored_download(&store, blob)).await?
        } else if request.offline {
            return Err(FetchError::Offline(shown(&source.url)));
        } else {
            self.fetch_download(source, request, step, cx).await?
        };
        if given.blob != locked.checksum {
            return Err(FetchError::Locked {
                name: shown(&source.url),
                expected: locked.checksum.to_string(),
                actual: given.blob.to_string(),
            });
        }
        Ok(mica_cache::Download { name: locked.name.clone(), last_modified: locked.modified, ..given })
    }

    /// Downloads a file, or finds out that the store still has it.
    pub(super) async fn fetch_download(
        &self,
        source: &HttpSource,
        request: &BuildRequest,
        step: StepId,
        cx: &StepContext,
    ) -> Result<mica_cache::Download, FetchError> {
        let known = self
            .store
            .downloads()
            .get(&source.url)?
            .filter(|known| matches!(self.store.blobs().has(&known.blob), Ok(true)));
        if let Some(known) = &known
            && (request.offline || source.checksum.as_deref() == Some(known.blob.to_string().as_str()))
        {
            return Ok(known.clone());
        }
        if request.offline {
            return Err(FetchError::Offline(shown(&source.url)));
        }
        let validators = known.as_ref().map_or_else(Validators::default, |known| Validators {
            etag: known.etag.clone(),
            last_modified: known.last_modified_header.clone(),
        });
        let authorization = authorization(&source.url, request)?;
        let asked = HttpRequest { validators, authorization, ..HttpRequest::new(&source.url) };
        match (fetch(self.transport()?, &asked).await?, known) {
            (HttpResponse::NotModified, Some(known)) => Ok(known),
            (HttpResponse::NotModified, None) => Err(FetchError::Unmodified(shown(&source.url))),
            (HttpResponse::Fetched(file), _) => self.receive(&source.url, file, step, cx).await,
        }
    }

    async fn receive(
        &self,
        url: &str,
        mut file: mica_remote::http::HttpFile,
        step: StepId,
        cx: &StepContext,
    ) -> Result<mica_cache::Download, FetchError> {
        let failed = |source| FetchError::Receive { url: shown(url), source };
        let mut ingest = self.store.blobs().ingest()?;
        let mut hasher = blake3::Hasher::new();
        let mut received = 0;
        while let Some(piece) = file.body.try_next().await? {
            ingest.write_all(&piece).map_err(failed)?;
            hasher.update(&piece);
            received += piece.len() as u64;
            let what = format!("downloading {}", file.file_name);
            let progress = BuildEvent::StepProgress { id: step, what, current: received, total: file.size };
            cx.events.send(progress).await;
        }
        let download = mica_cache::Download {
            blob: ingest.commit(None)?,
            digest: FileDigest::from_bytes(*hasher.finalize().as_bytes()),
            size: received,
            name: file.file_name,
            last_modified: file.last_modified,
            etag: file.validators.etag,
            last_modified_header: file.validators.last_modified,
        };
        self.store.downloads().put(url, &download)?;
        Ok(download)
    }

    fn opened(&self, source: &HttpSource, known: &mica_cache::Download) -> Result<Download, FetchError> {
        if let Some(expected) = &source.checksum
            && *expected != known.blob.to_string()
        {
            let url = shown(&source.url);
            return Err(FetchError::Checksum { url, expected: expected.clone(), actual: known.blob });
        }
        Ok(Download {
            url: shown(&source.url),
            file: self.store.blobs().file_path(&known.blob),
            blob: known.blob,
            size: known.size,
            digest: known.digest,
            name: if source.filename.is_empty() { known.name.clone() } else { source.filename.clone() },
            last_modified: known.last_modified,
        })
    }

    /// Checks a repository out for ADD.
    pub(super) async fn checkout(
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
    pub(super) async fn checkout_time(
        &self,
        source: &GitSource,
        lock: Option<&Lock>,
        request: &BuildRequest,
    ) -> Result<i64, FetchError> {
        let locked = lock.and_then(|lock| lock.file.repository(&source.url));
        Ok(self.clone_repository(&added_git_url(source)?, locked, request).await?.made)
    }

    /// Finds out when the commit was made that a named context is.
    pub(super) async fn context_time(
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
    pub(super) async fn resolve_git(
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
    async fn clone_repository(
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
pub(super) fn names_commit(url: &str) -> bool {
    let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
    is_commit(fragment.split(':').next().unwrap_or_default())
}

/// Whether a text is a whole commit id.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Describes a blob of the store as if it had just been downloaded.
fn stored_download(
    store: &mica_cache::Store,
    blob: ContentDigest,
) -> Result<mica_cache::Download, FetchError> {
    let mut file = store.blobs().open(&blob)?;
    let mut hasher = blake3::Hasher::new();
    let read = |source| FetchError::Receive { url: blob.to_string(), source };
    hasher.update_reader(&mut file).map_err(read)?;
    Ok(mica_cache::Download {
        blob,
        digest: FileDigest::from_bytes(*hasher.finalize().as_bytes()),
        size: store.blobs().size(&blob)?.unwrap_or(0),
        name: String::new(),
        last_modified: None,
        etag: None,
        last_modified_header: None,
    })
}

/// `HTTP_AUTH_HEADER_<host>` is the header itself, `HTTP_AUTH_TOKEN_<host>` a bearer token, as in the reference.
fn authorization(url: &str, request: &BuildRequest) -> Result<Option<mica_remote::Secret>, FetchError> {
    let host = host(url);
    if let Some(header) = secret(request, &format!("HTTP_AUTH_HEADER_{host}"))? {
        return Ok(Some(header.as_str().into()));
    }
    let token = secret(request, &format!("HTTP_AUTH_TOKEN_{host}"))?;
    Ok(token.map(|token| format!("Bearer {token}").as_str().into()))
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

fn secret(request: &BuildRequest, id: &str) -> Result<Option<String>, FetchError> {
    let Some(source) = request.secrets.get(id) else { return Ok(None) };
    let value = secret::read(source).and_then(|value| secret::text(&value));
    let value = value.map_err(|source| FetchError::Secret { id: id.to_owned(), source })?;
    Ok(Some(value.trim().to_owned()))
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.split(':').next().unwrap_or_default()
}

/// An address as messages show it: without password and query.
fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://{rest}"),
        None => bare.to_owned(),
    }
}

impl Engine {
    /// Fetches a context: a repository, a tarball, or a Dockerfile alone.
    pub(super) async fn fetch_context(
        &self,
        url: &str,
        request: &BuildRequest,
        events: &EventSender,
    ) -> Result<BuildContext, ContextError> {
        let what = format!("loading context {}", shown(url));
        events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
        let git = parse_git_url(url, GitUrlUse::Context).map_err(FetchError::from)?;
        let context = match git {
            Some(mut git) => {
                if request.build_args.get(KEEP_GIT_DIR).is_some_and(|value| value == "1" || value == "true") {
                    git.keep_git_dir = Some(true);
                }
                if request.build_args.get(EPOCH).is_some_and(|value| !value.is_empty()) {
                    git.times = git.times.or(Some(CommitTimes::Commit));
                }
                let cloned = self.host.clone_repository(&git, None, request).await?;
                BuildContext::fetched(cloned.scratch, Some(cloned.made))
            }
            None => self.http_context(url, request, events).await?,
        };
        events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
        Ok(context)
    }

    async fn http_context(
        &self,
        url: &str,
        request: &BuildRequest,
        events: &EventSender,
    ) -> Result<BuildContext, ContextError> {
        let source = HttpSource { url: url.to_owned(), checksum: None, filename: String::new() };
        let cx = StepContext { events: events.clone(), cancel: tokio_util::sync::CancellationToken::new() };
        let download = self.host.download(&source, None, request, StepId(0), &cx).await?;
        let store = self.host.store.clone();
        blocking(move || {
            let file = std::fs::File::open(&download.file)
                .map_err(|source| ContextError::Open { path: download.file.clone(), source })?;
            if is_archive(file) {
                let context = BuildContext::archive(&store, &download.file)?;
                return Ok(match download.last_modified {
                    Some(made) => context.made_at(made),
                    None => context,
                });
            }
            // One file that is no archive is the Dockerfile.
            let scratch = store.layers().begin()?;
            std::fs::copy(&download.file, scratch.files().join("Dockerfile"))
                .map_err(|source| ContextError::Open { path: download.file.clone(), source })?;
            Ok(BuildContext::fetched(scratch, download.last_modified))
        })
        .await
    }

    /// Tells what a named context is; opens it when it is files.
    pub(super) async fn named_context(
        &self,
        name: &str,
        value: &str,
    ) -> Result<(NamedContext, Option<BuildContext>), ContextError> {
        let refused =
            |reason: String| ContextError::Named { name: name.to_owned(), value: value.to_owned(), reason };
        if let Some(image) = value.strip_prefix("docker-image://") {
            if image == "scratch" {
                return Ok((NamedContext::Scratch, None));
            }
            let reference = Reference::parse(image).map_err(|error| refused(error.to_string()))?;
            return Ok((NamedContext::Image(reference), None));
        }
        if let Some(layout) = value.strip_prefix("oci-layout://") {
            return Ok((NamedContext::OciLayout(layout.to_owned()), None));
        }
        if value.starts_with("target:") {
            return Err(refused(
                "names a target of a bake file, which this command does not read".to_owned(),
            ));
        }
        if parse_git_url(value, GitUrlUse::Context).map_err(FetchError::from)?.is_some() {
            return Ok((NamedContext::Git(value.to_owned()), None));
        }
        if value.starts_with("http://") || value.starts_with("https://") {
            return Ok((NamedContext::Http(value.to_owned()), None));
        }
        let files = if Path::new(value).is_file() {
            let (store, path) = (self.host.store.clone(), Path::new(value).to_owned());
            blocking(move || BuildContext::archive(&store, &path)).await?
        } else {
            let mut files = BuildContext::directory(Path::new(value))?;
            files.read_ignore_file(None)?;
            files
        };
        Ok((NamedContext::Local, Some(files)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(shown("https://user:pass@host/a?token=x#y"), "https://host/a");
        assert_eq!(shown("git@host:a/b.git"), "git@host:a/b.git");
    }

    #[test]
    fn the_host_is_found() {
        assert_eq!(host("https://user@example.com:8080/x"), "example.com");
        assert_eq!(host("http://127.0.0.1"), "127.0.0.1");
    }
}
