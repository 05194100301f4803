//! Mistakes in a Dockerfile: all at once, with their places, and nothing built.

use crate::support::Bench;

const THREE_MISTAKES: &str = "FROM scratch\nCOPPY a b\nCOPY --form=build a b\nWORKDIR\n";

#[test]
fn three_mistakes_are_three_diagnostics_and_nothing_is_built() {
    let bench = Bench::new();
    bench.dockerfile(THREE_MISTAKES);
    let ran = bench.mica(&["build", "-t", "app", "."]).exits(1);
    let heads = ran.stderr.lines().filter(|line| line.starts_with("error[")).count();
    assert_eq!(heads, 3, "{}", ran.stderr);
    for place in [
        "--> Dockerfile:2:",
        "2 | COPPY a b",
        "did you mean `COPY`",
        "--> Dockerfile:3:",
        "--> Dockerfile:4:",
    ] {
        assert!(ran.stderr.contains(place), "no {place:?} in:\n{}", ran.stderr);
    }
    assert_eq!(bench.mica(&["images", "-q"]).succeeds().stdout, "");
}

#[test]
fn a_check_builds_nothing() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nMAINTAINER me\nRUN this is never run\n");
    let ran = bench.mica(&["build", "--check", "."]);
    assert!(
        ran.stdout.contains("MaintainerDeprecated") || ran.stderr.contains("MaintainerDeprecated"),
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(1));
    assert_eq!(bench.mica(&["images", "-q"]).succeeds().stdout, "");
    bench.dockerfile("FROM scratch\nLABEL a=b\n");
    bench.mica(&["build", "--check", "."]).succeeds();
}

#[test]
fn checks_are_data_for_machines() {
    let bench = Bench::new();
    bench.dockerfile(THREE_MISTAKES);
    let json = bench.mica(&["build", "--call=check,format=json", "."]).exits(1);
    let report: serde_json::Value = serde_json::from_str(json.stdout.trim()).unwrap();
    assert_eq!(report["errors"], 3, "{report}");
    let sarif = bench.mica(&["build", "--call=check,format=sarif", "."]).exits(1);
    let log: serde_json::Value = serde_json::from_str(sarif.stdout.trim()).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let github = bench.mica(&["build", "--call=check,format=github", "."]).exits(1);
    assert!(github.stdout.starts_with("::error file=Dockerfile,line=2,"), "{}", github.stdout);
}

#[test]
fn the_parsers_view_is_one_object_a_file() {
    let bench = Bench::new();
    bench.dockerfile("FROM a AS b\nRUN x \\\n y\n").write("other", "FROM scratch\n");
    let ran = bench.mica_with(&["debug", "parse", "-"], &[], b"Dockerfile\nother\n").succeeds();
    let objects: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["nodes"][1]["args"], serde_json::json!(["x  y"]));
    assert_eq!(objects[1]["path"], "other");
}

#[test]
fn checks_of_our_own_show_only_when_asked_for() {
    let bench = Bench::new();
    bench
        .dockerfile("FROM scratch AS first\nCOPY .env /\nFROM scratch\nCOPY --from=first .env /\n")
        .write(".env", "x\n");
    let ran = bench.mica(&["build", "--check", "."]).succeeds();
    assert!(ran.stdout.contains("SecretInCopy"), "{}", ran.stdout);
    bench.mica(&["build", "."]).succeeds().says_not("SecretInCopy");
    bench.dockerfile("# check=skip=SecretInCopy,RootUser\nFROM scratch\nCOPY .env /\n");
    let ran = bench.mica(&["build", "--check", "."]).succeeds();
    assert!(ran.stdout.contains("no warnings found"), "{}", ran.stdout);
}

#[test]
fn a_check_without_a_network_says_what_it_can() {
    let bench = Bench::new();
    bench.dockerfile("FROM registry.invalid/base AS built\nRUN echo $SET_BY_BASE\nCOPY $SET_BY_BASE /\nMAINTAINER me\nFROM scratch\nCOPY --from=built / $NOT_SET\n");
    for network in [&["--offline"][..], &[]] {
        let ran = bench.mica(&[&["build", "--check"], network, &["."]].concat()).exits(1);
        let ran = ran
            .says(&["registry.invalid/base", "UndefinedVar and InvalidBaseImagePlatform were not checked"]);
        assert!(ran.stdout.contains("MaintainerDeprecated"), "{}", ran.stdout);
        assert!(ran.stdout.contains("$NOT_SET") && !ran.stdout.contains("'$SET_BY_BASE'"), "{}", ran.stdout);
    }
    bench.dockerfile("FROM registry.invalid/base\nUSER me\n");
    bench.mica(&["build", "--check", "--offline", "."]).succeeds().says(&["registry.invalid/base"]);
    bench.mica(&["build", "--offline", "."]).exits(1);
    bench.dockerfile("FROM registry.invalid/base AS first\nARG VERSION=1\nRUN x\nFROM first\n");
    let targets = bench.mica(&["build", "--call=targets", "."]).succeeds().stdout;
    assert_eq!(targets, "first\tregistry.invalid/base\n- (default)\tfirst\n");
    let outline = bench.mica(&["build", "--call=outline", "--offline", "."]).succeeds().stdout;
    assert_eq!(outline, "ARG\tVERSION=1\n");
}

#[test]
fn a_build_argument_that_nothing_asks_for_is_told_of() {
    let bench = Bench::new();
    bench.dockerfile("ARG GLOBAL\nFROM scratch AS other\nARG VERSION\nFROM scratch\nLABEL a=b\n");
    let given =
        ["VERSIN=1", "GLOBAL=1", "VERSION=1", "http_proxy=x", "TARGETARCH=amd64", "BUILDKIT_INLINE_CACHE=1"];
    let arguments: Vec<String> = given.map(|argument| format!("--build-arg={argument}")).to_vec();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = bench.mica(&[&["build"], &arguments[..], &["."]].concat()).succeeds();
    let ran = ran.says(&["one or more build-args [VERSIN] were not consumed: did you mean `VERSION`?"]);
    assert_eq!(ran.stderr.matches("not consumed").count(), 1, "{}", ran.stderr);
    bench.mica(&[&["build"], &arguments[1..], &["."]].concat()).succeeds().says_not("not consumed");
}
