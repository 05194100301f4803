//! The stages of a file: what each is built on, what it takes from others, and which of them a target needs.
//!
//! A name given to `--from` that is no stage becomes a stage of its own at the end of the table: one that consists of an image or a
//! named context and has no instructions. So everything a step can take files from is a stage.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use mica_image::{Platform, Reference};
use mica_parser::syntax::{InstructionNode, Span};

use super::contexts::FoundContext;

/// Position of a stage in its [`StageTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StageIndex(pub(super) usize);

/// What a stage is built on.
#[derive(Debug, Clone)]
pub(super) enum Base<'a> {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(StageIndex),
    /// An image by the name given, unless a named context stands in for it.
    Image(Reference),
    /// A named context in place of the whole stage.
    Context(FoundContext<'a>),
    /// A mistake that has been reported.
    Broken,
}

/// An instruction of a stage.
#[derive(Debug, Clone)]
pub(super) struct Command<'a> {
    pub(super) node: Cow<'a, InstructionNode>,
    /// Whether an ONBUILD of the base brought it.
    pub(super) is_trigger: bool,
    /// Where to point to when the node's own spans are not of this file (a trigger of an image).
    pub(super) elsewhere: Option<Span>,
    /// What each `from` of it means: one for COPY, one for each mount of RUN, `None` for the build context.
    pub(super) sources: Vec<Option<StageIndex>>,
}

impl<'a> Command<'a> {
    /// An instruction of the file, its sources not yet known.
    pub(super) fn of_file(node: &'a InstructionNode) -> Self {
        Self { node: Cow::Borrowed(node), is_trigger: false, elsewhere: None, sources: Vec::new() }
    }

    /// Returns where a mistake at `span` of the node is to be shown.
    pub(super) fn place(&self, span: Span) -> Span {
        self.elsewhere.unwrap_or(span)
    }
}

/// A stage.
#[derive(Debug, Clone)]
pub(super) struct Stage<'a> {
    /// Its FROM; `None` when a `--from` made it.
    pub(super) from: Option<&'a InstructionNode>,
    /// Where its base is named.
    pub(super) span: Span,
    /// Its name, lower-case.
    pub(super) name: Option<String>,
    /// What step names call it; empty when it is the only one.
    pub(super) label: String,
    pub(super) base: Base<'a>,
    /// The platform its FROM asks for.
    pub(super) platform: Option<Platform>,
    pub(super) commands: Vec<Command<'a>>,
    /// What it takes files from, and where it says so.
    pub(super) dependencies: Vec<(StageIndex, Span)>,
    /// Whether ONBUILD triggers of its base were put in front of its commands.
    pub(super) triggered: bool,
    /// Global arguments its FROM uses.
    pub(super) used_args: BTreeSet<String>,
}

impl Stage<'_> {
    /// Returns whether instructions of the file make it.
    pub(super) fn is_written(&self) -> bool {
        self.from.is_some() && !matches!(self.base, Base::Context(_))
    }
}

/// All stages; those of the file come first, in order.
#[derive(Debug, Default)]
pub(super) struct StageTable<'a> {
    stages: Vec<Stage<'a>>,
    by_name: BTreeMap<String, StageIndex>,
    written: usize,
}

impl<'a> StageTable<'a> {
    /// Adds the next stage of the file.
    pub(super) fn add(&mut self, stage: Stage<'a>) -> StageIndex {
        let index = StageIndex(self.stages.len());
        if let Some(name) = &stage.name {
            self.by_name.insert(name.clone(), index);
        }
        self.stages.push(stage);
        self.written = self.stages.len();
        index
    }

    /// Adds a stage for a name that is none, or returns the one made before.
    pub(super) fn add_implied(&mut self, base: Base<'a>, name: &str, span: Span) -> StageIndex {
        let known = self.implied().find(|(_, stage)| stage.label == name);
        if let Some((index, _)) = known {
            return index;
        }
        self.stages.push(Stage {
            from: None,
            span,
            name: None,
            label: name.to_owned(),
            base,
            platform: None,
            commands: Vec::new(),
            dependencies: Vec::new(),
            triggered: true,
            used_args: BTreeSet::new(),
        });
        StageIndex(self.stages.len() - 1)
    }

    fn implied(&self) -> impl Iterator<Item = (StageIndex, &Stage<'a>)> {
        self.iter().skip(self.written)
    }

    /// Returns every stage with its index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StageIndex, &Stage<'a>)> {
        self.stages.iter().enumerate().map(|(index, stage)| (StageIndex(index), stage))
    }

    /// Returns one stage.
    pub(super) fn get(&self, index: StageIndex) -> &Stage<'a> {
        &self.stages[index.0]
    }

    /// Returns one stage, to be changed.
    pub(super) fn get_mut(&mut self, index: StageIndex) -> &mut Stage<'a> {
        &mut self.stages[index.0]
    }

    /// Returns how many stages the file has.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Returns how many stages there are.
    pub(super) fn len(&self) -> usize {
        self.stages.len()
    }

    /// Finds the last stage of that name so far, whatever the case of its letters.
    pub(super) fn named(&self, name: &str) -> Option<StageIndex> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// Finds a stage that FROM means: unlike elsewhere, letters must be lower-case.
    pub(super) fn named_by_from(&self, name: &str) -> Option<StageIndex> {
        self.by_name.get(name).copied()
    }

    /// Returns the names of all stages in order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect()
    }

    /// Returns what `target` is made of, itself included, in the order of the table.
    pub(super) fn reachable(&self, target: StageIndex) -> BTreeSet<StageIndex> {
        let mut found = BTreeSet::new();
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            if found.insert(index) {
                open.extend(self.needed_by(index));
            }
        }
        found
    }

    fn needed_by(&self, index: StageIndex) -> impl Iterator<Item = StageIndex> {
        let stage = self.get(index);
        let base = match stage.base {
            Base::Stage(base) => Some(base),
            _ => None,
        };
        base.into_iter().chain(stage.dependencies.iter().map(|(needed, _)| *needed))
    }

    /// Returns a stage that takes files from itself, if only through others, and where each link of that chain is written.
    pub(super) fn circle(&self) -> Option<(StageIndex, Vec<Span>)> {
        let mut done = BTreeSet::new();
        let starts = (0..self.stages.len()).map(StageIndex);
        starts.into_iter().find_map(|start| {
            let mut walk = Walk { table: self, done: &mut done, path: Vec::new() };
            Some((start, walk.visit(start)?))
        })
    }
}

/// A walk along dependencies in search of a circle.
struct Walk<'t, 'a> {
    table: &'t StageTable<'a>,
    done: &'t mut BTreeSet<StageIndex>,
    path: Vec<(StageIndex, Span)>,
}

impl Walk<'_, '_> {
    fn visit(&mut self, index: StageIndex) -> Option<Vec<Span>> {
        if !self.done.insert(index) {
            return None;
        }
        for &(needed, span) in &self.table.get(index).dependencies {
            self.path.push((index, span));
            if let Some(start) = self.path.iter().position(|(stage, _)| *stage == needed) {
                return Some(self.path[start..].iter().map(|(_, span)| *span).collect());
            }
            if let Some(found) = self.visit(needed) {
                return Some(found);
            }
            self.path.pop();
        }
        None
    }
}
