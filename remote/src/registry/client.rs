//! The client itself: one request to one server, authorised, counted, and its refusal turned into words.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mica_image::Reference;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::authority::{Authority, Scopes};
use super::challenge::Challenge;
use super::endpoint::{Endpoint, Endpoints};
use super::error::RegistryError;
use super::keychain::Keychain;
use crate::transport::{BodyStream, Incoming, Outgoing, Secret, Transport, display_url, read_body};

const ERROR_BODY_MAX: usize = 64 << 10;
const MESSAGE_MAX: usize = 500;
/// One answer to a challenge, and one more for a token that has just ended.
const CHALLENGES_MAX: u32 = 2;

/// How registries are found and used.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Registries (`host` or `host:port`) that may use plain HTTP or certificates nobody vouches for.
    pub insecure: Vec<String>,
    /// Servers to pull from before a registry: its name to hosts or addresses.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// How many requests one server gets at once.
    pub concurrency: usize,
    /// How many bytes one request of a chunked upload has.
    pub chunk_size: usize,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { insecure: Vec::new(), mirrors: BTreeMap::new(), concurrency: 6, chunk_size: 16 << 20 }
    }
}

/// Speaks to registries. Cheap to clone; clones share connections, logins and limits.
#[derive(Clone)]
pub struct RegistryClient {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Transport,
    endpoints: Endpoints,
    authority: Authority,
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    options: RegistryOptions,
}

/// A request about one repository, before it is known which server gets it.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) repository: &'a str,
    /// What it is about, for messages.
    pub(super) subject: String,
    pub(super) scopes: Scopes,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, repository: &'a str, subject: String, scopes: Scopes) -> Self {
        Self { method, repository, subject, scopes, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).expect("only plain values are sent"));
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// An answer. It counts against the server's limit until it is dropped.
pub(super) struct Answer {
    pub(super) incoming: Incoming,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn response(&self) -> &Response {
        &self.incoming.response
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.incoming.response.headers().get(name)?.to_str().ok()
    }
}

impl RegistryClient {
    /// Returns a client. No connection is made.
    #[must_use]
    pub fn new(transport: Transport, options: RegistryOptions, keychain: Keychain) -> Self {
        let endpoints = Endpoints::new(&options.insecure, &options.mirrors);
        let authority = Authority::new(keychain);
        let shared = Shared { transport, endpoints, authority, limits: Mutex::default(), options };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    pub(super) fn chunk_size(&self) -> usize {
        self.shared.options.chunk_size.max(1)
    }

    /// Returns the servers to pull `reference` from, best first.
    pub(super) async fn pull_endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistryError> {
        self.shared.endpoints.for_pull(self.transport(), reference.registry()).await
    }

    /// Returns the server to push `reference` to.
    pub(super) async fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        self.shared.endpoints.origin(self.transport(), reference.registry()).await
    }

    /// Asks a registry whether it is satisfied with the credentials there are.
    pub async fn check_login(&self, registry: &str) -> Result<(), RegistryError> {
        let endpoint = self.shared.endpoints.origin(self.transport(), registry).await?;
        let url = endpoint.base.join("v2/").expect("it is a plain path");
        let call = Call::new(Method::GET, "", format!("registry {registry}"), Scopes::new());
        let answer = self.call(&endpoint, url, &call).await?;
        match answer.response().status() {
            StatusCode::OK => Ok(()),
            _ => Err(self.refusal(&endpoint, &call, answer).await),
        }
    }

    /// Makes a request and returns its answer, whatever its status, after answering challenges.
    pub(super) async fn call(
        &self,
        endpoint: &Endpoint,
        url: Url,
        call: &Call<'_>,
    ) -> Result<Answer, RegistryError> {
        let permit = self.permit(endpoint).await;
        let mut outgoing = Outgoing {
            headers: call.headers.clone(),
            body: call.body.clone(),
            trust: endpoint.trust,
            authorization: self.remembered(endpoint, &url, call),
            ..Outgoing::new(call.method.clone(), url)
        };
        let mut challenges = 0;
        loop {
            let incoming = self.transport().send(&outgoing).await?;
            if challenges == CHALLENGES_MAX {
                return Ok(Answer { incoming, _permit: permit });
            }
            challenges += 1;
            match self.answer_challenge(endpoint, call, &incoming, outgoing.authorization.as_ref()).await? {
                Some(header) => outgoing.authorization = Some(header),
                None => return Ok(Answer { incoming, _permit: permit }),
            }
        }
    }

    /// Makes a request with a stream for a body, of `length` bytes if that is known: once.
    pub(super) async fn call_with_stream(
        &self,
        endpoint: &Endpoint,
        url: Url,
        call: &Call<'_>,
        length: Option<u64>,
        body: BodyStream,
    ) -> Result<Answer, RegistryError> {
        let permit = self.permit(endpoint).await;
        let outgoing = Outgoing {
            headers: call.headers.clone(),
            trust: endpoint.trust,
            authorization: self.remembered(endpoint, &url, call),
            ..Outgoing::new(call.method.clone(), url)
        };
        let incoming = self.transport().send_stream(&outgoing, length, body).await?;
        // The stream is spent, but the next attempt will have the right header.
        self.answer_challenge(endpoint, call, &incoming, outgoing.authorization.as_ref()).await?;
        Ok(Answer { incoming, _permit: permit })
    }

    /// Turns an answer that is not what was hoped for into an error.
    pub(super) async fn refusal(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        mut answer: Answer,
    ) -> RegistryError {
        let status = answer.response().status();
        let subject = call.subject.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
                subject,
                registry: endpoint.registry.clone(),
                had_credentials: self.shared.authority.has_credentials(endpoint, call.repository),
            },
            StatusCode::NOT_FOUND => RegistryError::NotFound { subject },
            _ => RegistryError::Status {
                method: call.method.clone(),
                subject,
                host: endpoint.host(),
                status,
                // What cannot be read is only the registry's explanation; the status stands.
                message: read_body(&mut answer.incoming, ERROR_BODY_MAX)
                    .await
                    .map(|body| explanation(&body))
                    .unwrap_or_default(),
            },
        }
    }

    /// Returns the header to start with; only requests to the endpoint itself get one, as an upload may be sent elsewhere.
    fn remembered(&self, endpoint: &Endpoint, url: &Url, call: &Call<'_>) -> Option<Secret> {
        let own = url.origin() == endpoint.base.origin();
        own.then(|| self.shared.authority.remembered(endpoint, call.repository, &call.scopes)).flatten()
    }

    async fn answer_challenge(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        incoming: &Incoming,
        rejected: Option<&Secret>,
    ) -> Result<Option<Secret>, RegistryError> {
        let own = incoming.url.origin() == endpoint.base.origin();
        if incoming.response.status() != StatusCode::UNAUTHORIZED || !own {
            return Ok(None);
        }
        let Some(challenge) = Challenge::from_headers(incoming.response.headers()) else { return Ok(None) };
        tracing::debug!(url = %display_url(&incoming.url), "answering a challenge");
        let (authority, transport) = (&self.shared.authority, self.transport());
        let answer =
            authority.answer(transport, endpoint, call.repository, &call.scopes, challenge, rejected).await;
        answer.map_err(|error| match error {
            // The person knows what they asked for, and nothing of scopes.
            RegistryError::Denied { registry, had_credentials, .. } => {
                RegistryError::Denied { subject: call.subject.clone(), registry, had_credentials }
            }
            other => other,
        })
    }

    async fn permit(&self, endpoint: &Endpoint) -> OwnedSemaphorePermit {
        let semaphore = {
            // Nothing panics while it is held, and every state of the map is good.
            let mut limits = self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = || Arc::new(Semaphore::new(self.shared.options.concurrency.max(1)));
            Arc::clone(limits.entry(endpoint.origin()).or_insert_with(limit))
        };
        semaphore.acquire_owned().await.expect("it is never closed")
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Returns what the registry says, in one line.
fn explanation(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else { return String::new() };
    let texts = body
        .errors
        .into_iter()
        .map(|entry| if entry.message.is_empty() { entry.code } else { entry.message });
    let text = texts.collect::<Vec<_>>().join("; ");
    text.chars().filter(|character| !character.is_control()).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_one_clean_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(explanation(body), "no[31m way; UNKNOWN");
        assert_eq!(explanation(b"<html>"), "");
    }
}
