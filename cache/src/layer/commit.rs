//! Making layers visible: everything is prepared in a scratch directory that becomes the layer's by rename.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::LayerId;
use mica_image::fault::{Point, reach};
use mica_image::index::LayerIndex;

use super::error::LayerError;
use super::flatten::{flatten, surplus_holders};
use super::meta::{LayerKind, LayerMeta, NewMeta, layer_directory};
use super::store::{Layer, LayerStore, hold, look};
use crate::files::{At, FileError, Placed, make_directory, remove_tree, rename_away, rename_new};
use crate::lease::{Lease, Pin};
use crate::sealed::seal;
use crate::store::Shared;

/// How many layers may have to stay for one, those that hold bytes for its holders included.
const MAX_NEEDED: usize = 16;

/// A directory for a layer in the making; gone when dropped before its commit.
#[derive(Debug)]
pub struct Scratch {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    path: PathBuf,
}

/// A layer that was committed.
#[derive(Debug)]
pub struct Committed {
    /// The layer.
    pub layer: Layer,
    /// Whether the store had it before: then that one was kept and the new one dropped.
    pub existed: bool,
    /// Its index, if it is this one: who needs it next does not have to read it.
    pub index: Option<LayerIndex>,
}

impl Scratch {
    /// Returns the directory for the layer's own objects.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// Makes the directory for bytes whose place is not known yet.
    pub(super) fn spool(&self) -> Result<PathBuf, FileError> {
        let spool = self.path.join("spool");
        make_directory(&spool)?;
        Ok(spool)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a commit nothing is there any more.
        self.lease.discard_later(self.path.clone());
    }
}

impl LayerStore {
    /// Starts a layer: a fresh, empty directory on the store's file system.
    pub fn begin(&self) -> Result<Scratch, FileError> {
        let scratch = self.scratch()?;
        let files = scratch.files();
        make_directory(&files)?;
        Ok(scratch)
    }

    /// Commits a layer whose own objects are in `scratch` and whose meaning is `index`; `created` is in seconds since 1970.
    ///
    /// If the store has the layer already, that one is kept with its times and its diff id.
    pub fn commit(&self, scratch: Scratch, index: LayerIndex, created: i64) -> Result<Committed, LayerError> {
        let id = index.layer_id();
        if let Some(layer) = self.get(&id)?.filter(|_| !self.is_promised(&id)) {
            return Ok(Committed { layer, existed: true, index: None });
        }
        let mut index = flatten(self, index)?;
        let mut surplus = surplus_holders(&index);
        surplus.extend(self.deep_holders(&index)?);
        if !surplus.is_empty() {
            self.bring_in(&scratch, &id, &mut index, &surplus)?;
        }
        let (layer, existed) = self.publish(scratch, id, &index, LayerKind::Made, created)?;
        Ok(Committed { layer, existed, index: (!existed).then_some(index) })
    }

    /// Returns the holders that need others themselves, where that makes too many layers that must stay for this one.
    fn deep_holders(&self, index: &LayerIndex) -> Result<BTreeSet<LayerId>, LayerError> {
        let (mut needed, mut deep) = (BTreeSet::new(), BTreeSet::new());
        for holder in index.holders() {
            let below = self.needed_by(&holder)?;
            if below.len() > 1 {
                deep.insert(holder);
            }
            needed.extend(below);
        }
        Ok(if needed.len() > MAX_NEEDED { deep } else { BTreeSet::new() })
    }

    /// Returns the layers that must stay for one, itself among them.
    fn needed_by(&self, id: &LayerId) -> Result<BTreeSet<LayerId>, LayerError> {
        let (mut needed, mut open) = (BTreeSet::new(), vec![*id]);
        while let Some(id) = open.pop() {
            if needed.insert(id) {
                open.extend(&self.require(&id)?.meta().holders);
            }
        }
        Ok(needed)
    }

    /// Returns an empty scratch directory.
    pub(super) fn scratch(&self) -> Result<Scratch, FileError> {
        let lease = self.shared.lease()?;
        let path = lease.fresh_path();
        make_directory(&path)?;
        Ok(Scratch { shared: self.shared.clone(), lease, path })
    }

    /// Writes index and facts into the scratch directory and renames it to its place; tells whether the store had the layer.
    pub(super) fn publish(
        &self,
        scratch: Scratch,
        id: LayerId,
        index: &LayerIndex,
        kind: LayerKind,
        created: i64,
    ) -> Result<(Layer, bool), LayerError> {
        for holder in index.holders() {
            self.fulfil(&holder)?;
        }
        let bytes = index.encode();
        let meta = LayerMeta::new(&self.shared, &NewMeta { kind, created, index, index_bytes: bytes.len() })?;
        for (name, bytes) in [("index", bytes), ("meta", seal(&meta))] {
            let path = scratch.path.join(name);
            reach(Point::IndexWrite).and_then(|()| std::fs::write(&path, bytes)).at("write", &path)?;
        }
        let existed = !self.place(&scratch, &id, &meta)?;
        Ok((self.require(&id)?, existed))
    }

    /// Renames the scratch directory to the layer's place; false if a usable layer is there already.
    fn place(&self, scratch: &Scratch, id: &LayerId, meta: &LayerMeta) -> Result<bool, FileError> {
        let shared = &*self.shared;
        let target = layer_directory(shared, id);
        loop {
            let placed = scratch.lease.hold(|| match rename_new(&scratch.path, &target)? {
                Placed::Existed => Ok::<_, FileError>(None),
                Placed::New => {
                    let pins = std::iter::once(id).chain(&meta.holders).map(|id| Pin::Layer(*id));
                    Ok(Some(((), pins.collect())))
                }
            })?;
            // What is here need not come any more.
            shared.held.forget(id);
            if placed.is_some() {
                shared.note_change();
                return Ok(true);
            }
            if hold(shared, id)?.is_some() {
                return Ok(false);
            }
            discard_unusable(shared, &scratch.lease, id)?;
        }
    }
}

/// Removes a layer that is damaged, was lost in a power cut, or lost a holder.
pub(super) fn discard_unusable(shared: &Shared, lease: &Lease, id: &LayerId) -> Result<(), FileError> {
    let away = lease.fresh_path();
    let renamed = shared.gate.exclusive(|| {
        // Somebody may have replaced it by a good one meanwhile.
        if look(shared, id)?.is_some() {
            return Ok::<_, FileError>(false);
        }
        rename_away(&layer_directory(shared, id), &away)
    })?;
    if renamed { remove_tree(&away) } else { Ok(()) }
}
