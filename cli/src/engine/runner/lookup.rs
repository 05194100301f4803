//! Is a step's result known? A record counts when every fact it read from its parent tree is the same today.

use mica_cache::{CacheRecord, OmittedFiles, RecordKey};
use mica_image::tree::{Tree, TreeLayer, holds};
use mica_solver::{CacheKey, LeftOutFiles, Step, StepResult};

use super::{Shared, StepError, tree_hash};

/// The result of a step, as a record has it.
pub(super) struct Hit {
    pub(super) result: StepResult,
    pub(super) left_out: Vec<LeftOutFiles>,
}

/// Returns the result of `step` if a record of `key` holds for `parent`.
pub(super) fn find(
    shared: &Shared,
    step: &Step,
    key: &CacheKey,
    parent: &Tree,
) -> Result<Option<Hit>, StepError> {
    let key = RecordKey(*key.as_bytes());
    let records = shared.store.records();
    let hash = tree_hash(parent);
    if let Some(known) = records.holds_for(&key, &hash)? {
        return hit(shared, step, &key, parent, &known.record).map(Some);
    }
    for stored in records.get(&key)? {
        if !stored.record.conditions.is_empty() {
            let tree = shared.store.layers().tree(parent)?;
            if !holds(&stored.record.conditions, &tree)? {
                continue;
            }
            records.remember(&key, &hash, &stored)?;
        }
        return hit(shared, step, &key, parent, &stored.record).map(Some);
    }
    elsewhere(shared, step, &key, parent)
}

/// Looks in the caches that were imported.
fn elsewhere(shared: &Shared, step: &Step, key: &RecordKey, parent: &Tree) -> Result<Option<Hit>, StepError> {
    for found in shared.resolved.imports.records(key) {
        let conditions = &found.record.conditions;
        let is_so = conditions.is_empty() || holds(conditions, &shared.store.layers().tree(parent)?)?;
        if is_so && shared.resolved.imports.promise(&shared.store, &found)? {
            return hit(shared, step, key, parent, found.record).map(Some);
        }
    }
    Ok(None)
}

fn hit(
    shared: &Shared,
    step: &Step,
    key: &RecordKey,
    parent: &Tree,
    record: &CacheRecord,
) -> Result<Hit, StepError> {
    shared.store.records().note_recent(&shared.place(step.id), key)?;
    shared.note_used(step.id, record);
    let left_out = record.left_out.iter().cloned();
    let left_out = left_out.map(|OmittedFiles { kind, count, paths }| LeftOutFiles { kind, count, paths });
    Ok(Hit { result: with_layer(parent, record.layer), left_out: left_out.collect() })
}

/// Returns the tree of a step whose layer goes on top of its parent's.
pub(super) fn with_layer(parent: &Tree, layer: mica_image::LayerId) -> StepResult {
    let mut tree = parent.clone();
    tree.push(TreeLayer::made(layer));
    StepResult::Tree(tree)
}
