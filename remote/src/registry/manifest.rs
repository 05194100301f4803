//! From names to documents: resolving tags and fetching manifests and indexes.

use mica_image::manifest::MANIFEST_SIZE_MAX;
use mica_image::{ContentDigest, Descriptor, Document, MediaType, Platform, Reference};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode};

use super::authority::pull_scope;
use super::client::{Answer, Call, RegistryClient};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use crate::transport::read_body;

const NESTING_MAX: usize = 3;
const DIGEST_HEADER: &str = "docker-content-digest";

/// A manifest or index as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes, which are what its digest names.
    pub bytes: Vec<u8>,
    /// What they say.
    pub document: Document,
}

/// The image of one platform, and the index it was chosen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformImage {
    /// The index the name stands for, if it does.
    pub index: Option<FetchedManifest>,
    /// The manifest of the image.
    pub manifest: FetchedManifest,
}

impl RegistryClient {
    /// Returns what a name stands for now, without fetching it if the registry can say.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor, RegistryError> {
        let mut last = None;
        for endpoint in self.pull_endpoints(reference).await? {
            match self.resolve_at(&endpoint, reference).await {
                Ok(descriptor) => return Ok(descriptor),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is always the registry itself"))
    }

    /// Fetches the manifest or index a name stands for.
    pub async fn fetch_manifest(&self, reference: &Reference) -> Result<FetchedManifest, RegistryError> {
        let mut last = None;
        for endpoint in self.pull_endpoints(reference).await? {
            match self.fetch_manifest_at(&endpoint, reference).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is always the registry itself"))
    }

    /// Fetches the manifest of the image for `platform`, through indexes.
    pub async fn fetch_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<PlatformImage, RegistryError> {
        let mut fetched = self.fetch_manifest(reference).await?;
        let mut outermost = None;
        for _ in 0..NESTING_MAX {
            let Document::Index(index) = &fetched.document else {
                return Ok(PlatformImage { index: outermost, manifest: fetched });
            };
            let Some(chosen) = index.select(platform) else {
                return Err(RegistryError::NoSuchPlatform {
                    reference: reference.familiar(),
                    wanted: Box::new(platform.clone()),
                    available: index.platforms(),
                });
            };
            let next = self.fetch_manifest(&reference.with_digest(chosen.digest)).await?;
            outermost.get_or_insert(fetched);
            fetched = next;
        }
        match fetched.document {
            Document::Manifest(_) => Ok(PlatformImage { index: outermost, manifest: fetched }),
            Document::Index(_) => Err(RegistryError::Nesting { reference: reference.familiar() }),
        }
    }

    async fn resolve_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<Descriptor, RegistryError> {
        let call = manifest_call(Method::HEAD, reference);
        let url = endpoint.url(reference.repository(), &manifest_path(reference));
        let answer = self.call(endpoint, url, &call).await?;
        match answer.response().status() {
            StatusCode::OK => {}
            // Not every registry knows this method, and its refusal has no explanation.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => {
                return self.resolve_by_get(endpoint, reference).await;
            }
            _ => return Err(self.refusal(endpoint, &call, answer).await),
        }
        let described = describe(&answer);
        // The permit must be free for the next request.
        drop(answer);
        match (described, reference.digest()) {
            (Some(descriptor), Some(expected)) if descriptor.digest != *expected => {
                Err(RegistryError::ManifestDigest {
                    reference: reference.familiar(),
                    expected: *expected,
                    actual: descriptor.digest,
                })
            }
            (Some(descriptor), _) => Ok(descriptor),
            (None, _) => self.resolve_by_get(endpoint, reference).await,
        }
    }

    async fn resolve_by_get(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<Descriptor, RegistryError> {
        Ok(self.fetch_manifest_at(endpoint, reference).await?.descriptor)
    }

    async fn fetch_manifest_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<FetchedManifest, RegistryError> {
        let call = manifest_call(Method::GET, reference);
        let url = endpoint.url(reference.repository(), &manifest_path(reference));
        let mut answer = self.call(endpoint, url, &call).await?;
        if answer.response().status() != StatusCode::OK {
            return Err(self.refusal(endpoint, &call, answer).await);
        }
        let claimed = answer.header(DIGEST_HEADER).and_then(|text| text.parse().ok());
        let media_type = media_type(&answer);
        let bytes = read_body(&mut answer.incoming, MANIFEST_SIZE_MAX as usize).await?.to_vec();
        let actual = ContentDigest::of(&bytes);
        for expected in reference.digest().into_iter().chain(&claimed) {
            if *expected != actual {
                let reference = reference.familiar();
                return Err(RegistryError::ManifestDigest { reference, expected: *expected, actual });
            }
        }
        let document = Document::parse(&bytes, &media_type)
            .map_err(|source| RegistryError::Manifest { reference: reference.familiar(), source })?;
        let descriptor = Descriptor::new(type_of(&document, media_type), actual, bytes.len() as u64);
        Ok(FetchedManifest { descriptor, bytes, document })
    }
}

fn manifest_call(method: Method, reference: &Reference) -> Call<'_> {
    let accepted =
        [MediaType::OCI_INDEX, MediaType::DOCKER_INDEX, MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST];
    let accepted = accepted.iter().map(MediaType::as_str).collect::<Vec<_>>().join(", ");
    let repository = reference.repository();
    Call::new(method, repository, reference.with_default_tag().familiar(), pull_scope(repository))
        .header(ACCEPT, &format!("{accepted}, */*"))
}

fn manifest_path(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("manifests/{digest}"),
        None => format!("manifests/{}", reference.tag().unwrap_or("latest")),
    }
}

fn media_type(answer: &Answer) -> MediaType {
    answer.header(CONTENT_TYPE.as_str()).map(MediaType::parse).unwrap_or_default()
}

/// Reads a descriptor off the headers of a HEAD request, if they are all there.
fn describe(answer: &Answer) -> Option<Descriptor> {
    let digest = answer.header(DIGEST_HEADER)?.parse().ok()?;
    let size = answer.header(CONTENT_LENGTH.as_str())?.parse().ok()?;
    let media_type = media_type(answer);
    (media_type.is_index() || media_type.is_manifest()).then(|| Descriptor::new(media_type, digest, size))
}

/// Returns the media type a document goes by: its own, the delivered one, or the usual one.
fn type_of(document: &Document, delivered: MediaType) -> MediaType {
    let (own, usual) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, MediaType::OCI_MANIFEST),
        Document::Index(index) => (&index.media_type, MediaType::OCI_INDEX),
    };
    if !own.is_empty() {
        own.clone()
    } else if delivered.is_manifest() || delivered.is_index() {
        delivered
    } else {
        usual
    }
}
