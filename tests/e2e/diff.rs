//! What is different between two images.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::{Access, Bench, Registry, file};

fn two_images() -> Bench {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY tree /\nENV A=1\n");
    bench
        .write("tree/same", "same")
        .write("tree/content", "one")
        .write("tree/mode", "m")
        .write("tree/gone", "g");
    std::os::unix::fs::symlink("same", bench.context().join("tree/link")).unwrap();
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    bench.write("tree/content", "three").write("tree/new", "n");
    std::fs::remove_file(bench.context().join("tree/gone")).unwrap();
    std::fs::remove_file(bench.context().join("tree/link")).unwrap();
    std::os::unix::fs::symlink("mode", bench.context().join("tree/link")).unwrap();
    let mode = bench.context().join("tree/mode");
    std::fs::set_permissions(mode, std::fs::Permissions::from_mode(0o755)).unwrap();
    bench.dockerfile("FROM scratch\nCOPY tree /\nENV A=2\n");
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    bench
}

fn difference(bench: &Bench, arguments: &[&str], code: i32) -> serde_json::Value {
    let ran = bench.mica(&[&["diff", "--json"], arguments].concat()).exits(code);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Path, what became of it, in what.
fn files(difference: &serde_json::Value) -> Vec<String> {
    let file = |file: &serde_json::Value| {
        let aspects = file["aspects"]
            .as_array()
            .map(|all| all.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>());
        let words = [file["path"].as_str().unwrap(), file["change"].as_str().unwrap()];
        format!("{} {}", words.join(" "), aspects.unwrap_or_default().join("+")).trim_end().to_owned()
    };
    difference["files"].as_array().unwrap().iter().map(file).collect()
}

#[test]
fn every_kind_of_change_is_named() {
    let bench = two_images();
    let found = difference(&bench, &["--semantic", "app@1", "app@2"], 1);
    assert_eq!(
        files(&found),
        [
            "/content changed content",
            "/gone removed",
            "/link changed target",
            "/mode changed mode",
            "/new added"
        ]
    );
    assert_eq!(found["files"][0]["by"], "line 2: COPY tree /");
    let fields: Vec<_> =
        found["config"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["config.Env A", "history 02.created_by"]);
    assert_eq!(found["layers"][0]["before"], 9);
    assert_eq!(found["layers"][0]["after"], 11);
    let text = bench.mica(&["diff", "app@1", "app"]).exits(1).stdout;
    for line in [
        "~ /content  content 3 B → 5 B",
        "+ /new  1 B",
        "- /gone  1 B",
        "mode 0644 → 0755",
        "target same → mode",
        "config.Env A: `1` → `2`",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[test]
fn nothing_different_is_0_and_what_is_not_there_is_2() {
    let bench = two_images();
    assert_eq!(bench.mica(&["diff", "app", "app@2"]).succeeds().stdout, "no difference\n");
    assert_eq!(bench.mica(&["diff", "app", "nothing"]).exits(2).stdout, "");
    bench.mica(&["diff", "app", "./nothing.tar"]).exits(2).says(&["nothing.tar"]);
}

#[test]
fn times_alone_are_no_semantic_difference() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\n").write("a", "x");
    let build = |epoch: &str, name: &str| {
        bench
            .mica_with(&["build", "--no-cache", "-t", name, "."], &[("SOURCE_DATE_EPOCH", epoch)], b"")
            .succeeds();
    };
    build("86400", "one");
    build("172800", "two");
    difference(&bench, &["--semantic", "one", "two"], 0);
    let found = difference(&bench, &["one", "two"], 1);
    assert_eq!(found["config"][0]["field"], "created");
}

#[test]
fn archives_layouts_and_tars_can_be_compared() {
    let bench = two_images();
    bench.mica(&["save", "app@1", "-o", "../one.tar"]).succeeds();
    bench.mica(&["save", "app@2", "--format", "oci", "-o", "../two.tar"]).succeeds();
    bench.dockerfile("FROM app\n");
    bench
        .mica(&[
            "build",
            "-t",
            "copy",
            "-o",
            "type=tar,dest=../files.tar",
            "-o",
            "type=oci,tar=false,dest=../layout",
            ".",
        ])
        .succeeds();
    bench.mica(&["diff", "app@1", "../one.tar"]).succeeds();
    bench.mica(&["diff", "../two.tar", "../layout"]).succeeds();
    assert_eq!(files(&difference(&bench, &["--semantic", "../one.tar", "../two.tar"], 1)).len(), 5);
    let elsewhere = Bench::new();
    let (one, two) = (bench.path("one.tar"), bench.path("two.tar"));
    let found = difference(&elsewhere, &["--semantic", one.to_str().unwrap(), two.to_str().unwrap()], 1);
    assert_eq!(files(&found).len(), 5);
    assert_eq!(elsewhere.mica(&["images", "-q"]).succeeds().stdout.lines().count(), 2);
    assert_eq!(files(&difference(&bench, &["--semantic", "app", "../files.tar"], 1)), [""; 0]);
}

#[test]
fn an_image_of_several_in_a_layout_is_named() {
    let bench = two_images();
    for (name, version) in [("first", "app@1"), ("second", "app@2")] {
        bench.mica(&["tag", version, "old"]).succeeds();
        bench.dockerfile("FROM old\n");
        bench.mica(&["build", "-t", name, "-o", "type=oci,tar=false,dest=../both", "."]).succeeds();
    }
    bench.mica(&["diff", "--semantic", "../both:first", "app@1"]).succeeds();
    let found = difference(&bench, &["--semantic", "../both:first", "../both:second"], 1);
    assert_eq!(files(&found).len(), 5);
    bench.mica(&["diff", "../both:third", "app"]).exits(2).says(&["third", "first"]);
}

#[test]
fn layers_can_be_compared() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY a /c\n").write("a", "a").write("b", "b");
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    assert_eq!(files(&difference(&bench, &["app#1", "app#3"], 1)), ["/a removed", "/c added"]);
    assert_eq!(files(&difference(&bench, &["app#..1", "app#..2"], 1)), ["/b added"]);
    let by = difference(&bench, &["app#..2", "app"], 1);
    assert_eq!(
        (files(&by), &by["files"][0]["by"]),
        (vec!["/c added".to_owned()], &"line 4: COPY a /c".into())
    );
    assert!(by["config"].as_array().unwrap().is_empty());
    assert!(files(&difference(&bench, &["app@1#..3", "app"], 0)).is_empty());
    bench.mica(&["save", "app", "-o", "../app.tar"]).succeeds();
    assert_eq!(files(&difference(&bench, &["../app.tar#2", "app#3"], 1)), ["/b removed", "/c added"]);
    for wrong in ["app#4", "app#0", "app#..4"] {
        bench.mica(&["diff", wrong, "app"]).exits(2).says(&["has no layer", "it has 3"]);
    }
    let table = bench.mica(&["history", "app"]).succeeds().stdout;
    assert!(table.lines().nth(1).unwrap().starts_with("#3 "), "{table}");
}

#[test]
fn names_in_registries_can_be_compared() {
    let registry = Registry::start(Access::Open);
    registry.put("team/app:1", &[file("a", "one"), file("b", "b")], &json!({"Env": ["V=1"]}));
    registry.put("team/app:2", &[file("a", "two!"), file("c", "c")], &json!({"Env": ["V=2"]}));
    let bench = Bench::new();
    let (one, two) = (registry.name("team/app:1"), registry.name("team/app:2"));
    let found = difference(&bench, &["--semantic", &one, &two], 1);
    assert_eq!(files(&found), ["/a changed content", "/b removed", "/c added"]);
    assert_eq!(found["config"][0]["field"], "config.Env V");
    assert_eq!(files(&difference(&bench, &[&format!("{one}#1"), &format!("{two}#..1")], 1)).len(), 3);
    difference(&bench, &[&one, &one], 0);
}
