//! HTTP as everything here needs it: proxies, certificates, time limits, retries and redirects in one place.
//!
//! Invariants: an `Authorization` header never follows a redirect to another origin; no address with its query (which may be
//! signed) and no header value reaches an error or a log; every wait is bounded.

mod error;
mod redirect;
mod retry;
mod secret;
mod silence;

use std::time::Duration;

use bytes::Bytes;
use mica_image::fault::{Point, reach};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};

pub use error::{TransportError, TransportSetupError, Unreachable};
pub use retry::RetryPolicy;
pub use secret::Secret;

pub(crate) use error::display_url;
pub(crate) use silence::BodyStream;

use silence::Patience;

/// How requests are made.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Certificates (PEM, one or more each) that are trusted beside the system's.
    pub ca_certificates: Vec<Vec<u8>>,
    /// Proxies; none are used but these.
    pub proxies: Proxies,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Time a connection may be silent.
    pub idle_timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
}

/// Proxies as the usual variables give them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// The proxy for `http://`; it may hold a password.
    pub http: Option<Secret>,
    /// The proxy for `https://`; it may hold a password.
    pub https: Option<Secret>,
    /// Hosts that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("mica/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_certificates: Vec::new(),
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
        }
    }
}

/// Sends requests. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Transport {
    strict: Client,
    lax: Client,
    idle_timeout: Duration,
    retry: RetryPolicy,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those of known authorities.
    Strict,
    /// Anyone's, for registries the person declared insecure and for this machine.
    Lax,
}

/// A request that can be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) authorization: Option<Secret>,
    pub(crate) body: Bytes,
    pub(crate) trust: Trust,
}

impl Outgoing {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Bytes::new(),
            trust: Trust::Strict,
        }
    }
}

/// A response and where it came from after redirects.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) response: Response,
    pub(crate) url: Url,
    /// How long its body may be silent.
    idle_timeout: Duration,
}

impl Transport {
    /// Prepares connections; none is made yet.
    pub fn new(options: &TransportOptions) -> Result<Self, TransportSetupError> {
        Ok(Self {
            strict: client(options, Trust::Strict)?,
            lax: client(options, Trust::Lax)?,
            idle_timeout: options.idle_timeout,
            retry: options.retry.clone(),
        })
    }

    /// Returns when to try again.
    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Sends a request, following redirects and trying again where that may help. The last answer is returned, whatever its
    /// status.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Incoming, TransportError> {
        let mut failures = 0;
        loop {
            let result = self.send_once(outgoing).await;
            let pause = match &result {
                Ok(incoming) => self.retry.after_response(failures, &incoming.response),
                Err(error) => self.retry.after_error(failures, error),
            };
            let Some(pause) = pause else { return result };
            failures += 1;
            tracing::debug!(url = %display_url(&outgoing.url), failures, ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request, following redirects.
    pub(crate) async fn send_once(&self, outgoing: &Outgoing) -> Result<Incoming, TransportError> {
        let mut hop = redirect::Hop::first(outgoing);
        loop {
            let response = self.send_hop(outgoing, &hop).await?;
            match redirect::next_hop(outgoing, &hop, &response)? {
                Some(next) => hop = next,
                None => return Ok(self.incoming(response, hop.url)),
            }
        }
    }

    async fn send_hop(&self, outgoing: &Outgoing, hop: &redirect::Hop) -> Result<Response, TransportError> {
        reach(Point::RequestSend).map_err(|error| TransportError::broken(&hop.url, error))?;
        let client = self.client(hop.trust);
        let mut request =
            client.request(hop.method.clone(), hop.url.clone()).headers(outgoing.headers.clone());
        if let Some(authorization) = outgoing.authorization.as_ref().filter(|_| hop.same_origin) {
            request = request.header(AUTHORIZATION, authorization_header(authorization));
        }
        let sends_body = matches!(hop.method, Method::POST | Method::PUT | Method::PATCH);
        if sends_body {
            request = request.body(outgoing.body.clone());
        }
        self.answer(request, &hop.url, &Patience::new(self.idle_timeout)).await
    }

    /// Sends a request whose body is a stream, of `length` bytes if that is known: once, and without following redirects.
    pub(crate) async fn send_stream(
        &self,
        outgoing: &Outgoing,
        length: Option<u64>,
        body: BodyStream,
    ) -> Result<Incoming, TransportError> {
        reach(Point::RequestSend).map_err(|error| TransportError::broken(&outgoing.url, error))?;
        let patience = Patience::new(self.idle_timeout);
        let mut request = self
            .client(outgoing.trust)
            .request(outgoing.method.clone(), outgoing.url.clone())
            .headers(outgoing.headers.clone())
            .body(Body::wrap_stream(patience.watch(body)));
        if let Some(length) = length {
            request = request.header(reqwest::header::CONTENT_LENGTH, length);
        }
        if let Some(authorization) = &outgoing.authorization {
            request = request.header(AUTHORIZATION, authorization_header(authorization));
        }
        let response = self.answer(request, &outgoing.url, &patience).await?;
        Ok(self.incoming(response, outgoing.url.clone()))
    }

    async fn answer(
        &self,
        request: RequestBuilder,
        url: &Url,
        patience: &Patience,
    ) -> Result<Response, TransportError> {
        tokio::select! {
            answer = request.send() => answer.map_err(|error| TransportError::sending(url, error)),
            () = patience.ends() => Err(TransportError::silent(url, self.idle_timeout)),
        }
    }

    fn incoming(&self, response: Response, url: Url) -> Incoming {
        Incoming { response, url, idle_timeout: self.idle_timeout }
    }

    fn client(&self, trust: Trust) -> &Client {
        match trust {
            Trust::Strict => &self.strict,
            Trust::Lax => &self.lax,
        }
    }
}

/// Receives the next piece of a body; `None` at its end.
pub(crate) async fn receive(incoming: &mut Incoming) -> Result<Option<Bytes>, TransportError> {
    let Incoming { response, url, idle_timeout } = incoming;
    reach(Point::AnswerReceive).map_err(|error| TransportError::broken(url, error))?;
    match tokio::time::timeout(*idle_timeout, response.chunk()).await {
        Ok(piece) => piece.map_err(|error| TransportError::receiving(url, error)),
        Err(_) => Err(TransportError::silent(url, *idle_timeout)),
    }
}

/// Reads a whole body of at most `limit` bytes; a longer one is an error.
pub(crate) async fn read_body(incoming: &mut Incoming, limit: usize) -> Result<Bytes, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = receive(incoming).await? {
        if body.len() + chunk.len() > limit {
            return Err(TransportError::BodyTooLarge { url: display_url(&incoming.url), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// Whether a status says that the same request may succeed later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

fn authorization_header(authorization: &Secret) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(authorization.expose().as_bytes())
        .expect("whoever makes an authorization checks that it is printable");
    value.set_sensitive(true);
    value
}

fn client(options: &TransportOptions, trust: Trust) -> Result<Client, TransportSetupError> {
    let mut builder = Client::builder()
        .user_agent(&options.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .no_proxy()
        .danger_accept_invalid_certs(trust == Trust::Lax);
    for pem in &options.ca_certificates {
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem).map_err(TransportSetupError::Certificate)?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    for proxy in proxies(&options.proxies)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(TransportSetupError::Client)
}

fn proxies(proxies: &Proxies) -> Result<Vec<reqwest::Proxy>, TransportSetupError> {
    let exceptions = proxies.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
    let http = proxies.http.as_ref().map(|url| reqwest::Proxy::http(url.expose()));
    let https = proxies.https.as_ref().map(|url| reqwest::Proxy::https(url.expose()));
    http.into_iter()
        .chain(https)
        .map(|proxy| match proxy {
            Ok(proxy) => Ok(proxy.no_proxy(exceptions.clone())),
            Err(error) => Err(TransportSetupError::Proxy(error.without_url())),
        })
        .collect()
}
