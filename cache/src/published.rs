//! What was seen of images where they are published: the documents a name stands for, so that they are known without a network too.
//!
//! ```text
//! published/ab/<hash of reference>   what a name stood for, sealed; its documents are blobs
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use mica_image::{ContentDigest, Descriptor};
use serde::{Deserialize, Serialize};

use crate::files::{FileError, list_sharded, sharded};
use crate::sealed::{read_sealed, seal};
use crate::store::{Shared, Store};

/// What a name stood for in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The name.
    pub reference: String,
    /// The manifest or index.
    pub target: Descriptor,
    /// Manifests, indexes, statements and signatures that were read, all of them blobs.
    pub documents: BTreeSet<ContentDigest>,
    /// What the registry listed as referring to the target; `None` where it was not asked.
    pub referrers: Option<Vec<Descriptor>>,
    /// The images it is about: without any of them in the store it is forgotten.
    pub images: BTreeSet<ContentDigest>,
}

/// What a store knows of published images.
#[derive(Debug, Clone)]
pub struct PublishedStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns what the store knows of published images.
    #[must_use]
    pub fn published(&self) -> PublishedStore {
        PublishedStore { shared: self.shared.clone() }
    }
}

impl PublishedStore {
    /// Returns what `reference` stood for when it was looked at last.
    pub fn get(&self, reference: &str) -> Result<Option<Published>, FileError> {
        read_sealed(&self.path(reference))
    }

    /// Remembers what a name stands for, besides what is known of the same target.
    pub fn put(&self, published: Published) -> Result<(), FileError> {
        let path = self.path(&published.reference);
        let known = self.get(&published.reference)?;
        let known = known.filter(|known| known.target.digest == published.target.digest);
        let merged = match known {
            Some(known) => Published {
                documents: &known.documents | &published.documents,
                referrers: published.referrers.clone().or(known.referrers),
                images: &known.images | &published.images,
                ..published
            },
            None => published,
        };
        self.shared.write(&path, &seal(&merged))
    }

    /// Returns all there is.
    pub(crate) fn all(&self) -> Result<Vec<(PathBuf, Published)>, FileError> {
        let mut found = Vec::new();
        for (_, path) in list_sharded(&self.shared.root.join("published"))? {
            found.extend(read_sealed(&path)?.map(|published| (path, published)));
        }
        Ok(found)
    }

    fn path(&self, reference: &str) -> PathBuf {
        let name = blake3::hash(reference.as_bytes()).to_hex();
        sharded(&self.shared.root.join("published"), name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing;
    use mica_image::MediaType;

    #[test]
    fn what_is_known_of_a_target_adds_up_and_another_target_replaces_it() {
        let (_home, store) = testing::store();
        let [one, two, three] = [b"1", b"2", b"3"].map(|bytes| ContentDigest::of(bytes));
        let target = |bytes: &[u8]| Descriptor::of(MediaType::OCI_INDEX, bytes);
        let published = |bytes: &[u8], document, referrers| Published {
            reference: "app:1".to_owned(),
            target: target(bytes),
            documents: [document].into(),
            referrers,
            images: [document].into(),
        };
        let known = || store.published().get("app:1").unwrap().unwrap();
        store.published().put(published(b"a", one, Some(vec![target(b"r")]))).unwrap();
        store.published().put(published(b"a", two, None)).unwrap();
        assert_eq!((known().documents, known().images), ([one, two].into(), [one, two].into()));
        assert_eq!(known().referrers, Some(vec![target(b"r")]));
        store.published().put(published(b"b", three, None)).unwrap();
        assert_eq!(known(), published(b"b", three, None));
        assert_eq!(store.published().get("app:2").unwrap(), None);
    }
}
