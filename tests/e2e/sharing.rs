//! Several `mica` with one store at the same time.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Bench;

/// A step whose result tells its runs apart, and which takes long enough to be waited for.
const SHARED: &str =
    "FROM base\nRUN echo started; sleep 2; cat /proc/sys/kernel/random/uuid > /random\nRUN cat /random\n";

fn images_of(lines: &[String]) -> Value {
    let events = lines.iter().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ends = events.filter(|event| event["event"] == "build-finished");
    let end = ends.next().unwrap_or_else(|| panic!("no end in:\n{}", lines.join("\n")));
    assert_eq!(end["result"], "succeeded", "{}", lines.join("\n"));
    end["images"].clone()
}

#[test]
fn two_builds_run_a_step_once() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(SHARED);
    let mut first = bench.start_build(&["-t", "app"]);
    first.wait_for_output("started");
    let second = bench.start_build(&["-t", "other"]);
    let (code, _, lines) = second.end();
    assert_eq!(code, Some(0), "{lines:#?}");
    let (first_code, _, first_lines) = first.end();
    assert_eq!(first_code, Some(0));
    assert_eq!(images_of(&first_lines), images_of(&lines));
    assert!(!lines.iter().any(|line| line.contains("started\\n")), "the step ran twice: {lines:#?}");
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_step_of_a_killed_build_is_taken_over() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(SHARED);
    let mut owner = bench.start_build(&[]);
    owner.wait_for_output("started");
    let mut waiter = bench.start_build(&["-t", "app"]);
    waiter.wait_for("start of the step", |event| event["event"] == "step-started" && event["id"] == 1);
    owner.signal(Signal::KILL);
    owner.end();
    waiter.wait_for_output("started");
    let (code, _, lines) = waiter.end();
    assert_eq!(code, Some(0), "{lines:#?}");
    bench.mica(&["build", "."]).succeeds().says(&["all 2 steps were cached"]);
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn many_builds_at_once_agree() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY tree /tree\nCOPY more /more\n");
    for number in 0..40 {
        bench.write(&format!("tree/{number}"), format!("{number}\n"));
        bench.write(&format!("more/{number}"), format!("{number}\n"));
    }
    let builds: Vec<_> = (0..6).map(|number| bench.start_build(&["-t", &format!("app:{number}")])).collect();
    let images: Vec<Value> = builds
        .into_iter()
        .map(|build| {
            let (code, _, lines) = build.end();
            assert_eq!(code, Some(0), "{lines:#?}");
            images_of(&lines)
        })
        .collect();
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]), "{images:?}");
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}
