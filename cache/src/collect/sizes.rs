//! How much room the parts of a store take on the disk.
//!
//! ```text
//! sizes    bytes of the directories of layers, sealed: `{"<layer id>/files": 8192, …}`
//! ```
//!
//! What lies in a layer does not change, so that each is measured once. Whoever changes it all the same is found by `fsck`.

use std::collections::BTreeMap;
use std::path::Path;

use mica_image::{ContentDigest, LayerId};

use crate::files::{FileError, allocated, list, list_sharded};
use crate::layer::layer_directory;
use crate::reserve;
use crate::sealed::{read_sealed, seal, unseal};
use crate::store::Shared;

/// What the small files of a layer and its directory take.
const LAYER: u64 = 6 * BLOCK;
/// What every file takes at least.
const BLOCK: u64 = 4096;
/// The directories whose parts are measured one by one.
const PARTS: [&str; 3] = ["blobs", "layers", "mounts"];

/// The directories of a layer whose content is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Files,
    Full,
}

impl Part {
    pub(super) const ALL: [Self; 2] = [Self::Files, Self::Full];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Full => "full",
        }
    }
}

/// What was measured.
pub(super) struct Sizes<'a> {
    shared: &'a Shared,
    known: BTreeMap<String, u64>,
    /// Those that are still there.
    seen: BTreeMap<String, u64>,
}

impl<'a> Sizes<'a> {
    pub(super) fn load(shared: &'a Shared) -> Result<Self, FileError> {
        let known = read_sealed(&shared.root.join("sizes"))?.unwrap_or_default();
        Ok(Self { shared, known, seen: BTreeMap::new() })
    }

    /// Remembers what was measured.
    pub(super) fn save(self) -> Result<(), FileError> {
        if self.seen == self.known {
            Ok(())
        } else {
            self.shared.write(&self.shared.root.join("sizes"), &seal(&self.seen))
        }
    }

    /// Returns what one directory of a layer takes; nothing when it is not there.
    pub(super) fn part(&mut self, id: &LayerId, part: Part) -> u64 {
        let path = layer_directory(self.shared, id).join(part.name());
        if !path.is_dir() {
            return 0;
        }
        let name = format!("{}/{}", id.hex(), part.name());
        let known = self.seen.get(&name).or_else(|| self.known.get(&name)).copied();
        let bytes = known.unwrap_or_else(|| allocated(&path));
        self.seen.insert(name, bytes);
        bytes
    }

    /// Returns what a layer takes besides those directories.
    pub(super) fn description(&self, index_bytes: u64) -> u64 {
        LAYER + index_bytes.next_multiple_of(BLOCK)
    }

    /// Returns what a blob takes; nothing when it is not there.
    pub(super) fn blob(&self, digest: &ContentDigest) -> u64 {
        let path = crate::files::sharded(&self.shared.root.join("blobs/sha256"), &digest.hex());
        allocated(&path)
    }

    /// Returns what everything takes that is no layer, no blob and no cache mount.
    pub(super) fn rest(&self) -> Result<u64, FileError> {
        let all = list(&self.shared.root)?.into_iter();
        // The reserve counts whether or not it is there at this moment.
        let rest = all.filter(|(name, _)| name != "reserve" && !PARTS.contains(&name.as_str()));
        Ok(rest.map(|(_, path)| allocated(&path)).sum::<u64>() + reserve::SIZE)
    }

    /// Returns what the whole store takes.
    pub(super) fn everything(&mut self) -> Result<u64, FileError> {
        let mut bytes = self.rest()? + allocated(&self.shared.root.join("mounts"));
        for (_, path) in list_sharded(&self.shared.root.join("blobs/sha256"))? {
            bytes += allocated(&path);
        }
        for (name, path) in list_sharded(&self.shared.root.join("layers"))? {
            let Ok(id) = LayerId::from_hex(&name) else { continue };
            bytes += self.description(index_bytes(&path));
            bytes += Part::ALL.iter().map(|part| self.part(&id, *part)).sum::<u64>();
        }
        Ok(bytes)
    }

    /// Returns the cache mounts, each with its bytes.
    pub(super) fn mounts(&self) -> Result<Vec<(std::path::PathBuf, u64)>, FileError> {
        let mounts = list(&self.shared.root.join("mounts"))?.into_iter();
        Ok(mounts.map(|(_, path)| (path.clone(), allocated(&path))).collect())
    }
}

/// Whether these are the bytes of what was measured.
pub(crate) fn is_sizes(bytes: &[u8]) -> bool {
    unseal::<BTreeMap<String, u64>>(bytes).is_some()
}

fn index_bytes(directory: &Path) -> u64 {
    std::fs::metadata(directory.join("index")).map_or(0, |metadata| metadata.len())
}
