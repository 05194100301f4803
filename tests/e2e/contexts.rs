//! Where contexts come from: standard input, archives, repositories, named ones.

use std::path::Path;
use std::process::Command;

use crate::support::{Bench, file, gzip, has_peer, tar};

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
    let repository = bench.path("served/app.git");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(bench.path("context")).env("HOME", bench.path("home"));
        command.args(["-c", "user.name=n", "-c", "user.email=e@example.com"]).args(arguments);
        let output = command.output().expect("git is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    bench.write("sub/Dockerfile", COPY_ALL).write("sub/file", "dev\n").write("top", "x\n");
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1"]);
    git(&["clone", "-q", "--bare", ".", repository.to_str().unwrap()]);
    let Some(daemon) = GitDaemon::start(&bench.path("served")) else { return };
    let url = format!("git://127.0.0.1:{}/app.git", daemon.port);
    bench.mica(&["build", "-o", "../out", &format!("{url}#v1:sub")]).succeeds();
    holds(&bench.path("out"), "file", "dev\n");
    bench.mica(&["build", &format!("{url}#v1:missing")]).exits(1).says(&["no directory `missing`"]);
    bench.dockerfile(&format!("FROM scratch\nADD {url}#main:sub /added\nADD {url} /whole\n"));
    bench.mica(&["build", "-o", "../second", "."]).succeeds();
    holds(&bench.path("second"), "added/file", "dev\n");
    holds(&bench.path("second"), "whole/sub/file", "dev\n");
    assert!(!bench.path("second/whole/.git").exists());
}

/// `git daemon` on a port of its own.
struct GitDaemon {
    port: u16,
    process: std::process::Child,
}

impl GitDaemon {
    fn start(served: &Path) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("the loopback device is there").port();
        // Not by way of `git`, which would start it as a child that outlives it.
        let programs = Command::new("git").arg("--exec-path").output().expect("git is there");
        let daemon = Path::new(String::from_utf8_lossy(&programs.stdout).trim()).join("git-daemon");
        if !daemon.exists() {
            eprintln!("SKIPPED: git has no daemon here");
            return None;
        }
        let mut process = Command::new(daemon)
            .args(["--export-all", "--listen=127.0.0.1", "--reuseaddr"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", served.display()))
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it is there");
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { port, process });
            }
            assert!(matches!(process.try_wait(), Ok(None)), "git's daemon did not start");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("git's daemon does not listen");
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        // It may have ended before.
        drop((self.process.kill(), self.process.wait()));
    }
}
