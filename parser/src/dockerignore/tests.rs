use super::*;

fn decide(text: &str, path: &str) -> (bool, Option<u32>) {
    let decision = Patterns::parse(text.as_bytes()).unwrap().decide(path.as_bytes(), None);
    (decision.excluded, decision.line)
}

#[test]
fn lines_are_read() {
    let text = "\u{feff}/abs \r\n# comment\n #no comment\n\n  ./a/../b/  \n! /c\n!!d\n/\n/./e//f\n\t\n";
    let patterns = Patterns::parse(text.as_bytes()).unwrap();
    let read: Vec<_> = patterns.patterns.iter().map(|p| (p.line, p.negated, p.text.as_str())).collect();
    let expected = [
        (1, false, "abs"),
        (3, false, "#no comment"),
        (5, false, "b"),
        (6, true, "c"),
        (7, true, "!d"),
        (8, false, "/"),
        (9, false, "e/f"),
    ];
    assert_eq!(read, expected);
}

/// The reference's reader keeps a lone `!`, which its matcher refuses; here it is refused at once, on its own line.
#[test]
fn lines_are_read_as_the_reference_reads_them() {
    let text = "test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /inverted/abs/path\n";
    let patterns = Patterns::parse(text.as_bytes()).unwrap();
    let read: Vec<_> = patterns.patterns.iter().map(|p| (p.negated, p.text.as_str())).collect();
    let expected = [
        (false, "test1"),
        (false, "test2"),
        (false, "a/file/here"),
        (false, "lastfile"),
        (true, "inverted/abs/path"),
    ];
    assert_eq!(read, expected);
    for lone in ["!", "! "] {
        let error = Patterns::parse(format!("{text}{lone}").as_bytes()).unwrap_err();
        assert_eq!(error, PatternError::LoneNegation { line: 8 });
    }
}

#[test]
fn bad_lines_are_named() {
    for (text, expected) in [
        ("a\n!\n", PatternError::LoneNegation { line: 2 }),
        ("!/", PatternError::LoneNegation { line: 1 }),
        ("\n[", PatternError::Syntax { line: 2, pattern: "[".to_owned() }),
        ("a\\", PatternError::Syntax { line: 1, pattern: "a\\".to_owned() }),
        ("![]a]", PatternError::Syntax { line: 1, pattern: "[]a]".to_owned() }),
    ] {
        assert_eq!(Patterns::parse(text.as_bytes()).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn paths_match() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "dir", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir", false),
        ("dir/**", "dir2/file", false),
        ("dir/**", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/dir2/f", true),
        ("**/dir2/**", "dir/dir2/dir2/f", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file", "dir/dir/file.txt", false),
        ("**/file*", "dir/dir/file", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt**", "a/file.txt", true),
        ("a**b", "ab", true),
        ("a**b", "ax/b", true),
        ("a**b", "axb", false),
        ("x*a**b", "xaab", true),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abc/def", false),
        ("a\\\\", "a\\", true),
        ("a\\b", "ab", true),
        ("a\\*b", "axb", false),
        ("a]b", "a]b", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c|d$", "a(b)c|d$", true),
        ("foo", "foo/bar/baz", true),
        ("foo/bar", "foo/bar/baz", true),
        ("*", "a/b/c", true),
        ("foo", "a/foo", false),
    ] {
        assert_eq!(decide(pattern, path).0, expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_matching_line_decides() {
    for (text, path, expected) in [
        ("*.md\n!README.md\n", "README.md", (false, Some(2))),
        ("*.md\n!README.md\n", "OTHER.md", (true, Some(1))),
        ("!README.md\n*.md\n", "README.md", (true, Some(2))),
        ("a\nb\n", "c", (false, None)),
        ("docs\n!docs/README.md\ndocs/*.md\n", "docs/README.md", (true, Some(3))),
        ("**/*\n!**/*.c\n", "a/b/x.c", (false, Some(2))),
        ("**/*\n!**/*.c\n", "a/b/x.h", (true, Some(1))),
        ("!a\n", "a", (false, None)),
    ] {
        assert_eq!(decide(text, path), expected, "{text:?} {path}");
    }
}

#[test]
fn deciding_down_a_tree_is_deciding_at_once() {
    let text = "foo\n!foo/bar\nfoo/bar/x*\n!**/keep\n*/tmp/**\n";
    let patterns = Patterns::parse(text.as_bytes()).unwrap();
    for path in ["foo/bar/xyz/keep", "foo/a/b", "foo/bar/y", "a/tmp/b/c", "keep/tmp/x", "a/b"] {
        let mut parent = None;
        for directory in directories_above(path.as_bytes()) {
            parent = Some(patterns.decide(directory, parent.as_ref()));
        }
        let walked = patterns.decide(path.as_bytes(), parent.as_ref());
        let at_once = patterns.decide(path.as_bytes(), None);
        assert_eq!((walked.excluded, walked.line), (at_once.excluded, at_once.line), "{path}");
    }
}

#[test]
fn walkers_may_prune_where_nothing_comes_back() {
    let patterns = Patterns::parse(b"*\n!src/*.c\n!a?/b/c\n!x/**/y\n").unwrap();
    for (directory, expected) in [
        ("src", true),
        ("src/deep", false),
        ("ab", true),
        ("ab/b", true),
        ("ab/x", false),
        ("abc", false),
        ("x", true),
        ("x/1/2/3", true),
        ("y", false),
    ] {
        assert_eq!(patterns.could_match_below(directory.as_bytes()), expected, "{directory}");
    }
    assert!(patterns.has_negations() && patterns.excludes_root());
    assert!(!Patterns::parse(b"a\n").unwrap().has_negations());
}

#[test]
fn names_that_are_no_text_are_matched_by_bytes() {
    let patterns = Patterns::from_patterns(["dir/**", "?x"]).unwrap();
    assert!(patterns.decide(b"dir/\xff", None).excluded);
    assert!(patterns.decide(b"\xffx", None).excluded);
    assert!(!patterns.decide(b"\xff\xffx", None).excluded);
}
