//! How much room a store takes, by what it is for.

use crate::FileError;
use crate::files::{disk_usage, list};
use crate::store::Store;

/// What one part of a store takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The part: the name of its directory.
    pub part: String,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Store {
    /// Returns what each part of the store takes, the largest first; parts that take nothing are left out.
    pub fn usage(&self) -> Result<Vec<Usage>, FileError> {
        let parts = list(&self.shared.root)?.into_iter();
        let mut parts: Vec<Usage> =
            parts.map(|(part, path)| Usage { part, bytes: disk_usage(&path) }).collect();
        parts.retain(|part| part.bytes > 0);
        parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.part.cmp(&b.part)));
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use crate::layer::testing::store;

    #[test]
    fn parts_are_counted_and_the_largest_comes_first() {
        let (_home, store) = store();
        store.blobs().put(&[7; 5000]).unwrap();
        store.details().put(&[7; 300]).unwrap();
        let parts = store.usage().unwrap();
        let named: Vec<_> = parts.iter().map(|part| (part.part.as_str(), part.bytes)).take(2).collect();
        assert_eq!(named, [("blobs", 5000), ("details", 300)]);
    }
}
