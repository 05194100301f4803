//! The layers of an image, or of a stage it copied files from, each with the instruction that made it.

use std::collections::HashMap;
use std::sync::Arc;

use mica_cache::Store;

use crate::engine::build_steps::{Action, BuildStep, BuildSteps, End};
use crate::engine::history::{Deed, LookError, OpenImage, OpenLayer, instruction};

/// Layers from the base up.
pub(super) struct Lineage {
    /// Tells lineages apart: 0 is the image's own, others have the number of their last step.
    pub key: u32,
    pub layers: Vec<OpenLayer>,
    /// Who made each of them.
    pub makers: Vec<Maker>,
}

/// What made a layer.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    pub line: Option<u32>,
    pub instruction: String,
    /// The stage, where it is not the image's own.
    pub stage: Option<String>,
    /// The number of the step, where the build is known.
    step: Option<u32>,
}

impl Lineage {
    /// Returns the topmost layer that puts or removes something at `path`.
    pub(super) fn last_deed(&self, path: &[u8]) -> Option<(usize, Deed)> {
        (0..self.layers.len()).rev().find_map(|layer| Some((layer, self.layers[layer].deed(path)?)))
    }
}

/// The image's lineage, and those of the stages its files came from.
pub(super) struct Lineages<'a> {
    store: &'a Store,
    own: Arc<Lineage>,
    steps: Option<BuildSteps>,
    others: HashMap<u32, Option<Arc<Lineage>>>,
}

impl<'a> Lineages<'a> {
    pub(super) fn of(store: &'a Store, image: &OpenImage) -> Result<Self, LookError> {
        let built_by = store.images().get(&image.image.id)?.and_then(|record| record.built_by);
        let steps = match built_by {
            Some(built_by) => BuildSteps::read(store, &built_by.steps)?,
            None => None,
        };
        let makers = built_by.zip(steps.as_ref()).map(|(by, steps)| step_numbers(steps, by.last));
        let maker = |layer: usize| {
            let line = image.line(layer);
            let step = makers.as_ref().filter(|steps| steps.len() == image.layers.len());
            Maker {
                line: line.line,
                instruction: line.instruction.clone(),
                stage: None,
                step: step.map(|steps| steps[layer]),
            }
        };
        let makers = (0..image.layers.len()).map(maker).collect();
        let own = Arc::new(Lineage { key: 0, layers: image.layers.clone(), makers });
        Ok(Self { store, own, steps, others: HashMap::new() })
    }

    pub(super) fn own(&self) -> Arc<Lineage> {
        self.own.clone()
    }

    /// Returns the layers that a source of the instruction that made a layer was copied from.
    pub(super) fn copied(&mut self, maker: &Maker, source: &str) -> Result<Option<Arc<Lineage>>, LookError> {
        let Some(steps) = &self.steps else { return Ok(None) };
        let Some(Action::Copy(sources)) =
            maker.step.and_then(|step| steps.step(step)).map(|step| &step.action)
        else {
            return Ok(None);
        };
        let Some((_, from)) = sources.iter().find(|(path, _)| path == source) else { return Ok(None) };
        if !self.others.contains_key(from) {
            let opened = open(self.store, steps, *from)?.map(Arc::new);
            self.others.insert(*from, opened);
        }
        Ok(self.others[from].clone())
    }
}

/// Returns for each layer of a step's tree the number of the step that made it.
fn step_numbers(steps: &BuildSteps, last: u32) -> Vec<u32> {
    let made = |step: &&BuildStep| vec![step.number; step.adds.as_ref().map_or(0, Vec::len)];
    steps.chain(last).iter().flat_map(made).collect()
}

/// Opens the layers of a step's tree; nothing for steps without one, or whose layers are gone.
fn open(store: &Store, steps: &BuildSteps, last: u32) -> Result<Option<Lineage>, LookError> {
    let Some(tree) = steps.tree(last, End::After).filter(|tree| !tree.is_empty()) else { return Ok(None) };
    let mut layers = Vec::with_capacity(tree.len());
    for (entry, layer) in tree.iter().enumerate() {
        let Some(found) = store.layers().get(&layer.id)? else { return Ok(None) };
        layers.push(OpenLayer { id: layer.id, entry, index: Arc::new(found.load_index()?) });
    }
    let maker = |number: u32| {
        let step = steps.step(number);
        let own = step.and_then(|step| step.setting.as_ref()?.history.last());
        let name = step.map(|step| step.name.clone()).unwrap_or_default();
        Maker {
            line: own.and(step.and_then(|step| step.line)),
            instruction: own.map_or(name, |item| instruction(&item.created_by)),
            stage: step.and_then(|step| step.stage.clone()),
            step: Some(number),
        }
    };
    let makers = step_numbers(steps, last).into_iter().map(maker).collect();
    Ok(Some(Lineage { key: last, layers, makers }))
}
