//! What stages start from: which images a target needs, and the ONBUILD triggers that bases bring.

use std::borrow::Cow;

use mica_image::Platform;
use mica_parser::diagnostic::Severity;
use mica_parser::syntax::{Instruction, InstructionNode};

use super::contexts::{self, FoundContext};
use super::planner::PlatformPlan;
use super::report::{Problem, Report, problem};
use super::request::NamedContext;
use super::sources::resolve_sources;
use super::stages::{Base, Command, StageIndex};
use crate::graph::{ImageLocation, ImageSource};

/// What a stage's first tree is.
#[derive(Debug, Clone)]
pub(super) enum Foundation<'a> {
    /// No files.
    Empty,
    /// The tree of an earlier stage.
    Stage(StageIndex),
    /// An image, and the named context that stands for it, if one does.
    Image(Box<ImageSource>, Option<&'a str>),
    /// Files of a named context: a directory, a download or a checkout.
    Files(FoundContext<'a>),
}

impl<'a> PlatformPlan<'a> {
    /// Returns what a stage starts from.
    pub(super) fn foundation(&self, index: StageIndex) -> Foundation<'a> {
        let stage = self.stages.get(index);
        let platform = stage.platform.as_ref().unwrap_or(&self.target);
        match &stage.base {
            Base::Scratch | Base::Broken => Foundation::Empty,
            Base::Stage(base) => Foundation::Stage(*base),
            Base::Context(found) => of_context(*found, platform),
            Base::Image(reference) => {
                match contexts::find(&self.request.named_contexts, &reference.to_string(), platform) {
                    Some(found) => of_context(found, platform),
                    None => image(ImageLocation::Reference(reference.with_default_tag()), platform, None),
                }
            }
        }
    }

    /// Puts ONBUILD triggers in front of the stages `target` needs, and returns the images that must be known first.
    ///
    /// A trigger may take files from a further stage or image, so this goes on until nothing new turns up.
    pub(super) fn resolve(&mut self, target: StageIndex, report: &mut Report) -> Vec<ImageSource> {
        loop {
            let needed: Vec<StageIndex> = match self.request.all_stages {
                true => self.stages.iter().map(|(index, _)| index).collect(),
                false => self.stages.reachable(target).into_iter().collect(),
            };
            let missing: Vec<ImageSource> =
                needed.iter().filter_map(|index| self.missing_image(*index)).collect();
            let before = self.stages.len();
            let mut changed = false;
            for index in needed {
                changed |= self.add_triggers(index, report);
            }
            if report.has_errors() || !changed && before == self.stages.len() {
                return missing;
            }
        }
    }

    fn missing_image(&self, index: StageIndex) -> Option<ImageSource> {
        match self.foundation(index) {
            Foundation::Image(source, _) if self.images.get(&source).is_none() => Some(*source),
            _ => None,
        }
    }

    /// Puts the triggers of a stage's base in front of its commands, once they are known; tells whether that brought new sources.
    fn add_triggers(&mut self, index: StageIndex, report: &mut Report) -> bool {
        if self.stages.get(index).triggered || !self.stages.get(index).is_written() {
            return false;
        }
        let Some(triggers) = self.triggers(index, report) else { return false };
        let before = self.stages.get(index).dependencies.len();
        let mut commands = Vec::with_capacity(triggers.len());
        for mut command in triggers {
            let found = resolve_sources(self, index, &mut command);
            report.unless_ok(found);
            commands.push(command);
        }
        let stage = self.stages.get_mut(index);
        stage.triggered = true;
        stage.commands.splice(0..0, commands);
        stage.dependencies.len() > before
    }

    /// Returns the triggers of a stage's base, or `None` while its image is not known.
    fn triggers(&self, index: StageIndex, report: &mut Report) -> Option<Vec<Command<'a>>> {
        match self.foundation(index) {
            Foundation::Empty | Foundation::Files(_) => Some(Vec::new()),
            Foundation::Stage(base) => Some(self.triggers_of_stage(base)),
            Foundation::Image(source, _) => {
                let image = self.images.get(&source)?;
                let texts = image.config.config.on_build.iter();
                Some(texts.filter_map(|text| report.unless_ok(self.trigger_of_image(index, text))).collect())
            }
        }
    }

    fn triggers_of_stage(&self, base: StageIndex) -> Vec<Command<'a>> {
        let base = self.stages.get(base);
        if !base.is_written() {
            return Vec::new();
        }
        let of_file = base.commands.iter().filter_map(|command| match &command.node {
            Cow::Borrowed(node) => Some(*node),
            Cow::Owned(_) => None,
        });
        of_file
            .filter_map(|node| match &node.instruction {
                Instruction::Onbuild(trigger) => {
                    Some(Command { is_trigger: true, ..Command::of_file(trigger) })
                }
                _ => None,
            })
            .collect()
    }

    fn trigger_of_image(&self, index: StageIndex, text: &str) -> Result<Command<'a>, Problem> {
        let span = self.stages.get(index).span;
        let refuse = |why: &str| {
            Err(problem("bad-trigger", span, format!("ONBUILD trigger `{text}` of the base image: {why}")))
        };
        let parsed = mica_parser::parse_trigger(text.as_bytes());
        if let Some(error) = parsed.diagnostics.iter().find(|it| it.severity == Severity::Error) {
            return refuse(&error.message);
        }
        let Ok([node]) = <[InstructionNode; 1]>::try_from(parsed.dockerfile.instructions) else {
            return refuse("it should be a single instruction");
        };
        Ok(Command { node: Cow::Owned(node), is_trigger: true, elsewhere: Some(span), sources: Vec::new() })
    }
}

fn of_context<'a>(found: FoundContext<'a>, platform: &Platform) -> Foundation<'a> {
    match found.context {
        NamedContext::Scratch => Foundation::Empty,
        NamedContext::Image(reference) => {
            image(ImageLocation::Reference(reference.with_default_tag()), platform, Some(found.name))
        }
        NamedContext::OciLayout(text) => {
            image(ImageLocation::OciLayout(text.clone()), platform, Some(found.name))
        }
        NamedContext::Local | NamedContext::Http(_) | NamedContext::Git(_) => Foundation::Files(found),
    }
}

fn image<'a>(location: ImageLocation, platform: &Platform, context: Option<&'a str>) -> Foundation<'a> {
    Foundation::Image(Box::new(ImageSource { location, platform: platform.clone() }), context)
}
