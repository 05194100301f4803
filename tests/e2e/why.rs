//! Single edits of a project: exactly the right steps run again, `why` names the edit, and `plan` had said so before.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Bench, files_holding};

const DOCKERFILE: &str = "\
FROM base AS build
ARG VERSION=1
ENV MODE=debug
WORKDIR /src
COPY --chmod=644 src/ ./
RUN --mount=type=bind,source=extra,target=/extra --mount=type=secret,id=key,required=false cat a.txt /extra/e $(ls) > /out; echo $MODE $VERSION >> /out
FROM base
COPY conf /conf
RUN cat /conf > /conf2
RUN echo last > /last
COPY --from=build /out /out
LABEL a=b
";

/// The steps, by a part of their names that no edit changes, with short names for the table.
const STEPS: [(&str, &str); 7] = [
    ("WORKDIR", "workdir"),
    ("src/", "src"),
    ("cat a.txt", "build"),
    ("--from=build", "out"),
    ("/conf2", "conf2"),
    ("conf /conf", "conf"),
    ("last", "last"),
];

/// A change, what is given to the build after it, the steps that run again, and what `why` says.
struct Edit {
    name: &'static str,
    change: fn(&Bench),
    flags: &'static [&'static str],
    runs: &'static [&'static str],
    says: &'static str,
}

fn replace(bench: &Bench, from: &str, to: &str) {
    assert!(DOCKERFILE.contains(from), "{from}");
    bench.dockerfile(&DOCKERFILE.replacen(from, to, 1));
}

fn set_mode(bench: &Bench, name: &str, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(bench.context().join(name), permissions).unwrap();
}

/// Everything as it was before any edit.
fn restore(bench: &Bench) {
    for name in ["src", "extra", "conf", ".dockerignore", "unused"] {
        let path = bench.context().join(name);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            // Not every edit makes it.
            false => drop(std::fs::remove_file(path)),
        }
    }
    bench
        .dockerfile(DOCKERFILE)
        .write("src/a.txt", "a\n")
        .write("src/b.txt", "b\n")
        .write("src/sub/c.txt", "c\n");
    bench.write("extra/e", "e\n").write("conf", "conf\n").write("unused", "u\n");
    set_mode(bench, "conf", 0o644);
}

const ALL_OF_BUILD: &[&str] = &["src", "build", "out"];

fn edits() -> Vec<Edit> {
    let edit = |name, change, flags, runs, says| Edit { name, change, flags, runs, says };
    vec![
        edit("nothing", |_| {}, &[], &[], ""),
        edit(
            "content",
            |b| {
                b.write("src/a.txt", "A\n");
            },
            &[],
            ALL_OF_BUILD,
            "`src/a.txt` changed (content)",
        ),
        edit(
            "deep content",
            |b| {
                b.write("src/sub/c.txt", "C\n");
            },
            &[],
            &["src", "build"],
            "`src/sub/c.txt` changed (content)",
        ),
        edit(
            "touch",
            |b| {
                b.write("src/a.txt", "a\n");
            },
            &[],
            &[],
            "",
        ),
        edit(
            "new file",
            |b| {
                b.write("src/d.txt", "d\n");
            },
            &[],
            &["src", "build", "out"],
            "`src/d.txt` is new",
        ),
        edit(
            "deleted file",
            |b| std::fs::remove_file(b.context().join("src/b.txt")).unwrap(),
            &[],
            ALL_OF_BUILD,
            "`src/b.txt` is gone",
        ),
        edit(
            "renamed file",
            |b| std::fs::rename(b.context().join("src/b.txt"), b.context().join("src/n.txt")).unwrap(),
            &[],
            &["src", "build"],
            "`src/b.txt` is now `src/n.txt`",
        ),
        edit(
            "mode",
            |b| set_mode(b, "conf", 0o755),
            &[],
            &["conf", "conf2", "last"],
            "`conf` changed (mode)",
        ),
        edit(
            "file nobody takes",
            |b| {
                b.write("unused", "v\n");
            },
            &[],
            &[],
            "",
        ),
        edit(
            "mounted content",
            |b| {
                b.write("extra/e", "E\n");
            },
            &[],
            &["build", "out"],
            "`extra/e` changed (content)",
        ),
        edit(
            "ignore file",
            |b| {
                b.write(".dockerignore", "src/sub\n");
            },
            &[],
            &["src", "build"],
            "`src/sub/c.txt` is gone",
        ),
        edit(
            "ignored nothing",
            |b| {
                b.write(".dockerignore", "nothing\n");
            },
            &[],
            &[],
            "",
        ),
        edit(
            "argument",
            |_| {},
            &["--build-arg", "VERSION=2"],
            &["build", "out"],
            "the argument `VERSION` was `1`, is `2`",
        ),
        edit(
            "default of an argument",
            |b| replace(b, "VERSION=1", "VERSION=3"),
            &[],
            &["build", "out"],
            "the variable `VERSION` was `1`, is `3`",
        ),
        edit(
            "variable",
            |b| replace(b, "MODE=debug", "MODE=fast"),
            &[],
            &["build", "out"],
            "the variable `MODE` was `debug`, is `fast`",
        ),
        edit(
            "new variable",
            |b| replace(b, "ENV MODE=debug", "ENV MODE=debug MORE=1"),
            &[],
            &["build"],
            "the variable `MORE` is new: `1`",
        ),
        edit(
            "command",
            |b| replace(b, "echo last", "echo later"),
            &[],
            &["last"],
            "the command changed: it was `echo last > /last`",
        ),
        edit(
            "earlier command",
            |b| replace(b, "cat /conf >", "cat /conf /conf >"),
            &[],
            &["conf2", "last"],
            "the command changed",
        ),
        edit(
            "working directory",
            |b| replace(b, "WORKDIR /src", "WORKDIR /source"),
            &[],
            &["workdir", "src", "build"],
            "the directory was `/src`, is `/source`",
        ),
        edit(
            "destination",
            |b| replace(b, "/out /out\n", "/out /out2\n"),
            &[],
            &["out"],
            "the destination was `/out`, is `/out2`",
        ),
        edit(
            "mode of a copy",
            |b| replace(b, "--chmod=644", "--chmod=640"),
            &[],
            &["src", "build"],
            "`--chmod` was `644`, is `640`",
        ),
        edit(
            "owner of a copy",
            |b| replace(b, "COPY conf", "COPY --chown=7 conf"),
            &[],
            &["conf", "conf2", "last"],
            "`--chown` was nothing, is `7`",
        ),
        edit(
            "user",
            |b| replace(b, "RUN echo last", "USER 0\nRUN echo last"),
            &[],
            &["last"],
            "USER was nothing, is `0`",
        ),
        edit(
            "mount",
            |b| replace(b, "RUN echo last", "RUN --mount=type=tmpfs,target=/t echo last"),
            &[],
            &["last"],
            "the mount at `/t` is new",
        ),
        edit(
            "network",
            |_| {},
            &["--network", "none"],
            &["build", "conf2", "last"],
            "`--network` was `default`, is `none`",
        ),
        edit(
            "limit",
            |_| {},
            &["--shm-size", "1m"],
            &["build", "conf2", "last"],
            "`--shm-size` is new: `1048576`",
        ),
        edit(
            "removed instruction",
            |b| replace(b, "RUN cat /conf > /conf2\n", ""),
            &[],
            &["last"],
            "an instruction before it is gone",
        ),
        edit(
            "order",
            |b| {
                replace(
                    b,
                    "RUN cat /conf > /conf2\nRUN echo last > /last\n",
                    "RUN echo last > /last\nRUN cat /conf > /conf2\n",
                )
            },
            &[],
            &["conf2"],
            "RUN echo last > /last is new",
        ),
        edit("label", |b| replace(b, "a=b", "a=c"), &[], &[], ""),
        edit("comment", |b| replace(b, "FROM base\n", "# about\nFROM base\n"), &[], &[], ""),
        edit(
            "stage without the cache",
            |_| {},
            &["--no-cache-filter", "build"],
            &["src", "build"],
            "the cache is not used for it",
        ),
        edit("secret", |_| {}, &["--secret", "id=key,env=KEY"], &[], ""),
    ]
}

/// The short names of the steps with one of these outcomes.
fn named(steps: &Value, outcomes: &[&str]) -> BTreeSet<&'static str> {
    let steps = steps.as_array().unwrap().iter();
    let wanted = steps.filter(|step| outcomes.contains(&step["outcome"].as_str().unwrap()));
    wanted
        .map(|step| {
            let name = step["name"].as_str().unwrap();
            STEPS.iter().find(|(part, _)| name.contains(part)).unwrap_or_else(|| panic!("{name}")).1
        })
        .collect()
}

fn json(bench: &Bench, arguments: &[&str], edit: &Edit) -> Value {
    let arguments =
        if arguments[0] == "why" { arguments.to_vec() } else { [arguments, edit.flags, &["."]].concat() };
    let ran = bench.mica_with(&arguments, &[("KEY", "a-secret-value")], b"");
    assert_eq!(ran.code, Some(0), "{}: {}", edit.name, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn check(bench: &Bench, edit: &Edit) {
    (edit.change)(bench);
    let planned = json(bench, &["plan", "--json"], edit);
    let build = [&["build", "-t", "app"], edit.flags, &["."]].concat();
    let ran = bench.mica_with(&build, &[("KEY", "a-secret-value")], b"");
    assert_eq!(ran.code, Some(0), "{}: {}", edit.name, ran.stderr);
    let record = json(bench, &["why", "--json"], edit);
    let ran = named(&record["steps"], &["ran", "ran-equal"]);
    let said = bench.mica(&["why"]).succeeds().stdout;
    assert_eq!(ran, edit.runs.iter().copied().collect(), "{}\n{said}", edit.name);
    assert!(said.contains(edit.says), "{}: no {:?} in\n{said}", edit.name, edit.says);
    let (would, may) = (named(&planned, &["would-run"]), named(&planned, &["may-run"]));
    assert!(would.is_subset(&ran), "{}: planned {would:?}, ran {ran:?}", edit.name);
    let foreseen: BTreeSet<_> = would.union(&may).copied().collect();
    assert!(ran.is_subset(&foreseen), "{}: planned {would:?} and perhaps {may:?}, ran {ran:?}", edit.name);
    let told = bench.mica_with(&[&["plan"], edit.flags, &["."]].concat(), &[("KEY", "a-secret-value")], b"");
    assert!(!format!("{said}{record}{}", told.stdout).contains("a-secret-value"), "{}", edit.name);
}

#[test]
fn each_edit_runs_the_right_steps_and_is_named() {
    let Some(bench) = Bench::with_base() else { return };
    restore(&bench);
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    let edits = edits();
    assert!(edits.len() > 25);
    for edit in &edits {
        check(&bench, edit);
        restore(&bench);
        bench.mica(&["build", "-t", "app", "."]).succeeds();
    }
    assert_eq!(files_holding(&bench.path("store"), "a-secret-value"), "");
}

#[test]
fn a_first_build_is_not_explained_by_its_own_steps() {
    let Some(bench) = Bench::with_base() else { return };
    bench.write("one", "1\n").write("two", "2\n");
    bench.dockerfile("FROM base\nCOPY one /one\nCOPY two /two\nRUN echo 1 > /x\nRUN echo 2 > /y\n");
    bench.mica(&["build", "."]).succeeds();
    let record: Value = serde_json::from_str(&bench.mica(&["why", "--json"]).succeeds().stdout).unwrap();
    let ran = record["steps"].as_array().unwrap().iter().filter(|step| step["outcome"] == "ran");
    let kinds: Vec<_> = ran.map(|step| step["causes"][0]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["not-built-before"; 4]);
}

#[test]
fn a_new_base_is_named() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN echo x > /other\n");
    bench.mica(&["build", "-t", "other", "."]).succeeds();
    bench.mica(&["tag", "base", "mine"]).succeeds();
    bench.dockerfile("FROM mine\nRUN echo y > /y\n");
    bench.mica(&["build", "."]).succeeds();
    bench.mica(&["tag", "other", "mine"]).succeeds();
    bench.mica(&["build", "."]).succeeds().says(&["the base image `mine:latest` changed"]);
    let steps: Value = serde_json::from_str(&bench.mica(&["why", "#2", "--json"]).succeeds().stdout).unwrap();
    assert_eq!(steps[0]["causes"][0]["kind"], "base");
    bench.mica(&["why", "nothing"]).exits(1).says(&["no step `nothing`"]);
}

#[test]
fn a_failed_build_has_an_answer_too() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN true\nRUN false\nRUN echo never\n");
    bench.mica(&["build", "."]).exits(1);
    let record: Value = serde_json::from_str(&bench.mica(&["why", "--json"]).succeeds().stdout).unwrap();
    let outcomes: Vec<_> =
        record["steps"].as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["resolved", "ran", "failed", "not-reached"]);
    assert!(bench.mica(&["why"]).succeeds().stdout.contains("did not succeed"));
    Bench::new().mica(&["why"]).exits(1).says(&["nothing was built"]);
}
