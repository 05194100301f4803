//! `mica repro`: every planted cause of a difference is found and named, and clean Dockerfiles have none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{Bench, Person, skip};

/// A Dockerfile with causes planted, each in one file, or none.
struct Case {
    directory: PathBuf,
    causes: Vec<(String, String)>,
    needs_server: bool,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/repro");
    let mut directories: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    directories.into_iter().map(case).collect()
}

fn case(directory: PathBuf) -> Case {
    let text = std::fs::read_to_string(directory.join("Dockerfile")).unwrap();
    let facts = |name: &str| {
        let prefix = format!("# {name}: ");
        text.lines().filter_map(|line| Some(line.strip_prefix(&prefix)?.to_owned())).collect::<Vec<_>>()
    };
    let cause =
        |fact: &String| fact.split_once(" in ").map(|(cause, file)| (cause.to_owned(), file.to_owned()));
    let causes =
        facts("cause").iter().filter(|fact| *fact != "none").map(|fact| cause(fact).unwrap()).collect();
    Case { needs_server: !facts("needs").is_empty(), directory, causes }
}

/// Answers every request with another number.
fn changing_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            // A request fits into one packet, and what it asks for does not matter.
            let _ = stream.read(&mut [0; 4096]);
            let body = format!("answer-{}\n", 1000 + number);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    port
}

fn check(bench: &Bench, case: &Case, port: u16) {
    let name = case.directory.file_name().unwrap().to_string_lossy().into_owned();
    let port = format!("PORT={port}");
    let context = bench.context().join(&name);
    let mut arguments = vec!["repro", "--json", "--progress=none", context.to_str().unwrap()];
    if case.needs_server {
        arguments.extend(["--network=host", "--build-arg", &port]);
    }
    let ran = bench.mica(&arguments);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{name}: {}", ran.stderr));
    if case.causes.is_empty() {
        assert_eq!((ran.code, &told["findings"]), (Some(0), &Value::Array(vec![])), "{name}: {told:#}");
        return;
    }
    let not_varied = told["not_varied"].to_string();
    let is_planted = |known: &str| case.causes.iter().any(|(cause, _)| cause == known);
    let needed =
        [("user", "user"), ("processors", "processors"), ("directory-order", "order of directories")];
    if let Some((_, condition)) =
        needed.iter().find(|(known, condition)| is_planted(known) && not_varied.contains(condition))
    {
        skip("MICA_REQUIRE_NOTHING", &format!("{name}: this machine cannot vary {condition}"));
        return;
    }
    let findings = told["findings"].as_array().unwrap();
    let found: Vec<_> = findings
        .iter()
        .map(|it| (it["cause"].as_str().unwrap_or("none"), it["file"].as_str().unwrap()))
        .collect();
    let planted: Vec<_> = case.causes.iter().map(|(cause, file)| (cause.as_str(), file.as_str())).collect();
    assert_eq!(found, planted, "{name}: {told:#}\n{}", ran.stderr);
    assert_eq!(ran.code, Some(1), "{name}");
    let text = std::fs::read_to_string(case.directory.join("Dockerfile")).unwrap();
    let line = findings[0]["line"].as_u64().unwrap() as usize;
    assert!(
        text.lines().nth(line - 1).unwrap().starts_with(if name == "network-add" { "ADD" } else { "RUN" }),
        "{name}"
    );
}

fn check_all(bench: &Bench, cases: &[Case]) {
    let port = changing_server();
    for case in cases {
        let name = case.directory.file_name().unwrap().to_string_lossy().into_owned();
        bench.write(&format!("{name}/Dockerfile"), std::fs::read(case.directory.join("Dockerfile")).unwrap());
    }
    // Two at a time: most of the time is spent waiting.
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(bench, case, port)));
                    if checked.is_err() {
                        failures.lock().unwrap().push(case.directory.clone());
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner().unwrap(), [""; 0].map(PathBuf::from));
}

#[test]
fn every_planted_cause_is_named_and_clean_files_have_none() {
    let Some(bench) = Bench::with_base() else { return };
    let cases = cases();
    assert!(cases.iter().filter(|case| !case.causes.is_empty()).count() >= 12);
    assert!(cases.iter().filter(|case| case.causes.is_empty()).count() >= 4);
    check_all(&bench, &cases);
}

#[test]
fn an_ordinary_user_is_told_the_same() {
    let Some(bench) = Bench::with_base_for(Person::Ordinary) else { return };
    let few = ["random", "host-name", "clean-modes", "user"];
    let cases = cases().into_iter().filter(|case| few.iter().any(|name| case.directory.ends_with(name)));
    check_all(&bench, &cases.collect::<Vec<_>>());
}

#[test]
fn what_makes_steps_alike_is_not_varied_and_words_are_for_people() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN hostname > /host; echo $TZ$LC_ALL > /given; mkdir -p /etc && date > /etc/machine-id\n");
    let ran = bench.mica(&["repro", "--reproducible", "--progress=none", "."]).succeeds();
    assert!(ran.stdout.starts_with("the same bytes under other conditions\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("not varied: host name, locale, time zone, umask"), "{}", ran.stdout);
    let ran = bench.mica(&["repro", "--progress=none", "."]).exits(1);
    for text in [
        "/etc/machine-id: content",
        "cause: time of the build",
        "fix: take the time from SOURCE_DATE_EPOCH",
        "(line 2)",
    ] {
        assert!(ran.stdout.contains(text), "no {text:?} in {}", ran.stdout);
    }
    bench.mica(&["repro", "-o", "x", "."]).exits(2).says(&["writes and pushes nothing"]);
    bench.mica(&["repro", "-"]).exits(2).says(&["standard input"]);
    bench.dockerfile("FROM base\nRUN false\n");
    let temporary = bench.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let variables = [("TMPDIR", temporary.to_str().unwrap())];
    let failing = bench.mica_with(&["repro", "--progress=none", "."], &variables, b"").exits(2);
    failing.says(&["the first build failed"]);
    assert_eq!(std::fs::read_dir(temporary).unwrap().count(), 0, "nothing is left behind");
}
