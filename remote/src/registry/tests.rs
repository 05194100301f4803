//! The client against a registry that works, and against one that does not.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use mica_image::{
    BlobVerifier, ContentDigest, Descriptor, Dialect, Document, Manifest, MediaType, Platform, Reference,
};

use super::*;
use crate::testsuite::{Access, Fault, Reply, TestRegistry, TestServer, hasty_transport};

const LAYER: &[u8] = b"the bytes of a layer";

fn client(keychain: Keychain) -> RegistryClient {
    client_with(RegistryOptions::default(), keychain)
}

fn client_with(options: RegistryOptions, keychain: Keychain) -> RegistryClient {
    RegistryClient::new(hasty_transport(), options, keychain)
}

fn anonymous() -> RegistryClient {
    client(Keychain::empty())
}

fn user(registry: &TestRegistry) -> Keychain {
    let credentials = Credentials::Basic { username: "user".to_owned(), password: "password".into() };
    Keychain::empty().with_credentials(&registry.server.host, credentials)
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64", "")
}

fn layer_of(manifest: &FetchedManifest) -> Descriptor {
    match &manifest.document {
        Document::Manifest(manifest) => manifest.layers[0].clone(),
        Document::Index(_) => panic!("it is an index"),
    }
}

async fn read(
    client: &RegistryClient,
    reference: &Reference,
    blob: &Descriptor,
) -> Result<Vec<u8>, RegistryError> {
    client
        .fetch_blob(reference, blob)
        .try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
}

/// A registry with `app:1`, and what is needed to pull it.
async fn with_image(access: Access) -> (TestRegistry, Reference, Descriptor) {
    let registry = TestRegistry::start(access).await;
    registry.add_image("app", "1", "linux/amd64", LAYER);
    let reference = registry.reference("app:1");
    (registry, reference, Descriptor::of(MediaType::OCI_LAYER_GZIP, LAYER))
}

#[tokio::test]
async fn an_image_is_pulled() {
    let (_registry, reference, _) = with_image(Access::Anyone).await;
    let client = anonymous();
    let resolved = client.resolve(&reference).await.unwrap();
    let fetched = client.fetch_manifest(&reference).await.unwrap();
    assert_eq!(fetched.descriptor, resolved);
    assert_eq!(ContentDigest::of(&fetched.bytes), resolved.digest);
    assert_eq!(read(&client, &reference, &layer_of(&fetched)).await.unwrap(), LAYER);
    assert_eq!(client.resolve(&reference.with_digest(resolved.digest)).await.unwrap(), resolved);
}

#[tokio::test]
async fn the_image_for_a_platform_is_chosen_and_a_missing_one_is_explained() {
    let registry = TestRegistry::start(Access::Anyone).await;
    let manifests = vec![
        registry.add_image("app", "arm", "linux/arm64", b"arm"),
        registry.add_image("app", "amd", "linux/amd64", LAYER),
    ];
    let index = registry.add_index("app", "latest", manifests);
    let reference = registry.reference("app");
    let image = anonymous().fetch_image(&reference, &amd64()).await.unwrap();
    assert_eq!(image.index.unwrap().descriptor.digest, index.digest);
    assert_eq!(layer_of(&image.manifest).digest, ContentDigest::of(LAYER));
    let s390x = Platform::new("linux", "s390x", "");
    let error = anonymous().fetch_image(&reference, &s390x).await.unwrap_err();
    let expected = format!(
        "{}/app has no image for linux/s390x; it has: linux/arm64, linux/amd64",
        registry.server.host
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn manifests_are_verified() {
    let (registry, reference, _) = with_image(Access::Anyone).await;
    let client = anonymous();
    let digest = client.resolve(&reference).await.unwrap().digest;
    for (fault, reference) in [
        (Fault::WrongBytes, reference.clone()),
        (Fault::WrongDigestHeader, reference.clone()),
        (Fault::WrongBytes, reference.with_digest(digest)),
    ] {
        registry.fault(fault.clone(), 1);
        let error = client.fetch_manifest(&reference).await.unwrap_err();
        assert!(matches!(error, RegistryError::ManifestDigest { .. }), "{fault:?}: {error}");
    }
    registry.fault(Fault::WrongDigestHeader, 1);
    let error = client.resolve(&reference.with_digest(digest)).await.unwrap_err();
    assert!(matches!(error, RegistryError::ManifestDigest { .. }), "{error}");
    // A registry that does not tell the digest is asked for the manifest itself.
    registry.fault(Fault::NoDigestHeader, 2);
    assert_eq!(client.resolve(&reference).await.unwrap().digest, digest);
}

#[tokio::test]
async fn transient_failures_are_tried_again() {
    let (registry, reference, _) = with_image(Access::Anyone).await;
    registry.fault(Fault::Throttle, 1);
    registry.fault(Fault::Status(503), 2);
    anonymous().fetch_manifest(&reference).await.unwrap();
    registry.fault(Fault::Status(503), 9);
    let error = anonymous().fetch_manifest(&reference).await.unwrap_err();
    assert!(error.to_string().contains("answered 503"), "{error}");
    assert!(error.hint().unwrap().contains("try again later"));
}

#[tokio::test]
async fn a_blob_is_taken_up_where_it_broke() {
    let (registry, reference, blob) = with_image(Access::Anyone).await;
    registry.fault(Fault::CutBlob(5), 3);
    assert_eq!(read(&anonymous(), &reference, &blob).await.unwrap(), LAYER);
    let ranges: Vec<Option<String>> = registry
        .server
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    let expected =
        [None, Some("bytes=5-"), Some("bytes=10-"), Some("bytes=15-")].map(|range| range.map(str::to_owned));
    assert_eq!(ranges, expected);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_does_no_harm() {
    let (registry, reference, blob) = with_image(Access::Anyone).await;
    registry.fault(Fault::CutBlob(7), 1);
    registry.fault(Fault::IgnoreRange, 1);
    assert_eq!(read(&anonymous(), &reference, &blob).await.unwrap(), LAYER);
}

#[tokio::test]
async fn a_blob_that_keeps_breaking_is_given_up() {
    let (registry, reference, blob) = with_image(Access::Anyone).await;
    registry.fault(Fault::CutBlob(0), 100);
    let error = read(&anonymous(), &reference, &blob).await.unwrap_err();
    assert!(matches!(error, RegistryError::Interrupted { failures: 4, received: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_blob_can_be_resumed_by_the_caller() {
    let (registry, reference, blob) = with_image(Access::Anyone).await;
    let mut verifier = BlobVerifier::new(&blob);
    verifier.update(&LAYER[..8]).unwrap();
    let rest: Vec<Bytes> = anonymous().resume_blob(&reference, &blob, verifier).try_collect().await.unwrap();
    assert_eq!(rest.concat(), &LAYER[8..]);
    assert_eq!(registry.server.requests().last().unwrap().header("range"), Some("bytes=8-"));
}

#[tokio::test]
async fn wrong_blobs_are_refused() {
    let (registry, reference, blob) = with_image(Access::Anyone).await;
    let check = async |blob: &Descriptor| match read(&anonymous(), &reference, blob).await {
        Err(RegistryError::Blob { .. }) => {}
        other => panic!("{other:?}"),
    };
    registry.fault(Fault::WrongBytes, 1);
    check(&blob).await;
    check(&Descriptor { size: blob.size - 1, ..blob.clone() }).await;
    let missing = Descriptor::of(MediaType::OCI_LAYER_GZIP, b"missing");
    let error = read(&anonymous(), &reference, &missing).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::NotFound { subject } if subject.contains(&missing.digest.to_string()))
    );
}

#[tokio::test]
async fn an_empty_blob_needs_no_request() {
    let (registry, reference, _) = with_image(Access::Anyone).await;
    let empty = Descriptor::of(MediaType::OCI_LAYER_TAR, b"");
    assert_eq!(read(&anonymous(), &reference, &empty).await.unwrap(), b"");
    assert!(registry.server.requests().is_empty());
}

#[tokio::test]
async fn passwords_are_shown_only_when_asked_for() {
    let (registry, reference, _) = with_image(Access::Basic).await;
    let client = client(user(&registry));
    client.fetch_manifest(&reference).await.unwrap();
    client.fetch_manifest(&reference).await.unwrap();
    let shown: Vec<bool> =
        registry.server.requests().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(shown, [false, true, true]);
}

#[tokio::test]
async fn denials_say_whether_there_were_credentials() {
    for access in [Access::Basic, Access::UserToken] {
        let (registry, reference, _) = with_image(access).await;
        let error = anonymous().fetch_manifest(&reference).await.unwrap_err();
        let expected = format!("the registry denied access to {}", reference.familiar());
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().unwrap().contains(&format!("mica login {}", registry.server.host)));
        let wrong = Credentials::Basic { username: "user".to_owned(), password: "s3cret".into() };
        let client = client(Keychain::empty().with_credentials(&registry.server.host, wrong));
        let error = client.fetch_manifest(&reference).await.unwrap_err();
        assert!(matches!(error, RegistryError::Denied { had_credentials: true, .. }), "{error}");
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("s3cret"));
    }
}

#[tokio::test]
async fn tokens_are_fetched_once_and_again_when_forgotten() {
    let (registry, reference, blob) = with_image(Access::AnonymousToken).await;
    let client = anonymous();
    let tokens = || registry.server.lines().iter().filter(|line| line.contains("/token")).count();
    client.fetch_manifest(&reference).await.unwrap();
    let (first, second) = tokio::join!(read(&client, &reference, &blob), read(&client, &reference, &blob));
    assert_eq!((first.unwrap(), second.unwrap()), (LAYER.to_vec(), LAYER.to_vec()));
    assert_eq!(tokens(), 1);
    registry.fault(Fault::ForgetTokens, 1);
    read(&client, &reference, &blob).await.unwrap();
    assert_eq!(tokens(), 2);
}

#[tokio::test]
async fn concurrent_requests_share_a_token() {
    let (registry, reference, blob) = with_image(Access::AnonymousToken).await;
    let client = anonymous();
    let (first, second) = tokio::join!(read(&client, &reference, &blob), read(&client, &reference, &blob));
    first.unwrap();
    second.unwrap();
    assert_eq!(registry.server.lines().iter().filter(|line| line.contains("/token")).count(), 1);
}

#[tokio::test]
async fn users_and_identity_tokens_are_exchanged_for_tokens() {
    let (registry, reference, _) = with_image(Access::UserToken).await;
    client(user(&registry)).fetch_manifest(&reference).await.unwrap();
    let identity = Credentials::Identity("identity".into());
    let keychain = Keychain::empty().with_credentials(&registry.server.host, identity);
    client(keychain).fetch_manifest(&reference).await.unwrap();
    assert!(registry.server.lines().contains(&"POST /token".to_owned()));
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (registry, reference, blob) = with_image(Access::Basic).await;
    let storage = TestServer::start(|_| Reply::ok(LAYER)).await;
    registry.redirect_blobs(&format!("http://{}", storage.host));
    assert_eq!(read(&client(user(&registry)), &reference, &blob).await.unwrap(), LAYER);
    let requests = storage.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
    assert!(registry.server.requests().iter().any(|request| request.header("authorization").is_some()));
}

#[tokio::test]
async fn endless_redirects_end_and_signed_addresses_stay_secret() {
    let (registry, reference, blob) = with_image(Access::Anyone).await;
    registry.redirect_blobs(&format!("http://{}", registry.server.host));
    let error = read(&anonymous(), &reference, &blob).await.unwrap_err();
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
    assert!(!format!("{error:?}").contains("X-Signature"));
}

#[tokio::test]
async fn mirrors_are_asked_first_and_may_fail() {
    let (origin, reference, blob) = with_image(Access::Anyone).await;
    let (mirror, ..) = with_image(Access::Anyone).await;
    let mirrors =
        [(origin.server.host.clone(), vec!["http://127.0.0.1:1".to_owned(), mirror.server.host.clone()])]
            .into();
    let client = client_with(RegistryOptions { mirrors, ..RegistryOptions::default() }, Keychain::empty());
    assert_eq!(read(&client, &reference, &blob).await.unwrap(), LAYER);
    let asked = mirror.server.requests().pop().unwrap();
    assert_eq!(asked.values("ns").concat(), origin.server.host);
    assert!(!origin.server.lines().iter().any(|line| line.contains("/blobs/")));
    // What the mirror lacks comes from the registry.
    let other = origin.add_blob("app", MediaType::OCI_LAYER_GZIP, b"other");
    assert_eq!(read(&client, &reference, &other).await.unwrap(), b"other");
}

#[tokio::test]
async fn unreachable_registries_are_explained() {
    let reference = Reference::parse("127.0.0.1:1/app").unwrap();
    let error = anonymous().fetch_manifest(&reference).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot reach 127.0.0.1:1: the connection was refused");
    let reference = Reference::parse("registry.invalid/app").unwrap();
    let error = anonymous().fetch_manifest(&reference).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot reach registry.invalid: the host is unknown");
    assert!(error.hint().unwrap().contains("spelling"));
}

fn big() -> Bytes {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn an_image_is_pushed() {
    for access in [Access::Anyone, Access::Basic, Access::UserToken] {
        let registry = TestRegistry::start(access).await;
        let client = client(user(&registry));
        let reference = registry.reference("team/app:1");
        let layer = Descriptor::of(MediaType::OCI_LAYER_GZIP, &big());
        assert!(!client.has_blob(&reference, &layer).await.unwrap());
        client.push_blob(&reference, &layer, &big()).await.unwrap();
        assert!(client.has_blob(&reference, &layer).await.unwrap());
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        client.push_blob(&reference, &config, &Bytes::from_static(b"{}")).await.unwrap();
        let manifest = Manifest::new(Dialect::Oci, config, vec![layer]);
        client.push_manifest(&reference, &manifest.descriptor(), manifest.to_bytes().into()).await.unwrap();
        let (media_type, bytes) = registry.manifest("team/app", "1").unwrap();
        assert_eq!((media_type.as_str(), bytes), (MediaType::OCI_MANIFEST.as_str(), manifest.to_bytes()));
        assert_eq!(
            client.fetch_image(&reference, &amd64()).await.unwrap().manifest.descriptor,
            manifest.descriptor()
        );
    }
}

#[tokio::test]
async fn a_blob_is_mounted_or_not() {
    let registry = TestRegistry::start(Access::UserToken).await;
    let client = client(user(&registry));
    let blob = registry.add_blob("base", MediaType::OCI_LAYER_GZIP, LAYER);
    let reference = registry.reference("app:1");
    registry.fault(Fault::NoMount, 1);
    assert!(!client.mount_blob(&reference, "base", &blob).await.unwrap());
    assert_eq!(registry.server.lines().last().unwrap(), "DELETE /v2/app/blobs/uploads/upload-0");
    assert!(client.mount_blob(&reference, "base", &blob).await.unwrap());
    assert_eq!(registry.blob("app", &blob.digest).unwrap(), LAYER);
    assert!(!client.mount_blob(&reference, "elsewhere", &blob).await.unwrap());
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_in_chunks() {
    let registry = TestRegistry::start(Access::UserToken).await;
    let options = RegistryOptions { chunk_size: 150_000, ..RegistryOptions::default() };
    let client = client_with(options, user(&registry));
    let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, &big());
    // The first breaks the single request, the others break chunks in the middle.
    registry.fault(Fault::CutUpload(90_000), 3);
    client.push_blob(&registry.reference("app:1"), &blob, &big()).await.unwrap();
    assert_eq!(registry.blob("app", &blob.digest).unwrap(), big());
    let ranges: Vec<String> = registry
        .server
        .requests()
        .iter()
        .filter_map(|request| request.header("content-range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["0-149999", "90000-149999", "150000-299999", "300000-399999"]);
}

#[tokio::test]
async fn an_upload_of_wrong_content_is_refused() {
    let registry = TestRegistry::start(Access::Anyone).await;
    let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, b"four");
    let error = anonymous()
        .push_blob(&registry.reference("app:1"), &blob, &Bytes::from_static(b"five"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let registry = TestRegistry::start(Access::AnonymousToken).await;
    for tag in ["1", "2", "3", "4", "5"] {
        registry.add_image("app", tag, "linux/amd64", LAYER);
    }
    assert_eq!(anonymous().list_tags(&registry.reference("app")).await.unwrap(), ["1", "2", "3", "4", "5"]);
    assert!(matches!(anonymous().list_tags(&registry.reference("none")).await, Ok(tags) if tags.is_empty()));
}

#[tokio::test]
async fn referrers_are_found_by_list_and_by_tag() {
    let registry = TestRegistry::start(Access::Anyone).await;
    let image = registry.add_image("app", "1", "linux/amd64", LAYER);
    let mut signature = Manifest::new(Dialect::Oci, Descriptor::of(MediaType::OCI_EMPTY, b"{}"), vec![]);
    signature.subject = Some(Descriptor { platform: None, ..image.clone() });
    let added = registry.add_manifest("app", "signature", &MediaType::OCI_MANIFEST, &signature.to_bytes());
    let reference = registry.reference("app:1");
    let digests = async || -> Vec<ContentDigest> {
        let found = anonymous().referrers(&reference, &image.digest).await.unwrap();
        found.iter().map(|referrer| referrer.digest).collect()
    };
    assert_eq!(digests().await, [added.digest]);
    registry.fault(Fault::NoReferrers, 2);
    assert_eq!(digests().await, []);
    registry.add_index("app", &format!("sha256-{}", image.digest.hex()), vec![added.clone()]);
    assert_eq!(digests().await, [added.digest]);
}

fn pieces(bytes: &Bytes) -> ContentStream {
    let pieces: Vec<_> = bytes.chunks(30_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures_util::stream::iter(pieces).boxed()
}

#[tokio::test]
async fn a_blob_without_a_name_gets_one_at_its_end() {
    for access in [Access::Anyone, Access::Basic, Access::UserToken] {
        let registry = TestRegistry::start(access).await;
        let (client, reference) = (client(user(&registry)), registry.reference("team/app:1"));
        let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, &big());
        let named = std::future::ready(Some(blob.clone()));
        assert!(client.push_unnamed(&reference, pieces(&big()), named).await.unwrap());
        assert_eq!(registry.blob("team/app", &blob.digest).unwrap(), big());
        assert!(
            !registry.server.lines().iter().any(|line| line.starts_with("PUT") && line.contains("manifests"))
        );
    }
}

#[tokio::test]
async fn a_blob_without_a_name_that_does_not_get_through_is_told() {
    let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, &big());
    let push = async |registry: &TestRegistry, at_the_end: Option<Fault>| {
        let named = async {
            at_the_end.into_iter().for_each(|fault| registry.fault(fault, 1));
            Some(blob.clone())
        };
        client(user(registry)).push_unnamed(&registry.reference("team/app:1"), pieces(&big()), named).await
    };
    let registry = TestRegistry::start(Access::UserToken).await;
    registry.fault(Fault::CutUpload(50_000), 1);
    assert!(!push(&registry, None).await.unwrap());
    assert!(registry.blob("team/app", &blob.digest).is_none());
    // A token that ends on the way is replaced, and what fails for a moment is asked again.
    for fault in [Fault::ForgetTokens, Fault::Status(503), Fault::Throttle] {
        let registry = TestRegistry::start(Access::UserToken).await;
        assert!(push(&registry, Some(fault)).await.unwrap());
        assert_eq!(registry.blob("team/app", &blob.digest).unwrap(), big());
    }
    // Nobody knows how an upload ended that is gone when its end is asked for again.
    let registry = TestRegistry::start(Access::UserToken).await;
    assert!(!push(&registry, Some(Fault::Status(404))).await.unwrap());
    // Nothing is stored under a wrong name, and being denied is an error.
    let registry = TestRegistry::start(Access::UserToken).await;
    let reference = registry.reference("team/app:1");
    let other = std::future::ready(Some(Descriptor::of(MediaType::OCI_LAYER_GZIP, b"other")));
    let wrong = client(user(&registry)).push_unnamed(&reference, pieces(&big()), other).await.unwrap_err();
    assert!(matches!(wrong, RegistryError::Status { .. }), "{wrong}");
    let named = std::future::ready(Some(blob.clone()));
    let denied = anonymous().push_unnamed(&reference, pieces(&big()), named).await.unwrap_err();
    assert!(matches!(denied, RegistryError::Denied { .. }), "{denied}");
    assert!(registry.blob("team/app", &blob.digest).is_none());
}

#[tokio::test]
async fn credentials_do_not_go_where_an_upload_is_sent_to() {
    for access in [Access::Basic, Access::UserToken] {
        let registry = TestRegistry::start(access).await;
        let accepts = |request: &crate::testsuite::Request| match request.method.as_str() {
            "PATCH" => Reply::status(202).header("Location", &request.path),
            _ => Reply::status(201),
        };
        let storage = TestServer::start(accepts).await;
        registry.redirect_uploads(&format!("http://{}", storage.host));
        let (client, reference) = (client(user(&registry)), registry.reference("team/app:1"));
        let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, &big());
        client.push_blob(&reference, &blob, &big()).await.unwrap();
        let named = std::future::ready(Some(blob.clone()));
        assert!(client.push_unnamed(&reference, pieces(&big()), named).await.unwrap());
        let requests = storage.requests();
        assert_eq!(
            requests.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(),
            ["PUT", "PATCH", "PUT"]
        );
        assert!(requests.iter().all(|request| request.header("authorization").is_none()));
    }
}
