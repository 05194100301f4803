//! Doing concurrent work for one key once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// A map whose values are made on first use; those who ask meanwhile wait for the same result. A failure is not kept.
pub(crate) struct OnceMap<K, V> {
    cells: Mutex<HashMap<K, Arc<OnceCell<V>>>>,
}

impl<K: Eq + Hash, V: Clone> OnceMap<K, V> {
    pub(crate) fn new() -> Self {
        Self { cells: Mutex::new(HashMap::new()) }
    }

    /// Returns the value of `key` if it has been made.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.locked().get(key)?.get().cloned()
    }

    /// Returns the value of `key`, made by `init` if there is none yet.
    pub(crate) async fn get_or_try_init<E, F>(&self, key: K, init: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let cell = Arc::clone(self.locked().entry(key).or_default());
        cell.get_or_try_init(init).await.cloned()
    }

    /// Forgets the value of `key` if it is as `unwanted` says.
    pub(crate) fn forget(&self, key: &K, unwanted: impl FnOnce(&V) -> bool) {
        let mut cells = self.locked();
        if cells.get(key).and_then(|cell| cell.get()).is_some_and(unwanted) {
            cells.remove(key);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        // Nothing panics while it is held, and every state of the map is good.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
