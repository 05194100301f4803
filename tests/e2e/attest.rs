//! What is said of images: provenance and lists of packages, as others read them.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::{Access, Bench, GitDaemon, Layout, Registry, digest, directory, git, has_peer};

/// The statements about the image of a layout, each checked against the manifest it speaks of.
#[track_caller]
fn statements(layout: &Layout) -> Vec<Value> {
    let index = layout.index();
    let entries = index["manifests"].as_array().unwrap();
    let image = &entries[0];
    let attestation = &entries[1];
    assert_eq!(attestation["platform"], json!({"architecture": "unknown", "os": "unknown"}));
    assert_eq!(attestation["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], image["digest"]);
    let manifest = layout.json(&attestation["digest"]);
    let config = layout.json(&manifest["config"]["digest"]);
    assert_eq!(config["architecture"], "unknown");
    let mut statements = Vec::new();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
        assert_eq!(config["rootfs"]["diff_ids"][number], layer["digest"]);
        let statement = layout.json(&layer["digest"]);
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], statement["predicateType"]);
        for subject in statement["subject"].as_array().unwrap() {
            let expected = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            assert_eq!(subject["digest"]["sha256"], expected);
        }
        statements.push(statement);
    }
    statements
}

fn build(bench: &Bench, arguments: &[&str]) -> Layout {
    let layout = bench.path("layout");
    let _ = fs::remove_dir_all(&layout);
    bench
        .mica(&[&["build", "-o", "type=oci,tar=false,dest=../layout"], arguments, &["."]].concat())
        .succeeds();
    Layout(layout)
}

/// The rules of in-toto's ResourceDescriptor and SLSA's Provenance, version 1, as they are published.
#[track_caller]
fn check_provenance(predicate: &Value) {
    let only = |value: &Value, keys: &[&str]| {
        for key in value.as_object().unwrap().keys() {
            assert!(keys.contains(&key.as_str()), "unknown field {key}");
        }
    };
    only(predicate, &["buildDefinition", "runDetails"]);
    let definition = &predicate["buildDefinition"];
    only(definition, &["buildType", "externalParameters", "internalParameters", "resolvedDependencies"]);
    assert!(definition["buildType"].as_str().unwrap().starts_with("https://"));
    assert!(!definition["externalParameters"].as_object().unwrap().is_empty());
    for found in definition["resolvedDependencies"].as_array().unwrap() {
        only(found, &["uri", "digest", "name", "downloadLocation", "mediaType", "content", "annotations"]);
        assert!(found["uri"].is_string() || found["digest"].is_object() || found["content"].is_string());
        for (algorithm, value) in found["digest"].as_object().into_iter().flatten() {
            let hex = value.as_str().unwrap();
            assert!(!algorithm.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        }
    }
    let run = &predicate["runDetails"];
    only(run, &["builder", "metadata", "byproducts"]);
    only(&run["builder"], &["id", "builderDependencies", "version"]);
    assert!(run["builder"]["id"].as_str().unwrap().contains("://"));
    if let Some(metadata) = run.get("metadata") {
        only(metadata, &["invocationId", "startedOn", "finishedOn"]);
        for key in ["startedOn", "finishedOn"] {
            let time = metadata[key].as_str().unwrap();
            assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
        }
    }
}

fn dependency(predicate: &Value, wanted: impl Fn(&Value) -> bool) -> &Value {
    let all = predicate["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    all.iter().find(|found| wanted(found)).unwrap_or_else(|| panic!("not in {all:#?}"))
}

#[test]
fn provenance_lists_every_input() {
    if !has_peer("git") {
        return;
    }
    let (registry, bench) = (Registry::start(Access::Open), Bench::new());
    let base = registry.put("base:1", &[directory("srv")], &json!({}));
    let tool = registry.put_file("tool", b"tool\n");
    bench.write("repository/app", "app\n");
    git(&bench, &["init", "-q", "-b", "main", "repository"]);
    git(&bench, &["-C", "repository", "add", "."]);
    git(&bench, &["-C", "repository", "commit", "-q", "-m", "one"]);
    let commit = git(&bench, &["-C", "repository", "rev-parse", "HEAD"]);
    let Some(daemon) = GitDaemon::start(&bench.context()) else { return };
    let (name, repository) = (registry.name("base:1"), daemon.url("repository/.git"));
    let text = format!(
        "FROM {name}\nARG VERSION\nADD {tool} /srv/\nADD {repository}#main /srv/\nCOPY own /srv/\nCOPY --from=more x /\n"
    );
    bench.dockerfile(&text).write("own", "own\n").write("more/x", "x\n").write(".dockerignore", "layout\n");
    let arguments = ["--build-arg", "VERSION=hidden", "--build-context", "more=more", "-t", "app:1"];
    let layout = build(&bench, &[&["--provenance", "mode=max"], &arguments[..]].concat());
    let [statement] = &statements(&layout)[..] else { panic!("one statement") };
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert!(statement["subject"][0]["name"].as_str().unwrap().starts_with("pkg:docker/app@1?platform="));
    let told = &statement["predicate"];
    check_provenance(told);
    let bare = |text: &str| text.strip_prefix("sha256:").unwrap().to_owned();
    let found = dependency(told, |it| it["annotations"]["image"] == name.as_str());
    assert_eq!(found["digest"]["sha256"], bare(&base));
    let found = dependency(told, |it| it["uri"] == tool.as_str());
    assert_eq!(found["digest"]["sha256"], bare(&digest(b"tool\n")));
    let found = dependency(told, |it| it["uri"] == format!("git+{repository}#main"));
    assert_eq!(found["digest"]["gitCommit"], commit);
    let found = dependency(told, |it| it["name"] == "dockerfile");
    assert_eq!(found["digest"]["sha256"], bare(&digest(text.as_bytes())));
    let context = dependency(told, |it| it["name"] == "context")["digest"]["micaContext1"].clone();
    dependency(told, |it| it["name"] == "context more");
    let asked = &told["buildDefinition"]["externalParameters"];
    assert_eq!((&asked["args"]["VERSION"], &asked["dockerfile"]), (&json!("hidden"), &json!("Dockerfile")));

    let layout = build(&bench, &[&["--provenance=mode=min"], &arguments[..]].concat());
    let least = statements(&layout).remove(0)["predicate"].clone();
    check_provenance(&least);
    assert!(!least.to_string().contains("hidden"), "values of arguments may be confidential");
    bench.write("own", "another\n");
    let layout = build(&bench, &[&["--provenance=true"], &arguments[..]].concat());
    let changed = statements(&layout).remove(0)["predicate"].clone();
    assert_ne!(dependency(&changed, |it| it["name"] == "context")["digest"]["micaContext1"], context);
}

#[test]
fn statements_go_where_images_go_and_nowhere_else() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let plain = build(&bench, &[]);
    assert!(plain.index()["layers"].is_array(), "nothing is attached unless it was asked for");
    let plain =
        build(&bench, &["--provenance=false", "--sbom=false", "--attest", "type=provenance,disabled=true"]);
    assert!(plain.index()["layers"].is_array());
    let epoch = [("SOURCE_DATE_EPOCH", "1000000000")];
    let mut digests = BTreeSet::new();
    for number in ["1", "2"] {
        let (metadata, out) = (format!("../{number}.json"), format!("type=oci,tar=false,dest=../{number}"));
        let arguments = [
            "build",
            "--provenance=true",
            "--sbom=true",
            "-t",
            "app",
            "--metadata-file",
            &metadata,
            "-o",
            &out,
            ".",
        ];
        bench.mica_with(&arguments, &epoch, b"").succeeds();
        let layout = Layout(bench.path(number));
        assert_eq!(statements(&layout).len(), 2);
        let written = fs::read(bench.path(&format!("{number}.json"))).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["buildx.build.provenance"], statements(&layout)[0]["predicate"]);
        digests.insert(written["containerimage.digest"].as_str().unwrap().to_owned());
    }
    assert_eq!(digests.len(), 1, "with a fixed time the statements are the same too");
    let refused = [
        (vec!["--provenance=true"], "no image is written"),
        (vec!["--sbom=true", "-o", "type=docker,dest=../a.tar"], "no image is written"),
        (vec!["--sbom=generator=x", "-o", "type=oci,dest=../a.tar"], "runs no generator"),
        (vec!["--attest=type=other", "-o", "type=oci,dest=../a.tar"], "there is no attestation `other`"),
        (vec!["--sbom=true", "-o", "type=oci,dest=../a.tar,oci-mediatypes=false"], "no place for it"),
    ];
    for (arguments, told) in refused {
        bench.mica(&[&["build"], &arguments[..], &["."]].concat()).exits(2).says(&[told]);
    }
    // An archive beside a layout gets none, which is told.
    let both =
        ["build", "--sbom=true", "-o", "type=oci,dest=../b.tar", "-o", "type=docker,dest=../c.tar", "."];
    bench.mica(&both).succeeds().says(&["c.tar` has no place for attestations"]).says_not("b.tar` has no");
    // Whoever takes the layout takes the image and not what is said of it.
    bench.mica(&["build", "--sbom=true", "-t", "app", "-o", "type=oci,dest=../app.tar", "."]).succeeds();
    let other = Bench::new();
    let id = other.mica(&["load", "-i", bench.path("app.tar").to_str().unwrap()]).succeeds().stdout;
    assert_eq!(id.trim_end(), "loaded app:latest");
    if has_peer("skopeo") {
        let archive = format!("oci-archive:{}", bench.path("app.tar").display());
        crate::support::run_peer("skopeo", &["inspect", "--raw", &archive]);
        let copied = format!("dir:{}", bench.path("copied").display());
        crate::support::run_peer("skopeo", &["copy", "--all", &archive, &copied]);
    }
}

/// The names and versions of a list of packages, the image itself left out; what the format demands of a document is checked.
#[track_caller]
fn packages(document: &Value) -> BTreeSet<String> {
    assert_eq!((&document["spdxVersion"], &document["dataLicense"]), (&json!("SPDX-2.3"), &json!("CC0-1.0")));
    assert_eq!(document["SPDXID"], "SPDXRef-DOCUMENT");
    assert!(document["documentNamespace"].as_str().unwrap().starts_with("https://"));
    assert!(document["creationInfo"]["creators"][0].as_str().unwrap().starts_with("Tool: mica-"));
    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    let mut found = BTreeSet::new();
    for package in document["packages"].as_array().unwrap() {
        let id = package["SPDXID"].as_str().unwrap();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        assert!(ids.insert(id) && id.strip_prefix("SPDXRef-").unwrap().chars().all(allowed), "{id}");
        assert!(package["downloadLocation"].is_string() && package["name"].is_string());
        if package["primaryPackagePurpose"] != "CONTAINER" {
            found.insert(package["externalRefs"][0]["referenceLocator"].as_str().unwrap().to_owned());
        }
    }
    for relation in document["relationships"].as_array().unwrap() {
        assert!(ids.contains(relation["relatedSpdxElement"].as_str().unwrap()));
        assert!(ids.contains(relation["spdxElementId"].as_str().unwrap()));
    }
    found
}

#[test]
fn packages_of_every_known_manager_are_listed() {
    let bench = Bench::new();
    let installed = |name: &str| format!("Package: {name}\nStatus: install ok installed\nVersion: 1-1\n\n");
    bench.write("root/var/lib/dpkg/status", installed("a") + &installed("b"));
    bench.write("root/var/lib/dpkg/status.d/c", "Package: c\nVersion: 3\n");
    bench.write("root/lib/apk/db/installed", "P:d\nV:4\nA:x86_64\n\n");
    bench.write("root/etc/os-release", "ID=example\n");
    let python = "root/usr/lib/python3/dist-packages";
    bench.write(
        &format!("{python}/e-5.dist-info/METADATA"),
        "Metadata-Version: 2.1\nName: e\nVersion: 5\n\nx\n",
    );
    bench.write("root/app/node_modules/@f/g/package.json", r#"{"name":"@f/g","version":"6.0.0"}"#);
    bench.write("root/app/Cargo.lock", "[[package]]\nname = \"h\"\nversion = \"7.0.0\"\n");
    bench.write("root/var/lib/rpm/rpmdb.sqlite", "SQLite format 3");
    bench.dockerfile("FROM scratch\nCOPY root /\n");
    let of = |layout: &Layout| packages(&statements(layout)[0]["predicate"]);
    let layout = build(&bench, &["--sbom=true"]);
    let all: Vec<String> = of(&layout).into_iter().collect();
    let expected = [
        "pkg:apk/example/d@4?arch=x86_64",
        "pkg:cargo/h@7.0.0",
        "pkg:deb/example/a@1-1",
        "pkg:deb/example/b@1-1",
        "pkg:deb/example/c@3",
        "pkg:npm/%40f/g@6.0.0",
        "pkg:pypi/e@5",
    ];
    assert_eq!(all, expected);
    let comment = &statements(&layout)[0]["predicate"]["creationInfo"]["comment"];
    assert!(comment.as_str().unwrap().contains("/var/lib/rpm/rpmdb.sqlite"));
    bench
        .mica(&["build", "--sbom=true", "-o", "type=oci,dest=../a.tar", "."])
        .succeeds()
        .says(&["rpmdb.sqlite` is not read"]);
    // What a later layer removes or replaces is not in the image.
    bench.write("later/var/lib/dpkg/status", installed("z"));
    bench.dockerfile("FROM scratch\nCOPY root /\nCOPY later /\n");
    let all = of(&build(&bench, &["--attest", "type=sbom"]));
    assert!(all.contains("pkg:deb/example/z@1-1") && !all.contains("pkg:deb/example/a@1-1"), "{all:?}");
}

#[test]
fn what_only_looks_like_a_list_lists_nothing() {
    let bench = Bench::new();
    let long = "x".repeat(100_000);
    for (name, content) in [
        ("var/lib/dpkg/status", "Package\n\n: \nVersion:\n\n\u{0}\u{ff}"),
        ("lib/apk/db/installed", "P:\nV"),
        ("usr/lib/python3/site-packages/a.dist-info/METADATA", long.as_str()),
        ("n/node_modules/a/package.json", "{\"name\": 1, \"version\": []}"),
        ("Cargo.lock", "package = 3"),
        ("etc/os-release", "ID=\n"),
    ] {
        bench.write(&format!("root/{name}"), content);
    }
    bench.dockerfile("FROM scratch\nCOPY root /\n");
    let layout = build(&bench, &["--sbom=true"]);
    assert_eq!(packages(&statements(&layout)[0]["predicate"]), BTreeSet::new());
}
