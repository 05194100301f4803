//! Repositories, and git's own server for them.

use std::path::Path;
use std::process::Command;

use super::bench::Bench;

/// Runs git in the context of a bench, as somebody with a name.
#[track_caller]
pub(crate) fn git(bench: &Bench, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(bench.context()).env("HOME", bench.path("home"));
    command.args(["-c", "user.name=n", "-c", "user.email=e@example.com"]).args(arguments);
    let output = command.output().expect("git was looked for before");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// `git daemon` on a port of its own.
pub(crate) struct GitDaemon {
    port: u16,
    process: std::process::Child,
}

impl GitDaemon {
    /// Serves the repositories below a directory; `None`, said aloud, where git has no daemon.
    pub(crate) fn start(served: &Path) -> Option<Self> {
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

    /// Returns the address of a repository.
    pub(crate) fn url(&self, repository: &str) -> String {
        format!("git://127.0.0.1:{}/{repository}", self.port)
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        // It may have ended before.
        drop((self.process.kill(), self.process.wait()));
    }
}
