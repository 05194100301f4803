use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The values most tables below use.
fn environment() -> BTreeMap<String, String> {
    variables(&[
        ("HOME", "/root"),
        ("EMPTY", ""),
        ("FILE", "archive.tar.gz"),
        ("PATHS", "/usr/lib/x/lib"),
        ("STARS", "()[]{}^$.*?|\\x"),
        ("SPACED", "a  b "),
        ("LINES", "a\nb"),
        ("WORT", "größe"),
        ("P", "*.t"),
    ])
}

fn check(table: &[(&str, Result<&str, ExpandError>)]) {
    for (word, expected) in table {
        let found = expand(word, Escape::Backslash, &environment()).map(|expansion| expansion.text);
        assert_eq!(found, expected.clone().map(str::to_owned), "{word}");
    }
}

#[test]
fn quotes_and_escapes_are_removed() {
    use ExpandError::{UnterminatedDoubleQuote as NoDouble, UnterminatedSingleQuote as NoSingle};
    check(&[
        ("", Ok("")),
        ("plain", Ok("plain")),
        ("a'b c'd", Ok("ab cd")),
        ("a\"b c\"d", Ok("ab cd")),
        ("'it\\'s", Ok("it\\s")),
        ("'a\\'", Ok("a\\")),
        ("it's", Err(NoSingle)),
        ("it\\'s", Ok("it's")),
        ("\"it's\"", Ok("it's")),
        ("'say \"hi\"'", Ok("say \"hi\"")),
        ("\"open", Err(NoDouble)),
        ("\"open\\\"", Err(NoDouble)),
        ("a\\tb", Ok("atb")),
        ("\"a\\tb\"", Ok("a\\tb")),
        ("\"a\\\\tb\"", Ok("a\\tb")),
        ("'a\\\\tb'", Ok("a\\\\tb")),
        ("end\\", Ok("end")),
        ("end\\\\", Ok("end\\")),
        ("\"\\$HOME\"", Ok("$HOME")),
        ("'$HOME'", Ok("$HOME")),
        ("\\$HOME", Ok("$HOME")),
        ("\\\\$HOME", Ok("\\/root")),
        ("größe'ö'\\ö", Ok("größeöö")),
        ("a << b < c", Ok("a << b < c")),
    ]);
}

#[test]
fn names_are_found() {
    check(&[
        ("$HOME", Ok("/root")),
        ("${HOME}x", Ok("/rootx")),
        ("$HOMEx", Ok("")),
        ("$HOME.x", Ok("/root.x")),
        ("$1x", Ok("x")),
        ("$12x", Ok("x")),
        ("$@x$*$#$?$-$!$0", Ok("x")),
        ("$$HOME", Ok("HOME")),
        ("$.", Ok("$.")),
        ("a$", Ok("a$")),
        ("${1:-one}", Ok("one")),
        ("${@:-all}", Ok("all")),
        ("${HOME}}", Ok("/root}")),
        ("${}", Err(ExpandError::BadSubstitution)),
        ("${:-x}", Err(ExpandError::BadSubstitution)),
        ("${{x}", Err(ExpandError::BadSubstitution)),
        ("${", Err(ExpandError::MissingBrace)),
        ("${HOME", Err(ExpandError::MissingBrace)),
        ("${HOME:", Err(ExpandError::MissingBrace)),
        ("${HOME:-x", Err(ExpandError::MissingBrace)),
    ]);
}

#[test]
fn defaults_and_alternatives() {
    let required = |name: &str, message: &str| {
        Err(ExpandError::Required { name: name.to_owned(), message: message.to_owned() })
    };
    let unsupported = |name: &str, modifier: &str| {
        Err(ExpandError::UnsupportedModifier { name: name.to_owned(), modifier: modifier.to_owned() })
    };
    check(&[
        ("${NO-d} ${EMPTY-d} ${HOME-d}", Ok("d  /root")),
        ("${NO:-d} ${EMPTY:-d} ${HOME:-d}", Ok("d d /root")),
        ("${NO+a} ${EMPTY+a} ${HOME+a}", Ok(" a a")),
        ("${NO:+a} ${EMPTY:+a} ${HOME:+a}", Ok("  a")),
        ("${EMPTY?m}${HOME:?m}", Ok("/root")),
        ("${NO?set me}", required("NO", "set me")),
        ("${NO?}", required("NO", "is not allowed to be unset")),
        ("${EMPTY:?}", required("EMPTY", "is not allowed to be empty")),
        ("${NO:-${EMPTY:-$HOME}}", Ok("/root")),
        ("${NO:-\\}}", Ok("}")),
        ("${NO:-\"a b\"}", Ok("a b")),
        ("${NO:-b {c}", Ok("b {c")),
        ("${HOME:!x}", unsupported("HOME", ":!")),
        ("${HOME=x}", unsupported("HOME", "=")),
        ("${HOME:#x}", unsupported("HOME", ":#")),
        ("${HOME:%x}", unsupported("HOME", ":%")),
        ("${.}", unsupported("", ".")),
    ]);
}

#[test]
fn prefixes_and_suffixes_are_removed() {
    let invalid = |pattern: &str| Err(ExpandError::InvalidPattern { pattern: pattern.to_owned() });
    check(&[
        ("${FILE%.*}", Ok("archive.tar")),
        ("${FILE%%.*}", Ok("archive")),
        ("${FILE#*.}", Ok("tar.gz")),
        ("${FILE##*.}", Ok("gz")),
        ("${FILE#?r}", Ok("chive.tar.gz")),
        ("${FILE#x}", Ok("archive.tar.gz")),
        ("${FILE#}", Ok("archive.tar.gz")),
        ("${FILE##*}", Ok("")),
        ("${FILE#*}", Ok("archive.tar.gz")),
        ("${NO#x}", Ok("")),
        ("${STARS#()[]{\\}^$.\\*\\?|\\\\}", Ok("x")),
        ("${LINES##*}", Ok("\nb")),
        ("${LINES%?b}", Ok("a\nb")),
        ("${WORT%?e}", Ok("grö")),
        ("${FILE%.${NO:-gz}}", Ok("archive.tar")),
        ("${FILE%\"z\"}", Ok("archive.tar.g")),
        ("${FILE%\\z}", invalid("\\z")),
    ]);
    let text = |word: &str| expand(word, Escape::Backtick, &environment()).map(|expansion| expansion.text);
    assert_eq!(text("${FILE%\\}"), invalid("\\").map(str::to_owned));
    assert_eq!(text("${STARS%*\\}"), Ok("()[]{}^$.*?|\\x".to_owned()));
}

#[test]
fn matches_are_replaced() {
    check(&[
        ("${PATHS/lib/LIB}", Ok("/usr/LIB/x/lib")),
        ("${PATHS//lib/LIB}", Ok("/usr/LIB/x/LIB")),
        ("${PATHS//\\//-}", Ok("-usr-lib-x-lib")),
        ("${PATHS//\\//\\/}", Ok("\\/usr\\/lib\\/x\\/lib")),
        ("${PATHS/l*b/X}", Ok("/usr/X")),
        ("${PATHS//?ib/X}", Ok("/usr/X/x/X")),
        ("${FILE/$P/-}", Ok("-ar.gz")),
        ("${FILE/.t/$HOME}", Ok("archive/rootar.gz")),
        ("${EMPTY/x/y}", Ok("")),
        ("${NO///}", Ok("")),
        ("${WORT/${NO}/w}", Ok("wgröße")),
        ("${WORT//${NO}/w}", Ok("wgwrwöwßwew")),
        ("${FILE//./$$x}", Ok("archivextarxgz")),
        ("${FILE//./'$1y'}", Ok("archivetargz")),
        ("${FILE/./'$1y'}", Ok("archive$1ytar.gz")),
        ("${FILE//./'$$'}", Ok("archive$tar$gz")),
        ("${FILE//./'$'}", Ok("archive$tar$gz")),
        ("${FILE//./'${n}-'}", Ok("archive-tar-gz")),
        ("${FILE/x}", Err(ExpandError::MissingSlash)),
        ("${FILE//x}", Err(ExpandError::MissingSlash)),
        ("${FILE/x/y", Err(ExpandError::MissingBrace)),
    ]);
}

#[test]
fn words_are_split_after_expansion() {
    for (text, expected) in [
        ("one  two", &["one", "two"][..]),
        ("x${SPACED}y", &["xa", "b", "y"]),
        ("x\"${SPACED}\"y", &["xa  b y"]),
        ("a\\ b", &["a b"]),
        ("a\" b\" c", &["a b", "c"]),
        ("'' \"\" $EMPTY", &[]),
        ("80${NO:-80}", &["8080"]),
        ("  ", &[]),
    ] {
        let words = expand_words(text, Escape::Backslash, &environment()).unwrap().words;
        assert_eq!(words, expected, "{text}");
    }
}

#[test]
fn names_that_were_used_are_told() {
    let expansion = expand("${HOME:-$NO} ${NO:-$EMPTY} '$FILE'", Escape::Backslash, &environment()).unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(expansion.matched, names(&["EMPTY", "HOME"]));
    assert_eq!(expansion.unmatched, names(&["NO"]));
}

#[test]
fn bodies_keep_quotes_and_display_keeps_what_is_unset() {
    let body = |text| expand_body(text, &environment()).unwrap().text;
    assert_eq!(body("\"$HOME\" '$HOME' \\$HOME a\\\nb\n"), "\"/root\" '/root' $HOME a\nb\n");
    let shown = |text| expand_for_display(text, Escape::Backslash, &environment()).unwrap().text;
    assert_eq!(
        shown("echo \"$HOME\" '$HOME' $NO ${NO} ${NO:-x}"),
        "echo \"/root\" '$HOME' $NO ${NO} ${NO:-x}"
    );
    assert_eq!(shown("${NO#a*} ${NO/a/b} ${NO+$HOME}"), "${NO#a*} ${NO/a/b} ${NO+/root}");
}

#[test]
fn the_other_escape_works_too() {
    let text = |word| expand(word, Escape::Backtick, &environment()).unwrap().text;
    assert_eq!(text("c:\\a`$HOME"), "c:\\a$HOME");
    assert_eq!(text("\"`\"`x\""), "\"`x");
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| "${A:-".repeat(depth) + "x" + &"}".repeat(depth);
    assert_eq!(expand(&nested(200), Escape::Backslash, &NoVariables).unwrap().text, "x");
    assert_eq!(expand(&nested(100_000), Escape::Backslash, &NoVariables), Err(ExpandError::TooDeep));
}

#[test]
fn a_word_may_lose_its_prefix_in_the_search_of_heredocs_only() {
    let words: Vec<_> = split_raw("x=$(( 1<<${N:-2} )) \"a\"<<E").unwrap();
    let shown: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.place.clone())).collect();
    assert_eq!(shown, [("x=$((", 0..5), ("${N:-2}", 9..16), ("))", 17..19), ("\"a\"<<E", 20..26)]);
}
