//! Processes: a `mica` at work, its events as they come, signals, and who else is there.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long something may take that ought to happen at once, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes to a child's standard input and closes it.
pub(crate) fn feed(child: &mut Child, input: &[u8]) -> JoinHandle<()> {
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    std::thread::spawn(move || {
        // A command that does not read its input closes it early.
        let _ = stdin.write_all(&input);
    })
}

/// A `mica` that writes its events to standard error.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary was built for this test");
        drop(child.stdin.take());
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for the first event for which something holds.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            self.seen.push(line);
            if holds(&event) {
                return event;
            }
        }
        panic!("no {what} in:\n{}", self.seen.join("\n"));
    }

    /// Waits until a step writes this.
    #[track_caller]
    pub(crate) fn wait_for_output(&mut self, text: &str) {
        self.wait_for(text, |event| event["text"].as_str().is_some_and(|written| written.contains(text)));
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        kill_process(Pid::from_raw(id).expect("ids are not 0"), signal).expect("the child is ours");
    }

    /// Waits for its end; returns the exit code (`None` after a signal), its standard output and every line it wrote.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        let status = self.child.wait().expect("the child is ours");
        let mut stdout = String::new();
        let piped = self.child.stdout.as_mut().expect("it is piped");
        piped.read_to_string(&mut stdout).expect("what mica writes is text");
        self.seen.extend(self.lines.iter());
        (status.code(), stdout, self.seen)
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the ids of the processes with this in their command lines.
pub(crate) fn processes_saying(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        // A process may be gone by now.
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).replace('\0', " ").contains(text) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// A program that reads a store: the files of an ordinary user's have owners whom only a namespace of that user can read as.
pub(crate) fn reading_as_owner(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--map-auto", program]);
    command
}

/// Returns the names of the files below a directory that hold this text.
pub(crate) fn files_holding(directory: &Path, text: &str) -> String {
    let mut search = reading_as_owner("grep");
    let output = search.args(["-rlF", "-D", "skip", text]).arg(directory).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code < 2), "{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
