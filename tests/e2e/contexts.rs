//! Where contexts come from: standard input, archives, repositories, named ones.

use std::path::Path;
use std::process::Command;

use crate::support::{Bench, GitDaemon, file, git, gzip, has_peer, tar};

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
