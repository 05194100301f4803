//! Builds without RUN: files, names, contexts, outputs, the cache.

use crate::support::Bench;

const COPY_ONE: &str = "FROM scratch\nCOPY a.txt /a.txt\nLABEL kind=test\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.dockerfile(COPY_ONE).write("a.txt", "one\n").write("unused.txt", "x\n");
    bench
}

#[test]
fn a_build_makes_an_image_under_its_names() {
    let bench = bench();
    let ran = bench.mica(&["build", "-t", "app", "-t", "localhost:5000/team/app:2", "."]).succeeds();
    assert_eq!(ran.stdout, "");
    let ran =
        ran.says(&["#1 ", "COPY a.txt /a.txt", "docker.io/library/app:latest", "localhost:5000/team/app:2"]);
    assert!(ran.stderr.contains("1 step ran"), "{}", ran.stderr);
    let inspected = bench.mica(&["inspect", "app"]).succeeds().stdout;
    assert!(inspected.contains("\"kind\": \"test\""), "{inspected}");
}

#[test]
fn the_second_build_is_all_cached_and_says_so() {
    let bench = bench();
    let first = bench.build_quiet(&[]);
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    let ran = bench.mica(&["build", "--iidfile", "../id", "."]).succeeds().says(&["CACHED", "was cached"]);
    assert!(!ran.stderr.contains(" ran"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(bench.path("id")).unwrap(), first);
}

#[test]
fn only_what_is_copied_counts() {
    let bench = bench();
    let first = bench.build_quiet(&[]);
    bench.write("unused.txt", "changed\n").write("a.txt", "one\n");
    assert_eq!(bench.build_quiet(&[]), first, "the same bytes were written again");
    bench.write("a.txt", "two\n");
    let ran = bench.mica(&["build", "."]).succeeds();
    assert!(ran.stderr.contains("a.txt") && ran.stderr.contains("1 step ran"), "{}", ran.stderr);
    assert_ne!(bench.build_quiet(&[]), first);
}

#[test]
fn files_can_go_to_a_directory() {
    let bench = bench();
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/a.txt")).unwrap(), "one\n");
}

#[test]
fn a_dockerfile_alone_may_come_from_standard_input() {
    let bench = bench();
    let text = b"FROM scratch\nENV A=1\n";
    let ran = bench.mica_with(&["build", "-q", "-"], &[], text).succeeds();
    assert!(ran.stdout.starts_with("sha256:"), "{ran:?}");
    let same = bench.mica_with(&["build", "-q", "-f", "-", "."], &[], text).succeeds();
    assert_eq!(same.stdout, ran.stdout);
    let copy = b"FROM scratch\nCOPY a.txt /\n";
    bench.mica_with(&["build", "-"], &[], copy).exits(1).says(&["a.txt"]);
    bench.mica_with(&["build", "-f-", "."], &[], copy).succeeds();
}

#[test]
fn build_arguments_and_the_epoch_come_from_the_environment() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nARG WHO=nobody\nENV WHO=$WHO\n");
    let variables = [("WHO", "me"), ("SOURCE_DATE_EPOCH", "86400")];
    bench.mica_with(&["build", "-t", "app", "--build-arg", "WHO", "."], &variables, b"").succeeds();
    let inspected = bench.mica(&["inspect", "app"]).succeeds().stdout;
    assert!(inspected.contains("WHO=me") && inspected.contains("1970-01-02T00:00:00Z"), "{inspected}");
}

#[test]
fn progress_can_be_events() {
    let bench = bench();
    let ran = bench.mica_with(&["build", "."], &[("BUILDKIT_PROGRESS", "rawjson")], b"").succeeds();
    let events: Vec<serde_json::Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["event"] == "planned"), "{}", ran.stderr);
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["result"]), (&"build-finished".into(), &"succeeded".into()));
}

#[test]
fn a_missing_file_names_its_line() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\n\nCOPY nothing.txt /\n");
    bench.mica(&["build", "."]).exits(1).says(&["nothing.txt", "Dockerfile:3", "3 | COPY nothing.txt /"]);
}

#[test]
fn the_ignore_file_says_which_rule_dropped_a_path() {
    let bench = bench();
    bench.write(".dockerignore", "*.txt\n!a.txt\n");
    let listed = bench.mica(&["context", "ls"]).succeeds();
    let all = format!("{}{}", listed.stdout, listed.stderr);
    assert!(all.contains("a.txt") && all.contains("unused.txt"), "{all}");
    bench.dockerfile("FROM scratch\nCOPY unused.txt /\n");
    bench.mica(&["build", "."]).exits(1).says(&["unused.txt"]);
}
