//! Files from the network: http downloads, git checkouts, contexts that are one or the other.

mod checkouts;
mod context;
mod git;
mod http;

use mica_cache::{Ingest, Store};
use mica_image::compress::FileDigestWriter;
use mica_image::{ContentDigest, FileDigest};
use mica_remote::git::{GitError, InvalidGitUrl};
use mica_remote::http::HttpError;

use super::NetworkSetupError;
use super::archive_tree::UnpackArchiveError;
use super::request::BuildRequest;
use super::secret::{self, SecretError};
use super::ssh::AgentError;
pub(super) use git::{Checkout, is_commit, names_commit};

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
    /// A checkout could not be listed.
    #[error(transparent)]
    Tree(#[from] mica_image::tree::TreeError),
    /// The tar of a checkout could not be written.
    #[error("cannot keep the checkout")]
    KeepCheckout(#[from] mica_image::tar::WriteTarError),
    /// The tar of a checkout could not be unpacked.
    #[error("cannot unpack the checkout that was kept")]
    UnpackCheckout(#[from] UnpackArchiveError),
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

/// A blob on its way into the store, hashed as layers know files.
type Received = FileDigestWriter<Ingest>;

fn receive(store: &Store) -> Result<Received, FetchError> {
    Ok(FileDigestWriter::new(store.blobs().ingest()?))
}

/// Keeps the blob, and returns both of its digests and its size.
fn keep_received(received: Received) -> Result<(ContentDigest, FileDigest, u64), FetchError> {
    let (ingest, digest) = received.finish();
    let size = ingest.size();
    Ok((ingest.commit(None)?, digest, size))
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
