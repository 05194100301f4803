//! What a build leaves behind besides the image in the store.

use std::collections::BTreeMap;
use std::fs::FileTimes;
use std::io::Read;
use std::time::SystemTime;

use serde_json::Value;

use crate::support::{Bench, Image, has_peer, run_peer};

const TEXT: &str = "FROM scratch\nCOPY a.txt /d/a.txt\nCOPY --chown=3:4 --chmod=600 a.txt /d/b.txt\n\
    ENV NAME=value\nLABEL kind=test\nCMD [\"/d/a.txt\"]\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.dockerfile(TEXT).write("a.txt", "one\n");
    bench
}

fn expected() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("/d", "dir 0755 0:0"),
        ("/d/a.txt", "file 0644 0:0 one\n"),
        ("/d/b.txt", "file 0600 3:4 one\n"),
    ])
}

fn files(image: &Image) -> BTreeMap<&str, &str> {
    image.files.iter().map(|(path, told)| (path.as_str(), told.as_str())).collect()
}

#[test]
fn an_oci_layout_is_whole() {
    let bench = bench();
    bench.mica(&["build", "-o", "type=oci,dest=../x.tar", "."]).succeeds();
    let image = Image::read(&std::fs::read(bench.path("x.tar")).unwrap());
    assert_eq!(files(&image), expected());
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.setting("Cmd"), &serde_json::json!(["/d/a.txt"]));
    assert_eq!(image.setting("Labels"), &serde_json::json!({"kind": "test"}));
    let history = image.config["history"].as_array().unwrap();
    let texts: Vec<&str> = history.iter().map(|entry| entry["created_by"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        [
            "COPY a.txt /d/a.txt # buildkit",
            "COPY --chown=3:4 --chmod=600 a.txt /d/b.txt # buildkit",
            "ENV NAME=value",
            "LABEL kind=test",
            "CMD [\"/d/a.txt\"]",
        ]
    );
}

#[test]
fn an_oci_layout_may_be_a_directory() {
    let bench = bench();
    bench.mica(&["build", "-o", "type=oci,dest=../layout,tar=false", "."]).succeeds();
    let index: Value =
        serde_json::from_slice(&std::fs::read(bench.path("layout/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    assert!(bench.path("layout/blobs").join(digest).is_file());
}

#[test]
fn a_docker_archive_names_the_image() {
    let bench = bench();
    bench.mica(&["build", "-t", "team/app:7", "-o", "type=docker,dest=../x.tar", "."]).succeeds();
    let bytes = std::fs::read(bench.path("x.tar")).unwrap();
    let mut manifest = String::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().as_os_str() == "manifest.json" {
            entry.read_to_string(&mut manifest).unwrap();
        }
    }
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert!(manifest[0]["RepoTags"][0].as_str().unwrap().ends_with("team/app:7"), "{manifest}");
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn files_go_to_a_directory_or_a_tar() {
    let bench = bench();
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/d/b.txt")).unwrap(), "one\n");
    bench.mica(&["build", "-o", "type=tar,dest=../x.tar", "."]).succeeds();
    let written = bench.bytes(&["build", "-o", "-", "."]);
    assert_eq!(written, std::fs::read(bench.path("x.tar")).unwrap());
    let mut names = Vec::new();
    for entry in tar::Archive::new(written.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let owner = entry.header().uid().unwrap();
        names.push((entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned(), owner));
    }
    assert_eq!(names, [("d".to_owned(), 0), ("d/a.txt".to_owned(), 0), ("d/b.txt".to_owned(), 3)]);
}

#[test]
fn several_outputs_come_from_one_build() {
    let bench = bench();
    bench.mica(&["build", "-o", "../out", "-o", "type=oci,dest=../x.tar", "."]).succeeds();
    assert!(bench.path("out/d/a.txt").exists() && bench.path("x.tar").exists());
}

#[test]
fn the_image_id_is_the_digest_of_its_configuration() {
    let bench = bench();
    let ran =
        bench.mica(&["build", "-q", "--iidfile", "../id", "-o", "type=oci,dest=../x.tar", "."]).succeeds();
    let id = std::fs::read_to_string(bench.path("id")).unwrap();
    assert_eq!((ran.stdout.trim_end(), ran.stderr.as_str()), (id.as_str(), ""));
    let names = run_tar_listing(&std::fs::read(bench.path("x.tar")).unwrap());
    assert!(names.contains(&format!("blobs/{}", id.replace(':', "/"))), "{id} {names:?}");
}

fn run_tar_listing(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let path = |entry: tar::Entry<'_, &[u8]>| entry.path().unwrap().to_string_lossy().into_owned();
    archive.entries().unwrap().map(|entry| path(entry.unwrap())).collect()
}

#[test]
fn equal_inputs_are_equal_bytes() {
    let write = || {
        let bench = bench();
        // A directory that a step makes carries the time of the build.
        bench.dockerfile("FROM scratch\nCOPY a.txt /\nCOPY --chown=3:4 --chmod=600 a.txt /b.txt\nENV A=1\n");
        let copied = std::fs::File::options().write(true).open(bench.context().join("a.txt")).unwrap();
        copied.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        bench
            .mica_with(
                &["build", "-o", "type=oci,dest=../x.tar", "."],
                &[("SOURCE_DATE_EPOCH", "1000000000")],
                b"",
            )
            .succeeds();
        std::fs::read(bench.path("x.tar")).unwrap()
    };
    assert!(write() == write(), "two stores write different archives of one build");
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let bench = bench();
    bench.mica(&["build", "-o", "type=oci,dest=/proc/no/x.tar", "."]).exits(1).says(&["/proc/no/x.tar"]);
    bench.mica(&["build", "-o", "type=registry", "."]).exits(2).says(&["registry"]);
}

#[test]
fn skopeo_reads_what_mica_writes() {
    if !has_peer("skopeo") {
        return;
    }
    let bench = bench();
    let id = bench.build_quiet(&[
        "-t",
        "app:1",
        "-o",
        "type=oci,dest=../x.tar",
        "-o",
        "type=docker,dest=../y.tar",
    ]);
    let path = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    for source in [format!("oci-archive:{}", path("x.tar")), format!("docker-archive:{}", path("y.tar"))] {
        let config = run_peer("skopeo", &["inspect", "--config", &source]);
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Labels"]["kind"], "test", "{source}");
        let copy = format!("dir:{}", path("copied"));
        run_peer("skopeo", &["--insecure-policy", "copy", "-q", &source, &copy]);
        let manifest = std::fs::read(bench.path("copied/manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], id.as_str(), "{source}");
        std::fs::remove_dir_all(bench.path("copied")).unwrap();
    }
}

#[test]
fn umoci_unpacks_the_same_files() {
    use std::os::unix::fs::MetadataExt;
    if !has_peer("umoci") {
        return;
    }
    let bench = bench();
    bench.mica(&["build", "-t", "app", "-o", "type=oci,dest=../layout,tar=false", "."]).succeeds();
    let index: Value =
        serde_json::from_slice(&std::fs::read(bench.path("layout/index.json")).unwrap()).unwrap();
    let tag = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    let image = format!("{}:{}", bench.path("layout").display(), tag.as_str().unwrap());
    let is_root = rustix::process::geteuid().is_root();
    let bundle = bench.path("bundle");
    let mut arguments = vec!["unpack", "--image", &image, bundle.to_str().unwrap()];
    if !is_root {
        arguments.insert(1, "--rootless");
    }
    run_peer("umoci", &arguments);
    let told = bundle.join("rootfs/d/b.txt").metadata().unwrap();
    assert_eq!(told.mode() & 0o7777, 0o600);
    assert!(!is_root || (told.uid(), told.gid()) == (3, 4));
}

#[test]
fn a_tree_is_written_over_an_earlier_one_and_not_through_its_links() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY tree /\n").write("tree/f", "1\n").write("tree/d/g", "g\n");
    std::os::unix::fs::symlink("f", bench.context().join("tree/link")).unwrap();
    let arguments = ["build", "-o", "../out", "."];
    bench.mica(&arguments).succeeds();
    bench.write("out-of-it", "untouched\n");
    std::fs::remove_file(bench.path("out/d/g")).unwrap();
    std::os::unix::fs::symlink(bench.context().join("out-of-it"), bench.path("out/d/g")).unwrap();
    std::fs::write(bench.path("out/mine"), "mine\n").unwrap();
    bench.write("tree/f", "2\n").mica(&arguments).succeeds();
    let text = |path: &str| std::fs::read_to_string(bench.path(path)).unwrap();
    assert_eq!(
        (text("out/f"), text("out/d/g"), text("out/mine")),
        ("2\n".into(), "g\n".into(), "mine\n".into())
    );
    assert_eq!(std::fs::read_to_string(bench.context().join("out-of-it")).unwrap(), "untouched\n");
}
