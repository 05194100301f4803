//! Words that are not about any image: help, versions, mistakes, completion.

use crate::support::Bench;

#[test]
fn help_and_version_are_data() {
    let bench = Bench::new();
    let help = bench.mica(&["--help"]).succeeds();
    assert!(help.stdout.contains("mica build -t app .") && help.stderr.is_empty());
    let version = bench.mica(&["--version"]).succeeds();
    assert!(version.stdout.starts_with("mica "));
    for command in ["build", "run", "images", "load", "save", "inspect", "rmi", "doctor"] {
        let help = bench.mica(&[command, "--help"]).succeeds();
        assert!(help.stdout.contains("Usage: mica "), "{command}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let bench = Bench::new();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["build", "--taget", "x", "."], &["--target"]),
        (&["biuld"], &["build"]),
        (&["build"], &["needs a context", "mica build ."]),
        (&["build", "--policy", "x", "."], &["`--policy` is not supported"]),
        (&["build", "-f", "-", "-"], &["standard input"]),
        (&["build", "-t", "App", "."], &["--tag App", "lowercase"]),
        (&["build", "--secret", "src=x", "."], &["--secret src=x", "id"]),
    ];
    for (words, texts) in cases {
        let ran = bench.mica(words).exits(2).says(texts);
        assert_eq!(ran.stdout, "", "{words:?}");
        assert!(!bench.path("store").exists(), "{words:?} made a store");
    }
}

#[test]
fn completion_scripts_know_the_commands() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.mica(&["completion", shell]).succeeds().stdout;
        assert!(script.contains("build") && script.contains("no-cache-filter"), "{shell}");
    }
}

#[test]
fn every_flag_of_build_is_in_the_guide() {
    let guide = include_str!("../../docs/command-line.md");
    let help = Bench::new().mica(&["build", "--help"]).succeeds().stdout;
    let words = help.split(|c: char| c.is_whitespace() || ",[=".contains(c));
    let flags: Vec<&str> = words.filter(|word| word.len() > 3 && word.starts_with("--")).collect();
    assert!(flags.len() > 25, "{flags:?}");
    for flag in flags {
        let flag = flag.trim_end_matches(['`', '.', ';', ':', ')']);
        let known = ["--help", "--root", "--verbose", "--from", "--mount"].contains(&flag);
        assert!(known || guide.contains(&format!("`{flag}")), "{flag}");
    }
}

#[test]
fn doctor_tells_what_is_there_and_how_to_mend_what_is_not() {
    let ran = Bench::new().mica(&["doctor"]);
    assert_eq!(ran.stderr, "");
    for subject in ["kernel", "overlay", "system call filter", "/proc", "network helper", "control groups"] {
        assert!(ran.stdout.contains(subject), "no {subject:?} in:\n{}", ran.stdout);
    }
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let lacking: Vec<usize> = (0..lines.len()).filter(|line| lines[*line].starts_with("-- ")).collect();
    assert_eq!(ran.code, Some(i32::from(!lacking.is_empty())), "{}", ran.stdout);
    for line in lacking {
        assert!(lines.get(line + 1).is_some_and(|advice| advice.starts_with("   ")), "{}", lines[line]);
    }
}
