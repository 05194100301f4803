//! A published image as the store remembers it: noted while it is read in its registry, and read again without a network.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use mica_cache::{Published, Store};
use mica_image::{ContentDigest, Descriptor, Reference};

use super::seat::{STATEMENT_SIZE_MAX, SeatError};
use crate::engine::blocking::blocking;

/// What the store remembers of a name.
pub(super) struct Remembered {
    store: Store,
    published: Published,
}

impl Remembered {
    /// Finds what is remembered of a name.
    pub(super) fn find(store: &Store, reference: &Reference) -> Result<Option<Self>, SeatError> {
        let published = store.published().get(&reference.to_string())?;
        Ok(published.map(|published| Self { store: store.clone(), published }))
    }

    /// Returns what the name stands for.
    pub(super) fn target(&self) -> &Descriptor {
        &self.published.target
    }

    /// Returns what refers to it; `None` where that was never asked.
    pub(super) fn referrers(&self) -> Option<&[Descriptor]> {
        self.published.referrers.as_deref()
    }

    /// Reads a document, verified; `None` where it was never read in the registry, or was collected.
    pub(super) async fn read(&self, digest: ContentDigest) -> Result<Option<Vec<u8>>, SeatError> {
        let store = self.store.clone();
        blocking(move || match store.blobs().has(&digest)? {
            true => Ok(Some(store.blobs().read(&digest, STATEMENT_SIZE_MAX)?)),
            false => Ok(None),
        })
        .await
    }
}

/// What is read of an image in a registry.
pub(super) struct Notes {
    store: Store,
    published: Mutex<Published>,
}

impl Notes {
    /// Begins to note what is read of a name.
    pub(super) fn new(store: &Store, reference: &Reference, target: &Descriptor) -> Self {
        let published = Published {
            reference: reference.to_string(),
            target: target.clone(),
            documents: BTreeSet::new(),
            referrers: None,
            images: BTreeSet::new(),
        };
        Self { store: store.clone(), published: Mutex::new(published) }
    }

    /// Notes a document with its bytes.
    pub(super) async fn document(&self, bytes: Vec<u8>) -> Result<(), SeatError> {
        let store = self.store.clone();
        let digest = blocking(move || store.blobs().put(&bytes)).await?;
        self.note(|published| published.documents.insert(digest));
        Ok(())
    }

    /// Notes what the registry lists as referring to it.
    pub(super) fn referrers(&self, referrers: &[Descriptor]) {
        self.note(|published| published.referrers = Some(referrers.to_vec()));
    }

    /// Notes an image of it that the store has.
    pub(super) fn image(&self, id: ContentDigest) {
        self.note(|published| published.images.insert(id));
    }

    /// Has the store remember what was noted.
    pub(super) fn keep(&self) -> Result<(), SeatError> {
        let published = self.note(|published| published.clone());
        Ok(self.store.published().put(published)?)
    }

    fn note<T>(&self, change: impl FnOnce(&mut Published) -> T) -> T {
        // Every state of it is good.
        change(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
