//! Builds that fail: what a person is told.

use std::path::Path;

use crate::support::{Bench, Ran};

/// Returns the path that the build says the complete log is at.
#[track_caller]
fn log_of(ran: &Ran) -> &Path {
    let told = ran.stderr.split("complete log: ").nth(1).expect("the path of the log is shown");
    Path::new(told.lines().next().expect("it is on that line").trim().trim_matches('`'))
}

#[test]
fn a_failing_step_shows_command_line_status_and_the_end_of_its_log() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\n\nRUN seq 1 500; echo to stderr >&2; exit 7\nRUN never run\n");
    let ran = bench.mica(&["build", "-t", "app", "."]).exits(1);
    let ran = ran.says(&[
        "seq 1 500; echo to stderr >&2; exit 7",
        "Dockerfile:3",
        "exit code: 7",
        "complete log: ",
    ]);
    let repeated = ran.stderr.rsplit("------").nth(1).expect("the output stands between rules");
    assert!(repeated.contains("to stderr") && repeated.contains(" 500\n"), "{repeated}");
    assert!(!repeated.contains(" 400\n"), "{repeated}");
    let log = std::fs::read_to_string(log_of(&ran)).unwrap();
    assert!(log.contains("1\n") && log.contains("500\n") && log.contains("to stderr"), "{log}");
    assert!(!ran.stderr.contains("never run\n#"), "{}", ran.stderr);
    bench.mica(&["inspect", "app"]).exits(1);
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_step_that_was_killed_says_so() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN sh -c 'kill -9 $$'; exit $?\n");
    bench.mica(&["build", "."]).exits(1).says(&["Dockerfile:2", "137"]);
}

#[test]
fn a_command_that_is_not_there_says_so() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN nosuchcommand --help\n");
    bench.mica(&["build", "."]).exits(1).says(&["nosuchcommand", "exit code: 127", "Dockerfile:2"]);
    bench.dockerfile("FROM base\nRUN [\"/no/such/program\"]\n");
    bench.mica(&["build", "."]).exits(1).says(&["/no/such/program", "Dockerfile:2"]);
}

#[test]
fn the_first_failure_ends_the_others() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(
        "FROM base AS slow\nRUN sleep 300; touch /a\nFROM base AS wrong\nRUN exit 3\nFROM base\n\
         COPY --from=slow /a /\nCOPY --from=wrong /b /\n",
    );
    let begin = std::time::Instant::now();
    bench.mica(&["build", "."]).exits(1).says(&["exit code: 3", "Dockerfile:4"]);
    assert!(begin.elapsed().as_secs() < 60, "the slow stage was waited for");
}

#[test]
fn what_is_not_needed_cannot_fail() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base AS unused\nRUN exit 1\nFROM base AS used\nRUN echo fine > /f\n");
    bench.mica(&["build", "."]).succeeds();
    bench.mica(&["build", "--target", "unused", "."]).exits(1).says(&["Dockerfile:2"]);
}

#[test]
fn a_stage_that_is_not_there_names_one_that_is() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch AS build\nFROM scratch\nCOPY --from=biuld /a /a\n");
    bench.mica(&["build", "--target", "buidl", "."]).exits(1).says(&["buidl", "build"]);
}

#[test]
fn a_context_that_is_not_there_says_so() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\n");
    bench.mica(&["build", "no/such/place"]).exits(1).says(&["no/such/place"]);
    bench.mica(&["build", "-f", "Other", "."]).exits(1).says(&["Other"]);
    std::fs::remove_file(bench.context().join("Dockerfile")).unwrap();
    bench.mica(&["build", "."]).exits(1).says(&["Dockerfile"]);
}

#[test]
fn what_is_not_granted_is_refused() {
    let Some(bench) = Bench::with_base() else { return };
    for (step, grant) in
        [("RUN --network=host true", "network.host"), ("RUN --security=insecure true", "security.insecure")]
    {
        bench.dockerfile(&format!("FROM base\n{step}\n"));
        bench.mica(&["build", "."]).exits(1).says(&[grant, "Dockerfile:2"]);
        bench.mica(&["build", "--allow", grant, "."]).succeeds();
    }
}
