//! Versions of a name: log, going back, old versions anywhere a name goes, pruning.

use rustix::process::Signal;

use crate::support::{Bench, Person};

/// Five versions of `app`; version n has the file `/n` and `/file` with the content n.
fn five_versions() -> Bench {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY file /file\nCOPY own /own/\n");
    for number in 1..=5 {
        bench.write("file", format!("{number}\n")).write(&format!("own/{number}"), "x");
        bench.mica(&["build", "-t", "app", "."]).succeeds();
    }
    bench
}

fn log(bench: &Bench) -> Vec<serde_json::Value> {
    serde_json::from_str(&bench.mica(&["log", "app", "--json"]).succeeds().stdout).unwrap()
}

/// Returns the content of `/file` in an image.
fn content(bench: &Bench, image: &str) -> String {
    bench.dockerfile(&format!("FROM {image}\n"));
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    let content = std::fs::read_to_string(bench.path("out/file")).unwrap();
    std::fs::remove_dir_all(bench.path("out")).unwrap();
    content
}

#[test]
fn the_log_tells_what_changed() {
    let bench = five_versions();
    let versions = log(&bench);
    let numbers: Vec<u64> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    assert_eq!(
        versions[0]["changes"],
        serde_json::json!({"added": 1, "removed": 0, "changed": 1, "config": 0})
    );
    assert!(versions[4]["changes"].is_null());
    let text = bench.mica(&["log", "app"]).succeeds().stdout;
    assert!(text.contains("@5") && text.contains("1 added, 1 changed"), "{text}");
    bench.mica(&["log", "nothing"]).exits(1).says(&["nothing"]);
}

#[test]
fn going_back_is_a_new_version() {
    let bench = five_versions();
    let before = log(&bench);
    assert!(bench.mica(&["rollback", "app"]).succeeds().stdout.contains("app:latest@6 is what @4 was"));
    assert!(bench.mica(&["rollback", "app"]).succeeds().stdout.contains("app:latest@7 is what @3 was"));
    assert!(bench.mica(&["rollback", "app", "@1"]).succeeds().stdout.contains("app:latest@8 is what @1 was"));
    let after = log(&bench);
    assert_eq!(after[0]["id"], before[4]["id"]);
    assert_eq!(after[0]["rollback_to"], 1);
    bench.mica(&["rollback", "app"]).exits(1).says(&["no earlier version"]);
    bench.mica(&["rollback", "app@9"]).exits(1).says(&["no version 9"]);
    bench.mica(&["rollback", "app@x"]).exits(2);
}

#[test]
fn an_old_version_can_be_used_by_its_number() {
    let bench = five_versions();
    for number in ["1", "4"] {
        bench.mica(&["tag", &format!("app@{number}"), "old"]).succeeds();
        assert_eq!(content(&bench, "old"), format!("{number}\n"));
    }
    let id = bench.mica(&["inspect", "app@2"]).succeeds().stdout;
    assert!(id.contains(log(&bench)[3]["id"].as_str().unwrap()));
    bench.mica(&["rmi", "app@2"]).succeeds();
    bench.mica(&["inspect", "app@2"]).exits(1).says(&["no version 2"]);
    assert_eq!(log(&bench).len(), 4);
}

#[test]
fn pruning_keeps_the_newest_versions_whole() {
    let bench = five_versions();
    let told = bench.mica(&["prune", "--keep-versions", "3", "--all", "--dry-run"]).succeeds().stdout;
    assert!(told.starts_with("would remove 2 versions, 2 images"), "{told}");
    assert_eq!(log(&bench).len(), 5);
    let done = bench.mica(&["prune", "--keep-versions", "3", "--all"]).succeeds().stdout;
    assert_eq!(done, told.replace("would remove", "removed"));
    let numbers: Vec<u64> = log(&bench).iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3]);
    for number in ["3", "4", "5"] {
        bench.mica(&["tag", &format!("app@{number}"), "kept"]).succeeds();
        assert_eq!(content(&bench, "kept"), format!("{number}\n"));
    }
    bench.mica(&["rollback", "app", "@1"]).exits(1);
    assert_eq!(bench.mica(&["prune", "--keep-versions", "3"]).succeeds().stdout, "removed nothing\n");
}

#[test]
fn versions_that_are_kept_are_not_removed_for_room() {
    let bench = five_versions();
    let refused = bench.mica(&["prune", "--keep-versions", "3", "--max-size", "10"]).exits(1);
    refused.says(&["the versions that are kept need", "nothing was removed", "--keep-versions"]);
    assert_eq!(log(&bench).len(), 5);
    bench.mica(&["prune", "--keep-versions", "0"]).exits(2);
    bench.mica(&["prune", "--max-size", "much"]).exits(2).says(&["--max-size much"]);
    let room = bench.mica(&["du", "--json"]).succeeds().stdout;
    let room: serde_json::Value = serde_json::from_str(&room).unwrap();
    assert!(room["layers"].as_u64().unwrap() > 0 && room["tags"].as_u64().unwrap() > 0, "{room}");
}

#[test]
fn the_history_names_lines() {
    let bench = five_versions();
    bench.dockerfile("# a comment\nFROM app\nENV A=1\nCOPY file /again\n");
    bench.mica(&["build", "-t", "next", "."]).succeeds();
    let text = bench.mica(&["history", "next", "--json"]).succeeds().stdout;
    let lines: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let told: Vec<_> = lines.iter().map(|line| (line["line"].as_u64(), line["size"].as_u64())).collect();
    assert_eq!(told, [(Some(4), Some(2)), (Some(3), None), (None, Some(5)), (None, Some(2))], "{text}");
    let table = bench.mica(&["history", "next"]).succeeds().stdout;
    assert!(table.contains("COPY file /again") && table.contains("2 B"), "{table}");
}

#[test]
fn the_commit_of_the_context_is_remembered() {
    let bench = Bench::new();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    bench.write(".git/HEAD", "ref: refs/heads/main\n").write(".git/refs/heads/main", format!("{commit}\n"));
    bench.dockerfile("FROM scratch\nARG A\nLABEL a=$A\n");
    bench.mica(&["build", "--build-arg", "A=7", "-t", "app", "."]).succeeds();
    let versions = log(&bench);
    assert_eq!(versions[0]["commit"], commit);
    assert_eq!(versions[0]["inputs"]["arg A"], "7");
}

/// Paths and what became of them, from one version to another.
fn changes(bench: &Bench, from: usize, to: usize) -> Vec<String> {
    let sides = [format!("app@{from}"), format!("app@{to}")];
    let ran = bench.mica(&["diff", "--semantic", "--json", &sides[0], &sides[1]]).exits(1);
    let difference: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let told = |file: &serde_json::Value| {
        format!("{} {}", file["change"].as_str().unwrap(), file["path"].as_str().unwrap())
    };
    difference["files"].as_array().unwrap().iter().map(told).collect()
}

#[test]
fn all_of_it_is_right_after_a_killed_build_too() {
    for person in [Person::Myself, Person::Ordinary] {
        let Some(bench) = Bench::with_base_for(person) else { return };
        let dockerfile = "FROM base\nCOPY file /file\nCOPY own /own/\nRUN cat /file > /copy\n";
        bench.dockerfile(dockerfile);
        for number in 1..=5 {
            bench.write("file", format!("{number}\n")).write(&format!("own/{number}"), "x");
            bench.mica(&["build", "-t", "app", "."]).succeeds();
        }
        bench
            .write("file", "6\n")
            .dockerfile(&format!("{dockerfile}RUN echo started; touch /late; sleep 86441.5\n"));
        let mut build = bench.start_build(&["-t", "app"]);
        build.wait_for_output("started");
        build.signal(Signal::KILL);
        assert_eq!(build.end().0, None);
        for from in 1..5 {
            for to in from + 1..=5 {
                let mut expected = vec!["changed /copy".to_owned(), "changed /file".to_owned()];
                expected.extend((from + 1..=to).map(|number| format!("added /own/{number}")));
                assert_eq!(changes(&bench, from, to), expected);
            }
        }
        let says = |image: &str| bench.mica(&["run", "--rm", image, "cat", "/copy"]).succeeds().stdout;
        assert_eq!((says("app"), says("app@2")), ("5\n".to_owned(), "2\n".to_owned()));
        bench.mica(&["rollback", "app", "@3"]).succeeds();
        assert_eq!(says("app"), "3\n");
        let told = bench.mica(&["prune", "--keep-versions", "3", "--all"]).succeeds().stdout;
        assert!(told.starts_with("removed 3 versions, 2 images"), "{told}");
        let kept: Vec<u64> = log(&bench).iter().map(|version| version["version"].as_u64().unwrap()).collect();
        assert_eq!(kept, [6, 5, 4]);
        assert_eq!((says("app@4"), says("app@5"), says("app@6")), ("4\n".into(), "5\n".into(), "3\n".into()));
        bench.mica(&["fsck"]).succeeds();
        bench.dockerfile(dockerfile).mica(&["build", "-t", "app", "."]).succeeds();
        assert_eq!(says("app"), "6\n");
        assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}
