//! Lists: the tags of a repository, and what refers to an image; and taking a manifest away.

use mica_image::manifest::MANIFEST_SIZE_MAX;
use mica_image::{ContentDigest, Descriptor, Document, Index, MediaType, Reference};
use reqwest::header::{ACCEPT, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::authority::pull_scope;
use super::client::{Answer, Call, RegistryClient};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use crate::transport::read_body;

/// A list with more pages than this is taken to have no end.
const PAGES_MAX: usize = 1000;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl RegistryClient {
    /// Lists the tags of the repository of `reference`, as the registry orders them.
    pub async fn list_tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let call = list_call(reference, format!("the tags of {}", reference.name()));
        let mut url = endpoint.url(reference.repository(), "tags/list");
        let mut tags = Vec::new();
        for _ in 0..PAGES_MAX {
            let (body, next) = self.page(&endpoint, url, &call).await?;
            let what = "its list of tags";
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|_| RegistryError::Protocol { host: endpoint.host(), what })?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        Err(RegistryError::Protocol { host: endpoint.host(), what: "its list of tags has no end" })
    }

    /// Takes a manifest away, with all of its tags; returns whether the registry lets one.
    pub async fn delete_manifest(
        &self,
        reference: &Reference,
        digest: &ContentDigest,
    ) -> Result<bool, RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let repository = reference.repository();
        let scopes = [format!("repository:{repository}:delete,pull,push")].into();
        let subject = reference.with_digest(*digest).familiar();
        let call = Call::new(Method::DELETE, repository, subject, scopes);
        let url = endpoint.url(repository, &format!("manifests/{digest}"));
        let answer = self.call(&endpoint, url, &call).await?;
        match answer.response().status() {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NOT_FOUND => Ok(true),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
            _ => Err(self.refusal(&endpoint, &call, answer).await),
        }
    }

    /// Lists the manifests that name `digest` as their subject: signatures, attestations and the like.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &ContentDigest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let endpoint = self.push_endpoint(reference).await?;
        let call = list_call(reference, format!("the referrers of {digest} in {}", reference.name()));
        let mut url = endpoint.url(reference.repository(), &format!("referrers/{digest}"));
        let mut referrers = Vec::new();
        for _ in 0..PAGES_MAX {
            let (body, next) = match self.page(&endpoint, url, &call).await {
                Ok(page) => page,
                // Registries from before version 1.1 keep the list under a tag.
                Err(RegistryError::NotFound { .. }) => return self.referrers_by_tag(reference, digest).await,
                Err(error) => return Err(error),
            };
            let what = "its list of referrers";
            let page: Index = serde_json::from_slice(&body)
                .map_err(|_| RegistryError::Protocol { host: endpoint.host(), what })?;
            referrers.extend(page.manifests);
            match next {
                Some(next) => url = next,
                None => return Ok(referrers),
            }
        }
        Err(RegistryError::Protocol { host: endpoint.host(), what: "its list of referrers has no end" })
    }

    async fn referrers_by_tag(
        &self,
        reference: &Reference,
        digest: &ContentDigest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let tag =
            reference.with_tag(&format!("sha256-{}", digest.hex())).expect("hexadecimal digits make a tag");
        match self.fetch_manifest(&tag).await {
            Ok(fetched) => match fetched.document {
                Document::Index(index) => Ok(index.manifests),
                Document::Manifest(_) => Ok(Vec::new()),
            },
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn page(
        &self,
        endpoint: &Endpoint,
        url: Url,
        call: &Call<'_>,
    ) -> Result<(Vec<u8>, Option<Url>), RegistryError> {
        let mut answer = self.call(endpoint, url.clone(), call).await?;
        if answer.response().status() != StatusCode::OK {
            return Err(self.refusal(endpoint, call, answer).await);
        }
        let next = next_page(&answer, &url);
        let body = read_body(&mut answer.incoming, MANIFEST_SIZE_MAX as usize).await?;
        Ok((body.to_vec(), next))
    }
}

fn list_call(reference: &Reference, subject: String) -> Call<'_> {
    let accepted = format!("{}, application/json", MediaType::OCI_INDEX);
    Call::new(Method::GET, reference.repository(), subject, pull_scope(reference.repository()))
        .header(ACCEPT, &accepted)
}

/// Reads `Link: </v2/…>; rel="next"`. A link to another server is not followed.
fn next_page(answer: &Answer, url: &Url) -> Option<Url> {
    let link = answer.header(LINK.as_str())?;
    let (target, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = relation.contains("rel=\"next\"") || relation.contains("rel=next");
    url.join(target).ok().filter(|next| is_next && next.origin() == url.origin())
}
