//! Images go to a registry somebody else wrote, and come back the same.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

pub(crate) mod registry;

use serde_json::Value;

use crate::support::{Bench, has_peer, run_peer};
use registry::{BrokenLine, DebianRegistry, Speaks};

/// Bytes that do not get smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// A bench with an image of two layers to build.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\nENV A=b\n");
    bench.write("a", "a\n").write("b", "b\n");
    bench
}

fn metadata(bench: &Bench) -> Value {
    let text = std::fs::read(bench.path("metadata.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Returns the document a name stands for, as another tool reads it.
fn raw(name: &str) -> Value {
    let text = run_peer("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&text).unwrap()
}

/// Returns the part of `name@digest` after the `@`.
fn digest_of(line: &str) -> &str {
    line.trim_end().rsplit_once('@').unwrap().1
}

#[test]
fn what_is_pushed_comes_back_the_same() {
    for speaks in [Speaks::Http, Speaks::Tls] {
        let Some(registry) = DebianRegistry::start(speaks) else { return };
        let bench = bench();
        let name = registry.name("team/app:1");
        bench.mica(&["build", "--push", "--metadata-file", "../metadata.json", "-t", &name, "."]).succeeds();
        let metadata = metadata(&bench);
        let digest = metadata["containerimage.digest"].as_str().unwrap();
        assert_eq!(metadata["containerimage.descriptor"]["digest"], digest);
        assert_eq!(metadata["image.name"], name);

        std::fs::remove_dir_all(bench.path("store")).unwrap();
        let pulled = bench.mica(&["pull", &name]).succeeds().stdout;
        assert_eq!(metadata["containerimage.config.digest"], pulled.trim_end());
        let again = bench.mica(&["push", &name, &registry.name("other:1")]).succeeds().stdout;
        assert_eq!(digest_of(&again), digest);
        bench.dockerfile(&format!("FROM {name}\n"));
        bench.mica(&["build", "-o", "../out", "."]).succeeds();
        assert_eq!(std::fs::read_to_string(bench.path("out/b")).unwrap(), "b\n");
    }
}

#[test]
fn a_second_push_sends_nothing_and_another_repository_takes_layers_over() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    let bench = bench();
    let (name, other) = (registry.name("app:1"), registry.name("team/other:2"));
    bench.mica(&["build", "--push", "-t", &name, "."]).succeeds().says(&["pushing sha256:"]);
    bench.mica(&["build", "--push", "-t", &name, "."]).succeeds().says_not("pushing");
    let ran = bench.mica(&["push", "-vv", &name, &other]).succeeds();
    assert_eq!(ran.stderr.matches("mounted from another repository").count(), 2, "{}", ran.stderr);
    // Compressed blobs that are gone are not made again for a registry that has them.
    let blobs = bench.path("store/blobs");
    std::fs::rename(&blobs, bench.path("blobs")).unwrap();
    let config = config_blob(&bench);
    std::fs::create_dir_all(&blobs).unwrap();
    restore(&bench, &config);
    let again = bench.mica(&["push", &name]).succeeds().stdout;
    assert_eq!(digest_of(&again), digest_of(&ran.stdout));
    assert!(find(&blobs).len() <= 1, "{:?}", find(&blobs));
}

/// Returns the place of the only image's config below the moved blobs.
fn config_blob(bench: &Bench) -> std::path::PathBuf {
    let is_config =
        |path: &std::path::PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"{"));
    let found = find(&bench.path("blobs")).into_iter().find(is_config).unwrap();
    found.strip_prefix(bench.path("blobs")).unwrap().to_owned()
}

fn restore(bench: &Bench, config: &std::path::Path) {
    let target = bench.path("store/blobs").join(config);
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::copy(bench.path("blobs").join(config), target).unwrap();
}

fn find(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(find(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn credentials_are_checked_kept_and_forgotten() {
    let Some(registry) = DebianRegistry::start(Speaks::Password) else { return };
    let bench = bench();
    let name = registry.name("app:1");
    let login = |password: &str| {
        bench.mica_with(
            &["login", "-u", "user", "--password-stdin", registry.host()],
            &[],
            password.as_bytes(),
        )
    };
    bench.mica(&["build", "--push", "-t", &name, "."]).exits(1).says(&["cannot push to", "denied"]);
    login("wrong\n").exits(1).says(&["cannot log in"]);
    let config = bench.path("home/.docker/config.json");
    assert!(!config.exists());

    login("secret\n").succeeds().says(&["logged in"]).says_not("secret");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&config).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    bench.mica(&["build", "--push", "-t", &name, "."]).succeeds();
    if has_peer("skopeo") {
        let source = format!("docker://{name}");
        let file = config.to_str().unwrap();
        run_peer("skopeo", &["inspect", "--tls-verify=false", "--authfile", file, &source]);
    }
    bench.mica(&["logout", registry.host()]).succeeds().says(&["logged out"]);
    bench.mica(&["push", &name]).exits(1).says(&["denied"]);
    bench.mica(&["logout", registry.host()]).succeeds().says(&["there were no credentials"]);
}

#[test]
fn credentials_go_to_a_helper_where_one_is_named() {
    let Some(registry) = DebianRegistry::start(Speaks::Password) else { return };
    let bench = bench();
    let helper = bench.path("docker-credential-test");
    let kept = bench.path("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0};;\nget) cat {0};;\nerase) rm {0};;\nesac\n",
        kept.display()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = bench.path("home/.docker/config.json");
    std::fs::create_dir(bench.path("home/.docker")).unwrap();
    std::fs::write(&config, r#"{"credsStore":"test","HttpHeaders":{}}"#).unwrap();
    let path = format!("{}:/usr/bin:/bin", helper.parent().unwrap().display());
    let variables = [("PATH", path.as_str())];

    let login = ["login", "-u", "user", "--password-stdin", registry.host()];
    bench.mica_with(&login, &variables, b"secret").succeeds().says(&["`docker-credential-test` keeps"]);
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(
        text.contains("HttpHeaders") && text.contains(registry.host()) && !text.contains("secret"),
        "{text}"
    );
    assert!(std::fs::read_to_string(&kept).unwrap().contains("secret"));
    let name = registry.name("app:1");
    bench.mica_with(&["build", "--push", "-t", &name, "."], &variables, b"").succeeds();
    bench.mica_with(&["logout", registry.host()], &variables, b"").succeeds();
    assert!(!kept.exists());
}

#[test]
fn broken_connections_are_survived() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    let bench = bench();
    bench.write("a", noise(24 << 20));
    let line = BrokenLine::to(&registry, 3, 1 << 20);
    let name = line.name("app:1");
    let pushed = bench.mica(&["build", "--push", "-q", "-t", &name, "."]).succeeds().stdout;
    assert_eq!(line.cuts_left(), 0, "no connection was cut");

    std::fs::remove_dir_all(bench.path("store")).unwrap();
    let line = BrokenLine::to(&registry, 3, 1 << 20);
    let pulled = bench.mica(&["pull", &line.name("app:1")]).succeeds().stdout;
    assert_eq!(line.cuts_left(), 0, "no connection was cut");
    assert_eq!(pulled, pushed);
}

#[test]
fn the_configuration_names_mirrors_and_certificates() {
    let Some(registry) = DebianRegistry::start(Speaks::Tls) else { return };
    let bench = bench();
    bench.mica(&["build", "--push", "-t", &registry.name("team/app:1"), "."]).succeeds();
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    let config = bench.path("home/.config/mica/mica.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    let address = format!("https://{}/v2/team/app/tags/list", registry.host());
    bench.dockerfile(&format!("FROM registry.invalid/team/app:1\nADD {address} /tags\n"));
    std::fs::write(&config, format!("[mirrors]\n\"registry.invalid\" = [\"https://{}\"]\n", registry.host()))
        .unwrap();
    bench.mica(&["build", "-o", "../out", "."]).exits(1).says(&["no trusted TLS connection"]);
    registry.save_certificate(&bench.path("home/.config/mica/lab.pem"));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("ca-certificates = [\"lab.pem\"]\n{text}")).unwrap();
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/a")).unwrap(), "a\n");
    assert!(std::fs::read_to_string(bench.path("out/tags")).unwrap().contains("team/app"));

    std::fs::write(&config, "mirror = 1\n").unwrap();
    bench.mica(&["build", "."]).exits(1).says(&["mica.toml", "mirror"]);
}

#[test]
fn several_platforms_are_an_index() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    if !has_peer("skopeo") {
        return;
    }
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\nCOPY shared /shared\n");
    bench.write("amd64", "amd64\n").write("arm64", "arm64\n").write("shared", "shared\n");
    let name = registry.name("app:1");
    let annotate = ["--annotation", "index:about=all", "--annotation", "manifest[linux/arm64]:about=arm"];
    let build = ["build", "--push", "--platform", "linux/amd64,linux/arm64", "-t", &name, "."];
    bench.mica(&[&build[..], &annotate].concat()).succeeds();
    let index = raw(&name);
    assert_eq!(index["annotations"]["about"], "all");
    let platforms: Vec<&Value> =
        index["manifests"].as_array().unwrap().iter().map(|it| &it["platform"]).collect();
    assert_eq!(platforms.len(), 2);
    for (platform, entry) in ["amd64", "arm64"].into_iter().zip(index["manifests"].as_array().unwrap()) {
        assert_eq!(entry["platform"]["architecture"], platform);
        let digest = entry["digest"].as_str().unwrap();
        let manifest = raw(&format!("{}@{digest}", registry.name("app")));
        assert_eq!(manifest["annotations"]["about"].as_str(), (platform == "arm64").then_some("arm"));
        let bench = Bench::new();
        bench.dockerfile(&format!("FROM {name}\n"));
        let platform_flag = format!("--platform=linux/{platform}");
        bench.mica(&["build", &platform_flag, "-o", "../out", "."]).succeeds();
        assert_eq!(std::fs::read_to_string(bench.path("out/arch")).unwrap().trim_end(), platform);
    }
    // By its name it goes elsewhere whole.
    bench.mica(&["save", "--format=oci", "-o", "../saved.tar", &name]).succeeds();
    let archive = format!("oci-archive:{}", bench.path("saved.tar").display());
    let saved: Value = serde_json::from_str(&run_peer("skopeo", &["inspect", "--raw", &archive])).unwrap();
    assert_eq!(saved["manifests"].as_array().unwrap().len(), 2);
    let moved = bench.mica(&["push", &name, &registry.name("moved:1")]).succeeds().stdout;
    assert_eq!(raw(&registry.name("moved:1"))["manifests"].as_array().unwrap().len(), 2);
    assert!(moved.starts_with(&registry.name("moved:1")));
}

#[test]
fn indexes_are_made_and_copied_in_registries() {
    let (Some(registry), Some(other)) =
        (DebianRegistry::start(Speaks::Http), DebianRegistry::start(Speaks::Http))
    else {
        return;
    };
    let bench = bench();
    let mut names = Vec::new();
    for platform in ["amd64", "arm64"] {
        let name = registry.name(&format!("{platform}:1"));
        bench.mica(&["build", "--push", "--platform", platform, "-t", &name, "."]).succeeds();
        names.push(name);
    }
    let joined = registry.name("app:1");
    let create = ["image", "index", "create", "-t", &joined, "--annotation", "k=v", &names[0], &names[1]];
    let made = bench.mica(&create).succeeds().stdout;
    let document = bench.mica(&["image", "index", "inspect", "--raw", &joined]).succeeds().stdout;
    let index: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(index["annotations"]["k"], "v");
    let architectures: Vec<&Value> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(architectures, ["amd64", "arm64"]);

    // Another registry gets all of it, and a name beside it only the document.
    for target in [other.name("team/app:2"), other.name("team/app:3"), registry.name("app:copy")] {
        let copied = bench.mica(&["image", "index", "copy", &joined, &target]).succeeds().stdout;
        assert_eq!(copied, format!("{target}@{}\n", digest_of(&made)));
    }
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    bench.dockerfile(&format!("FROM {}\n", other.name("team/app:3")));
    bench.mica(&["build", "--platform=linux/arm64", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/a")).unwrap(), "a\n");
    let inspected = bench.mica(&["image", "index", "inspect", &other.name("team/app:2")]).succeeds().stdout;
    assert!(inspected.contains("linux/arm64") && inspected.contains(digest_of(&made)), "{inspected}");
    bench.mica(&["image", "index", "create", &names[0]]).exits(1).says(&["no name"]);
}

#[test]
fn a_step_for_another_machine_needs_an_emulator() {
    let Some(bench) = Bench::with_base() else { return };
    // The beginning of a program for an architecture that nobody emulates, for there is none.
    bench.write("program", b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\xfe");
    bench.dockerfile("FROM scratch\nCOPY --chmod=755 program /program\nRUN [\"/program\"]\n");
    let expected = ["the step is for linux/s390x", "binfmt_misc", "--platform=$BUILDPLATFORM"];
    bench.mica(&["build", "--platform=linux/s390x", "."]).exits(1).says(&expected);
    // On its own platform the same program is only damaged.
    bench.mica(&["build", "."]).exits(1).says(&["not in a format"]).says_not("binfmt_misc");
}

#[test]
fn the_keys_of_outputs_are_honoured() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    if !has_peer("skopeo") {
        return;
    }
    let bench = bench();
    let (first, second) = (registry.name("one:1"), registry.name("two:2"));
    let names = format!(r#"type=image,push=true,"name={first},{second}",compression=zstd,annotation.k=v"#);
    bench.mica(&["build", "-o", &names, "."]).succeeds();
    for name in [&first, &second] {
        let manifest = raw(name);
        assert_eq!(manifest["annotations"]["k"], "v");
        let kind = &manifest["layers"][0]["mediaType"];
        assert_eq!(kind, "application/vnd.oci.image.layer.v1.tar+zstd");
    }

    // The base's layers came as zstd: they stay so, unless it is insisted on.
    bench.dockerfile(&format!("FROM {first}\nCOPY a /again\n"));
    let kinds = |name: &str| -> Vec<String> {
        let layers = raw(name)["layers"].as_array().unwrap().clone();
        let kind =
            |layer: &Value| layer["mediaType"].as_str().unwrap().rsplit_once('.').unwrap().1.to_owned();
        layers.iter().map(kind).collect()
    };
    let docker = registry.name("docker:1");
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    bench.mica(&["build", "-t", "local", "-o", &format!("type=registry,name={docker}"), "."]).succeeds();
    assert_eq!(kinds(&docker), ["tar+zstd", "tar+zstd", "tar+gzip"]);
    let keys = "compression=uncompressed,force-compression=true,oci-mediatypes=false";
    bench.mica(&["build", "-o", &format!("type=registry,name={docker},{keys}"), "."]).succeeds();
    assert_eq!(kinds(&docker), ["tar", "tar", "tar"]);
    assert_eq!(raw(&docker)["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");

    let digest_only = registry.name("digests");
    let output = format!("type=image,name={digest_only},push=true,push-by-digest=true,name-canonical=true");
    bench.mica(&["build", "--metadata-file", "../metadata.json", "-o", &output, "."]).succeeds();
    let digest = metadata(&bench)["containerimage.digest"].as_str().unwrap().to_owned();
    assert_eq!(raw(&format!("{digest_only}@{digest}"))["schemaVersion"], 2);
    bench.mica(&["pull", &digest_only]).exits(1);
}
