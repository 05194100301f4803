//! SOURCE_DATE_EPOCH: seconds, or the name of something whose time is taken.
//!
//! A name is `context`, a named context, or a stage that only adds one remote file or repository to `scratch`. What time that has is
//! not for planning to find out: the plan asks for it, and is made again with the answer.

use mica_parser::syntax::{
    AddInstruction, ArgInstruction, FromInstruction, Instruction, InstructionNode, Span, Spanned,
};
use mica_parser::words::{Variables, expand};

use super::contexts;
use super::environment::Environment;
use super::file::Sections;
use super::instruction::remote_source;
use super::planner::PlatformPlan;
use super::report::{OrProblem, Problem, problem};
use super::request::SourceTime;
use super::survey::{SCRATCH, stage_name};
use crate::graph::{GitSource, HttpSource};

/// The argument that fixes the times of the result.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

const CODE: &str = "bad-epoch";

/// What SOURCE_DATE_EPOCH names instead of a number.
#[derive(Debug, Clone)]
pub enum EpochSource {
    /// The main context.
    MainContext,
    /// A named context, by the name it was given under.
    NamedContext(String),
    /// What the ADD of a stage downloads.
    Download(HttpSource),
    /// What the ADD of a stage checks out.
    Checkout(GitSource),
}

/// What SOURCE_DATE_EPOCH comes to.
#[derive(Debug)]
pub(super) enum Epoch {
    /// Not asked for.
    Unset,
    /// Seconds since 1970.
    Seconds(i64),
    /// Asked for by naming a source whose time is not known: as if not asked for.
    Unknown,
    /// The time of this, which must be found out first.
    Of(EpochSource),
}

/// Reads SOURCE_DATE_EPOCH.
pub(super) fn epoch(plan: &PlatformPlan<'_>, sections: &Sections<'_>) -> Result<Epoch, Problem> {
    let default = plan.globals.values.get(EPOCH).filter(|value| !value.is_empty());
    let Some(text) = plan.build_args.get(EPOCH).map(String::as_str).or(default) else {
        return Ok(Epoch::Unset);
    };
    if text.is_empty() {
        return Ok(Epoch::Unknown);
    }
    if let Ok(seconds) = text.parse() {
        return Ok(Epoch::Seconds(seconds));
    }
    let source = source_named(plan, sections, text)?;
    Ok(match plan.request.source_time {
        SourceTime::NotAsked => Epoch::Of(source),
        SourceTime::Unknown => Epoch::Unknown,
        SourceTime::Seconds(seconds) => Epoch::Seconds(seconds),
    })
}

fn source_named(
    plan: &PlatformPlan<'_>,
    sections: &Sections<'_>,
    name: &str,
) -> Result<EpochSource, Problem> {
    if name == "context" {
        return Ok(EpochSource::MainContext);
    }
    // One build has one time, whatever it is built for.
    let platform = &plan.request.build_platform;
    if let Some(found) = contexts::find(&plan.request.named_contexts, name, platform) {
        return Ok(EpochSource::NamedContext(found.name.to_owned()));
    }
    let is_meant =
        |node: &InstructionNode| stage_name(node).is_some_and(|known| known.eq_ignore_ascii_case(name));
    match sections.stages.iter().find(|(node, _)| is_meant(node)) {
        Some((node, body)) => source_of_stage(plan, node, body),
        None => {
            let help = "give seconds since 1970, `context`, or the name of a named context or stage";
            Err(Box::new(
                problem(CODE, Span::default(), format!("invalid {EPOCH}: `{name}`")).with_help(help),
            ))
        }
    }
}

/// Finds the one source of a stage that has nothing else.
fn source_of_stage(
    plan: &PlatformPlan<'_>,
    node: &InstructionNode,
    body: &[&InstructionNode],
) -> Result<EpochSource, Problem> {
    let mut variables = plan.globals.values.clone();
    variables.remove(EPOCH);
    if let Instruction::From(from) = &node.instruction {
        check_base(plan, from, &variables)?;
    }
    let mut found = None;
    for node in body {
        match &node.instruction {
            Instruction::Arg(arg) => declare(plan, arg, &mut variables)?,
            Instruction::Add(_) if found.is_some() => return Err(refused(node, ONE_ADD)),
            Instruction::Add(add) => found = Some(source_of_add(plan, node, add, &variables)?),
            _ => {
                let keyword = node.keyword.value.to_uppercase();
                return Err(refused(node, &format!("must have nothing but ARG and ADD, not {keyword}")));
            }
        }
    }
    found.ok_or_else(|| refused(node, ONE_ADD))
}

const ONE_ADD: &str = "must have just one ADD, of one remote file or repository";

fn check_base(
    plan: &PlatformPlan<'_>,
    from: &FromInstruction,
    variables: &Environment,
) -> Result<(), Problem> {
    let base = expanded(plan, &from.image, variables)?;
    match base.as_str() {
        SCRATCH => Ok(()),
        _ => Err(refused_at(from.image.span, "must be built on `scratch`")),
    }
}

fn declare(
    plan: &PlatformPlan<'_>,
    arg: &ArgInstruction,
    variables: &mut Environment,
) -> Result<(), Problem> {
    for argument in &arg.arguments {
        let name = &argument.name.value;
        match (plan.build_args.get(name), &argument.default) {
            (Some(given), _) => variables.set(name, given),
            (None, Some(default)) => {
                let value = expanded(plan, default, variables)?;
                variables.set(name, &value);
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn source_of_add(
    plan: &PlatformPlan<'_>,
    node: &InstructionNode,
    add: &AddInstruction,
    variables: &Environment,
) -> Result<EpochSource, Problem> {
    let [source] = add.transfer.sources.as_slice() else { return Err(refused(node, ONE_ADD)) };
    if !add.transfer.heredocs.is_empty() {
        return Err(refused(node, ONE_ADD));
    }
    let source = Spanned { span: source.span, value: expanded(plan, source, variables)? };
    let checksum = add.checksum.as_ref().map(|word| expanded(plan, word, variables)).transpose()?;
    let checksum = checksum.filter(|text| !text.is_empty());
    remote_source(&source, add.keep_git_dir, checksum)?.ok_or_else(|| refused(node, ONE_ADD))
}

fn expanded(
    plan: &PlatformPlan<'_>,
    word: &Spanned<String>,
    variables: &Environment,
) -> Result<String, Problem> {
    let doing = format_args!("cannot expand `{}`", word.value);
    Ok(expand(&word.value, plan.escape, variables).or_problem("bad-substitution", word.span, doing)?.text)
}

fn refused(node: &InstructionNode, what: &str) -> Problem {
    refused_at(node.span, what)
}

fn refused_at(span: Span, what: &str) -> Problem {
    problem(CODE, span, format!("a stage that {EPOCH} names {what}"))
}
