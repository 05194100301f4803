//! A place to run `mica` in, and what came of a run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with a store, a home and a context.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
}

/// A finished `mica`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        for name in ["home", "context"] {
            std::fs::create_dir(directory.path().join(name)).expect("the directory is new");
        }
        Self { directory }
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
        std::fs::write(path, text).expect("files can be written");
        self
    }

    /// Writes the Dockerfile.
    pub(crate) fn dockerfile(&self, text: &str) -> &Self {
        self.write("Dockerfile", text)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mica"));
        command
            .args(arguments)
            .current_dir(self.context())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("MICA_ROOT", self.path("store"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `mica`.
    pub(crate) fn mica(&self, arguments: &[&str]) -> Ran {
        self.mica_with(arguments, &[], b"")
    }

    /// Runs `mica` with variables and something on standard input.
    pub(crate) fn mica_with(&self, arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied()).stdin(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built for this test");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that does not read its input closes it early.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("the child is ours");
        writer.join().expect("the writer does not panic");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Builds the context with `-q` and returns the image id.
    pub(crate) fn build_quiet(&self, arguments: &[&str]) -> String {
        let ran = self.mica(&[&["build", "-q"], arguments, &["."]].concat());
        ran.succeeds().stdout.trim_end().to_owned()
    }

    /// Puts a statically linked shell into the context; `None`, said aloud, where there is none or no step can run.
    pub(crate) fn shell(&self) -> Option<&Self> {
        let needed = [Path::new("/bin/busybox"), Path::new("/usr/bin/busybox")];
        let Some(busybox) = needed.into_iter().find(|path| path.exists()) else {
            return skip("there is no /bin/busybox (package busybox-static)");
        };
        let doctor = self.mica(&["doctor"]);
        if doctor.code != Some(0) {
            return skip(&format!("no step can run on this machine:\n{}", doctor.stdout));
        }
        std::fs::copy(busybox, self.context().join("busybox")).expect("the shell can be copied");
        Some(self)
    }
}

fn skip<T>(reason: &str) -> Option<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "whether a skip is a failure is for whoever starts the tests"
    )]
    let required = std::env::var_os("MICA_REQUIRE_SANDBOX").is_some();
    assert!(!required, "MICA_REQUIRE_SANDBOX is set, but {reason}");
    eprintln!("skipped: {reason}");
    None
}

impl Ran {
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
}
