use crate::diagnostic::Severity;
use crate::syntax::*;
use crate::{parse, parse_trigger};

/// Parses a file with one instruction after FROM and returns it; the file must have no mistake.
fn instruction(text: &str) -> InstructionNode {
    let file = format!("FROM a:1\n{text}");
    let parsed = parse(file.as_bytes());
    assert!(!parsed.has_errors(), "{text}: {:?}", parsed.diagnostics);
    let [_, node] = <[InstructionNode; 2]>::try_from(parsed.dockerfile.instructions).unwrap();
    node
}

/// The bytes a span of `instruction(text)` covers.
fn excerpt(text: &str, span: Span) -> String {
    format!("FROM a:1\n{text}")[span.start as usize..span.end as usize].to_owned()
}

fn values(words: &[Spanned<String>]) -> Vec<&str> {
    words.iter().map(|word| word.value.as_str()).collect()
}

#[test]
fn from_has_its_parts() {
    let parsed = parse(b"from --platform=$P a:1 As Base\n");
    let Instruction::From(from) = &parsed.dockerfile.instructions[0].instruction else { panic!("no FROM") };
    assert_eq!(from.image.value, "a:1");
    assert_eq!(from.platform.as_ref().unwrap().value, "$P");
    assert_eq!(from.platform.as_ref().unwrap().span, Span { start: 16, end: 18 });
    assert_eq!(from.as_keyword.as_ref().unwrap().value, "As");
    assert_eq!(from.name.as_ref().unwrap().value, "Base");
}

#[test]
fn pairs_point_to_their_places_across_lines() {
    let text = "ENV ONE=1 \\\n  # why\n  TW\\\nO=\"2 3\" \\\n\n  X=\n";
    let node = instruction(text);
    let Instruction::Env(pairs) = &node.instruction else { panic!("no ENV") };
    let read: Vec<_> =
        pairs.iter().map(|pair| (pair.key.value.as_str(), pair.value.value.as_str())).collect();
    assert_eq!(read, [("ONE", "1"), ("TWO", "\"2 3\""), ("X", "")]);
    assert_eq!(excerpt(text, pairs[0].key.span), "ONE");
    assert_eq!(excerpt(text, pairs[1].key.span), "TW\\\nO");
    assert_eq!(excerpt(text, pairs[1].value.span), "\"2 3\"");
    assert_eq!((node.start_line, node.end_line), (2, 7));
    assert_eq!(node.line, "ENV ONE=1   TWO=\"2 3\"   X=");
    assert_eq!(node.original, "ONE=1   TWO=\"2 3\"   X=");
    assert_eq!(node.blank_lines.len(), 1);
}

#[test]
fn legacy_pairs_take_the_rest_of_the_line() {
    let text = "LABEL a  b = \"c\"  d";
    let Instruction::Label(pairs) = instruction(text).instruction else { panic!("no LABEL") };
    let [pair] = &pairs[..] else { panic!("one pair") };
    assert_eq!(
        (pair.key.value.as_str(), pair.value.value.as_str(), pair.equals),
        ("a", "b = \"c\"  d", false)
    );
}

#[test]
fn arguments_have_names_and_defaults() {
    let text = "ARG A B= C=\"x y\"";
    let Instruction::Arg(arg) = instruction(text).instruction else { panic!("no ARG") };
    let read: Vec<_> = arg.arguments.iter().map(|a| (a.name.value.as_str(), a.default.as_ref())).collect();
    assert_eq!(read[0], ("A", None));
    assert_eq!((read[1].0, read[1].1.unwrap().value.as_str()), ("B", ""));
    assert_eq!((read[2].0, read[2].1.unwrap().value.as_str()), ("C", "\"x y\""));
    assert_eq!(excerpt(text, read[2].1.unwrap().span), "\"x y\"");
}

#[test]
fn commands_have_two_forms() {
    let shell = |text: &str, span: &str| {
        let node = instruction(text);
        let Instruction::Cmd(CommandLine::Shell(command)) = node.instruction else {
            panic!("no shell form: {text}")
        };
        assert_eq!(excerpt(text, command.span), span);
        command.value
    };
    assert_eq!(shell("CMD echo  a", "echo  a"), "echo  a");
    assert_eq!(shell("CMD ['a']", "['a']"), "['a']");
    assert_eq!(shell("CMD", ""), "");
    let Instruction::Cmd(CommandLine::Exec(words)) = instruction("CMD [ \"a\", \"b c\" ]").instruction else {
        panic!("no exec form")
    };
    assert_eq!(words.value, ["a", "b c"]);
    let Instruction::Entrypoint(CommandLine::Exec(words)) = instruction("ENTRYPOINT []").instruction else {
        panic!("no exec form")
    };
    assert!(words.value.is_empty());
}

#[test]
fn run_has_flags_and_heredocs() {
    let text = "RUN --mount=type=tmpfs,target=/t --network=none --device=a/b=c --mount=target=/x sh <<-A\n\tone\n\t\ttwo\nA\n";
    let node = instruction(text);
    assert_eq!(node.flags.len(), 4);
    assert_eq!(excerpt(text, node.span), text.trim_end());
    let Instruction::Run(run) = node.instruction else { panic!("no RUN") };
    assert_eq!(values(&run.mounts), ["type=tmpfs,target=/t", "target=/x"]);
    assert_eq!(run.network.unwrap().value, "none");
    assert_eq!(values(&run.devices), ["a/b=c"]);
    let [heredoc] = &run.heredocs[..] else { panic!("one heredoc") };
    assert_eq!((heredoc.name.as_str(), heredoc.chomp, heredoc.expand), ("A", true, true));
    assert_eq!(heredoc.body.value, "one\ntwo\n");
    assert_eq!(heredoc.raw_body, "\tone\n\t\ttwo\n");
    assert_eq!(excerpt(text, heredoc.span), "<<-A");
    assert_eq!(excerpt(text, heredoc.body.span), "\tone\n\t\ttwo\n");
}

#[test]
fn copy_tells_sources_from_heredocs() {
    let text =
        "COPY --from= --link --exclude=*.md --exclude=b x <<'one' \"y z\" <<two /d/\nit's $X\none\n$Y\ntwo\n";
    let Instruction::Copy(copy) = instruction(text).instruction else { panic!("no COPY") };
    assert_eq!((copy.from, copy.link, copy.parents), (None, true, false));
    assert_eq!(values(&copy.transfer.excludes), ["*.md", "b"]);
    assert_eq!(values(&copy.transfer.sources), ["x", "\"y", "z\""]);
    assert_eq!(copy.transfer.destination.value, "/d/");
    let files: Vec<_> =
        copy.transfer.heredocs.iter().map(|h| (h.name.as_str(), h.body.value.as_str(), h.expand)).collect();
    assert_eq!(files, [("one", "it's $X\n", false), ("two", "$Y\n", true)]);
}

#[test]
fn add_keeps_apart_what_was_not_said() {
    let add = |text: &str| match instruction(text).instruction {
        Instruction::Add(add) => add,
        other => panic!("{other:?}"),
    };
    let plain = add("ADD [\"a b\", \"/d\"]");
    assert_eq!((plain.unpack, plain.keep_git_dir, plain.transfer.json), (None, None, true));
    assert_eq!(values(&plain.transfer.sources), ["a b"]);
    let said = add("ADD --unpack=FALSE --keep-git-dir a /d");
    assert_eq!((said.unpack, said.keep_git_dir, said.transfer.json), (Some(false), Some(true), false));
}

#[test]
fn healthchecks_have_durations() {
    let text = "HEALTHCHECK --interval=1m30s --start-interval=2s --retries=3 cmd curl x";
    let Instruction::Healthcheck(HealthcheckInstruction::Command {
        command: CommandLine::Shell(command),
        interval,
        timeout,
        start_interval,
        retries,
        ..
    }) = instruction(text).instruction
    else {
        panic!("no HEALTHCHECK")
    };
    assert_eq!(command.value, "curl x");
    assert_eq!((interval, timeout, start_interval, retries), (90_000_000_000, 0, 2_000_000_000, 3));
    let none = instruction("HEALTHCHECK none").instruction;
    assert_eq!(none, Instruction::Healthcheck(HealthcheckInstruction::None));
}

#[test]
fn triggers_are_typed_and_keep_their_text() {
    let node = instruction("onbuild  RUN <<-E sh\n\tx\nE\n");
    assert_eq!(node.trigger_expression().unwrap(), "RUN <<-E sh\n\tx\nE");
    let Instruction::Onbuild(trigger) = node.instruction else { panic!("no ONBUILD") };
    let Instruction::Run(run) = &trigger.instruction else { panic!("no RUN") };
    assert_eq!(run.heredocs[0].body.value, "x\n");
    assert_eq!((trigger.start_line, trigger.end_line), (2, 4));
    assert_eq!(instruction("RUN x").trigger_expression(), None);
}

#[test]
fn triggers_of_images_are_one_instruction() {
    let count = |text: &str| parse_trigger(text.as_bytes()).diagnostics.len();
    assert_eq!(count("RUN <<E sh\nx\nE"), 0);
    assert_eq!(count("COPY --from=x a b"), 0);
    assert_eq!(count("RUN a\nRUN b"), 1);
    assert_eq!(count("FROM a"), 1);
    assert_eq!(count(""), 1);
}

#[test]
fn mistakes_leave_the_rest_alone() {
    let parsed = parse(b"FROM a:1\nCOPY x\nENV A\nRUN true\n");
    let invalid = |at: usize| matches!(parsed.dockerfile.instructions[at].instruction, Instruction::Invalid);
    assert_eq!((invalid(0), invalid(1), invalid(2), invalid(3)), (false, true, true, false));
    let starts: Vec<_> = parsed.diagnostics.iter().map(|diagnostic| diagnostic.primary.span.start).collect();
    assert_eq!(starts, [9, 20]);
}

#[test]
fn long_lines_are_refused() {
    let errors = |length: usize, ending: &str| {
        let text = format!("FROM a:1\nRUN {}{ending}", "x".repeat(length - 4));
        parse(text.as_bytes()).diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    };
    assert_eq!((errors(65_535, "\n"), errors(65_535, ""), errors(65_534, "\r\n")), (0, 0, 0));
    assert_eq!((errors(65_536, "\n"), errors(65_536, ""), errors(65_535, "\r\n")), (1, 1, 1));
}

#[test]
fn comments_above_belong_to_the_instruction() {
    let node = instruction("# lost\n#\n# one\n\n  # two\nRUN x \\\n# inside\n y\n");
    assert_eq!(values(&node.comments), ["one", "# two"]);
    let first = &parse(b"# syntax=x\n# note\nFROM a:1\n").dockerfile.instructions[0];
    assert_eq!(values(&first.comments), ["note"]);
}

#[test]
fn stages_are_found() {
    let parsed = parse(b"ARG A\nFROM a:1 AS One\nRUN x\nFROM One\nCMD y\nRUN z\n");
    let stages = parsed.dockerfile.stages();
    let read: Vec<_> = stages.iter().map(|stage| (stage.name(), stage.instructions.len())).collect();
    assert_eq!(read, [(Some("one".to_owned()), 1), (None, 2)]);
    assert_eq!(parsed.dockerfile.preamble().len(), 1);
}
