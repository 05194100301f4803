//! What `COPY --from` and the `from` of a mount mean.

use mica_parser::csv;
use mica_parser::syntax::{Instruction, RunInstruction, Span, Spanned};
use mica_parser::words::{NoVariables, expand};

use super::planner::PlatformPlan;
use super::report::{OrProblem, Problem, problem};
use super::stages::{Command, StageIndex};

/// Finds the sources of a command of `stage`, and notes them as dependencies of the stage. Names that are no stage are added to the
/// table as images.
pub(super) fn resolve_sources(
    plan: &mut PlatformPlan<'_>,
    stage: StageIndex,
    command: &mut Command<'_>,
) -> Result<(), Problem> {
    let named = match &command.node.instruction {
        Instruction::Copy(copy) => match &copy.from {
            Some(from) => vec![Some(copy_source(plan, command, from)?)],
            None => vec![None],
        },
        Instruction::Run(run) => mount_sources(plan, command, run)?,
        _ => return Ok(()),
    };
    let dependencies = &mut plan.stages.get_mut(stage).dependencies;
    dependencies.extend(named.iter().flatten().copied());
    command.sources = named.into_iter().map(|source| source.map(|(index, _)| index)).collect();
    Ok(())
}

type Named = (StageIndex, Span);

fn copy_source(
    plan: &mut PlatformPlan<'_>,
    command: &Command<'_>,
    from: &Spanned<String>,
) -> Result<Named, Problem> {
    let span = command.place(from.span);
    let name = &from.value;
    let expansion = expand(name, plan.escape, &NoVariables).or_problem(
        "bad-substitution",
        span,
        format_args!("cannot read `--from={name}`"),
    )?;
    if &expansion.text != name {
        let message = "variable expansion is not supported for `--from`";
        let help = "define a stage with FROM and an ARG before the first FROM, and copy from that stage";
        return Err(Box::new(problem("variable-in-from", span, message).with_help(help)));
    }
    match name.parse::<i64>() {
        Ok(number) => Ok((numbered(plan, number, span)?, span)),
        Err(_) => named(plan, name, span),
    }
}

fn numbered(plan: &PlatformPlan<'_>, number: i64, span: Span) -> Result<StageIndex, Problem> {
    let count = plan.stages.written();
    let index = usize::try_from(number).ok().filter(|index| *index < count);
    index.map(StageIndex).ok_or_else(|| {
        let message = format!("invalid stage index {number}");
        let last = count.saturating_sub(1);
        Box::new(
            problem("unknown-stage", span, message)
                .with_help(format!("stages are numbered from 0 to {last} here")),
        )
    })
}

fn named(plan: &mut PlatformPlan<'_>, name: &str, span: Span) -> Result<Named, Problem> {
    if let Some(index) = plan.stages.named(name) {
        return Ok((index, span));
    }
    let base = plan.base_outside(name, span)?;
    Ok((plan.stages.add_implied(base, name, span), span))
}

fn mount_sources(
    plan: &mut PlatformPlan<'_>,
    command: &Command<'_>,
    run: &RunInstruction,
) -> Result<Vec<Option<Named>>, Problem> {
    let mut sources = Vec::with_capacity(run.mounts.len());
    for value in &run.mounts {
        let span = command.place(value.span);
        let source = mount_from(&value.value).map(|name| named(plan, &name, span));
        sources.push(source.transpose()?);
    }
    Ok(sources)
}

/// Returns the `from` of a mount. The other keys may need variables and are read when these are known; the parser has checked the
/// form of the whole.
fn mount_from(value: &str) -> Option<String> {
    let fields = csv::fields(value).unwrap_or_default();
    let mut pairs = fields.iter().filter_map(|field| field.split_once('='));
    let last = pairs.rfind(|(key, _)| key.eq_ignore_ascii_case("from"));
    last.map(|(_, name)| name.to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_from_of_a_mount_is_found_before_the_rest_is_read() {
        let cases = [
            ("type=$T,from=build,source=/a", Some("build")),
            ("FROM=a,from=b", Some("b")),
            ("\"source=a,from=x\",from=y", Some("y")),
            ("type=cache,target=/c", None),
            ("from=,target=/c", None),
        ];
        for (value, expected) in cases {
            assert_eq!(mount_from(value).as_deref(), expected, "{value}");
        }
    }
}
