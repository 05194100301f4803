//! The views of a build that are no terminal.

use serde_json::Value;

use crate::support::Bench;

fn bench() -> Option<Bench> {
    let bench = Bench::with_base()?;
    bench.dockerfile("FROM base AS made\nRUN echo said aloud\nRUN echo said later >&2\nENV A=1\n");
    Some(bench)
}

#[test]
fn plain_lines_are_the_references() {
    let Some(bench) = bench() else { return };
    let ran = bench.mica(&["build", "--progress=plain", "-t", "app", "."]).succeeds();
    for line in ["[2/3] RUN echo said aloud", "[3/3] RUN echo said later >&2"] {
        let heading = ran.stderr.lines().find(|text| text.ends_with(line)).expect(line);
        let (number, _) = heading.split_once(' ').unwrap();
        let done =
            ran.stderr.lines().find(|text| text.starts_with(&format!("{number} DONE "))).expect(number);
        assert!(done.ends_with('s'), "{done}");
        assert!(
            ran.stderr
                .lines()
                .any(|text| text.starts_with(&format!("{number} 0.")) && text.contains(" said "))
        );
    }
    assert_eq!(ran.stdout, "");
    assert!(!ran.stderr.contains('\x1b'), "{}", ran.stderr);
    // What is no terminal gets plain lines without asking.
    let piped = bench.mica(&["build", "."]).succeeds();
    assert!(piped.stderr.starts_with("#1 [1/3] FROM "), "{}", piped.stderr);
}

#[test]
fn events_are_one_object_a_line() {
    let Some(bench) = bench() else { return };
    let ran = bench.mica(&["build", "--progress=json", "-t", "app", "."]).succeeds();
    let events: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(named("planned")[0]["steps"].as_array().unwrap().len(), 3);
    assert_eq!(named("step-finished").len(), 3);
    assert!(
        named("step-log").iter().any(|event| event["stream"] == "stderr" && event["text"] == "said later\n")
    );
    let times: Vec<f64> = events.iter().map(|event| event["time"].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["result"]), (&"build-finished".into(), &"succeeded".into()));
    assert_eq!(end["images"][0], bench.build_quiet(&[]).as_str());
}

#[test]
fn quiet_says_nothing_until_something_fails() {
    let Some(bench) = bench() else { return };
    let ran = bench.mica(&["build", "--no-cache", "--progress=none", "."]).succeeds();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let ran = bench.mica(&["build", "--progress=quiet", "."]).succeeds();
    assert_eq!((ran.stdout.trim_end(), ran.stderr.as_str()), (bench.build_quiet(&[]).as_str(), ""));
    bench.dockerfile("FROM base\nRUN echo fine\nRUN echo the reason; exit 9\n");
    let ran = bench.mica(&["build", "-q", "."]).exits(1).says(&["the reason", "exit code: 9"]);
    assert!(ran.stdout.is_empty() && !ran.stderr.contains("fine\n"), "{}", ran.stderr);
}

#[test]
fn what_steps_write_is_shown_without_harm() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile(
        r"FROM base
RUN printf '\033[2J\033]0;title\007\377\376 odd \r50%%\r100%%\n'
",
    );
    let ran = bench.mica(&["build", "."]).succeeds();
    assert!(ran.stderr.contains("odd") && ran.stderr.contains("100%"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("\x1b[2J") && !ran.stderr.contains('\x07'), "{:?}", ran.stderr);
}

#[test]
fn timings_tell_where_the_time_went() {
    let Some(bench) = bench() else { return };
    bench.mica(&["build", "--no-cache", "--timings", "--timings=times.json", "-t", "app", "."]).succeeds();
    let read = |name: &str| std::fs::read_to_string(bench.context().join(name)).unwrap();
    let page = read("mica-timings.html");
    assert!(page.contains("mica build: succeeded") && page.contains("RUN echo said aloud"), "{page}");
    let times: Value = serde_json::from_str(&read("times.json")).unwrap();
    let steps = times["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &times["result"]), (3, &"succeeded".into()));
    for step in &steps[1..] {
        let spans = step["spans"].as_array().unwrap();
        let what: Vec<_> = spans.iter().map(|span| span["what"].as_str().unwrap()).collect();
        assert_eq!((what, &step["outcome"]), (vec!["key", "queue", "run", "commit"], &"ran".into()));
        for pair in spans.windows(2) {
            assert_eq!(pair[0]["end"], pair[1]["start"]);
        }
        assert!(spans[3]["end"].as_f64() <= times["seconds"].as_f64(), "{times}");
    }
    assert_eq!(times["tasks"].as_array().unwrap().last().unwrap()["what"], "writing to disk");
    // What failed is worth looking at most of all.
    bench.dockerfile("FROM base\nRUN exit 3\n");
    bench.mica(&["build", "--timings=failed.json", "."]).exits(1);
    let times: Value = serde_json::from_str(&read("failed.json")).unwrap();
    assert_eq!((&times["result"], &times["steps"][1]["outcome"]), (&"failed".into(), &"failed".into()));
    bench.dockerfile("FROM base\n");
    bench.mica(&["build", "--timings=no/such/file", "."]).exits(1).says(&["cannot write `no/such/file`"]);
}
