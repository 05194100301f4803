//! What goes wrong below HTTP, in words.

use std::error::Error;
use std::fmt;
use std::io;

use reqwest::Url;

/// A transport that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportSetupError {
    /// A certificate is not valid PEM.
    #[error("a certificate to trust is not valid")]
    Certificate(#[source] reqwest::Error),
    /// A proxy's address is not valid.
    #[error("the address of a proxy is not valid")]
    Proxy(#[source] reqwest::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Client(#[source] reqwest::Error),
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The host, with its port if it is not the usual one.
        host: String,
        /// What went wrong, as far as it is known.
        reason: Unreachable,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection was lost, or was silent for too long.
    #[error("the connection to {host} broke")]
    Broken {
        /// The host, with its port if it is not the usual one.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Redirects lead on and on.
    #[error("{url} redirects more than {limit} times")]
    TooManyRedirects {
        /// The address, without its query.
        url: String,
        /// How many were followed.
        limit: usize,
    },
    /// A redirect leads nowhere.
    #[error("{url} redirects to an address that is not valid")]
    BadRedirect {
        /// The address, without its query.
        url: String,
    },
    /// A short answer is long.
    #[error("the answer of {url} is longer than {limit} bytes")]
    BodyTooLarge {
        /// The address, without its query.
        url: String,
        /// What it may have.
        limit: usize,
    },
}

/// Why no connection could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The name has no address.
    UnknownHost,
    /// Nothing listens there.
    Refused,
    /// There was no answer in time.
    TimedOut,
    /// The other side's certificate is not trusted, or it does not speak TLS.
    Tls,
    /// Something else.
    Other,
}

impl Unreachable {
    /// Returns whether trying again cannot help.
    pub(crate) fn is_lasting(self) -> bool {
        self == Self::Tls
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownHost => "the host is unknown",
            Self::Refused => "the connection was refused",
            Self::TimedOut => "there was no answer in time",
            Self::Tls => "no trusted TLS connection could be made",
            Self::Other => "no connection could be made",
        })
    }
}

impl TransportError {
    pub(super) fn sending(url: &Url, error: reqwest::Error) -> Self {
        let host = host(url);
        let source = error.without_url();
        if source.is_connect() {
            Self::Unreachable { host, reason: classify(&source), source }
        } else {
            Self::Broken { host, source: io::Error::other(source) }
        }
    }

    pub(super) fn receiving(url: &Url, error: reqwest::Error) -> Self {
        Self::broken(url, io::Error::other(error.without_url()))
    }

    pub(super) fn broken(url: &Url, source: io::Error) -> Self {
        Self::Broken { host: host(url), source }
    }

    pub(super) fn silent(url: &Url, limit: std::time::Duration) -> Self {
        let problem = format!("nothing came for {} seconds", limit.as_secs());
        Self::broken(url, io::Error::new(io::ErrorKind::TimedOut, problem))
    }

    /// Returns what the person could do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let Self::Unreachable { host, reason, .. } = self else { return None };
        Some(match reason {
            Unreachable::UnknownHost => {
                format!("check the spelling of `{host}`, the network and its name servers")
            }
            Unreachable::Refused => format!("check that a server runs at `{host}` and listens on that port"),
            Unreachable::TimedOut => "check the network; a proxy may have to be given".to_owned(),
            Unreachable::Tls => {
                format!("trust the server's certificate authority, or declare `{host}` an insecure registry")
            }
            Unreachable::Other => return None,
        })
    }
}

fn classify(error: &reqwest::Error) -> Unreachable {
    if error.is_timeout() {
        return Unreachable::TimedOut;
    }
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(current) = cause {
        match current.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return Unreachable::Refused,
            Some(io::ErrorKind::TimedOut) => return Unreachable::TimedOut,
            _ => {}
        }
        // The types of these two are private to the libraries that raise them.
        let text = current.to_string();
        if text.starts_with("dns error") {
            return Unreachable::UnknownHost;
        }
        if ["certificate", "corrupt message", "HandshakeFailure", "tls handshake"]
            .iter()
            .any(|word| text.contains(word))
        {
            return Unreachable::Tls;
        }
        cause = current.source();
    }
    Unreachable::Other
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns an address fit for printing: without user, password, query and fragment.
pub(crate) fn display_url(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), host(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_addresses_hold_no_secrets() {
        let url = Url::parse("https://user:pass@example.com:8443/a/b?X-Signature=abc#f").unwrap();
        assert_eq!(display_url(&url), "https://example.com:8443/a/b");
    }
}
