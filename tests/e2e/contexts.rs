//! Where contexts come from: standard input, archives, repositories, named ones.

use std::path::Path;
use std::process::Command;

use crate::support::{Bench, GitDaemon, file, git, gzip, has_peer, symlink, tar};

const COPY_ALL: &[u8] = b"FROM scratch\nCOPY . /\n";

fn context() -> Vec<u8> {
    tar(&[
        file("Dockerfile", COPY_ALL),
        file("a.txt", b"one\n"),
        file("sub/b.txt", b"two\n"),
        file("sub/Dockerfile", b"FROM scratch\nCOPY a.txt /only\n"),
    ])
}

#[track_caller]
fn holds(directory: &Path, name: &str, text: &str) {
    assert_eq!(std::fs::read_to_string(directory.join(name)).expect("it is there"), text, "{name}");
}

#[test]
fn a_context_may_come_from_standard_input() {
    for (bytes, name) in [(context(), "plain"), (gzip(&context()), "packed")] {
        let bench = Bench::new();
        bench.mica_with(&["build", "-o", "../out", "-"], &[], &bytes).succeeds();
        holds(&bench.path("out"), "sub/b.txt", "two\n");
        bench.mica_with(&["build", "-f", "sub/Dockerfile", "-o", "../only", "-"], &[], &bytes).succeeds();
        holds(&bench.path("only"), "only", "one\n");
        assert!(bench.leftovers().is_empty(), "{name}: {:?}", bench.leftovers());
    }
}

#[test]
fn a_context_may_be_an_archive() {
    let bench = Bench::new();
    bench.write("context.tar", context());
    bench.mica(&["build", "-o", "../out", "context.tar"]).succeeds();
    holds(&bench.path("out"), "a.txt", "one\n");
}

#[test]
fn named_contexts_are_directories_archives_or_images() {
    let bench = Bench::new();
    bench.write("context.tar", context()).write("dir/c.txt", "three\n");
    bench.dockerfile(
        "FROM scratch\nCOPY --from=packed sub/b.txt /\nCOPY --from=dir c.txt /\nCOPY --from=image only /\n",
    );
    bench.mica_with(&["build", "-t", "first", "-f", "sub/Dockerfile", "-"], &[], &context()).succeeds();
    bench.mica(&["save", "--format", "oci", "-o", "../layout.tar", "first"]).succeeds();
    std::fs::create_dir(bench.path("layout")).unwrap();
    let (archive, layout) = (bench.path("layout.tar"), bench.path("layout"));
    assert!(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(layout).status().unwrap().success());
    for (image, out) in [("docker-image://first", "one"), ("oci-layout://../layout", "two")] {
        let (image, to) = (format!("image={image}"), format!("../{out}"));
        let contexts = ["packed=context.tar", "dir=dir", image.as_str()];
        let mut arguments = vec!["build", "-o", &to, "."];
        arguments.extend(contexts.iter().flat_map(|context| ["--build-context", context]));
        bench.mica(&arguments).succeeds();
        holds(&bench.path(out), "b.txt", "two\n");
        holds(&bench.path(out), "c.txt", "three\n");
        holds(&bench.path(out), "only", "one\n");
    }
}

#[test]
fn a_repository_is_checked_out_at_its_ref_and_directory() {
    if !has_peer("git") {
        return;
    }
    let bench = Bench::new();
    bench.write("sub/Dockerfile", COPY_ALL).write("sub/file", "dev\n").write("top", "x\n");
    git(&bench, &["init", "-q", "-b", "main"]);
    git(&bench, &["add", "."]);
    git(&bench, &["commit", "-q", "-m", "one"]);
    git(&bench, &["tag", "v1"]);
    git(&bench, &["clone", "-q", "--bare", ".", bench.path("served/app.git").to_str().unwrap()]);
    let Some(daemon) = GitDaemon::start(&bench.path("served")) else { return };
    let url = daemon.url("app.git");
    bench.mica(&["build", "-o", "../out", &format!("{url}#v1:sub")]).succeeds();
    holds(&bench.path("out"), "file", "dev\n");
    bench.mica(&["build", &format!("{url}#v1:missing")]).exits(1).says(&["no directory `missing`"]);
    bench.dockerfile(&format!("FROM scratch\nADD {url}#main:sub /added\nADD {url} /whole\n"));
    bench.mica(&["build", "-o", "../second", "."]).succeeds();
    holds(&bench.path("second"), "added/file", "dev\n");
    holds(&bench.path("second"), "whole/sub/file", "dev\n");
    assert!(!bench.path("second/whole/.git").exists());
}

/// Returns a commit made at that time, served as `app.git`.
fn dated_repository(bench: &Bench, seconds: u32) -> Option<GitDaemon> {
    let date = format!("@{seconds} +0000");
    bench.write("Dockerfile", COPY_ALL).write("file", "x\n");
    git(bench, &["init", "-q", "-b", "main"]);
    git(bench, &["add", "."]);
    let mut commit = Command::new("git");
    commit.current_dir(bench.context()).env("HOME", bench.path("home"));
    commit.env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date);
    commit.args(["-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-q", "-m", "one"]);
    assert!(commit.status().expect("git is there").success());
    git(bench, &["clone", "-q", "--bare", ".", bench.path("served/app.git").to_str().unwrap()]);
    GitDaemon::start(&bench.path("served"))
}

/// Builds and returns when the image says it was made.
#[track_caller]
fn created(bench: &Bench, arguments: &[&str]) -> String {
    let image = bench.mica(&[&["build", "-q"], arguments].concat()).succeeds().stdout;
    let inspected = bench.mica(&["inspect", image.trim_end()]).succeeds().stdout;
    let images: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    images[0]["Created"].as_str().unwrap_or_else(|| panic!("no time in {inspected}")).to_owned()
}

#[test]
fn the_time_of_a_build_may_be_that_of_a_repository() {
    if !has_peer("git") {
        return;
    }
    let bench = Bench::new();
    let Some(daemon) = dated_repository(&bench, 1_234_567_890) else { return };
    let url = daemon.url("app.git");
    let (expected, epoch) = ("2009-02-13T23:31:30Z", "--build-arg=SOURCE_DATE_EPOCH=");
    assert_eq!(created(&bench, &[&format!("{epoch}context"), &url]), expected);
    bench.dockerfile(&format!("FROM scratch AS upstream\nADD {url} /\nFROM scratch\nCOPY file /\n"));
    assert_eq!(created(&bench, &[&format!("{epoch}upstream"), "."]), expected);
    let named = format!("--build-context=src={url}");
    assert_eq!(created(&bench, &[&format!("{epoch}src"), &named, "."]), expected);
    // A directory has the time of the commit that is checked out there, and without one no time that is known.
    assert_eq!(created(&bench, &[&format!("{epoch}context"), "."]), expected);
    std::fs::remove_dir_all(bench.context().join(".git")).unwrap();
    assert_ne!(created(&bench, &[&format!("{epoch}context"), "."]), expected);
    bench
        .mica(&["build", &format!("{epoch}unknown"), "."])
        .exits(1)
        .says(&["invalid SOURCE_DATE_EPOCH: `unknown`"]);
}

#[test]
fn the_time_of_a_build_may_be_that_of_an_archive() {
    let bench = Bench::new();
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=context";
    let ran = bench.mica_with(&["build", "-q", epoch, "-"], &[], &context()).succeeds();
    let inspected = bench.mica(&["inspect", ran.stdout.trim_end()]).succeeds().stdout;
    let images: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(images[0]["Created"], "2001-02-03T04:05:06Z", "{inspected}");
}

#[test]
fn a_dockerfile_that_came_from_elsewhere_is_read_inside_its_context() {
    let bench = Bench::new();
    std::fs::write(bench.path("outside"), "FROM scratch\nCOPY a.txt /stolen\n").unwrap();
    let outside = bench.path("outside");
    let archive = |target: &str| {
        tar(&[symlink("Dockerfile", target), file("a.txt", b"one\n"), file("sub/real", COPY_ALL)])
    };
    let build = ["build", "-o", "../out", "-"];
    bench.mica_with(&build, &[], &archive("sub/real")).succeeds();
    holds(&bench.path("out"), "a.txt", "one\n");
    for target in [outside.to_str().unwrap(), "../../../../../../../../etc/hostname"] {
        bench.mica_with(&build, &[], &archive(target)).exits(1).says(&["failed to read dockerfile"]);
    }
}
