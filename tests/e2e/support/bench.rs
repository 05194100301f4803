//! A place to run `mica` in, and what came of a run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::archive::{base_root, tar};
use super::person::{Person, reachable_binary};
use super::process::{Running, feed};
use super::requirement::busybox;

/// A directory with a store, a home and a context, and the person who works there.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    person: Person,
    binary: PathBuf,
}

/// A finished `mica`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// Returns an empty bench.
    pub(crate) fn new() -> Self {
        Self::of(Person::Myself)
    }

    /// Returns an empty bench of this person.
    pub(crate) fn of(person: Person) -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        let binary = match person {
            Person::Myself => PathBuf::from(env!("CARGO_BIN_EXE_mica")),
            _ => reachable_binary(directory.path()),
        };
        let bench = Self { directory, person, binary };
        for name in ["home", "context"] {
            std::fs::create_dir(bench.path(name)).expect("the directory is new");
            bench.give(&bench.path(name));
        }
        bench.give(bench.directory.path());
        bench
    }

    /// Returns a bench whose store has the image `base` with a shell; `None`, said aloud, where steps cannot run.
    #[track_caller]
    pub(crate) fn with_base() -> Option<Self> {
        Self::with_base_for(Person::Myself)
    }

    /// As [`Bench::with_base`], of this person.
    #[track_caller]
    pub(crate) fn with_base_for(person: Person) -> Option<Self> {
        let busybox = busybox()?;
        if !person.can_run_steps() {
            return None;
        }
        let bench = Self::of(person);
        let archive = bench.path("base.tar");
        std::fs::write(&archive, tar(&base_root(busybox))).expect("there is room for temporary files");
        bench.give(&archive);
        bench.mica(&["import", "../base.tar", "base"]).succeeds();
        Some(bench)
    }

    /// Hands a file over to the bench's person.
    pub(crate) fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.person.ids() {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("root gives files away");
        }
    }

    /// Returns a path outside the context.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the directory `mica` is run in.
    pub(crate) fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(name);
        std::fs::create_dir_all(path.parent().expect("names are not empty"))
            .expect("directories can be made");
        std::fs::write(&path, text).expect("files can be written");
        // Not what the umask of the tests makes of it.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("it is ours");
        self.give(&path);
        self
    }

    /// Writes the Dockerfile.
    pub(crate) fn dockerfile(&self, text: &str) -> &Self {
        self.write("Dockerfile", text)
    }

    /// Returns a command that is ready to run `mica` in the context.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(self.context())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("MICA_ROOT", self.path("store"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.person.dress(&mut command);
        command
    }

    /// Runs `mica`.
    pub(crate) fn mica(&self, arguments: &[&str]) -> Ran {
        self.mica_with(arguments, &[], b"")
    }

    /// Runs `mica` with variables and something on standard input.
    pub(crate) fn mica_with(&self, arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        Ran::of(&finished(command, input))
    }

    /// Runs `mica` in another directory.
    pub(crate) fn mica_in(&self, directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(arguments);
        command.current_dir(directory).envs(variables.iter().copied());
        Ran::of(&finished(command, b""))
    }

    /// Runs `mica`, which must succeed, and returns the bytes it wrote.
    #[track_caller]
    pub(crate) fn bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let output = finished(self.command(arguments), b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Starts a build of the context that is watched through its events.
    pub(crate) fn start_build(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(&[&["build", "--progress=json"], arguments, &["."]].concat()))
    }

    /// Builds the context with `-q` and returns the image id.
    #[track_caller]
    pub(crate) fn build_quiet(&self, arguments: &[&str]) -> String {
        let ran = self.mica(&[&["build", "-q"], arguments, &["."]].concat());
        ran.succeeds().stdout.trim_end().to_owned()
    }

    /// Returns what of the store must be gone once nothing is at work: leases and what was being made.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        ["scratch", "locks/leases"]
            .iter()
            .filter_map(|name| std::fs::read_dir(self.path("store").join(name)).ok())
            .flat_map(|entries| entries.map(|entry| entry.expect("it can be listed").path()))
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            return;
        }
        // An ordinary user's store holds files of subordinate ids, which only a namespace of the user can remove.
        let removing = Command::new("unshare")
            .args(["--map-root-user", "--map-auto", "rm", "-rf"])
            .arg(self.path("store"))
            .stderr(Stdio::null())
            .status();
        // Where that does not work there are no such ids, and the directory is removed as any other.
        drop(removing);
    }
}

/// Runs a command to its end.
fn finished(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("the binary was built for this test");
    let feeding = feed(&mut child, input);
    let output = child.wait_with_output().expect("the child is ours");
    feeding.join().expect("the writer does not panic");
    output
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts that it went well.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error holds these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in:\n{}", self.stderr);
        }
        self
    }

    /// Asserts that standard error does not hold this text.
    #[track_caller]
    pub(crate) fn says_not(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "{text:?} in:\n{}", self.stderr);
        self
    }
}
