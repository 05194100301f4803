//! The `Authorization` header a request needs: remembered challenges, credentials and tokens.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::keychain::{Credentials, Keychain};
use crate::once::OnceMap;
use crate::transport::{Outgoing, Secret, Transport, Trust, read_body};

const TOKEN_ANSWER_MAX: usize = 1 << 20;
/// Tokens that last shorter than this are taken to last this long, as other clients do.
const TOKEN_LIFE_MIN: u64 = 60;
/// A token is replaced this long before it ends.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// What a request wants to do, as tokens are asked for: `repository:library/app:pull`.
pub(super) type Scopes = BTreeSet<String>;

pub(super) fn pull_scope(repository: &str) -> Scopes {
    [format!("repository:{repository}:pull")].into()
}

pub(super) fn push_scope(repository: &str) -> Scopes {
    [format!("repository:{repository}:pull,push")].into()
}

pub(super) struct Authority {
    keychain: Keychain,
    /// What each server asked for last.
    challenges: Mutex<HashMap<String, Challenge>>,
    credentials: OnceMap<(String, String), Option<Credentials>>,
    tokens: OnceMap<(String, Scopes), Token>,
}

#[derive(Clone)]
struct Token {
    header: Secret,
    ends: Instant,
}

impl Authority {
    pub(super) fn new(keychain: Keychain) -> Self {
        Self { keychain, challenges: Mutex::default(), credentials: OnceMap::new(), tokens: OnceMap::new() }
    }

    /// Returns the header to send without being asked, as far as it is known.
    pub(super) fn remembered(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        scopes: &Scopes,
    ) -> Option<Secret> {
        let origin = endpoint.origin();
        match self.challenges().get(&origin)? {
            Challenge::Basic => match self.credentials.get(&credentials_key(endpoint, repository))?? {
                Credentials::Basic { username, password } => Some(basic_header(&username, &password)),
                _ => None,
            },
            Challenge::Bearer { .. } => {
                let token = self.tokens.get(&(origin, scopes.clone()))?;
                (token.ends > Instant::now()).then_some(token.header)
            }
        }
    }

    /// Answers a challenge; `None` means that there is nothing better to show than `rejected`.
    pub(super) async fn answer(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        repository: &str,
        scopes: &Scopes,
        challenge: Challenge,
        rejected: Option<&Secret>,
    ) -> Result<Option<Secret>, RegistryError> {
        let origin = endpoint.origin();
        self.challenges().insert(origin.clone(), challenge.clone());
        let credentials = self.credentials(endpoint, repository).await?;
        let header = match (&challenge, credentials) {
            (_, Some(Credentials::Registry(token))) => bearer_header(token.expose()),
            (Challenge::Basic, Some(Credentials::Basic { username, password })) => {
                Some(basic_header(&username, &password))
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { realm, service, scope }, credentials) => {
                let key = (origin, scopes.clone());
                let is_old = |token: &Token| Some(&token.header) == rejected || token.ends <= Instant::now();
                self.tokens.forget(&key, is_old);
                let request = TokenRequest {
                    endpoint,
                    realm,
                    service: service.as_deref(),
                    scopes: with_scope(scopes, scope.as_deref()),
                    credentials,
                };
                let token = self.tokens.get_or_try_init(key, || request.send(transport)).await?;
                Some(token.header)
            }
        };
        Ok(header.filter(|header| Some(header) != rejected))
    }

    /// Returns whether there is anything to show this registry.
    pub(super) fn has_credentials(&self, endpoint: &Endpoint, repository: &str) -> bool {
        self.credentials.get(&credentials_key(endpoint, repository)).flatten().is_some()
    }

    async fn credentials(
        &self,
        endpoint: &Endpoint,
        repository: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let key = credentials_key(endpoint, repository);
        let (keychain, (registry, repository)) = (self.keychain.clone(), key.clone());
        let find = || async move {
            // A helper is a program that may wait for the person.
            let found = tokio::task::spawn_blocking(move || keychain.find(&registry, &repository)).await;
            Ok(found.expect("looking up credentials does not panic")?)
        };
        self.credentials.get_or_try_init(key, find).await
    }

    fn challenges(&self) -> std::sync::MutexGuard<'_, HashMap<String, Challenge>> {
        // Nothing panics while it is held, and every state of the map is good.
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials_key(endpoint: &Endpoint, repository: &str) -> (String, String) {
    (endpoint.registry.clone(), repository.to_owned())
}

/// Adds what the registry named unless it is part of what is wanted anyway.
fn with_scope(scopes: &Scopes, named: Option<&str>) -> Scopes {
    let mut all = scopes.clone();
    for scope in named.into_iter().flat_map(str::split_whitespace) {
        let resource = scope.rsplit_once(':').map_or(scope, |(resource, _)| resource);
        if !all.iter().any(|wanted| wanted.starts_with(&format!("{resource}:"))) {
            all.insert(scope.to_owned());
        }
    }
    all
}

struct TokenRequest<'a> {
    endpoint: &'a Endpoint,
    realm: &'a str,
    service: Option<&'a str>,
    scopes: Scopes,
    credentials: Option<Credentials>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenRequest<'_> {
    async fn send(self, transport: &Transport) -> Result<Token, RegistryError> {
        let outgoing = self.outgoing()?;
        let host = outgoing.url.host_str().unwrap_or_default().to_owned();
        let mut incoming = transport.send(&outgoing).await?;
        let asked = Instant::now();
        let status = incoming.response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RegistryError::Denied {
                subject: self.scopes.iter().cloned().collect::<Vec<_>>().join(" "),
                registry: self.endpoint.registry.clone(),
                had_credentials: self.credentials.is_some(),
            });
        }
        let bad = |what: &str| RegistryError::Token { host: host.clone(), what: what.to_owned() };
        if !status.is_success() {
            return Err(bad(&status.to_string()));
        }
        let body = read_body(&mut incoming, TOKEN_ANSWER_MAX).await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| bad("something that is not a token"))?;
        let text = answer.token.filter(|text| !text.is_empty()).or(answer.access_token);
        let header = text
            .filter(|text| !text.is_empty())
            .and_then(|text| bearer_header(&text))
            .ok_or_else(|| bad("without a token"))?;
        let life = Duration::from_secs(answer.expires_in.unwrap_or(0).max(TOKEN_LIFE_MIN));
        Ok(Token { header, ends: asked + life.saturating_sub(TOKEN_MARGIN) })
    }

    fn outgoing(&self) -> Result<Outgoing, RegistryError> {
        let bad = || RegistryError::Protocol {
            host: self.endpoint.host(),
            what: "the address of its token server",
        };
        let url = Url::parse(self.realm).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let mut url = url.filter(Url::has_host).ok_or_else(bad)?;
        if self.credentials.is_some() && url.scheme() == "http" && self.endpoint.base.scheme() == "https" {
            let host = url.host_str().unwrap_or_default().to_owned();
            return Err(RegistryError::InsecureTokenServer {
                registry: self.endpoint.registry.clone(),
                host,
            });
        }
        let trust =
            if url.host_str() == self.endpoint.base.host_str() { self.endpoint.trust } else { Trust::Strict };
        if let Some(Credentials::Identity(token)) = &self.credentials {
            let body = self.refresh_form(token);
            let mut outgoing = Outgoing { body, trust, ..Outgoing::new(Method::POST, url) };
            outgoing
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            return Ok(outgoing);
        }
        let mut authorization = None;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.map(|service| ("service", service)));
            query.extend_pairs(self.scopes.iter().map(|scope| ("scope", scope)));
            if let Some(Credentials::Basic { username, password }) = &self.credentials {
                query.append_pair("account", username);
                authorization = Some(basic_header(username, password));
            }
        }
        Ok(Outgoing { authorization, trust, ..Outgoing::new(Method::GET, url) })
    }

    fn refresh_form(&self, token: &Secret) -> Bytes {
        let scopes = self.scopes.iter().cloned().collect::<Vec<_>>().join(" ");
        // A query and a form are written alike.
        let mut form = Url::parse("form:").expect("it is an address");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", "mica")
            .append_pair("scope", &scopes)
            .append_pair("refresh_token", token.expose());
        Bytes::from(form.query().unwrap_or_default().to_owned())
    }
}

fn basic_header(username: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose()))))
}

/// Returns `None` for a token that cannot stand in a header.
fn bearer_header(token: &str) -> Option<Secret> {
    let header = format!("Bearer {token}");
    HeaderValue::from_str(&header).is_ok().then(|| Secret::new(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_the_registry_names_are_added_unless_covered() {
        let scopes = push_scope("a/b");
        let with = |named: &str| with_scope(&scopes, Some(named)).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(with("repository:a/b:pull"), "repository:a/b:pull,push");
        assert_eq!(with("registry:catalog:*"), "registry:catalog:* repository:a/b:pull,push");
    }

    #[test]
    fn tokens_that_break_headers_are_refused() {
        assert_eq!(bearer_header("abc").unwrap().expose(), "Bearer abc");
        assert!(bearer_header("a\r\nX-Evil: 1").is_none());
    }
}
