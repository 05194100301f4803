use super::*;
use crate::dockerignore::Patterns;
use crate::line_index::LineIndex;
use crate::syntax::{Span, Spanned};

/// Runs all rules; each finding reads `line:column Rule`, and the message too where `messages` asks for it.
fn findings(text: &str) -> Vec<String> {
    let dockerfile = crate::parse(text.as_bytes()).dockerfile;
    let config = CheckConfig::of(&dockerfile).unwrap();
    let index = LineIndex::new(text.as_bytes());
    let all = check(&dockerfile, &config).into_iter().chain(check_more(&dockerfile, &config));
    all.map(|finding| {
        let position = index.position(finding.primary.span.start);
        format!("{}:{} {}", position.line, position.column, finding.code)
    })
    .collect()
}

fn expect(text: &str, expected: &[&str]) {
    let found: Vec<_> =
        findings(text).into_iter().filter(|finding| !finding.ends_with(" RootUser")).collect();
    assert_eq!(found, expected, "{text}");
}

/// Applies every suggestion of the reference's rules.
fn fixed(text: &str) -> String {
    let dockerfile = crate::parse(text.as_bytes()).dockerfile;
    let mut fixed = text.to_owned();
    for finding in check(&dockerfile, &CheckConfig::default()).iter().rev() {
        if let Some(suggestion) = &finding.suggestion {
            let range = suggestion.span.start as usize..suggestion.span.end as usize;
            fixed.replace_range(range, &suggestion.replacement);
        }
    }
    fixed
}

#[test]
fn stages_are_checked() {
    expect("FROM a:1 AS Base", &["1:13 StageNameCasing"]);
    expect("FROM a:1 as base", &["1:10 FromAsCasing"]);
    expect("from a:1 AS base", &["1:10 FromAsCasing"]);
    expect("From a:1 AS base", &["1:1 ConsistentInstructionCasing"]);
    expect("FROM a:1 AS b\nFROM a:2 AS B\n", &["2:13 DuplicateStageName", "2:13 StageNameCasing"]);
    expect("FROM a:1 AS scratch\n", &["1:13 ReservedStageName"]);
    expect("FROM --platform=$TARGETPLATFORM a:1", &["1:17 RedundantTargetPlatform"]);
    expect("FROM --platform=${TARGETPLATFORM:-x} a:1", &["1:17 RedundantTargetPlatform"]);
    expect("ARG X\nFROM --platform=$TARGETPLATFORM$X a:1", &[]);
    expect("FROM --platform=linux/amd64 a:1", &["1:17 FromPlatformFlagConstDisallowed"]);
    expect("FROM --platform=linux/x86_64 a:1 AS build-amd64", &[]);
    expect("FROM --platform=linux/amd64 a:1 AS linux-tools", &[]);
    expect("FROM --platform=$BUILDPLATFORM a:1", &[]);
    expect(
        "FROM a AS b\nFROM b\nFROM scratch\nFROM r:5000/x\nFROM x@sha256:1\nFROM $X\nFROM y:latest",
        &["1:6 UnpinnedBase", "4:6 UnpinnedBase", "7:6 UnpinnedBase"],
    );
}

#[test]
fn instructions_are_checked() {
    expect("FROM a:1\nMAINTAINER me", &["2:1 MaintainerDeprecated"]);
    expect("FROM a:1\nCMD a b\n", &["2:5 JSONArgsRecommended"]);
    expect("FROM a:1\nSHELL [\"sh\"]\nCMD a b\nENTRYPOINT x", &[]);
    expect("FROM a:1 AS b\nSHELL [\"sh\"]\nFROM b\nCMD a\nFROM a:1\nCMD a\n", &["6:5 JSONArgsRecommended"]);
    expect(
        "FROM a:1\nCMD [\"a\"]\nCMD [\"b\"]\nFROM a:1\nCMD [\"a\"]\n",
        &["2:1 MultipleInstructionsDisallowed"],
    );
    expect("FROM a:1\nENV a b\nLABEL c=d\n", &["2:5 LegacyKeyValueFormat"]);
    expect("FROM a:1\nRUN a \\\n\n b\n", &["3:1 NoEmptyContinuation"]);
    expect(
        "ARG API_KEY\nFROM a:1\nARG DB_PASSWORD=x TOKEN_FILE\nENV auth=1 KEYS=2 PUBLIC_KEY=3",
        &["3:5 SecretsUsedInArgOrEnv", "4:5 SecretsUsedInArgOrEnv"],
    );
    expect(
        "FROM a:1\nEXPOSE 80/TCP 127.0.0.1:80:80 8080:80 81/udp $X\n",
        &["2:8 ExposeProtoCasing", "2:15 ExposeInvalidFormat", "2:31 ExposeInvalidFormat"],
    );
    expect(
        "FROM a:1\nrun x\nRUN y\nWorkdir /\n",
        &["2:1 ConsistentInstructionCasing", "4:1 ConsistentInstructionCasing"],
    );
    expect("from a:1\nrun x\nRUN y\n", &["3:1 ConsistentInstructionCasing"]);
}

#[test]
fn descriptions_are_checked_when_asked_for() {
    let file = "# base the base\nFROM a:1 AS base\n# wrong\nFROM a:1 AS other\n# x\n#\nARG y\n# z\nARG p q\n";
    expect(file, &[]);
    let asked = format!("# check=experimental=InvalidDefinitionDescription\n{file}");
    expect(&asked, &["4:3 InvalidDefinitionDescription", "9:3 InvalidDefinitionDescription"]);
    expect(
        &format!("# check=skip=all;experimental=all\n{file}"),
        &["4:3 InvalidDefinitionDescription", "9:3 InvalidDefinitionDescription"],
    );
}

#[test]
fn rules_are_skipped_by_file_and_by_instruction() {
    expect("# check=skip=FromAsCasing, UnpinnedBase\nFROM a as b\n", &["2:6 UnpinnedBase"]);
    expect("# check=skip=FromAsCasing,UnpinnedBase\nFROM a as b\n", &[]);
    expect("# check=skip=all\nFROM a as B\nMAINTAINER x\n", &[]);
    expect("FROM a:1\n# check=skip=JSONArgsRecommended\nCMD a\n", &[]);
    expect(
        "FROM a:1\n# why\n# check=skip=Other\n# check=skip=JSONArgsRecommended\nCMD a\n",
        &["5:5 JSONArgsRecommended"],
    );
    let parse = |text| CheckConfig::parse(text);
    assert!(parse("error=true").unwrap().error && !parse("skip=all;error=0").unwrap().error);
    for wrong in ["skip", "error=maybe", "other=x", "skip=a;b"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn our_rules_find_what_they_are_for() {
    expect(
        "FROM a:1\nCOPY .env .env.example id_rsa.pub .ssh/id_rsa cert.PEM /x/\nCOPY --from=x .env /\n",
        &["2:6 SecretInCopy", "2:35 SecretInCopy", "2:47 SecretInCopy"],
    );
    expect("FROM a:1\nADD https://x/.env .aws/credentials /\n", &["2:20 SecretInCopy"]);
    expect("FROM a:1\nCOPY . .\nRUN cd x && npm  ci\nRUN npm ci\n", &["2:6 CacheBustingOrder"]);
    expect("FROM a:1\nCOPY package.json .\nRUN npm ci\nCOPY . .\n", &[]);
    expect("FROM a:1\nCOPY ./ .\nRUN <<EOF\npip install \\\n  -r x\nEOF\n", &["2:6 CacheBustingOrder"]);
    assert_eq!(findings("FROM a:1 AS b\nUSER x\nFROM b\n"), [""; 0]);
    assert_eq!(findings("FROM a:1 AS b\nUSER root:x\nFROM b\n"), ["2:6 RootUser"]);
    assert_eq!(findings("FROM a:1\nUSER x\nFROM a:1\n"), ["3:1 RootUser"]);
}

#[test]
fn suggestions_settle_the_matter() {
    let file = "FROM --platform=$TARGETPLATFORM a AS Base\nENV a b  c\nENV d e\nrun a \\\n\n  b\nMAINTAINER A B\n\
                EXPOSE 1:80 443/UDP\nCMD run  it\nLABEL q \"x\"\n";
    let expected = "FROM a AS base\nENV a=\"b  c\"\nENV d=e\nRUN a \\\n  b\n\
                    LABEL org.opencontainers.image.authors=\"A B\"\nEXPOSE 80 443/udp\nCMD [\"run\", \"it\"]\nLABEL q \"x\"\n";
    assert_eq!(fixed(file), expected);
}

#[test]
fn the_planner_reports_through_constructors() {
    let span = Span { start: 1, end: 2 };
    let messages = [
        undefined_var("PAHT", span, ["PATH"]).message,
        undefined_var("X", span, ["PATH"]).message,
        undefined_arg_in_from("VERSON", span, ["VERSION"]).message,
        invalid_default_arg_in_from(&Spanned { span, value: "a:$B".to_owned() }).message,
        invalid_base_image_platform("a", span, "linux/amd64", "linux/arm64").message,
        workdir_relative_path("a", span).unwrap().message,
    ];
    assert_eq!(
        messages,
        [
            "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
            "Usage of undefined variable '$X'",
            "FROM argument 'VERSON' is not declared (did you mean VERSION?)",
            "Default value for ARG a:$B results in empty or invalid base image name",
            "Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
            "Relative workdir \"a\" can have unexpected results if the base image changes",
        ]
    );
    assert_eq!(workdir_relative_path("/a", span), None);
}

#[test]
fn ignored_sources_are_found() {
    let span = Span { start: 1, end: 2 };
    let message = |source: &str, ignore: &str| {
        let patterns = Patterns::parse(ignore.as_bytes()).unwrap();
        copy_ignored_file(false, source, span, &patterns).map(|finding| finding.message)
    };
    let found =
        |source| Some(format!("Attempting to Copy file \"{source}\" that is excluded by .dockerignore"));
    assert_eq!(message("./b.log", "*.log"), found("b.log"));
    assert_eq!(message("dir/x", "dir"), found("dir/x"));
    assert_eq!(message("a", "*.log"), None);
    assert_eq!(message("b.log", "*.log\n!a"), None);
    assert_eq!(message(".", "*.log"), None);
    assert_eq!(message(".", "**"), found("."));
}

#[test]
fn rules_have_names_and_pages() {
    let rule = Rule::by_name("JSONArgsRecommended").unwrap();
    let url = rule.url().unwrap();
    assert_eq!(url, "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/");
    let names: Vec<_> = RULES.iter().chain(&MORE_RULES).map(|rule| rule.code.as_str()).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), 26);
    for rule in RULES.iter().filter(|rule| rule.code.as_str() != "InvalidBaseImagePlatform") {
        assert!(rule.url().is_some(), "{}", rule.code);
    }
}
