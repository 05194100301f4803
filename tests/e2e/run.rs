//! `mica run`: an image's command in the foreground.

use crate::support::Bench;

/// An image that says what it was given.
fn bench() -> Option<Bench> {
    let bench = Bench::with_base()?;
    bench.dockerfile(
        "FROM base\nENV WHO=world GREETING=hello\nWORKDIR /srv/place\nUSER app\n\
         ENTRYPOINT [\"sh\", \"-c\", \"echo $GREETING $WHO; pwd; id -u; id -g; echo $HOME; echo \\\"$@\\\"\", \"--\"]\n\
         CMD [\"default\", \"words\"]\n",
    );
    bench.mica(&["build", "-q", "-t", "app", "."]).succeeds();
    Some(bench)
}

#[test]
fn the_image_says_how() {
    let Some(bench) = bench() else { return };
    let ran = bench.mica(&["run", "--rm", "app"]).succeeds();
    assert_eq!(ran.stdout, "hello world\n/srv/place\n1000\n1001\n/home/app\ndefault words\n");
    let ran = bench.mica(&["run", "--rm", "app", "other", "-e", "--rm"]).succeeds();
    assert!(ran.stdout.ends_with("other -e --rm\n"), "{}", ran.stdout);
}

#[test]
fn the_command_line_wins_over_the_image() {
    let Some(bench) = bench() else { return };
    let given = ["run", "--rm", "-e", "WHO=you", "-e", "GREETING", "-u", "7:8", "-w", "/tmp", "app", "x"];
    let ran = bench.mica_with(&given, &[("GREETING", "bye")], b"").succeeds();
    assert!(ran.stdout.starts_with("bye you\n/tmp\n7\n8\n"), "{}", ran.stdout);
    let ran = bench.mica(&["run", "--rm", "--entrypoint", "echo", "app", "just", "this"]).succeeds();
    assert_eq!(ran.stdout, "just this\n");
}

#[test]
fn the_status_is_the_commands() {
    let Some(bench) = Bench::with_base() else { return };
    let cases: [(&[&str], i32); 8] = [
        (&["base", "true"], 0),
        (&["base", "sh", "-c", "exit 42"], 42),
        (&["base", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (&["base", "no-such-command"], 127),
        (&["base", "/no/such/file"], 127),
        (&["base", "/etc/passwd"], 126),
        (&["base", "/etc"], 126),
        (&["no-such-image:x", "true"], 125),
    ];
    for (words, code) in cases {
        let ran = bench.mica(&[&["run", "--rm"], words].concat());
        assert_eq!(ran.code, Some(code), "{words:?}\n{}", ran.stderr);
    }
    bench.mica(&["run", "--rm", "-u", "nobody-here", "base", "true"]).exits(125).says(&["nobody-here"]);
    bench.mica(&["run", "--rm", "--no-such-flag", "base"]).exits(2);
}

#[test]
fn standard_input_and_both_outputs_are_connected() {
    let Some(bench) = Bench::with_base() else { return };
    let ran =
        bench.mica_with(&["run", "--rm", "-i", "base", "sh", "-c", "cat; echo aside >&2"], &[], b"given\n");
    let ran = ran.succeeds();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("given\n", "aside\n"));
    // Without -i nothing of it is given.
    let ran = bench.mica_with(&["run", "--rm", "base", "cat"], &[], b"given\n").succeeds();
    assert_eq!(ran.stdout, "");
}

#[test]
fn what_a_command_writes_is_gone_with_it() {
    let Some(bench) = Bench::with_base() else { return };
    bench.mica(&["run", "--rm", "base", "sh", "-c", "echo x > /new; rm /etc/passwd"]).succeeds();
    bench.mica(&["run", "--rm", "base", "sh", "-c", "test ! -e /new && test -e /etc/passwd"]).succeeds();
    assert_eq!(bench.leftovers(), Vec::<std::path::PathBuf>::new());
}
