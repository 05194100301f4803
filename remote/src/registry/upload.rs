//! An upload to a repository: begun, fed, and ended under a digest.

use mica_image::{Descriptor, Reference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::authority::{Scopes, push_scope};
use super::client::{Answer, Call, RegistryClient};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::push::ContentStream;
use crate::transport::{TransportError, is_transient};

pub(super) const BINARY: &str = "application/octet-stream";

/// Something on its way to one repository.
pub(super) struct Upload<'a> {
    pub(super) client: &'a RegistryClient,
    pub(super) endpoint: &'a Endpoint,
    pub(super) reference: &'a Reference,
    /// What it is, for messages.
    pub(super) what: String,
}

/// An upload that did not get through.
pub(super) struct Failure {
    pub(super) error: RegistryError,
    /// Whether trying again may help.
    pub(super) may_pass: bool,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let may_pass = match &error {
            RegistryError::Transport(TransportError::Broken { .. }) => true,
            RegistryError::Status { status, .. } => is_transient(*status),
            _ => false,
        };
        Self { error, may_pass }
    }
}

impl RegistryClient {
    /// Uploads bytes whose digest nobody knows before their end, when `named` tells it. Nothing is tried twice: `false` means that the bytes
    /// did not get through, and may if they are sent as a blob that has a name.
    ///
    /// They go in one request without a length, as most other clients send everything.
    pub async fn push_unnamed(
        &self,
        reference: &Reference,
        content: ContentStream,
        named: impl Future<Output = Option<Descriptor>>,
    ) -> Result<bool, RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let what = format!("a new blob of {}", reference.name());
        let upload = Upload { client: self, endpoint: &endpoint, reference, what };
        match upload.unnamed(content, named).await {
            Ok(was_named) => Ok(was_named),
            Err(Failure { error, may_pass: true }) => {
                tracing::debug!(%error, "a new blob did not get through");
                Ok(false)
            }
            Err(failure) => Err(failure.error),
        }
    }
}

impl<'a> Upload<'a> {
    pub(super) fn call(&self, method: Method) -> Call<'a> {
        Call::new(method, self.reference.repository(), self.what.clone(), self.scopes())
    }

    fn scopes(&self) -> Scopes {
        push_scope(self.reference.repository())
    }

    pub(super) fn uploads_url(&self) -> Url {
        self.endpoint.url(self.reference.repository(), "blobs/uploads/")
    }

    /// Starts an upload and returns where it goes.
    pub(super) async fn start(&self) -> Result<Url, RegistryError> {
        let url = self.uploads_url();
        let call = self.call(Method::POST).header(CONTENT_LENGTH, "0");
        let answer = self.client.call(self.endpoint, url.clone(), &call).await?;
        if answer.response().status() != StatusCode::ACCEPTED {
            return Err(self.client.refusal(self.endpoint, &call, answer).await);
        }
        self.location(&answer, &url)
    }

    async fn unnamed(
        &self,
        content: ContentStream,
        named: impl Future<Output = Option<Descriptor>>,
    ) -> Result<bool, Failure> {
        let url = self.start().await?;
        let call = self.call(Method::PATCH).header(CONTENT_TYPE, BINARY);
        let answer = self.client.call_with_stream(self.endpoint, url.clone(), &call, None, content).await?;
        if !matches!(answer.response().status(), StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Err(self.refused(&call, answer).await);
        }
        let url = self.location(&answer, &url)?;
        // The next request must not wait for this one's place.
        drop(answer);
        match named.await {
            Some(blob) => self.finish(url, &blob).await.map(|()| true),
            None => {
                self.abandon(url).await;
                Ok(false)
            }
        }
    }

    /// Ends an upload of which everything has been sent.
    pub(super) async fn finish(&self, url: Url, blob: &Descriptor) -> Result<(), Failure> {
        let call = self.call(Method::PUT).header(CONTENT_LENGTH, "0");
        let answer = self.client.call(self.endpoint, with_digest(url, blob), &call).await?;
        self.expect_created(&call, answer).await
    }

    /// Ends an upload that is not needed. If that fails the registry will clean up by itself.
    pub(super) async fn abandon(&self, url: Url) {
        let call = self.call(Method::DELETE);
        if let Err(error) = self.client.call(self.endpoint, url, &call).await {
            tracing::debug!(%error, "an upload that was not needed could not be ended");
        }
    }

    pub(super) async fn expect_created(&self, call: &Call<'_>, answer: Answer) -> Result<(), Failure> {
        match answer.response().status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refused(call, answer).await),
        }
    }

    /// A challenge in the middle of an upload has been answered for the next attempt. One that is not there any more may have ended with an
    /// answer that got lost, before it was asked for again.
    pub(super) async fn refused(&self, call: &Call<'_>, answer: Answer) -> Failure {
        let may_pass = matches!(answer.response().status(), StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND);
        let failure = Failure::from(self.client.refusal(self.endpoint, call, answer).await);
        Failure { may_pass: failure.may_pass || may_pass, ..failure }
    }

    pub(super) fn location(&self, answer: &Answer, base: &Url) -> Result<Url, RegistryError> {
        let location = answer.header(LOCATION.as_str()).and_then(|location| base.join(location).ok());
        location.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(|| {
            RegistryError::Protocol { host: self.endpoint.host(), what: "no address for the upload" }
        })
    }
}

pub(super) fn with_digest(mut url: Url, blob: &Descriptor) -> Url {
    url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    url
}
