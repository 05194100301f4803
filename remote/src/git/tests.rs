//! Real repositories, served by `git daemon` on this machine.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use super::*;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A directory of repositories, and a port on which they are served.
struct Server {
    root: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let base = format!("--base-path={}", root.path().display());
        // A daemon of its own would outlive a failing test; this ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream, &base);
            }
        });
        Self { root, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn url(&self, rest: &str) -> GitUrl {
        let text = format!("git://127.0.0.1:{}/{rest}", self.port);
        parse_git_url(&text, GitUrlUse::Add).unwrap().unwrap()
    }

    /// Makes a repository with a commit on `main`, one on `side`, a light tag and an annotated one.
    fn add_repository(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.join("dir/deep")).unwrap();
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        fs::write(path.join("a.txt"), "first").unwrap();
        fs::write(path.join("run.sh"), "#!/bin/sh").unwrap();
        fs::set_permissions(path.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(path.join("dir/deep/b.txt"), "deep").unwrap();
        symlink("dir", path.join("link")).unwrap();
        commit(&path, "first");
        git(&path, &["tag", "light"]);
        git(&path, &["tag", "-a", "-m", "annotated", "v1"]);
        git(&path, &["branch", "side"]);
        fs::write(path.join("a.txt"), "second").unwrap();
        commit(&path, "second");
    }

    fn id(&self, name: &str, reference: &str) -> String {
        git(&self.path(name), &["rev-parse", reference])
    }
}

/// Answers one connection.
fn serve(stream: TcpStream, base: &str) {
    let output = OwnedFd::from(stream.try_clone().unwrap());
    let daemon = Process::new("git")
        .args(["daemon", "--inetd", "--export-all", base])
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(OwnedFd::from(stream))
        .stdout(output)
        .stderr(Stdio::null())
        .spawn();
    daemon.expect("git is installed").wait().unwrap();
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Process::new("git")
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "test")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "test@example.com")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_DATE"), "1700000000 +0000")))
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(path: &Path, message: &str) {
    git(path, &["add", "--all"]);
    git(path, &["commit", "--quiet", "--message", message]);
}

fn driver() -> Git {
    Git::new(GitEnvironment::new(PATH), Arc::new(ProcessRunner))
}

/// Checks a url out and returns where, with the result.
async fn check_out(url: &GitUrl) -> Result<(tempfile::TempDir, Checkout), GitError> {
    check_out_resolved(url, &driver().resolve(url).await?).await
}

async fn check_out_resolved(
    url: &GitUrl,
    resolved: &ResolvedCommit,
) -> Result<(tempfile::TempDir, Checkout), GitError> {
    let place = tempfile::tempdir().unwrap();
    let (directory, scratch) = (place.path().join("out"), place.path().join("scratch"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&scratch).unwrap();
    let checkout =
        driver().checkout(url, resolved, &directory, &scratch, CheckoutOptions::for_url(url)).await?;
    Ok((place, checkout))
}

fn files(place: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(place.path().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn content(place: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(place.path().join("out").join(name)).unwrap()
}

#[tokio::test]
async fn references_are_resolved() {
    let server = Server::start();
    server.add_repository("r");
    let (first, second, tag) = (server.id("r", "side"), server.id("r", "main"), server.id("r", "v1"));
    assert_ne!(tag, first);
    for (text, commit, reference, annotated) in [
        ("r", &second, "refs/heads/main", None),
        ("r#main", &second, "refs/heads/main", None),
        ("r#refs/heads/side", &first, "refs/heads/side", None),
        ("r?tag=light", &first, "refs/tags/light", None),
        ("r#v1", &first, "refs/tags/v1", Some(tag.clone())),
    ] {
        let resolved = driver().resolve(&server.url(text)).await.unwrap();
        let expected =
            ResolvedCommit { commit: commit.clone(), tag: annotated, reference: reference.to_owned() };
        assert_eq!(resolved, expected, "{text}");
    }
    let error = driver().resolve(&server.url("r#gone")).await.unwrap_err();
    assert!(error.to_string().contains("has no branch or tag `gone`"), "{error}");
    let error = driver().resolve(&server.url("nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("git cannot list the references of git://127.0.0.1"), "{error}");
}

#[tokio::test]
async fn checksums_must_match() {
    let server = Server::start();
    server.add_repository("r");
    let (first, tag) = (server.id("r", "side"), server.id("r", "v1"));
    for checksum in [&first[..7], &tag[..10], &first] {
        driver().resolve(&server.url(&format!("r?ref=v1&checksum={checksum}"))).await.unwrap();
    }
    let wrong = driver().resolve(&server.url("r?ref=v1&checksum=0000000")).await.unwrap_err();
    assert!(wrong.to_string().contains(&format!("is {first} or {tag}")), "{wrong}");
    let odd = driver().resolve(&server.url("r?ref=v1&checksum=xyz")).await.unwrap_err();
    assert!(matches!(odd, GitError::Checksum { .. }));
    let short = driver().resolve(&server.url("r?fetch-by-commit&checksum=abc")).await.unwrap_err();
    assert_eq!(short.to_string(), "`abc` is not a full commit");
}

#[tokio::test]
async fn a_branch_is_checked_out_without_git_dir() {
    let server = Server::start();
    server.add_repository("r");
    let (place, checkout) = check_out(&server.url("r")).await.unwrap();
    assert_eq!(checkout, Checkout { commit: server.id("r", "main"), commit_time: 1_700_000_000 });
    assert_eq!(files(&place), ["a.txt", "dir", "link", "run.sh"]);
    assert_eq!(content(&place, "a.txt"), "second");
    let mode =
        |name: &str| fs::metadata(place.path().join("out").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a.txt"), mode("run.sh"), mode("dir")), (0o644, 0o755, 0o755));
}

#[tokio::test]
async fn tags_and_commits_are_checked_out() {
    let server = Server::start();
    server.add_repository("r");
    let first = server.id("r", "side");
    for rest in [
        "r#v1".to_owned(),
        "r#light".to_owned(),
        format!("r#{first}"),
        format!("r?checksum={first}&fetch-by-commit&branch=side"),
    ] {
        let (place, checkout) = check_out(&server.url(&rest)).await.unwrap();
        assert_eq!(
            (checkout.commit.as_str(), content(&place, "a.txt").as_str()),
            (first.as_str(), "first"),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn what_was_resolved_counts_when_a_branch_moves() {
    let server = Server::start();
    server.add_repository("r");
    let url = server.url("r#main");
    let resolved = driver().resolve(&url).await.unwrap();
    fs::write(server.path("r").join("a.txt"), "third").unwrap();
    commit(&server.path("r"), "third");
    let (place, checkout) = check_out_resolved(&url, &resolved).await.unwrap();
    assert_eq!((checkout.commit, content(&place, "a.txt")), (resolved.commit, "second".to_owned()));
}

#[tokio::test]
async fn a_directory_is_taken() {
    let server = Server::start();
    server.add_repository("r");
    let (place, _) = check_out(&server.url("r?keep-git-dir=true#:dir/deep")).await.unwrap();
    assert_eq!(files(&place), ["b.txt"]);
    for missing in ["none", "a.txt", "link", "link/deep"] {
        let error = check_out(&server.url(&format!("r#:{missing}"))).await.unwrap_err();
        assert!(matches!(&error, GitError::Subdir { subdir, .. } if subdir == missing), "{error}");
    }
}

#[tokio::test]
async fn the_git_dir_is_kept_and_clean() {
    let server = Server::start();
    server.add_repository("r");
    let (place, checkout) = check_out(&server.url("r?keep-git-dir=1#v1")).await.unwrap();
    let out = place.path().join("out");
    assert_eq!(git(&out, &["rev-parse", "HEAD"]), checkout.commit);
    assert_eq!(git(&out, &["describe", "--tags", "--exact-match", "--match=v1"]), "v1");
    assert_eq!(git(&out, &["status", "--porcelain"]), "");
    assert_eq!(git(&out, &["for-each-ref", "--format=%(refname)"]), "refs/tags/v1");
    assert_eq!(git(&out, &["reflog"]), "");
    assert!(!out.join(".git/FETCH_HEAD").exists() && !out.join(".git/hooks").exists());
}

#[tokio::test]
async fn submodules_are_fetched_unless_refused() {
    let server = Server::start();
    server.add_repository("inner");
    server.add_repository("outer");
    let outer = server.path("outer");
    let address = format!("git://127.0.0.1:{}/inner", server.port);
    git(&outer, &["submodule", "--quiet", "add", &address, "sub"]);
    git(&outer, &["config", "--file", ".gitmodules", "submodule.sub.url", "../inner"]);
    commit(&outer, "submodule");
    let (place, _) = check_out(&server.url("outer")).await.unwrap();
    assert_eq!(content(&place, "sub/a.txt"), "second");
    assert!(!place.path().join("out/sub/.git").exists());
    let (place, _) = check_out(&server.url("outer?submodules=false")).await.unwrap();
    assert!(!place.path().join("out/sub/a.txt").exists());
}

#[tokio::test]
async fn a_submodule_cannot_read_this_machine() {
    let server = Server::start();
    server.add_repository("inner");
    server.add_repository("outer");
    let outer = server.path("outer");
    let address = format!("git://127.0.0.1:{}/inner", server.port);
    git(&outer, &["submodule", "--quiet", "add", &address, "sub"]);
    let local = format!("file://{}", server.path("inner").display());
    git(&outer, &["config", "--file", ".gitmodules", "submodule.sub.url", &local]);
    commit(&outer, "submodule");
    let error = check_out(&server.url("outer")).await.unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
}

#[tokio::test]
async fn files_can_have_the_time_of_the_commit() {
    let server = Server::start();
    server.add_repository("r");
    let (place, _) = check_out(&server.url("r?mtime=commit")).await.unwrap();
    for name in ["", "a.txt", "dir", "dir/deep/b.txt", "link"] {
        let metadata = fs::symlink_metadata(place.path().join("out").join(name)).unwrap();
        let seconds = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds, 1_700_000_000, "{name}");
    }
}

/// Remembers what would be run and fails.
#[derive(Default)]
struct Refusing(Mutex<Vec<Command>>);

impl CommandRunner for Refusing {
    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, io::Result<CommandOutput>> {
        self.0.lock().unwrap().push(command.clone());
        let stderr = b"fatal: could not read https://user:s3cret@example.com/a.git\n".to_vec();
        Box::pin(async { Ok(CommandOutput { stderr, ..CommandOutput::default() }) })
    }
}

#[tokio::test]
async fn secrets_reach_git_by_its_environment_only() {
    let runner = Arc::new(Refusing::default());
    let token = GitEnvironment::token_authorization(&"t0ken".into());
    let environment = GitEnvironment { authorization: Some(token), ..GitEnvironment::new(PATH) };
    let url = parse_git_url("https://user:s3cret@example.com/a.git", GitUrlUse::Add).unwrap().unwrap();
    let error = Git::new(environment, runner.clone()).resolve(&url).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    let command = runner.0.lock().unwrap()[0].clone();
    assert_eq!(command.arguments, ["ls-remote", "--symref", "--", "https://example.com/a.git", "HEAD"]);
    let has = |name: &str, value: &str| command.environment.iter().any(|(n, v)| n == name && v == value);
    assert!(has("GIT_CONFIG_KEY_6", "http.https://example.com/.extraheader"));
    assert!(has("GIT_CONFIG_VALUE_6", "Authorization: basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="));
    assert!(has("GIT_CONFIG_KEY_7", "url.https://user:s3cret@example.com/.insteadOf"));
    assert!(has("GIT_CONFIG_VALUE_7", "https://example.com/"));
    assert!(has("GIT_TERMINAL_PROMPT", "0"));
}
