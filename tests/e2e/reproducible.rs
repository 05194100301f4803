//! `--reproducible`: the same bytes from two stores, what is left out, and the times of what is written.

use std::path::Path;

use crate::support::{Bench, Image, Person, git, has_peer};

/// Steps that write noise, times of three kinds, and a file copied from a context.
const NOISY: &str = "FROM base\n\
    COPY a.txt /\n\
    RUN mkdir -p /var/log/apt /etc /root/.npm/_logs && date > /var/log/apt/history.log && date > /etc/machine-id \\\n\
     && date > /root/.npm/_logs/debug && echo kept > /kept && touch -d '1999-01-01 00:00:00' /old\n\
    RUN echo \"$LC_ALL $TZ $SOURCE_DATE_EPOCH\" > /given\n\
    WORKDIR /work\n";

fn noisy(bench: &Bench) -> &Bench {
    bench.dockerfile(NOISY).write("a.txt", "a");
    bench
}

#[test]
fn two_stores_and_users_make_the_same_bytes() {
    let Some(first) = Bench::with_base() else { return };
    // An import is dated: all must build on the very same base.
    let base = first.bytes(&["save", "--format", "oci", "base"]);
    let build = |bench: &Bench| {
        noisy(bench);
        bench.mica(&["build", "--reproducible", "-o", "type=oci,dest=../home/x.tar", "."]).succeeds();
        std::fs::read(bench.path("home/x.tar")).unwrap()
    };
    let expected = build(&first);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for person in [Person::Myself, Person::Ordinary] {
        let Some(bench) = Bench::with_base_for(person) else { continue };
        bench.mica(&["rmi", "base"]).succeeds();
        bench.mica_with(&["load"], &[], &base).succeeds();
        assert!(build(&bench) == expected, "{person:?} writes another archive");
    }
}

#[test]
fn noise_is_left_out_and_told_and_can_be_kept() {
    let Some(bench) = Bench::with_base() else { return };
    noisy(&bench);
    let ran = bench.mica(&["build", "--reproducible", "-o", "type=oci,dest=../x.tar", "."]).succeeds();
    ran.says(&[
        "left out of #",
        "apt-logs: /var/log/apt/history.log",
        "machine-id: /etc/machine-id",
        "npm-caches: /root/.npm",
    ]);
    let again = bench.mica(&["build", "--reproducible", "."]).succeeds();
    again.says(&["all 4 steps were cached", "left out of #", "apt-logs: /var/log/apt/history.log"]);
    let image = Image::read(&std::fs::read(bench.path("x.tar")).unwrap());
    assert!(image.files.contains_key("/kept") && image.files.contains_key("/var/log/apt"));
    for gone in ["/etc/machine-id", "/root/.npm", "/var/log/apt/history.log"] {
        assert!(!image.files.contains_key(gone), "{gone}");
    }
    bench
        .mica(&["build", "--reproducible=keep:machine-id,times", "-o", "../out", "."])
        .succeeds()
        .says_not("machine-id:");
    assert!(bench.path("out/etc/machine-id").exists() && !bench.path("out/root/.npm").exists());
    bench.mica(&["build", "--reproducible=keep:time", "."]).exits(2).says(&["`time`", "times, locale"]);
}

#[test]
fn times_are_those_of_the_input_in_every_output() {
    let Some(bench) = Bench::with_base() else { return };
    noisy(&bench);
    let epoch = [("SOURCE_DATE_EPOCH", "1000000000")];
    let outputs =
        ["-o", "type=oci,dest=../x.tar", "-o", "type=tar,dest=../y.tar", "-o", "../out", "-t", "app", "."];
    bench
        .mica_with(&[&["build"], &outputs[..]].concat(), &epoch, b"")
        .succeeds()
        .says(&["2001-09-09T01:46:40Z (SOURCE_DATE_EPOCH)"]);
    let tree = std::fs::read(bench.path("y.tar")).unwrap();
    let image = Image::read(&std::fs::read(bench.path("x.tar")).unwrap());
    for (name, expected) in
        [("a.txt", 1_000_000_000), ("kept", 1_000_000_000), ("old", 915_148_800), ("work", 1_000_000_000)]
    {
        assert_eq!(time_in(&tree, name), Some(expected), "{name}");
        assert_eq!(time_of(&bench.path("out").join(name)), expected, "{name}");
    }
    assert_eq!(std::fs::read_to_string(bench.path("out/given")).unwrap(), "C.UTF-8 UTC 1000000000\n");
    // What is saved later, and what is built on it, has the same layers.
    bench.mica(&["save", "--format", "oci", "-o", "../later.tar", "app"]).succeeds();
    let later = Image::read(&std::fs::read(bench.path("later.tar")).unwrap());
    assert_eq!(later.config["rootfs"], image.config["rootfs"]);
    bench.dockerfile("FROM app\nLABEL a=1\n");
    bench.mica(&["build", "-o", "type=oci,dest=../above.tar", "."]).succeeds();
    let above = Image::read(&std::fs::read(bench.path("above.tar")).unwrap());
    assert_eq!(above.config["rootfs"], image.config["rootfs"]);
    bench.mica(&["fsck"]).succeeds();
}

#[test]
fn an_epoch_changes_no_key_and_the_switch_turns_everything_off() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN echo \"[$LC_ALL$TZ$SOURCE_DATE_EPOCH]\" > /given\n");
    bench.mica(&["build", "--reproducible=keep:epoch", "."]).succeeds();
    let arguments = ["build", "--reproducible=keep:epoch", "-o", "../out", "."];
    bench.mica_with(&arguments, &[("SOURCE_DATE_EPOCH", "5")], b"").succeeds().says(&["cached"]);
    let off = ["build", "--reproducible=false", "-o", "../plain", "."];
    bench.mica_with(&off, &[("SOURCE_DATE_EPOCH", "5")], b"").succeeds().says_not("times ");
    assert_eq!(std::fs::read_to_string(bench.path("plain/given")).unwrap(), "[]\n");
    bench.write("../home/mica.toml", "[build]\nreproducible = true\n");
    let configured = [("MICA_CONFIG", bench.path("home/mica.toml"))];
    let configured: Vec<_> = configured.iter().map(|(name, path)| (*name, path.to_str().unwrap())).collect();
    bench.mica_with(&["build", "."], &configured, b"").succeeds().says(&["1970-01-01T00:00:00Z (no"]);
    bench
        .mica(&["build", "-o", "type=oci,rewrite-timestamp=true,dest=../x.tar", "."])
        .succeeds()
        .says(&["1970-01-01T00:00:00Z (no"]);
}

#[test]
fn the_commit_of_the_context_gives_the_time() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a.txt /\n").write("a.txt", "a");
    if !has_peer("git") {
        return;
    }
    git(&bench, &["init", "-q"]);
    git(&bench, &["add", "."]);
    git(&bench, &["commit", "-q", "-m", "x"]);
    let seconds: u64 = git(&bench, &["show", "-s", "--format=%ct"]).parse().unwrap();
    bench.mica(&["build", "--reproducible", "-o", "../out", "."]).succeeds().says(&["(commit "]);
    assert_eq!(time_of(&bench.path("out/a.txt")), seconds);
    let named = ["build", "--build-arg", "SOURCE_DATE_EPOCH=context", "-o", "../named", "."];
    bench.mica(&named).succeeds().says(&["(SOURCE_DATE_EPOCH)"]);
    assert_eq!(time_of(&bench.path("named/a.txt")), seconds);
}

/// Digests of a fixed input: another release that makes others has to say so.
#[test]
fn layers_of_a_fixed_input_are_pinned() {
    let bench = Bench::new();
    bench.write("tree/a.txt", "a").write("tree/sub/b.txt", "bb").write("one.sh", "#!/bin/sh\n");
    bench.dockerfile(
        "FROM scratch\nCOPY tree /tree\nCOPY --chmod=755 --chown=3:4 one.sh /bin/\nWORKDIR /srv/app\nLABEL a=1\n",
    );
    let arguments = [
        "build",
        "--platform=linux/amd64",
        "--reproducible",
        "--metadata-file=../told",
        "-o",
        "type=oci,dest=../x.tar",
        ".",
    ];
    bench.mica_with(&arguments, &[("SOURCE_DATE_EPOCH", "1700000000")], b"").succeeds();
    let image = Image::read(&std::fs::read(bench.path("x.tar")).unwrap());
    let diff_ids = image.config["rootfs"]["diff_ids"].clone();
    assert_eq!(
        diff_ids,
        serde_json::json!([
            "sha256:360bfa9bf2be427ba0015e12a443be66fba5a6415f1e217478eae064e672d200",
            "sha256:e06d62e2a42658ce220dcfe48a52108735816bd8b5a541afb0a5879cd0eb2b15",
            "sha256:550b08144639666e53f557c3cd49e4dc00a5b0eb98aa206c506b15a04ea0741d",
        ])
    );
    // With the layers as they are compressed.
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.path("told")).unwrap()).unwrap();
    assert_eq!(
        told["containerimage.digest"],
        "sha256:3ba905bd269803c1d9b076868a416eeb2d386bad08d920a60d9c6a91ff953688"
    );
}

fn time_of(path: &Path) -> u64 {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn time_in(archive: &[u8], name: &str) -> Option<u64> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .find(|entry| entry.path().unwrap().to_string_lossy().trim_end_matches('/') == name)
        .map(|entry| entry.header().mtime().unwrap())
}
