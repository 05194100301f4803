//! Entering a step: the sandbox it had, nothing left behind, and what is done there saved as a version that runs.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Bench, Person, Ran, has_peer, processes_saying, wait_until};

/// Tells all a command can see: who and where it is, its variables, mounts, network and files.
const DESCRIBE: &str = "\
pwd; id; hostname; env | grep -v -e ^SHLVL= -e ^_= -e PWD= -e ^KEY= | sort; umask; ulimit -n
cut -d' ' -f2,3 /proc/self/mounts | sort; cut -d: -f1 /proc/net/dev; cat /etc/hosts
grep -e Cap -e NoNew -e Seccomp: /proc/self/status
cat /c/x /extra/e /run/secrets/file | sha256sum; echo $KEY | sha256sum
find / -xdev 2>/dev/null | sort | while read f; do ls -dln \"$f\" | tr -s ' ' | cut -d' ' -f1,3-5; echo \"$f\"; test -f \"$f\" && sha256sum < \"$f\"; done 2>/dev/null
";

const FAILING: &str = "\
FROM base AS build
ARG VERSION=7
ENV MODE=debug
WORKDIR /w
COPY describe /describe
COPY --chown=1000:1001 given /w/given
RUN chown 1000:1001 /w; echo x > /gone
USER app
RUN --network=none --mount=type=cache,target=/c,uid=1000 --mount=type=bind,source=extra,target=/extra \
    --mount=type=tmpfs,target=/t --mount=type=secret,id=file,uid=1000 --mount=type=secret,id=key,env=KEY \
    echo $VERSION > made; rm given; echo cached > /c/x; sh /describe; exit 3
RUN echo never
FROM base
COPY --from=build /w /w
";

fn failing(person: Person) -> Option<(Bench, Ran)> {
    let bench = Bench::with_base_for(person)?;
    bench.dockerfile(FAILING).write("describe", DESCRIBE).write("given", "g\n").write("extra/e", "extra\n");
    bench.write("../home/token", "token-from-a-file\n");
    let secrets = ["--secret", "id=file,src=../home/token", "--secret", "id=key,env=THE_KEY"];
    let arguments = [&["build", "--progress=plain"], &secrets[..], &["."]].concat();
    let ran = bench.mica_with(&arguments, &[("THE_KEY", "key-from-a-variable")], b"").exits(1);
    Some((bench, ran))
}

/// Enters and runs a script.
fn script(bench: &Bench, arguments: &[&str], script: &str) -> Ran {
    let all = [&["enter"], arguments, &["--", "/bin/sh", "-c", script]].concat();
    bench.mica_with(&all, &[("THE_KEY", "key-from-a-variable")], b"")
}

/// Returns the complete log of a step of the last build.
fn log(bench: &Bench, number: u32) -> String {
    let name = format!("{number}.log");
    let builds = std::fs::read_dir(bench.path("store/builds")).unwrap();
    let mut logs: Vec<_> =
        builds.map(|build| build.unwrap().path().join(&name)).filter(|path| path.exists()).collect();
    logs.sort();
    std::fs::read_to_string(logs.last().unwrap()).unwrap()
}

/// Returns the number of the step with this in its name.
fn number(bench: &Bench, part: &str) -> u32 {
    let record: serde_json::Value =
        serde_json::from_str(&bench.mica(&["why", "--json"]).succeeds().stdout).unwrap();
    let steps = record["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"].as_str().unwrap().contains(part)).unwrap();
    u32::try_from(step["number"].as_u64().unwrap()).unwrap()
}

fn enters_a_failed_step(person: Person) {
    let Some((bench, ran)) = failing(person) else { return };
    ran.says(&["exit code: 3", "`mica enter` opens a shell where it failed"]);
    let seen_by_step = log(&bench, number(&bench, "never") - 1);
    let entered = script(&bench, &[], "sh /describe").succeeds();
    assert!(seen_by_step.contains("/w/made") && seen_by_step.contains("MODE=debug"), "{seen_by_step}");
    assert_eq!(entered.stdout, seen_by_step);
    entered.says_not("warning");
    let step = format!("#{}", number(&bench, "never") - 1);
    for name in [&[][..], &["build"], &["build:9"], &[&step]] {
        assert_eq!(script(&bench, name, "sh /describe").succeeds().stdout, seen_by_step, "{name:?}");
    }
    let before = script(&bench, &["--input"], "cat given made; cat /c/x").exits(0);
    assert_eq!(before.stdout, "g\ncached\n");
}

#[test]
fn a_failed_step_is_entered_as_it_was() {
    enters_a_failed_step(Person::Myself);
}

#[test]
fn an_ordinary_user_enters_a_failed_step() {
    enters_a_failed_step(Person::Ordinary);
}

#[test]
fn a_single_id_enters_a_failed_step() {
    let Some(bench) = Bench::with_base_for(Person::SingleId) else { return };
    bench.dockerfile("FROM base\nENV A=1\nRUN echo left > /left; exit 3\n");
    bench.mica(&["build", "."]).exits(1);
    assert_eq!(script(&bench, &[], "cat /left; echo $A").succeeds().stdout, "left\n1\n");
}

#[test]
fn every_step_of_a_build_can_be_entered_on_both_sides() {
    for person in [Person::Myself, Person::Ordinary] {
        let Some(bench) = Bench::with_base_for(person) else { return };
        bench.write("f", "f\n").dockerfile(
            "FROM base AS one\nRUN echo 1 > /1\nENV E=e\nWORKDIR /d\nUSER app\nCOPY f f\nRUN echo 2 > /tmp/2\nFROM one\nCOPY f /three\n",
        );
        // Cached steps can be entered as well as those that ran.
        for _ in 0..2 {
            bench.mica(&["build", "-t", "app", "."]).succeeds();
            let sees = |arguments: &[&str], expected: &str| {
                let ran =
                    script(&bench, arguments, "echo $(ls /1 f /tmp/2 /three 2> /dev/null) $E $(id -u) $PWD");
                assert_eq!(ran.succeeds().stdout.trim(), expected, "{arguments:?}");
            };
            sees(&["one:2"], "/1 0 /");
            sees(&["one:2", "--input"], "0 /");
            sees(&["one:6"], "/1 f e 1000 /d");
            sees(&["one:6", "--input"], "/1 e 1000 /d");
            sees(&["one"], "/1 /tmp/2 f e 1000 /d");
            sees(&["one", "--input"], "0 /");
            sees(&["1:9"], "/1 /three /tmp/2 f e 1000 /d");
            sees(&[&format!("#{}", number(&bench, "echo 2"))], "/1 /tmp/2 f e 1000 /d");
        }
        bench.mica(&["enter", "nothing", "--", "true"]).exits(125).says(&["no step `nothing`", "mica why"]);
        bench.mica(&["enter", "--", "true"]).exits(125).says(&["no step that failed is kept"]);
    }
}

#[test]
fn commands_input_and_exit_codes_are_those_of_any_command() {
    let Some(bench) = Bench::with_base() else { return };
    bench.mica(&["enter"]).exits(125).says(&["no step that failed is kept"]);
    bench.mica(&["enter", "#1"]).exits(125).says(&["nothing was built"]);
    bench.dockerfile(
        "FROM base\nRUN ln -s busybox /bin/ash\nSHELL [\"/bin/ash\", \"-c\"]\nRUN exit 1\nRUN true\n",
    );
    bench.mica(&["build", "."]).exits(1);
    let ran = bench
        .mica_with(&["enter"], &[], b"tr '\\0' ' ' < /proc/$$/cmdline; echo from input; exit 7\n")
        .exits(7);
    assert_eq!(ran.stdout, "/bin/ash from input\n");
    bench.mica(&["enter", "--", "no-such-program"]).exits(127).says(&["no-such-program"]);
    bench.mica(&["enter", "0:5", "--", "true"]).exits(125).says(&["did not come to #"]);
    bench.mica(&["enter", "--save", "a@sha256:1", "--", "true"]).exits(2);
}

#[test]
fn what_is_done_there_is_gone_or_saved() {
    for person in [Person::Myself, Person::Ordinary] {
        let Some((bench, _)) = failing(person) else { return };
        script(&bench, &[], "echo forgotten > forgotten; rm made").succeeds();
        let listed = script(&bench, &[], "ls").succeeds().stdout;
        assert_eq!(listed, "made\n");
        let saving =
            script(&bench, &["--save", "fixed"], "echo mended >> made; rm /tmp/* 2> /dev/null; exit 0");
        saving.succeeds().says(&["saved as fixed:latest@1: sha256:"]);
        let ran = bench.mica(&["run", "--rm", "fixed", "sh", "-c", "cat made; ls /gone; id -u; echo $MODE"]);
        assert_eq!(ran.succeeds().stdout, "7\nmended\n/gone\n1000\ndebug\n");
        script(&bench, &["one:0", "--save", "x"], "true").exits(125);
        let saving = script(&bench, &["build:7", "--save", "fixed"], "echo other > /w/other");
        saving.succeeds().says(&["saved as fixed:latest@2"]);
        assert_eq!(bench.mica(&["run", "--rm", "fixed", "ls"]).succeeds().stdout, "given\nother\n");
        let versions = bench.mica(&["log", "fixed", "--json"]).succeeds().stdout;
        assert!(versions.contains("RUN chown 1000:1001 /w") && versions.contains(", after it"), "{versions}");
        let history = bench.mica(&["history", "fixed"]).succeeds().stdout;
        assert!(history.contains("# mica enter") && history.contains("7 "), "{history}");
        bench.mica(&["save", "fixed", "--format", "oci", "-o", "../home/fixed.tar"]).succeeds();
        let image = crate::support::Image::read(&std::fs::read(bench.path("home/fixed.tar")).unwrap());
        assert_eq!(image.files["/w/other"], "file 0644 0:0 other\n");
        assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
        assert_eq!(bench.mica(&["fsck"]).succeeds().code, Some(0));
    }
}

#[test]
fn secrets_are_asked_for_again_and_never_kept() {
    let Some((bench, _)) = failing(Person::Myself) else { return };
    let all = "cat /run/secrets/file; echo $KEY";
    assert_eq!(script(&bench, &[], all).succeeds().stdout, "token-from-a-file\nkey-from-a-variable\n");
    for value in ["token-from-a-file", "key-from-a-variable"] {
        let found = Command::new("grep").args(["-rlF", value]).arg(bench.path("store")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    }
    std::fs::remove_file(bench.path("home/token")).unwrap();
    let ran = bench.mica(&["enter", "--", "/bin/sh", "-c", "ls /run/secrets; echo \"$KEY\""]).exits(0);
    assert_eq!(ran.stdout, "\n");
    ran.says(&[
        "the secret `file` is not there",
        "the secret `key` is not there: give it with `--secret id=key",
    ]);
    bench.write("../home/moved", "from elsewhere\n");
    let ran = script(&bench, &["--secret", "id=file,src=../home/moved"], all);
    assert_eq!(ran.succeeds().stdout, "from elsewhere\nkey-from-a-variable\n");
}

#[test]
fn a_step_that_left_a_secret_in_its_files_is_not_kept() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN --mount=type=secret,id=s cp /run/secrets/s /copy; exit 1\n");
    let build = ["build", "--secret", "id=s,env=S", "."];
    let ran = bench.mica_with(&build, &[("S", "left-lying-about")], b"").exits(1);
    ran.says(&["is not kept for `mica enter`: `/copy` holds a secret"]).says_not("opens a shell");
    bench.mica(&["enter", "--", "true"]).exits(125).says(&["no step that failed is kept"]);
    let found =
        Command::new("grep").args(["-rlF", "left-lying-about"]).arg(bench.path("store")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn an_edited_or_pruned_project_does_not_confuse_it() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN echo first > /left; exit 1\n");
    bench.mica(&["build", "."]).exits(1);
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    assert_eq!(script(&bench, &[], "cat /left").succeeds().stdout, "first\n");
    // The project's next failure replaces it, and its files with it.
    bench.dockerfile("FROM base\nRUN echo second > /left; exit 1\n");
    bench.mica(&["build", "."]).exits(1);
    assert_eq!(script(&bench, &[], "cat /left").succeeds().stdout, "second\n");
    let found =
        Command::new("grep").args(["-rlFx", "first"]).arg(bench.path("store/layers")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    bench.mica(&["prune"]).succeeds();
    assert_eq!(script(&bench, &[], "cat /left").succeeds().stdout, "second\n");
    assert!(bench.mica(&["du"]).succeeds().stdout.contains("steps that failed"));
    assert!(bench.mica(&["prune", "--all"]).succeeds().stdout.contains("1 failed step"));
    script(&bench, &[], "true").exits(125).says(&["no step that failed is kept"]);
    bench.mica(&["enter", "0:2", "--", "true"]).exits(125).says(&["not known any more", "build again"]);
}

#[test]
fn a_killed_shell_leaves_nothing() {
    let Some((bench, _)) = failing(Person::Myself) else { return };
    for (signal, seconds) in [(Signal::TERM, "86431.5"), (Signal::KILL, "86432.5")] {
        let begun = format!("echo begun > made; sleep {seconds}");
        let mut child = bench.command(&["enter", "--", "/bin/sh", "-c", &begun]).spawn().unwrap();
        wait_until("the command runs", || !processes_saying(&format!("sleep {seconds}")).is_empty());
        let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
        assert!(!child.wait().unwrap().success());
        wait_until("the command is gone", || processes_saying(&format!("sleep {seconds}")).is_empty());
        assert_eq!(script(&bench, &[], "cat made").succeeds().stdout, "7\n");
        assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

/// Runs `mica` on a terminal of its own that types `input`.
fn on_a_terminal(bench: &Bench, arguments: &str, input: &str) -> Option<(Option<i32>, String)> {
    if !has_peer("script") {
        return None;
    }
    let mica = env!("CARGO_BIN_EXE_mica");
    let mut command = Command::new("script");
    command.args(["-qefc", &format!("{mica} {arguments}"), "/dev/null"]).current_dir(bench.context());
    command.env("MICA_ROOT", bench.path("store")).env("HOME", bench.path("home"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let typing = std::thread::spawn(move || {
        for line in input.lines() {
            // As a person would: the terminal is not raw before the shell is there.
            std::thread::sleep(std::time::Duration::from_secs(2));
            std::io::Write::write_all(&mut stdin, format!("{line}\n").as_bytes()).unwrap();
        }
        stdin
    });
    let output = child.wait_with_output().unwrap();
    drop(typing.join().unwrap());
    Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn a_failing_build_opens_a_shell_on_a_terminal_only() {
    let Some(bench) = Bench::with_base() else { return };
    bench.dockerfile("FROM base\nRUN echo lost > /left; exit 9\n");
    let refused = bench.mica(&["build", "--on-failure=shell", "."]).exits(2);
    refused.says(&["needs a terminal", "`mica enter`"]);
    let Some((code, said)) = on_a_terminal(&bench, "build --on-failure=shell .", "cat /left; tty\nexit 0")
    else {
        return;
    };
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("exit code: 9") && said.contains("lost\r\n/dev/") && said.contains("as it failed"),
        "{said}"
    );
    let (code, said) = on_a_terminal(&bench, "enter", "cat /left; exit 4").unwrap();
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("lost\r\n"), "{said}");
}
