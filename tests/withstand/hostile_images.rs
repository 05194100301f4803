//! Images whose documents lie: digests that are paths, indexes that go on for ever, layers that are files of the machine.

use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::raw_tar::{HARD_LINK, Raw, SYMLINK};

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{}","size":{}}}"#,
        digest(bytes),
        bytes.len()
    )
}

/// An OCI layout in the making: blobs, then the entries of its index.
#[derive(Default)]
struct Layout {
    raw: Raw,
}

impl Layout {
    fn blob(mut self, bytes: &[u8]) -> Self {
        self.raw = self.raw.file(&format!("blobs/sha256/{}", digest(bytes)), bytes);
        self
    }

    fn end(self, entries: &str) -> Vec<u8> {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
        let raw = self.raw.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        raw.file("index.json", index.as_bytes()).end()
    }
}

fn named(descriptor: &str) -> String {
    let annotations = r#","annotations":{"org.opencontainers.image.ref.name":"evil.example/image:1","io.containerd.image.name":"evil.example/image:1"}}"#;
    descriptor.trim_end_matches('}').to_owned() + annotations
}

fn config(diff_ids: &[String]) -> Vec<u8> {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("\"sha256:{id}\"")).collect();
    format!(
        r#"{{"architecture":"{}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        ids.join(",")
    )
    .into_bytes()
}

/// Returns an OCI layout of an image of these layers, which may be compressed.
pub(crate) fn layout(layers: &[&[u8]]) -> Vec<u8> {
    let plain = |layer: &[u8]| {
        let mut tar = Vec::new();
        let is_gzip = layer.starts_with(&[0x1f, 0x8b]);
        // What is no stream is its own content, and refused for that.
        let read = is_gzip
            .then(|| std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(layer), &mut tar));
        if matches!(read, Some(Ok(_))) { digest(&tar) } else { digest(layer) }
    };
    let config = config(&layers.iter().map(|layer| plain(layer)).collect::<Vec<_>>());
    let described: Vec<String> = layers
        .iter()
        .map(|layer| {
            descriptor(
                if layer.starts_with(&[0x1f, 0x8b]) { "layer.v1.tar+gzip" } else { "layer.v1.tar" },
                layer,
            )
        })
        .collect();
    let manifest = manifest(&descriptor("config.v1+json", &config), &described.join(","));
    let blobs = layers.iter().fold(Layout::default(), |layout, layer| layout.blob(layer));
    blobs.blob(&config).blob(&manifest).end(&named(&descriptor("manifest.v1+json", &manifest)))
}

fn manifest(config: &str, layers: &str) -> Vec<u8> {
    format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layers}]}}"#)
        .into_bytes()
}

/// An image whose manifest is written by `make`, from right descriptors of a right config and layer.
fn lying(make: impl Fn(&str, &str) -> Vec<u8>) -> Vec<u8> {
    let layer = Raw::default().file("a", b"a").end();
    let config = config(&[digest(&layer)]);
    let manifest = make(&descriptor("config.v1+json", &config), &descriptor("layer.v1.tar", &layer));
    let layout = Layout::default().blob(&layer).blob(&config).blob(&manifest);
    layout.end(&named(&descriptor("manifest.v1+json", &manifest)))
}

fn cases(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let secret = format!("/{}", bench.secret());
    let up = format!("{}{}", "../".repeat(30), bench.secret());
    let mut cases = digests(&secret);
    cases.extend(documents());
    let docker = |config: &str, layer: &str, raw: Raw| {
        let manifest =
            format!(r#"[{{"Config":"{config}","RepoTags":["evil.example/image:1"],"Layers":["{layer}"]}}]"#);
        raw.file("manifest.json", manifest.as_bytes()).end()
    };
    let right = config(&[digest(b"")]);
    for path in [&secret, &up] {
        cases.push((
            format!("a docker archive whose config is {path}"),
            docker(path, "layer.tar", Raw::default()),
        ));
        let raw = Raw::default().file("config.json", &right);
        cases.push((
            format!("a docker archive whose layer is {path}"),
            docker("config.json", path, raw.clone()),
        ));
        for kind in [SYMLINK, HARD_LINK] {
            let raw = raw.clone().member("layer.tar", kind, path);
            cases.push((
                format!("a docker archive whose layer links to {path}"),
                docker("config.json", "layer.tar", raw),
            ));
            let blob = Raw::default()
                .member("index.json", kind, path)
                .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
            cases.push((format!("a layout whose index links to {path}"), blob.end()));
        }
    }
    cases
}

fn digests(secret: &str) -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let long = format!("sha256:{}", "a".repeat(64));
    for wrong in [
        "sha256:../../../etc/passwd",
        secret,
        "sha256:",
        "",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha512:aa",
        &long,
    ] {
        let replace = |descriptor: &str| {
            let start = descriptor.find("sha256:").unwrap();
            format!("{}{wrong}{}", &descriptor[..start], &descriptor[start + 71..])
        };
        cases.push((
            format!("a layer with the digest {wrong:?}"),
            lying(|config, layer| manifest(config, &replace(layer))),
        ));
        cases.push((
            format!("a config with the digest {wrong:?}"),
            lying(|config, layer| manifest(&replace(config), layer)),
        ));
        cases.push((format!("a manifest with the digest {wrong:?}"), {
            Layout::default().end(&named(&replace(&descriptor("manifest.v1+json", b"{}"))))
        }));
    }
    for size in ["0", "-1", "1", "18446744073709551616", "9223372036854775807", "1e3", "\"7\""] {
        let replace = |descriptor: &str| {
            let start = descriptor.find("\"size\":").unwrap() + 7;
            format!("{}{size}}}", &descriptor[..start])
        };
        cases.push((
            format!("a layer of the size {size}"),
            lying(|config, layer| manifest(config, &replace(layer))),
        ));
        cases.push((
            format!("a config of the size {size}"),
            lying(|config, layer| manifest(&replace(config), layer)),
        ));
    }
    cases
}

fn documents() -> Vec<(String, Vec<u8>)> {
    let mut cases = vec![
        (
            "more layers than the config knows".to_owned(),
            lying(|config, layer| manifest(config, &format!("{layer},{layer}"))),
        ),
        ("no layers".to_owned(), lying(|config, _| manifest(config, ""))),
        ("a manifest that is no JSON".to_owned(), lying(|_, _| b"\xff\xfe".to_vec())),
        ("a manifest of a list in a list, and so on".to_owned(), lying(|_, _| b"[".repeat(200_000))),
        ("a config that is the manifest's layer".to_owned(), lying(|_, layer| manifest(layer, layer))),
        (
            "a foreign layer of this machine".to_owned(),
            lying(|config, layer| {
                let urls = r#","urls":["file:///etc/passwd"]}"#;
                manifest(config, &(layer.trim_end_matches('}').to_owned() + urls))
            }),
        ),
        (
            "a manifest of fifty megabytes".to_owned(),
            lying(|config, layer| {
                let mut bytes = manifest(config, layer);
                bytes.resize(50 << 20, b' ');
                bytes
            }),
        ),
        ("an archive with nothing in it".to_owned(), Raw::default().end()),
        ("no archive".to_owned(), b"no archive at all".repeat(100)),
    ];
    // An index that names itself cannot have its own digest; one that claims to is a lie, and a deep one is long.
    let own = r#"{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":2}"#;
    let circle = format!(r#"{{"schemaVersion":2,"manifests":[{own}]}}"#);
    let raw = Raw::default().file(&format!("blobs/sha256/{}", "a".repeat(64)), circle.as_bytes());
    cases.push(("an index that names itself".to_owned(), Layout { raw }.end(&named(own))));
    let mut nested = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    let mut deep = Layout::default();
    for _ in 0..1000 {
        deep = deep.blob(&nested);
        nested = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("index.v1+json", &nested))
            .into_bytes();
    }
    cases.push((
        "a thousand indexes in each other".to_owned(),
        deep.blob(&nested).end(&named(&descriptor("index.v1+json", &nested))),
    ));
    cases
}

#[test]
fn documents_that_lie_are_refused() {
    let bench = Bench::new();
    let cases = cases(&bench);
    assert!(cases.len() > 40, "only {}", cases.len());
    for (name, bytes) in cases {
        std::fs::write(bench.path("image.tar"), bytes).unwrap();
        let ran = bench.mica(&["load", "-i", "../image.tar"]);
        ran.is_an_answer(&name);
        bench.is_unharmed(&name);
        if ran.code == Some(0) {
            bench.write("Dockerfile", "FROM scratch\nCOPY --from=evil.example/image:1 / /\n");
            bench.mica(&["build", "-o", "../out", "."]).is_an_answer(&name);
            bench.is_unharmed(&name);
            bench.mica(&["rmi", "evil.example/image:1"]).is_an_answer(&name);
        }
    }
}
