//! `mica.lock`: names that moved, what is refused, and builds without a network.

use std::fs;

use serde_json::json;

use crate::support::{Access, Bench, GitDaemon, Registry, directory, file, git, has_peer};

/// A base, a download and a repository, each on a server of this machine.
struct Sources {
    registry: Registry,
    daemon: GitDaemon,
    bench: Bench,
}

impl Sources {
    fn new() -> Option<Self> {
        if !has_peer("git") {
            return None;
        }
        let (registry, bench) = (Registry::start(Access::Open), Bench::new());
        registry.put("base:1", &[directory("srv"), file("srv/base", "old\n")], &json!({}));
        registry.put_file("tool", b"old\n");
        bench.write("repository/app", "old\n");
        git(&bench, &["init", "-q", "-b", "main", "repository"]);
        commit(&bench);
        let daemon = GitDaemon::start(&bench.context())?;
        let sources = Self { registry, daemon, bench };
        sources.dockerfile();
        Some(sources)
    }

    fn dockerfile(&self) {
        let (base, tool) = (self.registry.name("base:1"), self.registry.name("tool"));
        let repository = self.daemon.url("repository/.git");
        self.bench.dockerfile(&format!(
            "FROM {base}\nADD http://{tool} /srv/\nADD {repository}#main /srv/\nCOPY own /srv/\n"
        ));
        self.bench.write("own", "own\n");
    }

    /// Everything moves.
    fn move_all(&self) {
        self.registry.put("base:1", &[directory("srv"), file("srv/base", "new\n")], &json!({}));
        self.registry.put_file("tool", b"new\n");
        self.bench.write("repository/app", "new\n");
        commit(&self.bench);
    }

    /// Builds into a directory, which must then have this base, tool and checkout.
    #[track_caller]
    fn builds(&self, arguments: &[&str], expected: [&str; 3]) {
        let _ = fs::remove_dir_all(self.bench.path("out"));
        self.bench.mica(&[&["build", "-o", "../out"], arguments, &["."]].concat()).succeeds();
        let found = ["base", "tool", "app"]
            .map(|name| fs::read_to_string(self.bench.path("out/srv").join(name)).unwrap_or_default());
        assert_eq!(found, expected.map(|text| format!("{text}\n")));
    }

    fn empty_store(&self) {
        fs::remove_dir_all(self.bench.path("store")).unwrap();
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.bench.context().join("mica.lock")).unwrap()
    }
}

fn commit(bench: &Bench) {
    git(bench, &["-C", "repository", "add", "."]);
    git(bench, &["-C", "repository", "commit", "-q", "-m", "more"]);
}

#[test]
fn what_is_locked_stays_when_everything_moves() {
    let Some(sources) = Sources::new() else { return };
    let bench = &sources.bench;
    let locked = bench.mica(&["lock", "."]).succeeds().stdout;
    assert_eq!(locked.matches("locked ").count(), 3, "{locked}");
    let first = sources.lock();
    assert_eq!(bench.mica(&["lock", "."]).succeeds().stdout, "");
    assert_eq!(sources.lock(), first, "the same is the same file");
    sources.builds(&["--locked"], ["old"; 3]);

    sources.move_all();
    // Nothing that is here is needed: a new store fetches what was locked, where the servers still have it.
    sources.builds(&["--locked", "--pull"], ["old"; 3]);
    sources.empty_store();
    let ran = bench.mica(&["build", "--locked", "."]).exits(1);
    let ran = ran.says(&["tool` is sha256:", "and the lock file says sha256:", "Dockerfile:2"]);
    ran.says_not("mica lock` adds");
    sources.registry.put_file("tool", b"old\n");
    sources.builds(&["--locked"], ["old"; 3]);
    sources.registry.put_file("tool", b"new\n");
    sources.builds(&["--offline"], ["old"; 3]);

    let moved = bench.mica(&["lock", "--update", "."]).succeeds().stdout;
    assert_eq!(moved.matches("moved ").count(), 3, "{moved}");
    for line in moved.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, name, from, "->", to] = words[..] else { panic!("{line}") };
        assert!(first.contains(name) && first.contains(from) && !first.contains(to), "{line}");
        assert!(sources.lock().contains(to), "{line}");
    }
    sources.builds(&["--locked"], ["new"; 3]);
}

#[test]
fn one_name_is_looked_at_again() {
    let Some(sources) = Sources::new() else { return };
    let bench = &sources.bench;
    bench.mica(&["lock", "."]).succeeds();
    sources.move_all();
    let base = sources.registry.name("base:1");
    let moved = bench.mica(&["lock", &format!("--update={base}"), "."]).succeeds().stdout;
    assert!(moved.starts_with(&format!("moved {base} sha256:")) && moved.lines().count() == 1, "{moved}");
    let unknown = bench.mica(&["lock", "--update=debian:12", "."]).exits(1);
    unknown.says(&["`debian:12` is not in"]);
}

#[test]
fn what_is_not_locked_is_refused_with_its_place() {
    let Some(sources) = Sources::new() else { return };
    let bench = &sources.bench;
    bench.mica(&["build", "--locked", "."]).exits(1).says(&["there is no `", "mica.lock", "mica lock"]);
    bench.mica(&["lock", "."]).succeeds();
    let (other, old) =
        (sources.registry.name("other:1"), fs::read(bench.context().join("Dockerfile")).unwrap());
    let old = String::from_utf8(old).unwrap();
    sources.registry.put("other:1", &[file("f", "f\n")], &json!({}));

    bench.dockerfile(&format!("FROM {other} AS other\n{old}COPY --from=other /f /\n"));
    let ran = bench.mica(&["build", "--locked", "."]).exits(1);
    ran.says(&["error[not-locked]", &format!("cannot use image `{other}`"), "Dockerfile:1:6", "mica lock"]);
    let url = sources.registry.put_file("second", b"second\n");
    bench.dockerfile(&format!("{old}ADD {url} /\nADD {}#dev /x\n", sources.daemon.url("repository/.git")));
    let ran = bench.mica(&["build", "--locked", "."]).exits(1);
    ran.says(&[
        "error[not-locked]",
        &format!("`{url}` is not in the lock file"),
        "Dockerfile:5",
        "Dockerfile:6",
    ]);
    // Without it the rest is held to the lock, and what is not in it is told.
    bench.dockerfile(&format!("{old}ADD {url} /\n"));
    bench.mica(&["build", "."]).succeeds().says(&["using ", &format!("`{url}` is not in ")]);
    let added = bench.mica(&["lock", "."]).succeeds().stdout;
    assert!(added.starts_with(&format!("locked {url} sha256:")) && added.lines().count() == 1, "{added}");
    bench.mica(&["build", "--locked", "."]).succeeds().says_not("WARNING");
    bench.dockerfile(&old);
    assert_eq!(bench.mica(&["lock", "."]).succeeds().stdout, format!("dropped {url}\n"));
}

#[test]
fn what_names_its_content_needs_no_lock() {
    let registry = Registry::start(Access::Open);
    let digest = registry.put("base:1", &[file("f", "f\n")], &json!({}));
    let url = registry.put_file("tool", b"old\n");
    let bench = Bench::new();
    let sum = crate::support::digest(b"old\n");
    bench.dockerfile(&format!("FROM {}@{digest}\nADD --checksum={sum} {url} /\n", registry.name("base")));
    assert_eq!(bench.mica(&["lock", "."]).succeeds().says(&["mica.lock: nothing"]).stdout, "");
    bench.mica(&["build", "--locked", "."]).succeeds();
}

#[test]
fn a_lock_with_a_mistake_is_told_with_its_line() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    for (text, told) in [
        ("version = 1\nimages = []\n", "line 2: unknown field `images`"),
        ("version = 9\n", "it has version 9"),
        ("version = 1\n[[image]]\nname = \"a\"\n", "neither a digest nor an id"),
        ("version = \"", "line 1"),
        ("\u{0}\u{1}", "line 1"),
    ] {
        bench.write("mica.lock", text);
        bench.mica(&["build", "."]).exits(1).says(&["mica.lock` cannot be used", told]);
        bench.mica(&["lock", "."]).exits(1).says(&[told]);
    }
    bench.mica(&["build", "--lock-file", "none.lock", "."]).exits(1).says(&["none.lock"]);
    fs::remove_file(bench.context().join("mica.lock")).unwrap();
    bench.mica(&["build", "."]).succeeds().says_not("using ");
    let archive = crate::support::tar(&[file("Dockerfile", "FROM scratch\n")]);
    bench.mica_with(&["lock", "-"], &[], &archive).exits(1).says(&["--lock-file"]);
    bench.mica_with(&["lock", "--lock-file", "a.lock", "-"], &[], &archive).succeeds();
    assert!(bench.context().join("a.lock").exists());
}

#[test]
fn a_fetched_context_is_held_to_its_own_lock_and_reads_no_other_file() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let outside = bench.path("outside");
    fs::write(&outside, "version = 1\n").unwrap();
    let dockerfile = || file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let held = crate::support::tar(&[dockerfile(), file("mica.lock", "version = 1\n")]);
    bench.mica_with(&["build", "--locked", "-"], &[], &held).succeeds().says(&["using ", "(nothing)"]);
    let link = crate::support::symlink("mica.lock", outside.to_str().unwrap());
    let linked = crate::support::tar(&[dockerfile(), link]);
    let ran = bench.mica_with(&["build", "--locked", "-"], &[], &linked).exits(1);
    ran.says(&["mica.lock"]).says_not("(nothing)");
    // What is no file is not waited for.
    let path = bench.context().join("mica.lock");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    bench.mica(&["build", "."]).exits(1).says(&["mica.lock`", "it is no file"]);
}
