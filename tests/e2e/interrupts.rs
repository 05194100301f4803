//! Ctrl-C, SIGTERM and SIGKILL: what is left afterwards.

use rustix::process::Signal;

use crate::support::{Bench, Running, processes_saying, wait_until};

/// Starts a build whose step says `started` and sleeps for a number of seconds nobody else sleeps.
fn sleeping(bench: &Bench, seconds: &str) -> Running {
    bench.dockerfile(&format!("FROM base\nRUN echo started; touch /made; sleep {seconds}\n"));
    let mut build = bench.start_build(&["-t", "app"]);
    build.wait_for_output("started");
    build
}

fn assert_nothing_is_left(bench: &Bench, seconds: &str) {
    wait_until("no process of the step is left", || processes_saying(&format!("sleep {seconds}")).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let store = bench.path("store");
    assert!(!mounts.contains(store.to_str().unwrap()), "{mounts}");
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
    bench.mica(&["inspect", "app"]).exits(1);
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    for (signal, code, seconds) in [(Signal::INT, 130, "86411.5"), (Signal::TERM, 143, "86412.5")] {
        let Some(bench) = Bench::with_base() else { return };
        let build = sleeping(&bench, seconds);
        build.signal(signal);
        let (ended, stdout, lines) = build.end();
        assert_eq!((ended, stdout.as_str()), (Some(code), ""), "{lines:#?}");
        let last: serde_json::Value =
            lines.iter().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap();
        assert_eq!(last["result"], "canceled", "{last}");
        assert_nothing_is_left(&bench, seconds);
    }
}

#[test]
fn a_killed_build_leaves_no_process_and_the_next_one_cleans_up() {
    let Some(bench) = Bench::with_base() else { return };
    let seconds = "86413.5";
    let build = sleeping(&bench, seconds);
    build.signal(Signal::KILL);
    assert_eq!(build.end().0, None);
    wait_until("no process of the step is left", || processes_saying(&format!("sleep {seconds}")).is_empty());
    bench.dockerfile("FROM base\nRUN true\n").mica(&["build", "."]).succeeds();
    assert_nothing_is_left(&bench, seconds);
}

/// A step whose processes ignore what can be ignored: its own shell, one in a session of its own, one whose parent has gone.
fn stubborn(bench: &Bench, seconds: &str) -> Running {
    let ignore = "trap '' TERM INT HUP QUIT";
    bench.dockerfile(&format!(
        "FROM base\nRUN {ignore}; setsid sh -c \"{ignore}; sleep {seconds}\" & \\\n \
         ( ( {ignore}; sleep {seconds} ) & ) ; echo started; {ignore}; sleep {seconds}; sleep {seconds}\n"
    ));
    let mut build = bench.start_build(&["-t", "app"]);
    build.wait_for_output("started");
    build
}

#[test]
fn nothing_is_left_of_processes_that_ignore_every_signal() {
    for (signal, code, seconds) in [(Signal::HUP, Some(129), "86414.5"), (Signal::QUIT, None, "86415.5")] {
        let Some(bench) = Bench::with_base() else { return };
        let build = stubborn(&bench, seconds);
        build.signal(signal);
        assert_eq!(build.end().0, code);
        // Whoever dies of a signal cleans nothing up: the kernel ends the step, the next build removes the rest.
        bench.dockerfile("FROM base\nRUN true\n").mica(&["build", "."]).succeeds();
        assert_nothing_is_left(&bench, seconds);
    }
}

#[test]
fn an_interrupted_command_is_told_and_waited_for() {
    let Some(bench) = Bench::with_base() else { return };
    let script = "trap 'echo told; exit 9' TERM INT; echo ready; while true; do sleep 0.05; done";
    let mut child = bench.command(&["run", "--rm", "base", "sh", "-c", script]).spawn().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success(), "{status:?}");
    wait_until("the command is gone", || processes_saying(script).is_empty());
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}
