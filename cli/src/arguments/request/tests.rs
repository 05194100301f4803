//! From words to requests, by tables.

use clap::Parser;
use mica_solver::graph::NetworkMode;

use super::*;
use crate::arguments::values::tests::Fake;
use crate::arguments::{Call, CallFormat, ProgressMode};
use crate::arguments::{Command, CommandLine};
use crate::engine::request::{OutputKind, Push};

fn arguments(words: &[&str]) -> BuildArguments {
    let line = CommandLine::try_parse_from([&["mica", "build"], words].concat()).unwrap();
    let Command::Build(arguments) = line.command else { panic!("not a build: {words:?}") };
    *arguments
}

fn request(words: &[&str]) -> Result<BuildRequest, ArgumentError> {
    build_request(&arguments(words), &Fake::with(&[]))
}

fn refused(words: &[&str]) -> String {
    request(words)
        .map(|made| panic!("accepted {words:?}: {made:?}"))
        .unwrap_or_else(|error| error.to_string())
}

#[test]
fn the_plain_build_asks_for_nothing_special() {
    let made = request(&["."]).unwrap();
    assert_eq!(made.context, ContextInput::Directory(".".into()));
    assert_eq!(made.dockerfile, DockerfileInput::Default);
    assert_eq!((made.no_cache, made.network), (NoCache::None, NetworkMode::Default));
    assert!(
        made.tags.is_empty() && made.platforms.is_empty() && made.outputs.is_empty() && made.allow.is_empty()
    );
    assert!(made.jobs >= 8);
}

#[test]
fn contexts() {
    let cases = [
        ("/srv/app", ContextInput::Directory("/srv/app".into())),
        ("https://example.com/a.tar.gz", ContextInput::Url("https://example.com/a.tar.gz".to_owned())),
        (
            "git@example.com:a/b.git#main:sub",
            ContextInput::Url("git@example.com:a/b.git#main:sub".to_owned()),
        ),
        ("github.com/a/b", ContextInput::Url("github.com/a/b".to_owned())),
        ("-", ContextInput::Empty),
    ];
    for (word, expected) in cases {
        assert_eq!(request(&[word]).unwrap().context, expected, "{word}");
    }
    assert!(matches!(request(&[]), Err(ArgumentError::NoContext)));
    assert!(matches!(request(&[""]), Err(ArgumentError::NoContext)));
    assert!(matches!(request(&["-f", "-", "-"]), Err(ArgumentError::StandardInputTwice)));
}

#[test]
fn standard_input_is_for_one_thing() {
    assert_eq!(arguments(&["-"]).standard_input(), StandardInput::Context);
    assert_eq!(arguments(&["-f", "-", "."]).standard_input(), StandardInput::Dockerfile);
    assert_eq!(arguments(&["-f-", "."]).standard_input(), StandardInput::Dockerfile);
    assert_eq!(arguments(&["."]).standard_input(), StandardInput::Unused);
    assert_eq!(request(&["-f", "-", "."]).unwrap().dockerfile, DockerfileInput::Text(Vec::new()));
    assert_eq!(
        request(&["-f", "a/Dockerfile", "."]).unwrap().dockerfile,
        DockerfileInput::Path("a/Dockerfile".into())
    );
}

#[test]
fn names_are_normalised() {
    let made = request(&["-t", "app", "--tag=localhost:5000/team/app:1", "."]).unwrap();
    let names: Vec<String> = made.tags.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["docker.io/library/app:latest", "localhost:5000/team/app:1"]);
    assert!(refused(&["-t", "App", "."]).contains("--tag App"));
    let digest = format!("app@sha256:{}", "0".repeat(64));
    assert!(refused(&["-t", &digest, "."]).contains("digest"));
}

#[test]
fn build_arguments_and_labels() {
    let environment = Fake::with(&[("HTTP_PROXY", "p"), (EPOCH, "12")]);
    let words = [
        "--build-arg",
        "A=1",
        "--build-arg",
        "HTTP_PROXY",
        "--build-arg",
        "UNSET",
        "--label",
        "a=b",
        "--label",
        "c",
        ".",
    ];
    let made = build_request(&arguments(&words), &environment).unwrap();
    let pairs: Vec<_> = made.build_args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(pairs, ["A=1", "HTTP_PROXY=p", "SOURCE_DATE_EPOCH=12"]);
    assert_eq!(made.labels, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
    let own = build_request(&arguments(&["--build-arg", "SOURCE_DATE_EPOCH=7", "."]), &environment).unwrap();
    assert_eq!(own.build_args[EPOCH], "7");
}

#[test]
fn named_contexts_are_normalised_as_from_is() {
    let cases = [
        ("shared=../shared", "shared", "../shared"),
        ("docker.io/library/alpine:latest=docker-image://x", "alpine", "docker-image://x"),
        ("alpine:3.22=a=b", "alpine:3.22", "a=b"),
        ("base::linux/arm64=dir", "base::linux/arm64", "dir"),
    ];
    for (word, name, place) in cases {
        let made = request(&["--build-context", word, "."]).unwrap();
        assert_eq!(made.named_contexts, [(name.to_owned(), place.to_owned())], "{word}");
    }
    assert!(refused(&["--build-context", "alone", "."]).contains("NAME=PLACE"));
}

#[test]
fn caches_and_platforms() {
    let made = request(&[
        "--no-cache-filter",
        "a,b",
        "--no-cache-filter=c",
        "--pull",
        "--platform",
        "amd64,linux/arm64",
        "--platform=linux/amd64",
        ".",
    ])
    .unwrap();
    assert_eq!(made.no_cache, NoCache::Stages(["a", "b", "c"].map(str::to_owned).to_vec()));
    assert!(made.pull);
    let platforms: Vec<String> = made.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(request(&["--no-cache", "."]).unwrap().no_cache, NoCache::All);
    assert_eq!(request(&["--no-cache=false", "."]).unwrap().no_cache, NoCache::None);
    assert!(refused(&["--platform", "*/x", "."]).contains("--platform"));
}

#[test]
fn the_host_network_grants_itself() {
    let made = request(&["--network=host", "."]).unwrap();
    assert_eq!((made.network, made.allow), (NetworkMode::Host, vec!["network.host".to_owned()]));
    assert!(refused(&["--network", "mynet", "."]).contains("no such network mode"));
    assert!(refused(&["--allow", "device", "."]).contains("no such entitlement"));
}

#[test]
fn limits_have_old_and_new_names() {
    let words = [
        "-m",
        "512m",
        "--memory-swap",
        "-1",
        "-c",
        "5",
        "--cpu-quota=-1",
        "--resource",
        "cpu-shares=9",
        "--shm-size",
        "64m",
        "-j2",
        ".",
    ];
    let made = request(&words).unwrap();
    assert_eq!(made.resources.memory, Some(512 << 20));
    assert_eq!(
        (made.resources.memory_swap, made.resources.cpu_shares, made.resources.cpu_quota),
        (Some(-1), Some(9), None)
    );
    assert_eq!((made.shm_size, made.jobs), (Some(64 << 20), 2));
    assert!(refused(&["--memory", "lots", "."]).starts_with("`--memory lots`"));
    assert!(refused(&["--resource", "memory", "."]).contains("NAME=VALUE"));
}

#[test]
fn outputs_share_one_standard_output() {
    let made = request(&["-o", "out", "-o", "type=oci,dest=-", "."]).unwrap();
    assert_eq!(
        made.outputs.iter().map(|output| output.kind).collect::<Vec<_>>(),
        [OutputKind::Local, OutputKind::OciArchive]
    );
    assert!(refused(&["-o", "-", "-o", "type=oci", "."]).contains("only one output"));
}

#[test]
fn push_is_an_output_to_a_registry() {
    let kinds = |words: &[&str]| {
        let made = request(words).unwrap();
        made.outputs.iter().map(|output| output.kind).collect::<Vec<_>>()
    };
    let registry = OutputKind::Registry(Push::default());
    assert_eq!(kinds(&["--push", "-t", "a", "."]), [registry]);
    assert_eq!(kinds(&["--push", "-o", "type=image,name=a", "."]), [registry]);
    assert_eq!(kinds(&["--push", "-o", "type=registry,name=a", "."]), [registry]);
    assert_eq!(kinds(&["--push", "-t", "a", "-o", "out", "."]), [OutputKind::Local, registry]);
    // A name of its own is not the build's.
    assert_eq!(kinds(&["--push", "-t", "b", "-o", "type=image,name=a", "."]), [registry, registry]);
    assert_eq!(kinds(&["--push", "-t", "b", "-o", "type=image", "."]), [registry]);
    assert_eq!(kinds(&["--push=false", "."]), []);
    assert!(refused(&["--push", "."]).contains("no name"));
    assert!(refused(&["--push", "--offline", "-t", "a", "."]).contains("--offline"));
}

#[test]
fn annotations_go_to_every_image_that_is_written() {
    let words = ["--annotation", "a=b", "-t", "x", "--push", "-o", "type=oci,dest=f", "-o", "out", "."];
    let made = request(&words).unwrap();
    let counts: Vec<usize> = made.outputs.iter().map(|output| output.packing.annotations.len()).collect();
    assert_eq!(counts, [1, 0, 1]);
    assert!(refused(&["--annotation", "a=b", "."]).contains("no image is written"));
    assert!(refused(&["--annotation", "a", "--push", "-t", "x", "."]).contains("KEY=VALUE"));
}

#[test]
fn secrets_and_agents_are_by_id() {
    let made =
        request(&["--secret", "id=a,src=f", "--ssh", "default=/s", "--ssh", "git=/k1,/k2", "."]).unwrap();
    assert_eq!(made.secrets["a"], SecretSource::File("f".into()));
    assert_eq!(made.ssh["git"], [PathBuf::from("/k1"), PathBuf::from("/k2")]);
    assert!(refused(&["--ssh", "default=/s", "--ssh", "default=/t", "."]).contains("given twice"));
}

#[test]
fn refused_flags_stop_the_build_and_legacy_ones_do_not() {
    assert!(refused(&["--policy", "x", "."]).starts_with("`--policy` is not supported: "));
    let legacy = arguments(&["--rm", "--force-rm", "--provenance=false", "."]);
    assert!(build_request(&legacy, &Fake::with(&[])).is_ok());
    assert_eq!(legacy.notices().len(), 2);
}

#[test]
fn progress_comes_from_flags_then_the_environment() {
    let environment = Fake::with(&[("BUILDKIT_PROGRESS", "plain")]);
    let mode = |words: &[&str]| arguments(words).progress(&environment).unwrap();
    assert_eq!(mode(&["."]), ProgressMode::Plain);
    assert_eq!(mode(&["--progress=rawjson", "."]), ProgressMode::Json);
    assert_eq!(mode(&["--progress=tty", "-q", "."]), ProgressMode::Quiet);
    assert_eq!(arguments(&["."]).progress(&Fake::with(&[])).unwrap(), ProgressMode::Auto);
    assert!(arguments(&["."]).progress(&Fake::with(&[("BUILDKIT_PROGRESS", "loud")])).is_err());
}

#[test]
fn calls() {
    let call = |words: &[&str]| arguments(words).call().map(|made| (made.call, made.format));
    assert_eq!(call(&["."]).unwrap(), (Call::Build, CallFormat::Text));
    assert_eq!(call(&["--check", "."]).unwrap(), (Call::Check, CallFormat::Text));
    assert_eq!(call(&["--call=check,format=sarif", "."]).unwrap(), (Call::Check, CallFormat::Sarif));
    assert_eq!(call(&["--check", "--call=,format=json", "."]).unwrap(), (Call::Check, CallFormat::Json));
    assert_eq!(call(&["--call", "targets", "."]).unwrap(), (Call::Targets, CallFormat::Text));
    assert!(call(&["--check", "--call=outline", "."]).is_err());
    assert!(call(&["--call=fly", "."]).is_err());
}
