//! How steps end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use crate::support::{World, shell};
use mica_executor::{Cancel, IdMode, RunSpec, SandboxError, Stdio, UserSpec};

pub(crate) fn background_processes_end(world: &World) {
    let started = Instant::now();
    let script = "(trap '' TERM; setsid sh -c '(while :; do echo x >> /log; sleep 0.01; done) &' ) > /dev/null; \
        sleep 1000 & sleep 0.05; echo done";
    let ran = world.run(&shell(script), world.launch());
    let log = ran.upper.join("log");
    assert_eq!(ran.expect_success(), "done\n");
    let size = || std::fs::metadata(&log).unwrap().len();
    let before = size();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(size(), before, "something still writes to the upper directory");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Runs a script that says `ready`, acts then, and returns what it said further and how long it took to end.
fn cancelled_when_ready(world: &World, script: &str, act: impl Fn(&Cancel)) -> (String, Duration) {
    let cancel = Cancel::new().unwrap();
    let (mut said, mut asked) = (Vec::new(), None);
    let mut listen = |_, bytes: &[u8]| {
        said.extend_from_slice(bytes);
        if asked.is_none() && said.starts_with(b"ready\n") {
            asked = Some(Instant::now());
            act(&cancel);
        }
    };
    let result = world.sandbox.run(&shell(script), world.launch(), &mut listen, &cancel);
    assert!(matches!(result, Err(SandboxError::Cancelled)), "{result:?}");
    let said = String::from_utf8(said).unwrap();
    (said.strip_prefix("ready\n").unwrap().to_owned(), asked.unwrap().elapsed())
}

const STUBBORN: &str = "trap ': ' TERM; echo ready; while :; do sleep 0.01; done";

pub(crate) fn cancel_is_polite_first(world: &World) {
    let (printed, _) = cancelled_when_ready(
        world,
        "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
        Cancel::cancel,
    );
    assert_eq!(printed, "bye\n");
}

pub(crate) fn cancel_ends_what_ignores_it(world: &World) {
    // Without a handler PID 1 never sees the polite signal, so there is nothing to wait for.
    let (_, took) = cancelled_when_ready(world, "echo ready; sleep 1000", Cancel::cancel);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (_, took) = cancelled_when_ready(world, STUBBORN, Cancel::cancel);
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
}

pub(crate) fn kill_is_immediate(world: &World) {
    let (_, took) = cancelled_when_ready(world, STUBBORN, Cancel::kill);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let ran = world.run_until(&shell("true"), world.launch(), &cancel);
    assert!(matches!(ran.result, Err(SandboxError::Cancelled)));
}

pub(crate) fn parallel_steps(world: &World) {
    std::thread::scope(|scope| {
        let steps: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || world.sh(&format!("sleep 0.05; echo {number}"))))
            .collect();
        for (number, step) in steps.into_iter().enumerate() {
            assert_eq!(step.join().unwrap(), format!("{number}\n"));
        }
    });
}

pub(crate) fn streams_can_be_passed(world: &World) {
    let (input, mut say) = std::io::pipe().unwrap();
    let (mut hear, output) = std::io::pipe().unwrap();
    say.write_all(b"hello").unwrap();
    drop(say);
    let mut launch = world.launch();
    let errors = output.try_clone().unwrap();
    launch.stdio = Stdio::Passed {
        stdin: OwnedFd::from(input),
        stdout: OwnedFd::from(output),
        stderr: OwnedFd::from(errors),
    };
    let ran = world.run(&shell("cat; echo ' and' >&2"), launch);
    assert_eq!(ran.expect_success(), "");
    let mut heard = String::new();
    hear.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello and\n");
}

pub(crate) fn steps_end_with_us(world: &World) {
    let mut arguments = vec![crate::support::ENDLESS];
    if world.mode == IdMode::Single {
        arguments.push("--single");
    }
    let mut other = Command::new("/proc/self/exe");
    let mut other =
        other.args(arguments).stdout(process::Stdio::piped()).stderr(process::Stdio::null()).spawn().unwrap();
    let mut path = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut path).unwrap();
    let path = std::path::Path::new(path.trim());
    let size = || path.metadata().map_or(0, |metadata| metadata.len());
    let patience = Instant::now() + Duration::from_secs(20);
    while size() == 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    other.kill().unwrap();
    other.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let before = size();
    assert!(before > 0, "the step never started");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(size(), before, "the step lives on without us");
    let root = path.ancestors().nth(3).unwrap();
    std::fs::remove_dir_all(root).unwrap();
}

pub(crate) fn terminals_are_controlling_ones(world: &World) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let mut launch = world.launch();
    launch.stdio = Stdio::Terminal(theirs);
    let script = "test -t 0 && echo terminal; echo again > /dev/tty; tty; echo last > /dev/console";
    let spec = RunSpec { user: UserSpec("app".into()), ..shell(script) };
    world.run(&spec, launch).expect_success();
    // A terminal gives what it has so far; when the other side is closed and all is read, that is an error.
    let mut heard = Vec::new();
    let mut piece = [0; 256];
    while let Ok(length @ 1..) = rustix::io::read(&ours, &mut piece) {
        heard.extend_from_slice(&piece[..length]);
    }
    let heard = String::from_utf8_lossy(&heard).replace('\r', "");
    assert_eq!(heard, "terminal\nagain\n/dev/console\nlast\n");
}
