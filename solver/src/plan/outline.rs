//! What a target can be given: its build arguments, secrets and ssh agents, for those who ask before they build.

use std::collections::{BTreeMap, BTreeSet};

use mica_parser::syntax::{FromInstruction, InstructionNode};

use super::arguments::{ArgumentInfo, description};
use super::dispatch::States;
use super::file::Sections;
use super::outcome::{Outline, OutlineArg, OutlineMount, StageSummary};
use super::planner::PlatformPlan;
use super::stages::{Base, StageIndex};
use super::survey::stage_name;

/// What one stage declares and uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Captured {
    pub(super) args: BTreeMap<String, ArgumentInfo>,
    pub(super) used_args: BTreeSet<String>,
    secrets: BTreeMap<String, Needed>,
    agents: BTreeMap<String, Needed>,
}

#[derive(Debug, Clone, Copy)]
struct Needed {
    required: bool,
    line: u32,
}

impl Captured {
    /// Notes a secret; the first mention counts.
    pub(super) fn add_secret(&mut self, id: &str, required: bool, line: u32) {
        self.secrets.entry(id.to_owned()).or_insert(Needed { required, line });
    }

    /// Notes an ssh agent; the first mention counts.
    pub(super) fn add_agent(&mut self, id: &str, required: bool, line: u32) {
        self.agents.entry(id.to_owned()).or_insert(Needed { required, line });
    }
}

/// Lists the stages of a file.
pub(super) fn stages(sections: &Sections<'_>) -> Vec<StageSummary> {
    let count = sections.stages.len();
    let summary = |number: usize, node: &InstructionNode, from: &FromInstruction| {
        let name = stage_name(node);
        StageSummary {
            description: name.as_deref().and_then(|name| description(&node.comments, name)),
            name,
            default: number + 1 == count,
            base: from.image.value.clone(),
            platform: from.platform.as_ref().map(|word| word.value.clone()),
            line: node.start_line,
        }
    };
    sections.froms().enumerate().map(|(number, (node, from))| summary(number, node, from)).collect()
}

/// Lists what `target` and the stages it needs can be given. What a stage nearer to the target says of a name counts.
pub(super) fn outline(plan: &PlatformPlan<'_>, target: StageIndex, states: &States) -> Outline {
    let mut args = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    let mut agents = BTreeMap::new();
    for index in nearest_first(plan, target) {
        let Some(state) = &states[index.0] else { continue };
        let captured = &state.captured;
        for (name, info) in used_args(plan, index, captured) {
            args.entry(name).or_insert(info);
        }
        for (id, needed) in &captured.secrets {
            secrets.entry(id.clone()).or_insert(*needed);
        }
        for (id, needed) in &captured.agents {
            agents.entry(id.clone()).or_insert(*needed);
        }
    }
    let stage = plan.stages.get(target);
    let comments = stage.from.map_or(&[][..], |node| &node.comments);
    Outline {
        description: stage.name.as_deref().and_then(|name| description(comments, name)),
        name: stage.name.clone(),
        args: by_line(args.into_iter().map(arg_line), |arg: &OutlineArg| arg.line),
        secrets: by_line(secrets.into_iter().map(mount_line), |mount: &OutlineMount| mount.line),
        ssh: by_line(agents.into_iter().map(mount_line), |mount: &OutlineMount| mount.line),
    }
}

fn nearest_first(plan: &PlatformPlan<'_>, target: StageIndex) -> Vec<StageIndex> {
    let mut found = vec![target];
    let mut next = 0;
    while let Some(index) = found.get(next).copied() {
        next += 1;
        let stage = plan.stages.get(index);
        let base = match stage.base {
            Base::Stage(base) => Some(base),
            _ => None,
        };
        for needed in base.into_iter().chain(stage.dependencies.iter().map(|(needed, _)| *needed)) {
            if !found.contains(&needed) {
                found.push(needed);
            }
        }
    }
    found
}

/// Returns the arguments a stage uses, those that their defaults use included.
fn used_args(
    plan: &PlatformPlan<'_>,
    index: StageIndex,
    captured: &Captured,
) -> BTreeMap<String, ArgumentInfo> {
    let mut used = BTreeMap::new();
    let mut open: Vec<String> =
        captured.used_args.iter().chain(&plan.stages.get(index).used_args).cloned().collect();
    while let Some(name) = open.pop() {
        let info = captured.args.get(&name).or_else(|| plan.globals.declared.get(&name));
        if let Some(info) = info.filter(|_| !used.contains_key(&name)) {
            open.extend(info.uses.iter().cloned());
            used.insert(name, info.clone());
        }
    }
    used
}

fn arg_line((name, info): (String, ArgumentInfo)) -> OutlineArg {
    OutlineArg { name, value: info.value, description: info.description, line: info.line }
}

fn mount_line((name, needed): (String, Needed)) -> OutlineMount {
    OutlineMount { name, required: needed.required, line: needed.line }
}

fn by_line<T>(items: impl Iterator<Item = T>, line: impl Fn(&T) -> u32) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_by_key(line);
    items
}
