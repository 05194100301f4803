//! Signatures under what is said of images, and rebuilds of what was published.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::push::registry::{DebianRegistry, Speaks};
use crate::support::{Access, Bench, Layout, Person, Registry, digest, file, gzip, has_peer, tar};

/// Makes a pair of keys with openssl: `NAME.pem` and `NAME.pub`.
fn make_key(bench: &Bench, name: &str, algorithm: &[&str]) {
    let (private, public) = (format!("{name}.pem"), format!("{name}.pub"));
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(bench.path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&[&["genpkey", "-out", &private], algorithm].concat());
    run(&["pkey", "-in", &private, "-pubout", "-out", &public]);
}

const ED25519: &[&str] = &["-algorithm", "ed25519"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A bench with two keys and a layout of an image that much is said of.
fn bench() -> Option<(Bench, Layout)> {
    if !has_peer("openssl") {
        return None;
    }
    let bench = Bench::new();
    make_key(&bench, "mine", ED25519);
    make_key(&bench, "other", P256);
    bench.dockerfile("FROM scratch\nCOPY a /a\nCOPY dir /dir\n").write("a", "a\n").write("dir/b", "b\n");
    let out = "type=oci,tar=false,dest=../layout";
    bench.mica(&["build", "--provenance=true", "--sbom=true", "-t", "app", "-o", out, "."]).succeeds();
    let layout = Layout(bench.path("layout"));
    Some((bench, layout))
}

#[test]
fn a_signed_layout_is_verified_with_either_kind_of_key() {
    let Some((bench, layout)) = bench() else { return };
    let verify = |key: &str| bench.mica(&["verify", "--key", key, "../layout"]);
    let unsigned = verify("../mine.pub").exits(1).stdout;
    assert!(unsigned.contains("nothing signed is kept beside it"), "{unsigned}");
    for key in ["../mine", "../other"] {
        let signed = bench.mica(&["attest", "--key", &format!("{key}.pem"), "../layout"]).succeeds().stdout;
        assert!(signed.contains("https://slsa.dev/provenance/v1 sha256:"), "{signed}");
        let told = verify(&format!("{key}.pub")).succeeds().stdout;
        assert!(told.contains("signed: https://spdx.dev/Document") && told.contains("all 9 blobs"), "{told}");
        assert_eq!(verify(&format!("{key}.pem")).succeeds().stdout, told, "a private key has a public half");
    }
    // Others take it for what it was.
    assert_eq!(layout.top()["manifests"].as_array().unwrap().len(), 5);
    let named = layout.0.display().to_string() + ":app";
    bench.mica(&["verify", "--key", "../mine.pub", &named]).succeeds();
    let archive = bench.path("again.tar");
    let packed = Command::new("tar").arg("-C").arg(&layout.0).arg("-cf").arg(&archive).arg(".").status();
    assert!(packed.unwrap().success());
    bench.mica(&["verify", "--key", "../mine.pub", "../again.tar"]).succeeds();
    bench.mica(&["attest", "--key", "../mine.pem", "../again.tar"]).exits(1).says(&["nothing can be added"]);
    let other = Bench::new();
    let loaded = other.mica(&["load", "-i", archive.to_str().unwrap()]).succeeds().stdout;
    assert_eq!(loaded, "loaded app:latest\n");
}

#[test]
fn a_statement_of_ones_own_is_signed() {
    let Some((bench, _)) = bench() else { return };
    fs::write(bench.path("tested.json"), r#"{"result": "passed"}"#).unwrap();
    let kind = "https://example.com/tested/v1";
    let arguments =
        ["attest", "--key", "../mine.pem", "--type", kind, "--predicate", "../tested.json", "../layout"];
    bench.mica(&arguments).succeeds();
    let told = bench.mica(&["verify", "--key", "../mine.pub", "../layout"]).succeeds().stdout;
    assert!(told.starts_with(&format!("signed: {kind}\n")), "{told}");
    bench.dockerfile("FROM scratch\nCOPY a /a\n");
    bench.mica(&["build", "-o", "type=oci,tar=false,dest=../plain", "."]).succeeds();
    bench
        .mica(&["attest", "--key", "../mine.pem", "../plain"])
        .exits(1)
        .says(&["nothing is said of `../plain`"]);
    bench.mica(&["attest", "--key", "../mine.pub", "../plain"]).exits(1).says(&["cannot sign", "genpkey"]);
    bench.mica(&["verify", "--key", "Dockerfile", "../plain"]).exits(2).says(&["is no private key in PEM"]);
    bench.mica(&["verify", "../plain"]).exits(2).says(&["--key"]);
}

/// Puts another document in the place of an entry of `index.json`.
fn replace_entry(layout: &Layout, number: usize, bytes: &[u8]) {
    let mut top = layout.top();
    layout.put(bytes, &mut top["manifests"][number]);
    layout.set_top(&top);
}

#[test]
fn what_was_tampered_with_is_named() {
    let Some((bench, layout)) = bench() else { return };
    bench.mica(&["attest", "--key", "../mine.pem", "../layout"]).succeeds();
    let verify = |told: &[&str]| {
        let said = bench.mica(&["verify", "--key", "../mine.pub", "../layout"]).exits(1).stdout;
        for told in told {
            assert!(said.contains(told), "no {told:?} in {said}");
        }
    };
    let said = bench.mica(&["verify", "--key", "../other.pub", "../layout"]).exits(1).stdout;
    assert!(said.contains("it is signed with another key"), "{said}");

    let manifest = layout.json(&layout.index()["manifests"][0]["digest"]);
    let layer = layout.path(&manifest["layers"][1]["digest"]);
    let honest = fs::read(&layer).unwrap();
    let mut altered = honest.clone();
    *altered.last_mut().unwrap() ^= 1;
    fs::write(&layer, altered).unwrap();
    let name = manifest["layers"][1]["digest"].as_str().unwrap();
    verify(&["layer 2 of the manifest of linux/amd64", name]);
    fs::write(&layer, &honest).unwrap();

    // The statement is altered, and every digest made right again.
    let signed = layout.json(&layout.top()["manifests"][1]["digest"]);
    let mut envelope = layout.json(&signed["layers"][0]["digest"]);
    let payload = envelope["payload"].as_str().unwrap().to_owned();
    let (head, tail) = payload.split_at(payload.len() / 2);
    let other = if tail.starts_with('A') { "B" } else { "A" };
    envelope["payload"] = format!("{head}{other}{}", &tail[1..]).into();
    let mut forged = signed.clone();
    layout.put(envelope.to_string().as_bytes(), &mut forged["layers"][0]);
    let before = layout.top();
    replace_entry(&layout, 1, forged.to_string().as_bytes());
    verify(&["its signature does not match what it says"]);
    layout.set_top(&before);

    // What was signed for this image is put beside another.
    bench.write("a", "another\n");
    bench.mica(&["build", "-t", "app", "-o", "type=oci,tar=false,dest=../second", "."]).succeeds();
    let second = Layout(bench.path("second"));
    for entry in fs::read_dir(layout.0.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), second.0.join("blobs/sha256").join(entry.file_name())).unwrap();
    }
    let mut top = second.top();
    let mut moved = layout.top()["manifests"][1].clone();
    let mut manifest = signed.clone();
    manifest["subject"]["digest"] = top["manifests"][0]["digest"].clone();
    second.put(manifest.to_string().as_bytes(), &mut moved);
    top["manifests"].as_array_mut().unwrap().push(moved);
    second.set_top(&top);
    let said = bench.mica(&["verify", "--key", "../mine.pub", "../second"]).exits(1).stdout;
    assert!(said.contains("it speaks of another image"), "{said}");
}

#[test]
fn statements_are_kept_in_a_registry_without_a_list_of_referrers() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    let Some((bench, _)) = bench() else { return };
    let name = registry.name("app:1");
    bench.mica(&["build", "--provenance=true", "--push", "-t", &name, "."]).succeeds();
    let verify = |key: &str| bench.mica(&["verify", "--key", key, &name]);
    assert!(verify("../mine.pub").exits(1).stdout.contains("nothing signed"));
    bench.mica(&["attest", "--key", "../mine.pem", &name]).succeeds();
    bench.mica(&["attest", "--key", "../other.pem", &name]).succeeds();
    for key in ["../mine.pub", "../other.pub"] {
        assert_eq!(verify(key).succeeds().stdout, "signed: https://slsa.dev/provenance/v1\n");
    }
    bench.mica(&["verify", "--key", "../mine.pub", "127.0.0.1:1/app"]).exits(69);
}

#[test]
fn a_published_image_is_verified_from_the_store_when_its_registry_is_gone() {
    verified_without_a_registry(&[]);
}

#[test]
fn an_image_that_was_rebuilt_to_the_byte_is_verified_from_the_store_too() {
    verified_without_a_registry(&["--reproducible"]);
}

fn verified_without_a_registry(flags: &[&str]) {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    if !has_peer("openssl") {
        return;
    }
    let (base, app) = (registry.name("base:1"), registry.name("app:1"));
    let prepared = |person: Person| {
        let bench = Bench::of(person);
        bench.dockerfile(&format!("FROM {base}\nCOPY a /a\n")).write("a", "a\n");
        bench
    };
    let publisher = prepared(Person::Myself);
    make_key(&publisher, "mine", ED25519);
    let key = publisher.path("mine.pub").display().to_string();
    let below = Bench::new();
    below.dockerfile("FROM scratch\nCOPY Dockerfile /base\n");
    below.mica(&["build", "--push", "-t", &base, "."]).succeeds();
    publisher.mica(&[&["build", "--provenance=true", "--push", "-t", &app, "."], flags].concat()).succeeds();
    publisher.mica(&["attest", "--key", "../mine.pem", &app]).succeeds();

    let people = [Person::Myself, Person::Ordinary].into_iter().filter(|person| person.can_run_steps());
    let readers: Vec<Bench> = people.map(prepared).collect();
    for reader in &readers {
        reader.write("../mine.pub", fs::read(&key).unwrap());
        reader.mica(&["pull", "--attestations", &app]).succeeds();
        let rebuild = ["verify", "--rebuild", "--offline", &app, "."];
        reader.mica(&rebuild).exits(2).says(&["base:1", "is not in the store", "mica pull"]);
        reader.mica(&["pull", &base]).succeeds();
    }
    let (puller, asker) = (prepared(Person::Myself), prepared(Person::Myself));
    puller.mica(&["pull", &app]).succeeds();
    asker.mica(&["verify", "--key", &key, &app]).succeeds();
    drop(registry);

    let both = ["verify", "--key", "../mine.pub", "--rebuild", "--offline", &app, "."];
    for bench in readers.iter().chain([&publisher]) {
        let told = bench.mica(&both).succeeds().stdout;
        assert!(told.contains("signed: https://slsa") && told.contains("a rebuild gives the same"), "{told}");
        bench.mica(&["prune"]).succeeds();
        bench.mica(&both).succeeds();
        bench.mica(&["fsck"]).succeeds();
        bench.write("a", "another\n");
        let told = bench.mica(&both).exits(1).stdout;
        assert!(told.contains("COPY a /a): /a has another content"), "{told}");
    }
    puller
        .mica(&["verify", "--rebuild", "--offline", &app, "."])
        .exits(2)
        .says(&["was never looked at in its registry from here", &format!("mica pull --attestations {app}")]);
    asker.mica(&["verify", "--key", &key, "--offline", &app]).succeeds();
    let lacking = asker.mica(&["verify", "--rebuild", "--offline", &app, "."]).exits(2);
    lacking.says(&["what is said of", "is not in the store", "--attestations"]);
}

#[test]
fn a_layer_that_was_altered_in_its_registry_is_named() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    let app = registry.name("app:1");
    let publisher = Bench::new();
    publisher.dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\n").write("a", "a\n").write("b", "b\n");
    let layout = "type=oci,tar=false,dest=../layout";
    publisher.mica(&["build", "--provenance=true", "--push", "-o", layout, "-t", &app, "."]).succeeds();
    let layout = Layout(publisher.path("layout"));
    let manifest = layout.json(&layout.index()["manifests"][0]["digest"]);
    let path = registry.blob(manifest["layers"][1]["digest"].as_str().unwrap());
    let honest = fs::read(&path).unwrap();
    let stranger = Bench::new();
    stranger.dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\n").write("a", "a\n").write("b", "b\n");
    let verify = |bench: &Bench| bench.mica(&["verify", "--rebuild", &app, "."]);
    let broken = honest[..honest.len() - 1].iter().chain(&[!honest[honest.len() - 1]]).copied().collect();
    let other = gzip(&tar(&[file("b", "altered\n"), file("c", "added, so that it is longer\n")]));
    for altered in [broken, other, b"shorter".to_vec()] {
        fs::write(&path, &altered).unwrap();
        for bench in [&publisher, &stranger] {
            let said = verify(bench).exits(1).stdout;
            assert!(said.contains("layer 2 (line 3: COPY b /b): "), "{said}");
            assert_eq!(said.contains("/b is different"), altered.len() > honest.len(), "{said}");
        }
    }
    fs::write(&path, honest).unwrap();
    for bench in [&publisher, &stranger, &publisher] {
        verify(bench).succeeds();
    }
}

#[test]
fn a_reproducible_image_is_rebuilt_to_the_byte_and_other_times_are_told() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /dir/\n").write("a", "a\n");
    let out = "type=oci,tar=false,dest=../layout";
    bench.mica(&["build", "--provenance=true", "--reproducible", "-t", "app", "-o", out, "."]).succeeds();
    let honest = bench.mica(&["verify", "--rebuild", "../layout", "."]).succeeds();
    assert!(honest.stdout.contains("a rebuild gives the same"), "{honest:?}");
    honest.says_not("times were left out");
    let members = [crate::support::directory("dir").time(1), file("dir/a", "a\n").time(1)];
    forge(&Layout(bench.path("layout")), &members);
    let said = bench.mica(&["verify", "--rebuild", "../layout", "."]).exits(1).stdout;
    assert!(said.contains("layer 1 (line 2: COPY a /dir/): times in it are others"), "{said}");
}

/// Gives the image of a layout another last layer, with every digest made right.
fn forge(layout: &Layout, members: &[crate::support::Entry]) {
    let mut top = layout.top();
    let mut index = layout.index();
    let mut manifest = layout.json(&index["manifests"][0]["digest"]);
    let mut config = layout.json(&manifest["config"]["digest"]);
    let last = manifest["layers"].as_array().unwrap().len() - 1;
    let layer = tar(members);
    layout.put(&gzip(&layer), &mut manifest["layers"][last]);
    config["rootfs"]["diff_ids"][last] = digest(&layer).into();
    layout.put(config.to_string().as_bytes(), &mut manifest["config"]);
    layout.put(manifest.to_string().as_bytes(), &mut index["manifests"][0]);
    let image = index["manifests"][0]["digest"].clone();
    let mut attestation = layout.json(&index["manifests"][1]["digest"]);
    for layer in attestation["layers"].as_array_mut().unwrap() {
        let mut statement = layout.json(&layer["digest"]);
        for subject in statement["subject"].as_array_mut().unwrap() {
            subject["digest"]["sha256"] = image.as_str().unwrap().strip_prefix("sha256:").unwrap().into();
        }
        layout.put(statement.to_string().as_bytes(), layer);
    }
    layout.put(attestation.to_string().as_bytes(), &mut index["manifests"][1]);
    index["manifests"][1]["annotations"]["vnd.docker.reference.digest"] = image;
    layout.put(index.to_string().as_bytes(), &mut top["manifests"][0]);
    layout.set_top(&top);
}

#[test]
fn a_rebuild_tells_an_honest_image_from_an_altered_one() {
    let registry = Registry::start(Access::Open);
    registry.put("base:1", &[file("base", "base\n")], &json!({"Env": ["A=b"]}));
    let url = registry.put_file("tool", b"tool\n");
    let bench = Bench::new();
    let base = registry.name("base:1");
    let text = format!("FROM {base}\nARG WHO\nLABEL who=$WHO\nADD {url} /tool\nCOPY a b /dir/\n");
    bench.dockerfile(&text).write("a", "a\n").write("b", "b\n");
    let out = "type=oci,tar=false,dest=../layout";
    bench
        .mica(&["build", "--provenance=true", "--build-arg", "WHO=me", "-t", "app", "-o", out, "."])
        .succeeds();
    let honest = |arguments: &[&str]| {
        let told =
            bench.mica(&[&["verify", "--rebuild", "../layout"], arguments, &["."]].concat()).succeeds();
        assert!(told.stdout.contains("a rebuild gives the same"), "{told:?}");
    };
    honest(&[]);
    // Names that moved since are not asked for: what was recorded is used, from the store.
    registry.put("base:1", &[file("base", "moved\n")], &json!({}));
    registry.put_file("tool", b"moved\n");
    registry.served();
    honest(&["--offline"]);
    assert!(registry.served().is_empty());

    let tampered = |told: &[&str]| {
        let said = bench.mica(&["verify", "--rebuild", "../layout", "."]).exits(1).stdout;
        for told in told {
            assert!(said.contains(told), "no {told:?} in:\n{said}");
        }
        assert_eq!(said.lines().count(), told.len(), "{said}");
    };
    let old = copy_of(&bench, "../layout");
    let members = [("dir/a", "altered\n"), ("dir/b", "b\n"), ("dir/c", "added\n")];
    let members: Vec<_> = std::iter::once(crate::support::directory("dir"))
        .chain(members.map(|(path, text)| file(path, text)))
        .collect();
    forge(&Layout(bench.path("layout")), &members);
    tampered(&[
        "layer 3 (line 5: COPY a b /dir/): /dir/a has another content",
        "layer 3 (line 5: COPY a b /dir/): /dir/c is there and should not be",
    ]);
    restore(&bench, &old);

    // The bytes of a layer are replaced where they lie, and no digest is made right.
    let layout = Layout(bench.path("layout"));
    let manifest = layout.json(&layout.index()["manifests"][0]["digest"]);
    let path = layout.path(&manifest["layers"][2]["digest"]);
    let kept = fs::read(&path).unwrap();
    fs::write(&path, gzip(&tar(&members))).unwrap();
    tampered(&[
        "layer 3 (line 5: COPY a b /dir/): blob",
        "layer 3 (line 5: COPY a b /dir/): /dir/a is different",
        "layer 3 (line 5: COPY a b /dir/): /dir/c is there and should not be",
    ]);
    fs::write(&path, b"no layer at all").unwrap();
    tampered(&["layer 3 (line 5: COPY a b /dir/): "]);
    fs::write(&path, kept).unwrap();
    bench.write("b", "not what was built\n");
    tampered(&["input `context` is micaContext1:", "/dir/b has another content"]);
    bench.write("b", "b\n");
    honest(&[]);
}

fn copy_of(bench: &Bench, from: &str) -> std::path::PathBuf {
    let to = bench.path("kept");
    let from = bench.context().join(from);
    assert!(Command::new("cp").arg("-a").arg(from).arg(&to).status().unwrap().success());
    to
}

fn restore(bench: &Bench, kept: &Path) {
    fs::remove_dir_all(bench.path("layout")).unwrap();
    fs::rename(kept, bench.path("layout")).unwrap();
}

#[test]
fn what_cannot_be_rebuilt_is_told() {
    let Some((bench, layout)) = bench() else { return };
    let verify = |told: &[&str]| {
        bench.mica(&["verify", "--rebuild", "../layout", "."]).exits(2).says(told);
    };
    let out = "type=oci,tar=false,dest=../layout";
    fs::remove_dir_all(&layout.0).unwrap();
    bench.mica(&["build", "--sbom=true", "-t", "app", "-o", out, "."]).succeeds();
    verify(&["has no provenance", "--provenance=true"]);
    fs::remove_dir_all(&layout.0).unwrap();
    bench.mica(&["build", "--provenance=mode=min", "-t", "app", "-o", out, "."]).succeeds();
    verify(&["mode=min"]);
    let both = ["verify", "--rebuild", "--key", "../mine.pub", "../layout", "."];
    let said = bench.mica(&both).exits(1).stdout;
    assert!(said.contains("nothing signed"), "{said}");
}
