//! A place to run `mica` in, beside a directory that nothing may read or change.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the file outside holds; nothing mica writes may hold it.
const SECRET: &str = "what lies outside is nobody's business";

/// More than mica may have in memory, whatever it reads.
const MOST_MEMORY: u64 = 256 << 20;

/// Longer than anything may take, on whatever machine.
const LONGEST: Duration = Duration::from_secs(180);

/// A store, a context, and what is outside both.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    outside: BTreeMap<PathBuf, String>,
}

/// A finished `mica`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["context", "outside", "outside/directory", "home"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("outside/secret"), SECRET).unwrap();
        let outside = tell(&path("outside"));
        Self { directory, outside }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the path of the file outside, without the leading slash.
    pub(crate) fn secret(&self) -> String {
        self.path("outside/secret").to_str().unwrap().trim_start_matches('/').to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path("context").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs `mica` in the context and looks at its memory until it ends.
    pub(crate) fn mica(&self, arguments: &[&str]) -> Ran {
        let log = self.path("stderr");
        let mut child = Command::new(env!("CARGO_BIN_EXE_mica"))
            .args(arguments)
            .current_dir(self.path("context"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("MICA_ROOT", self.path("store"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (mut most, started) = (0, Instant::now());
        let status = loop {
            most = most.max(peak_memory(child.id()));
            if started.elapsed() > LONGEST {
                child.kill().unwrap();
                panic!("{arguments:?} has not ended after {LONGEST:?}");
            }
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(most < MOST_MEMORY, "{arguments:?} took {} MB", most >> 20);
        let stderr = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        Ran { code: status.code(), stderr }
    }

    /// Asserts that what is outside is as it was, and that the given directory holds nothing of it.
    #[track_caller]
    pub(crate) fn is_unharmed(&self, case: &str) {
        assert_eq!(tell(&self.path("outside")), self.outside, "{case}: something outside was changed");
        let out = self.path("out");
        for (path, told) in tell(&out) {
            assert!(!told.contains(SECRET), "{case}: {} holds what is outside", path.display());
        }
        // What one case wrote is not to be taken for what the next one does.
        if out.exists() {
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
}

impl Ran {
    /// Asserts that it worked, or failed as a program does that knows what it refuses.
    #[track_caller]
    pub(crate) fn is_an_answer(&self, case: &str) {
        let told = matches!(self.code, Some(0 | 1));
        assert!(told && !self.stderr.contains("panicked"), "{case}: {:?}\n{}", self.code, self.stderr);
    }

    /// Asserts that it failed and that the error has this text.
    #[track_caller]
    pub(crate) fn refuses(&self, case: &str, text: &str) {
        assert_eq!(self.code, Some(1), "{case}: {}", self.stderr);
        assert!(self.stderr.contains(text), "{case}: no {text:?} in\n{}", self.stderr);
    }
}

/// Returns the highest resident memory of a process, in bytes; 0 when it has ended.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Tells every object below a path: kind, mode, owner, time, and the beginning of its content.
fn tell(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut told = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let mut text = format!(
            "{:o} {}:{} {}.{} ",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() && metadata.len() < 4096 {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()));
        }
        told.insert(path, text);
    }
    told
}
