//! Where steps stand in their file, to find earlier records of the same place, and on what they stand.
//!
//! A place is the same file's same stage's n-th step of a kind: what an edit of the step itself does not change. Steps that were
//! added or removed shift those after them, so the places around one's own are looked at as well.

use std::collections::HashMap;

use mica_cache::PlaceId;
use mica_solver::graph::{BuildGraph, ImageLocation};
use mica_solver::{Op, StepId};

/// How many places before and after its own a step may have come from.
const NEIGHBOURS: u32 = 2;

/// The places of one build's steps.
pub(super) struct Places {
    identity: String,
    steps: Vec<Placed>,
}

struct Placed {
    name: String,
    /// Stage, platform and kind.
    row: String,
    /// Its number among the steps of that row, from 1.
    number: u32,
    parent: Option<StepId>,
    makes: Makes,
}

/// What a step adds to the tree it stands on.
enum Makes {
    Layer,
    Base(String),
    Nothing,
}

/// What the layers of a step's parent are, from the base up.
pub(super) struct Ancestry<'a> {
    /// The name of the base image.
    pub base: Option<&'a str>,
    /// The steps that made the layers above the base.
    pub steps: Vec<(StepId, &'a str)>,
}

impl Places {
    /// Finds the places of `graph`; `identity` tells builds of one Dockerfile in one context from others.
    pub(super) fn new(graph: &BuildGraph, identity: &str) -> Self {
        let mut counts: HashMap<String, u32> = HashMap::new();
        let placed = |step: &mica_solver::Step| {
            let (kind, makes) = match &step.op {
                Op::Run(_) => ("run", Makes::Layer),
                Op::Copy(_) => ("copy", Makes::Layer),
                Op::Workdir(_) => ("workdir", Makes::Layer),
                Op::Image(source) => ("source", Makes::Base(base_name(&source.location))),
                _ => ("source", Makes::Nothing),
            };
            let stage = step.stage.as_deref().unwrap_or_default();
            let row = format!("{stage}\0{}\0{kind}", step.platform);
            let number = counts.entry(row.clone()).or_insert(0);
            *number += 1;
            let parent = graph.parent(step.id);
            Placed { name: step.name.clone(), row, number: *number, parent, makes }
        };
        Self { identity: identity.to_owned(), steps: graph.steps().map(placed).collect() }
    }

    /// Returns a step's own place.
    pub(super) fn of(&self, step: StepId) -> PlaceId {
        let placed = self.placed(step);
        self.place(&placed.row, placed.number)
    }

    /// Returns what a step's own place is called in every copy of its file.
    pub(super) fn portable(&self, step: StepId) -> String {
        let placed = self.placed(step);
        format!("{} {}", placed.row.replace('\0', " "), placed.number)
    }

    /// Returns a step's own place, then those around it, the nearest first.
    pub(super) fn near(&self, step: StepId) -> Vec<PlaceId> {
        let Placed { row, number, .. } = self.placed(step);
        let mut numbers = vec![*number];
        for distance in 1..=NEIGHBOURS {
            numbers.extend(number.checked_sub(distance).filter(|number| *number > 0));
            numbers.push(number + distance);
        }
        numbers.into_iter().map(|number| self.place(row, number)).collect()
    }

    /// Returns what a step stands on.
    pub(super) fn ancestry(&self, step: StepId) -> Ancestry<'_> {
        let mut ancestry = Ancestry { base: None, steps: Vec::new() };
        let mut next = self.placed(step).parent;
        while let Some(id) = next {
            let placed = self.placed(id);
            match &placed.makes {
                Makes::Layer => ancestry.steps.push((id, &placed.name)),
                Makes::Base(name) => ancestry.base = Some(name),
                Makes::Nothing => {}
            }
            next = placed.parent;
        }
        ancestry.steps.reverse();
        ancestry
    }

    fn placed(&self, step: StepId) -> &Placed {
        &self.steps[step.0 as usize]
    }

    fn place(&self, row: &str, number: u32) -> PlaceId {
        let text = format!("{}\0{row}\0{number}", self.identity);
        PlaceId(*blake3::hash(text.as_bytes()).as_bytes())
    }
}

fn base_name(location: &ImageLocation) -> String {
    match location {
        ImageLocation::Reference(reference) => reference.familiar(),
        ImageLocation::OciLayout(path) => format!("oci-layout://{path}"),
    }
}
