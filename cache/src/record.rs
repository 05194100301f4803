//! Records: what a step with a certain key made, and under which conditions that still holds.
//!
//! ```text
//! records/ab/<key>/00000001        a record, sealed; the highest number is the newest
//! records/ab/<key>/holds-<tree>    number of the record whose conditions were found to hold for that tree, sealed
//! recent/ab/<place>                the last keys seen at a place (a step of a file), newest first, sealed
//! ```
//!
//! A key has several records where their conditions differ. A record that cannot be read, or whose layer is not there (any more),
//! is a miss.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_image::LayerId;
use mica_image::tree::Fact;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::details::DetailId;
use crate::files::{At, FileError, Placed, list, list_sharded, read_optional, remove_file, sharded, touch};
use crate::sealed::{read_sealed, seal, unseal};
use crate::store::{Shared, Store};

/// How many records of one key are kept.
const KEPT_PER_KEY: usize = 16;
/// How many trees a key's verified conditions are remembered for.
const REMEMBERED_TREES: usize = 64;
/// How many keys of one place are kept.
const KEPT_PER_PLACE: usize = 16;

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the 64 hexadecimal digits.
            #[must_use]
            pub fn hex(&self) -> String {
                blake3::Hash::from_bytes(self.0).to_hex().to_string()
            }

            /// Reads 64 hexadecimal digits.
            #[must_use]
            pub fn from_hex(hex: &str) -> Option<Self> {
                blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.hex()[..12])
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.hex())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
            }
        }
    };
}

hash_type!(
    /// The cache key of a step, as the solver computes it.
    RecordKey
);
hash_type!(
    /// The digest of a tree's layer ids, under which verified conditions are remembered.
    TreeHash
);
hash_type!(
    /// What makes two steps “the same place” in builds of one file, so that their keys can be compared.
    PlaceId
);

/// One named thing a key was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// What it is: `command`, `env PATH`, `content COPY src`.
    pub name: String,
    /// Its value or digest.
    pub value: String,
    /// Where the value is a digest: what it was made from, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailId>,
}

/// Files of one kind that are no part of a layer although its step wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OmittedFiles {
    /// The kind.
    pub kind: String,
    /// How many files and directories (with all that is in them).
    pub count: u64,
    /// The first of them, as absolute paths.
    pub paths: Vec<String>,
}

/// What a step made, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The step's key.
    pub key: RecordKey,
    /// What the key was made from.
    pub parts: Vec<KeyPart>,
    /// The layer the step made.
    pub layer: LayerId,
    /// What must hold in the step's parent tree for this to be a hit.
    pub conditions: Vec<Fact>,
    /// What the step printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<DetailId>,
    /// The step as the build showed it.
    pub step: String,
    /// When it started, in seconds since 1970.
    pub started: i64,
    /// How long it ran, in milliseconds.
    pub duration: u64,
    /// What it wrote that its layer does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<OmittedFiles>,
}

/// A record as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number among the key's records.
    pub number: u64,
    /// What it says.
    pub record: CacheRecord,
}

/// Whether a new record joins or replaces those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Older records of the key stay: their conditions may hold elsewhere.
    Keep,
    /// Older records of the key go (`--no-cache`).
    All,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    format: u32,
    #[serde(flatten)]
    record: CacheRecord,
}

const FORMAT: u32 = 1;

/// The records of a store.
#[derive(Debug, Clone)]
pub struct RecordStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns the store's records.
    #[must_use]
    pub fn records(&self) -> RecordStore {
        RecordStore { shared: self.shared.clone() }
    }
}

impl RecordStore {
    /// Returns the key's records whose layers are there, newest first. Their layers stay as long as this store is open.
    pub fn get(&self, key: &RecordKey) -> Result<Vec<StoredRecord>, FileError> {
        let mut found = Vec::new();
        for (number, path) in numbered(&self.directory(key))?.into_iter().rev() {
            found.extend(self.load(key, number, &path)?);
        }
        Ok(found)
    }

    /// Stores a record and returns its number.
    pub fn put(&self, record: &CacheRecord, replace: Replace) -> Result<u64, FileError> {
        let directory = self.directory(&record.key);
        let bytes = seal(&Sealed { format: FORMAT, record: record.clone() });
        let older = numbered(&directory)?;
        let mut number = older.last().map_or(0, |(number, _)| *number);
        loop {
            number += 1;
            if self.shared.write_new(&directory.join(format!("{number:08}")), &bytes)? == Placed::New {
                break;
            }
        }
        let surplus = match replace {
            Replace::All => older.len(),
            Replace::Keep => (older.len() + 1).saturating_sub(KEPT_PER_KEY),
        };
        for (_, path) in older.iter().take(surplus) {
            remove_file(path)?;
        }
        Ok(number)
    }

    /// Returns the record whose conditions were found to hold for `tree` earlier, if it is still there and still the newest word.
    pub fn holds_for(&self, key: &RecordKey, tree: &TreeHash) -> Result<Option<StoredRecord>, FileError> {
        let directory = self.directory(key);
        let Some(bytes) = read_optional(&memo_path(&directory, tree))? else { return Ok(None) };
        let Some(memo) = unseal::<Memo>(&bytes) else { return Ok(None) };
        if numbered(&directory)?.last().map(|(number, _)| *number) != Some(memo.newest) {
            return Ok(None);
        }
        let found = self.load(key, memo.record, &directory.join(format!("{:08}", memo.record)))?;
        Ok(found.filter(|stored| digest_conditions(&stored.record.conditions) == memo.conditions))
    }

    /// Remembers that the conditions of `stored` hold for `tree`.
    pub fn remember(&self, key: &RecordKey, tree: &TreeHash, stored: &StoredRecord) -> Result<(), FileError> {
        let number = stored.number;
        let directory = self.directory(key);
        let newest = numbered(&directory)?.last().map_or(number, |(newest, _)| *newest);
        let memos: Vec<_> =
            list(&directory)?.into_iter().filter(|(name, _)| name.starts_with("holds-")).collect();
        if memos.len() >= REMEMBERED_TREES {
            for (_, path) in memos {
                remove_file(&path)?;
            }
        }
        let conditions = digest_conditions(&stored.record.conditions);
        self.shared.write(&memo_path(&directory, tree), &seal(&Memo { record: number, newest, conditions }))
    }

    /// Notes that `key` is what a step at `place` has now; the last few are kept.
    pub fn note_recent(&self, place: &PlaceId, key: &RecordKey) -> Result<(), FileError> {
        let mut keys = self.recent(place)?;
        if keys.first() == Some(key) {
            return Ok(());
        }
        keys.retain(|known| known != key);
        keys.insert(0, *key);
        keys.truncate(KEPT_PER_PLACE);
        self.shared.write(&self.place_path(place), &seal(&keys))
    }

    /// Returns the keys last seen at `place`, newest first.
    pub fn recent(&self, place: &PlaceId) -> Result<Vec<RecordKey>, FileError> {
        Ok(read_sealed(&self.place_path(place))?.unwrap_or_default())
    }

    /// Returns the key's newest readable record, whether or not its layer is still there: to explain, not to use.
    pub fn explain(&self, key: &RecordKey) -> Result<Option<CacheRecord>, FileError> {
        for (_, path) in numbered(&self.directory(key))?.into_iter().rev() {
            if let Some(record) = read_record(&path)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Returns a record of the step that made a layer, the newest of several; it looks at every record.
    pub fn made(&self, layer: &LayerId) -> Result<Option<CacheRecord>, FileError> {
        let mut newest: Option<CacheRecord> = None;
        for (_, directory) in list_sharded(&self.shared.root.join("records"))? {
            for (_, path) in numbered(&directory)? {
                let Some(record) = read_record(&path)?.filter(|record| record.layer == *layer) else {
                    continue;
                };
                if newest.as_ref().is_none_or(|known| known.started <= record.started) {
                    newest = Some(record);
                }
            }
        }
        Ok(newest)
    }

    fn load(&self, key: &RecordKey, number: u64, path: &Path) -> Result<Option<StoredRecord>, FileError> {
        let Some(record) = read_record(path)?.filter(|record| record.key == *key) else { return Ok(None) };
        if crate::layer::hold(&self.shared, &record.layer)?.is_none() {
            return Ok(None);
        }
        match touch(path) {
            Err(error) if crate::files::is_absent(&error) => return Ok(None),
            result => result.at("mark as used", path)?,
        }
        Ok(Some(StoredRecord { number, record }))
    }

    fn directory(&self, key: &RecordKey) -> PathBuf {
        sharded(&self.shared.root.join("records"), &key.hex())
    }

    fn place_path(&self, place: &PlaceId) -> PathBuf {
        sharded(&self.shared.root.join("recent"), &place.hex())
    }
}

/// Which record was verified, and which was the newest then: a newer one is asked first.
#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    record: u64,
    newest: u64,
    /// What was verified. A number alone may come again when the record that had it was collected.
    conditions: String,
}

fn digest_conditions(conditions: &[Fact]) -> String {
    let text = serde_json::to_vec(conditions).expect("facts are plain text");
    blake3::hash(&text).to_hex().to_string()
}

fn memo_path(directory: &Path, tree: &TreeHash) -> PathBuf {
    directory.join(format!("holds-{}", tree.hex()))
}

/// Reads a record; `None` when it is not there, damaged or of another format.
pub(crate) fn read_record(path: &Path) -> Result<Option<CacheRecord>, FileError> {
    let Some(bytes) = read_optional(path)? else { return Ok(None) };
    let sealed = unseal::<Sealed>(&bytes).filter(|sealed| sealed.format == FORMAT);
    Ok(sealed.map(|sealed| sealed.record))
}

/// Whether these are the bytes of a memo about verified conditions.
pub(crate) fn is_memo(bytes: &[u8]) -> bool {
    unseal::<Memo>(bytes).is_some()
}

/// Whether these are the bytes of a list of keys.
pub(crate) fn is_recent(bytes: &[u8]) -> bool {
    unseal::<Vec<RecordKey>>(bytes).is_some()
}

/// Returns the numbered files of a directory, lowest first.
pub(crate) fn numbered(directory: &Path) -> Result<Vec<(u64, PathBuf)>, FileError> {
    let files = list(directory)?;
    let mut found: Vec<_> =
        files.into_iter().filter_map(|(name, path)| Some((name.parse().ok()?, path))).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing;

    fn record(layer: LayerId, step: &str) -> CacheRecord {
        CacheRecord {
            key: RecordKey([7; 32]),
            parts: vec![KeyPart { name: "command 0".into(), value: "make".into(), detail: None }],
            layer,
            conditions: vec![Fact { path: b"etc".to_vec(), observed: mica_image::tree::Observed::Absent }],
            log: None,
            step: step.into(),
            started: 1_700_000_000_000,
            duration: 12,
            left_out: Vec::new(),
        }
    }

    fn store_with_layer() -> (tempfile::TempDir, Store, LayerId) {
        let (home, store) = testing::store();
        let committed = testing::commit(&store.layers(), vec![testing::file("a", b"x")], &[("a", b"x")]);
        let id = committed.layer.id();
        (home, store, id)
    }

    fn steps(store: &Store) -> Vec<String> {
        store.records().get(&RecordKey([7; 32])).unwrap().into_iter().map(|found| found.record.step).collect()
    }

    #[test]
    fn records_of_a_key_come_newest_first_until_they_are_replaced() {
        let (_home, store, layer) = store_with_layer();
        let records = store.records();
        assert_eq!(records.put(&record(layer, "one"), Replace::Keep).unwrap(), 1);
        assert_eq!(records.put(&record(layer, "two"), Replace::Keep).unwrap(), 2);
        assert_eq!(steps(&store), ["two", "one"]);
        assert_eq!(records.get(&RecordKey([7; 32])).unwrap()[1].record, record(layer, "one"));
        records.put(&record(layer, "three"), Replace::All).unwrap();
        assert_eq!(steps(&store), ["three"]);
        for _ in 0..KEPT_PER_KEY + 3 {
            records.put(&record(layer, "more"), Replace::Keep).unwrap();
        }
        assert_eq!(steps(&store).len(), KEPT_PER_KEY);
    }

    #[test]
    fn a_damaged_record_is_a_miss() {
        let (_home, store, layer) = store_with_layer();
        store.records().put(&record(layer, "one"), Replace::Keep).unwrap();
        let path = store.records().directory(&RecordKey([7; 32])).join("00000001");
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(steps(&store).is_empty());
        }
        let mut flipped = whole.clone();
        flipped[20] ^= 4;
        std::fs::write(&path, &flipped).unwrap();
        assert!(steps(&store).is_empty());
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(steps(&store), ["one"]);
    }

    #[test]
    fn a_record_without_its_layer_is_a_miss() {
        let (_home, store, layer) = store_with_layer();
        store.records().put(&record(LayerId::from_bytes([9; 32]), "gone"), Replace::Keep).unwrap();
        assert!(steps(&store).is_empty());
        store.records().put(&record(layer, "there"), Replace::Keep).unwrap();
        assert_eq!(steps(&store), ["there"]);
        assert_eq!(store.records().explain(&RecordKey([7; 32])).unwrap().unwrap().step, "there");
        assert_eq!(store.records().made(&layer).unwrap().unwrap().step, "there");
        assert_eq!(store.records().made(&LayerId::from_bytes([8; 32])).unwrap(), None);
    }

    #[test]
    fn after_a_power_cut_only_what_was_synced_is_a_hit() {
        let (home, store, layer) = store_with_layer();
        store.records().put(&record(layer, "one"), Replace::Keep).unwrap();
        let root = home.path().join("store");
        let later = || Store::open_during(&root, store.ownership(), "another boot".into()).unwrap();
        assert!(steps(&later()).is_empty());
        store.sync().unwrap();
        assert_eq!(steps(&later()), ["one"]);
    }

    #[test]
    fn verified_conditions_are_remembered_until_a_newer_record_comes() {
        let (_home, store, layer) = store_with_layer();
        let (records, key, tree) = (store.records(), RecordKey([7; 32]), TreeHash([1; 32]));
        assert_eq!(records.holds_for(&key, &tree).unwrap(), None);
        records.put(&record(layer, "one"), Replace::Keep).unwrap();
        records.put(&record(layer, "two"), Replace::Keep).unwrap();
        let one = records.get(&key).unwrap().pop().unwrap();
        records.remember(&key, &tree, &one).unwrap();
        assert_eq!(records.holds_for(&key, &tree).unwrap().unwrap().record.step, "one");
        assert_eq!(records.holds_for(&key, &TreeHash([2; 32])).unwrap(), None);
        records.put(&record(layer, "three"), Replace::Keep).unwrap();
        assert_eq!(records.holds_for(&key, &tree).unwrap(), None);
    }

    #[test]
    fn what_was_verified_of_a_record_is_not_said_of_another_with_its_number() {
        let (_home, store, layer) = store_with_layer();
        let (records, key, tree) = (store.records(), RecordKey([7; 32]), TreeHash([1; 32]));
        records.put(&record(layer, "one"), Replace::Keep).unwrap();
        let one = records.get(&key).unwrap().pop().unwrap();
        records.remember(&key, &tree, &one).unwrap();
        // A collection that was killed between a record and what is remembered of it.
        std::fs::remove_file(records.directory(&key).join("00000001")).unwrap();
        let other =
            mica_image::tree::Fact { path: b"usr".to_vec(), observed: mica_image::tree::Observed::Absent };
        let two = CacheRecord { conditions: vec![other], ..record(layer, "two") };
        assert_eq!(records.put(&two, Replace::Keep).unwrap(), 1);
        assert_eq!(records.holds_for(&key, &tree).unwrap(), None);
    }

    #[test]
    fn the_last_keys_of_a_place_are_kept_newest_first() {
        let (_home, store, _) = store_with_layer();
        let place = PlaceId([3; 32]);
        for number in 0..20 {
            store.records().note_recent(&place, &RecordKey([number; 32])).unwrap();
        }
        store.records().note_recent(&place, &RecordKey([18; 32])).unwrap();
        let recent = store.records().recent(&place).unwrap();
        assert_eq!(recent.len(), KEPT_PER_PLACE);
        assert_eq!(recent[..3], [RecordKey([18; 32]), RecordKey([19; 32]), RecordKey([17; 32])]);
    }

    #[test]
    fn the_encoding_is_pinned() {
        let bytes = seal(&Sealed { format: FORMAT, record: record(LayerId::from_bytes([9; 32]), "one") });
        assert_eq!(
            blake3::hash(&bytes).to_hex().as_str(),
            "ccd616e529264307f0a15f120ea3ec1d9bbd0bb72fe3e266f1562475b6919daf"
        );
    }
}
