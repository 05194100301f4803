//! The client against a registry somebody else wrote: Debian's `docker-registry`, if it is installed.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests fail and speak as tests do")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use mica_image::{Descriptor, Dialect, ImageConfig, Index, Manifest, MediaType, Platform, Reference};
use mica_remote::http::{HttpRequest, HttpResponse, fetch};
use mica_remote::registry::{BlobContent, Keychain, OpeningContent};
use mica_remote::{RegistryClient, RegistryError, RegistryOptions, Transport, TransportOptions};

const PROGRAM: &str = "/usr/bin/docker-registry";

struct Registry {
    process: Child,
    host: String,
    root: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start() -> Option<Registry> {
    start_with("", |_| ())
}

/// Starts a registry with more settings for its server, after `prepare` has made the files they name.
fn start_with(settings: &str, prepare: impl FnOnce(&Path)) -> Option<Registry> {
    if !Path::new(PROGRAM).exists() {
        eprintln!("SKIPPED: {PROGRAM} is not installed");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    prepare(root.path());
    // The port is free now and taken again at once.
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = root.path().join("config.yml");
    let storage = root.path().join("storage");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{settings}",
        storage.display(),
    );
    fs::write(&config, text).unwrap();
    let process = Command::new(PROGRAM)
        .current_dir(root.path())
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let registry = Registry { process, host, root };
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(&registry.host).is_err() {
        assert!(Instant::now() < deadline, "{PROGRAM} does not answer");
        std::thread::yield_now();
    }
    Some(registry)
}

fn client(chunk_size: usize) -> RegistryClient {
    let transport = Transport::new(&TransportOptions::default()).unwrap();
    let options = RegistryOptions { chunk_size, ..RegistryOptions::default() };
    RegistryClient::new(transport, options, Keychain::empty())
}

fn big() -> Bytes {
    (0..500_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

async fn push_image(client: &RegistryClient, reference: &Reference, layer: &Bytes) -> Descriptor {
    let mut config = ImageConfig::default();
    config.set_platform(&Platform::new("linux", "amd64", ""));
    let config_bytes = Bytes::from(config.to_bytes());
    let config = Descriptor::of(MediaType::OCI_CONFIG, &config_bytes);
    let layer_blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, layer);
    client.push_blob(reference, &config, &config_bytes).await.unwrap();
    client.push_blob(reference, &layer_blob, layer).await.unwrap();
    let manifest = Manifest::new(Dialect::Oci, config, vec![layer_blob]);
    let descriptor = manifest.descriptor();
    client.push_manifest(reference, &descriptor, manifest.to_bytes().into()).await.unwrap();
    Descriptor { platform: Some(Platform::new("linux", "amd64", "")), ..descriptor }
}

#[tokio::test]
async fn an_image_goes_there_and_comes_back() {
    let Some(registry) = start() else { return };
    let client = client(16 << 20);
    let reference = Reference::parse(&format!("{}/team/app:1", registry.host)).unwrap();
    let error = client.fetch_manifest(&reference).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");

    let layer = big();
    let pushed = push_image(&client, &reference, &layer).await;
    let index = Index::new(Dialect::Oci, vec![pushed.clone()]);
    let latest = reference.with_tag("latest").unwrap();
    client.push_manifest(&latest, &index.descriptor(), index.to_bytes().into()).await.unwrap();

    assert_eq!(client.resolve(&latest).await.unwrap(), index.descriptor());
    let image = client.fetch_image(&latest, &Platform::new("linux", "amd64", "")).await.unwrap();
    assert_eq!(image.manifest.descriptor.digest, pushed.digest);
    let mut tags = client.list_tags(&reference).await.unwrap();
    // The specification wants them sorted; this registry is older.
    tags.sort();
    assert_eq!(tags, ["1", "latest"]);

    let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, &layer);
    let parts: Vec<Bytes> = client.fetch_blob(&reference, &blob).try_collect().await.unwrap();
    assert!(parts.concat() == layer);
    let mut verifier = mica_image::BlobVerifier::new(&blob);
    verifier.update(&layer[..1_000_000]).unwrap();
    let parts: Vec<Bytes> = client.resume_blob(&reference, &blob, verifier).try_collect().await.unwrap();
    assert!(parts.concat() == layer[1_000_000..]);
    assert!(client.referrers(&reference, &pushed.digest).await.unwrap().is_empty());

    let other = Reference::parse(&format!("{}/other:1", registry.host)).unwrap();
    assert!(!client.has_blob(&other, &blob).await.unwrap());
    assert!(client.mount_blob(&other, "team/app", &blob).await.unwrap());
    assert!(client.has_blob(&other, &blob).await.unwrap());
    let unknown = Descriptor::of(MediaType::OCI_LAYER_GZIP, b"unknown");
    assert!(!client.mount_blob(&other, "team/app", &unknown).await.unwrap());
}

/// Content of which the first reading breaks off.
struct Flaky(std::sync::atomic::AtomicBool, Bytes);

impl BlobContent for Flaky {
    fn open(&self, offset: u64) -> OpeningContent<'_> {
        if self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return self.1.open(offset);
        }
        let broken = [Ok(self.1.slice(..1000)), Err(std::io::ErrorKind::BrokenPipe.into())];
        Box::pin(async move { Ok(Box::pin(futures_util::stream::iter(broken)) as _) })
    }
}

#[tokio::test]
async fn a_broken_upload_is_finished_in_chunks() {
    let Some(registry) = start() else { return };
    let reference = Reference::parse(&format!("{}/app:1", registry.host)).unwrap();
    let client = client(300_000);
    let blob = Descriptor::of(MediaType::OCI_LAYER_GZIP, &big());
    client.push_blob(&reference, &blob, &Flaky(false.into(), big())).await.unwrap();
    assert!(client.has_blob(&reference, &blob).await.unwrap());
}

/// Makes a certificate for this machine that nobody vouches for.
fn make_certificate(directory: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test \
                     -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
                     -keyout key.pem -out cert.pem";
    let made =
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn certificates_are_checked_but_on_this_machine() {
    if !Path::new("/usr/bin/openssl").exists() {
        eprintln!("SKIPPED: openssl is not installed");
        return;
    }
    let tls = "  tls:\n    certificate: cert.pem\n    key: key.pem\n";
    let Some(registry) = start_with(tls, make_certificate) else { return };
    let reference = Reference::parse(&format!("{}/app:1", registry.host)).unwrap();
    push_image(&client(16 << 20), &reference, &Bytes::from_static(b"layer")).await;

    let request = HttpRequest::new(&format!("https://{}/v2/app/tags/list", registry.host));
    let strict = Transport::new(&TransportOptions::default()).unwrap();
    let error = fetch(&strict, &request).await.unwrap_err();
    let expected = format!("cannot reach {}: no trusted TLS connection could be made", registry.host);
    assert_eq!(error.to_string(), expected);

    let certificate = fs::read(registry.root.path().join("cert.pem")).unwrap();
    let options = TransportOptions { ca_certificates: vec![certificate], ..TransportOptions::default() };
    let fetched = fetch(&Transport::new(&options).unwrap(), &request).await.unwrap();
    assert!(matches!(fetched, HttpResponse::Fetched(_)));
}
