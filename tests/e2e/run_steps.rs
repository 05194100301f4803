//! RUN steps and `mica run`, with a shell that needs nothing else.

use std::time::{Duration, Instant};

use crate::support::Bench;

const BASE: &str =
    "FROM scratch AS base\nCOPY busybox /bin/busybox\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";

#[test]
fn a_step_runs_and_its_image_too() {
    let bench = Bench::new();
    let Some(bench) = bench.shell() else { return };
    bench.dockerfile(&format!(
        "{BASE}RUN /bin/busybox mkdir /out && echo made > /out/file\nENV WHO=world\nENTRYPOINT [\"/bin/busybox\"]\nCMD [\"cat\", \"/out/file\"]\n"
    ));
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    assert_eq!(bench.mica(&["run", "--rm", "app"]).succeeds().stdout, "made\n");
    let said = bench.mica(&["run", "--rm", "app", "sh", "-c", "echo hello $WHO; exit 3"]).exits(3);
    assert_eq!(said.stdout, "hello world\n");
    bench.mica(&["run", "--rm", "--entrypoint", "/no/such", "app"]).exits(127);
    bench.mica(&["run", "--rm", "nosuchimage:x", "true"]).exits(125);
}

#[test]
fn a_failing_step_shows_command_line_and_output() {
    let bench = Bench::new();
    let Some(bench) = bench.shell() else { return };
    bench.dockerfile(&format!("{BASE}RUN echo before the end; exit 7\n"));
    let ran = bench.mica(&["build", "-t", "app", "."]).exits(1);
    let ran = ran.says(&[
        "before the end",
        "exit code: 7",
        "Dockerfile:4",
        "did not complete successfully",
        "complete log: ",
    ]);
    let tail = ran.stderr.rsplit("------").nth(1).expect("the output stands between rules");
    assert!(tail.contains("before the end"), "{}", ran.stderr);
    bench.mica(&["inspect", "app"]).exits(1);
}

#[test]
fn independent_stages_run_at_once() {
    let bench = Bench::new();
    let Some(bench) = bench.shell() else { return };
    let mut text = BASE.to_owned();
    for stage in ["a", "b", "c", "d"] {
        text.push_str(&format!("FROM base AS {stage}\nRUN /bin/busybox sleep 2; echo {stage} > /{stage}\n"));
    }
    text.push_str("FROM scratch\n");
    for stage in ["a", "b", "c", "d"] {
        text.push_str(&format!("COPY --from={stage} /{stage} /\n"));
    }
    bench.dockerfile(&text);
    let begin = Instant::now();
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}: one after another they take eight seconds");
    assert_eq!(std::fs::read_to_string(bench.path("out/d")).unwrap(), "d\n");
}

#[test]
fn an_equal_result_leaves_later_steps_cached() {
    let bench = Bench::new();
    let Some(bench) = bench.shell() else { return };
    let text = format!(
        "{BASE}RUN --mount=type=bind,source=input,target=/input /bin/busybox wc -c < /input > /size\nRUN echo later > /later\n"
    );
    bench.dockerfile(&text).write("input", "12345");
    let first = bench.build_quiet(&[]);
    bench.write("input", "54321");
    let ran = bench
        .mica(&["build", "."])
        .succeeds()
        .says(&["2 steps cached, 1 ran", "its output is what it was before"]);
    assert!(ran.stderr.contains("CACHED"), "{}", ran.stderr);
    assert_eq!(bench.build_quiet(&[]), first);
}

#[test]
fn secrets_are_seen_by_the_step_alone() {
    let bench = Bench::new();
    let Some(bench) = bench.shell() else { return };
    bench.dockerfile(&format!(
        "{BASE}RUN --mount=type=secret,id=token /bin/busybox cat /run/secrets/token && /bin/busybox wc -c < /run/secrets/token > /size\n"
    ));
    let variables = [("TOKEN", "hunter2-hunter2")];
    let ran =
        bench.mica_with(&["build", "--secret", "id=token,env=TOKEN", "-o", "../out", "."], &variables, b"");
    let ran = ran.succeeds();
    assert!(!ran.stderr.contains("hunter2-hunter2"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(bench.path("out/size")).unwrap().trim(), "15");
    assert!(!bench.path("out/run/secrets").exists());
}
