//! The first look at a file for one platform: global arguments, stages and what each is built on.
//!
//! Every stage is looked at, needed or not, so that a mistake in a FROM or `--from` is found whatever the target is.

use std::collections::BTreeSet;

use mica_image::{Platform, Reference};
use mica_parser::diagnostic::did_you_mean;
use mica_parser::lint::invalid_default_arg_in_from;
use mica_parser::syntax::{FromInstruction, Instruction, InstructionNode, Span, Spanned};
use mica_parser::words::expand;

use super::arguments::GlobalArguments;
use super::contexts;
use super::epoch::{Epoch, epoch};
use super::file::Sections;
use super::planner::PlatformPlan;
use super::report::{OrProblem, Problem, Report, problem};
use super::sources::resolve_sources;
use super::stages::{Base, Command, Stage, StageIndex, StageTable};

/// The name of the empty image.
pub(super) const SCRATCH: &str = "scratch";

impl<'a> PlatformPlan<'a> {
    /// Reads global arguments and stages; mistakes go to the report.
    pub(super) fn survey(&mut self, sections: &Sections<'a>, report: &mut Report) {
        self.globals = self.predefined(sections);
        self.check_default_bases(sections, report);
        for declaration in sections.global_declarations() {
            let declared = self.globals.declare(declaration, &self.build_args, self.escape);
            report.unless_ok(declared);
        }
        self.fix_epoch(sections, report);
        for (number, (from, body)) in sections.stages.iter().enumerate() {
            let stage = self.read_stage(number, from, body, report);
            self.stages.add(stage);
        }
        self.find_sources(report);
        if let Some((stage, spans)) = self.stages.circle() {
            report.error(circle_problem(&self.stages, stage, &spans));
        }
        if self.stages.len() == 1 {
            // A file with one stage needs no stage in its step names.
            self.stages.get_mut(StageIndex(0)).label.clear();
        }
    }

    fn predefined(&self, sections: &Sections<'a>) -> GlobalArguments {
        let last = sections.stages.last().and_then(|(from, _)| stage_name(from));
        let stage = self.request.target.clone().or(last);
        let stage = stage.as_deref().filter(|name| !name.is_empty());
        GlobalArguments::predefined(&self.request.build_platform, &self.target, stage, &self.build_args)
    }

    /// Checks that the defaults of global arguments alone name a possible base for every stage.
    fn check_default_bases(&self, sections: &Sections<'a>, report: &mut Report) {
        let mut defaults = self.globals.clone();
        let no_build_args = Default::default();
        for declaration in sections.global_declarations() {
            if defaults.declare(declaration, &no_build_args, self.escape).is_err() {
                // The same mistake is reported when the arguments are read for good.
                return;
            }
        }
        for (node, from) in sections.froms() {
            let Ok(name) = expand(&from.image.value, self.escape, &defaults.values) else { return };
            let uses_variables = !name.matched.is_empty() || !name.unmatched.is_empty();
            if uses_variables && Reference::parse(&name.text).is_err() {
                report.for_node(node).add([invalid_default_arg_in_from(&from.image)]);
            }
        }
    }

    fn fix_epoch(&mut self, sections: &Sections<'a>, report: &mut Report) {
        match epoch(self, sections) {
            Ok(Epoch::Unset) => {}
            Ok(Epoch::Seconds(seconds)) => self.set_epoch(Some(seconds)),
            Ok(Epoch::Unknown) => self.set_epoch(None),
            Ok(Epoch::Of(source)) => self.epoch_source = Some(source),
            Err(problem) => report.error(problem),
        }
    }

    fn read_stage(
        &mut self,
        number: usize,
        node: &'a InstructionNode,
        body: &[&'a InstructionNode],
        report: &mut Report,
    ) -> Stage<'a> {
        let name = stage_name(node);
        let mut stage = Stage {
            from: Some(node),
            span: node.span,
            label: name.clone().unwrap_or_else(|| format!("stage-{number}")),
            name,
            base: Base::Broken,
            platform: None,
            commands: body.iter().map(|node| Command::of_file(node)).collect(),
            dependencies: Vec::new(),
            triggered: false,
            used_args: BTreeSet::new(),
        };
        if let Instruction::From(from) = &node.instruction {
            stage.span = from.image.span;
            let read = self.read_from(node, from, &mut stage, report);
            report.unless_ok(read);
        }
        stage
    }

    fn read_from(
        &self,
        node: &InstructionNode,
        from: &FromInstruction,
        stage: &mut Stage<'a>,
        report: &mut Report,
    ) -> Result<(), Problem> {
        let base = self.expand_in_from(node, &from.image, stage, report)?;
        if base.is_empty() {
            return Err(empty_base(from));
        }
        if let Some(platform) = &from.platform {
            stage.platform = Some(self.read_platform(node, platform, stage, report)?);
        }
        stage.base = match self.context_for_stage(stage) {
            Some(found) => Base::Context(found),
            None => self.read_base(&base, from.image.span)?,
        };
        Ok(())
    }

    fn context_for_stage(&self, stage: &Stage<'a>) -> Option<contexts::FoundContext<'a>> {
        let platform = stage.platform.as_ref().unwrap_or(&self.target);
        contexts::find(&self.request.named_contexts, stage.name.as_deref()?, platform)
    }

    /// Says what a name stands for where FROM uses it.
    fn read_base(&self, name: &str, span: Span) -> Result<Base<'a>, Problem> {
        if let Some(stage) = self.stages.named_by_from(name) {
            return Ok(Base::Stage(stage));
        }
        self.base_outside(name, span)
    }

    /// Says what a name that is no stage stands for.
    pub(super) fn base_outside(&self, name: &str, span: Span) -> Result<Base<'a>, Problem> {
        if name == SCRATCH {
            return Ok(Base::Scratch);
        }
        match Reference::parse(name) {
            Ok(reference) => Ok(Base::Image(reference)),
            Err(error) => Err(self.bad_reference(name, span, &error)),
        }
    }

    fn bad_reference(&self, name: &str, span: Span, error: &mica_image::InvalidReference) -> Problem {
        let mut found = problem("bad-reference", span, error.to_string());
        found.primary.text = "neither a stage nor an image".to_owned();
        let names = self.stages.names();
        // `FROM Build` does not find `AS build`; nothing but the case is wrong then.
        let cased =
            names.iter().find(|known| known.eq_ignore_ascii_case(name)).map(|known| (*known).to_owned());
        let nearest = cased.or_else(|| did_you_mean(name, names.iter().copied()));
        if let Some(hint) = error.hint() {
            found.help = Some(hint);
        }
        match nearest {
            Some(nearest) => Box::new(
                found
                    .with_help(format!("a stage with a similar name exists: `{nearest}`"))
                    .with_suggestion(span, nearest),
            ),
            None => found,
        }
    }

    fn read_platform(
        &self,
        node: &InstructionNode,
        word: &Spanned<String>,
        stage: &mut Stage<'a>,
        report: &mut Report,
    ) -> Result<Platform, Problem> {
        let text = self.expand_in_from(node, word, stage, report)?;
        if text.is_empty() {
            let message = format!("empty platform from `{}`", word.value);
            return Err(problem("bad-platform", word.span, message));
        }
        Platform::parse(&text).or_problem(
            "bad-platform",
            word.span,
            format_args!("cannot use platform `{}`", word.value),
        )
    }

    /// Expands a word of FROM with the global arguments.
    fn expand_in_from(
        &self,
        node: &InstructionNode,
        word: &Spanned<String>,
        stage: &mut Stage<'a>,
        report: &mut Report,
    ) -> Result<String, Problem> {
        let expansion = expand(&word.value, self.escape, &self.globals.values).or_problem(
            "bad-substitution",
            word.span,
            format_args!("cannot expand `{}`", word.value),
        )?;
        let names = self.globals.names();
        for missing in expansion.unmatched.iter().filter(|name| !names.contains(*name)) {
            report.for_node(node).undefined_arg_in_from(word.span, missing, &names);
        }
        stage.used_args.extend(expansion.matched);
        Ok(expansion.text)
    }

    /// Finds out what every `--from` and mount of every stage means.
    fn find_sources(&mut self, report: &mut Report) {
        for number in 0..self.stages.written() {
            let index = StageIndex(number);
            if !self.stages.get(index).is_written() {
                // A named context stands in for the stage: its instructions mean nothing in this build.
                continue;
            }
            let mut commands = std::mem::take(&mut self.stages.get_mut(index).commands);
            for command in &mut commands {
                let found = resolve_sources(self, index, command);
                report.unless_ok(found);
            }
            self.stages.get_mut(index).commands = commands;
        }
    }

    /// Returns the stage that is to be built.
    pub(super) fn find_target(&self) -> Result<StageIndex, Problem> {
        let Some(target) = &self.request.target else {
            return Ok(StageIndex(self.stages.written() - 1));
        };
        self.stages.named(target).ok_or_else(|| {
            let message = format!("target stage `{target}` could not be found");
            let found = problem("unknown-stage", Span::default(), message);
            let names = self.stages.names();
            match did_you_mean(target, names.iter().copied()) {
                Some(nearest) => {
                    Box::new(found.with_help(format!("a stage with a similar name exists: `{nearest}`")))
                }
                None if names.is_empty() => Box::new(found.with_help("no stage of this file has a name")),
                None => Box::new(found.with_help(format!("stages of this file: {}", names.join(", ")))),
            }
        })
    }
}

/// Returns the name a FROM gives its stage, lower-case.
pub(super) fn stage_name(node: &InstructionNode) -> Option<String> {
    match &node.instruction {
        Instruction::From(from) => from.name.as_ref().map(|name| name.value.to_lowercase()),
        _ => None,
    }
}

fn empty_base(from: &FromInstruction) -> Problem {
    let written = &from.image.value;
    let found =
        problem("empty-base", from.image.span, format!("base name (`{written}`) should not be blank"));
    if written.contains('$') {
        return Box::new(
            found.with_help("give the argument a default before the first FROM, or a value with --build-arg"),
        );
    }
    found
}

fn circle_problem(stages: &StageTable<'_>, stage: StageIndex, spans: &[Span]) -> Problem {
    let message = format!("circular dependency between stages, found at stage `{}`", stages.get(stage).label);
    let (first, rest) = spans.split_first().expect("a circle has at least one link");
    let mut found = problem("circular-stages", *first, message);
    found.primary.text = "takes files from a stage that needs this one".to_owned();
    for span in rest {
        found = Box::new(found.with_secondary(*span, "through this"));
    }
    found
}
