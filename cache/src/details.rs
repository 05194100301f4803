//! Details: small texts named by their BLAKE3 digest, which records refer to: listings of what was copied, logs of steps.
//!
//! They explain and replay; no result depends on one, so a missing or damaged one is simply not there.

use std::fmt;
use std::io;
use std::sync::Arc;

use mica_image::compress::FileDigestWriter;
use mica_image::fault::{Point, reach};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::files::{At, FileError, read_optional, remove_file, rename_over, sharded, touch};
use crate::store::{Shared, Store};

/// Bytes that are hashed and written in one go.
const PIECE: usize = 256 * 1024;

/// The name of a detail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DetailId([u8; 32]);

impl DetailId {
    /// Returns the 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Debug for DetailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DetailId({})", &self.hex()[..12])
    }
}

impl Serialize for DetailId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for DetailId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

/// The details of a store.
#[derive(Debug, Clone)]
pub struct DetailStore {
    shared: Arc<Shared>,
}

impl Store {
    /// Returns the store's details.
    #[must_use]
    pub fn details(&self) -> DetailStore {
        DetailStore { shared: self.shared.clone() }
    }
}

impl DetailStore {
    /// Stores a text and returns its name.
    pub fn put(&self, bytes: &[u8]) -> Result<DetailId, FileError> {
        let id = DetailId(*blake3::hash(bytes).as_bytes());
        let path = self.path(&id);
        // One found damaged is written again.
        if self.get(&id)?.is_some() {
            touch(&path).at("mark as used", &path)?;
        } else {
            self.shared.write(&path, bytes)?;
        }
        Ok(id)
    }

    /// Stores a text that is not in memory whole; `write` gives it piece by piece.
    pub fn put_with(
        &self,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<DetailId, FileError> {
        let (file, made) = self.shared.lease()?.fresh_file()?;
        let mut out = io::BufWriter::with_capacity(PIECE, FileDigestWriter::new(file));
        let written = reach(Point::ScratchWrite).and_then(|()| write(&mut out));
        let hashed = written.and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error));
        let (_, digest) = hashed.at("write", &made)?.finish();
        let id = DetailId(*digest.as_bytes());
        let path = self.path(&id);
        if self.get(&id)?.is_some() {
            touch(&path).at("mark as used", &path)?;
            remove_file(&made)?;
        } else {
            self.shared.note_change();
            rename_over(&made, &path)?;
        }
        Ok(id)
    }

    /// Returns a text; `None` when it is not there or not what it was.
    pub fn get(&self, id: &DetailId) -> Result<Option<Vec<u8>>, FileError> {
        let bytes = read_optional(&self.path(id))?;
        Ok(bytes.filter(|bytes| *blake3::hash(bytes).as_bytes() == id.0))
    }

    fn path(&self, id: &DetailId) -> std::path::PathBuf {
        sharded(&self.shared.root.join("details"), &id.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ownership;

    #[test]
    fn a_damaged_detail_is_absent_and_can_be_written_again() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store"), Ownership::Root).unwrap();
        let id = store.details().put(b"a listing").unwrap();
        assert_eq!(store.details().get(&id).unwrap().unwrap(), b"a listing");
        std::fs::write(store.details().path(&id), b"a listinh").unwrap();
        assert_eq!(store.details().get(&id).unwrap(), None);
        assert_eq!(store.details().put(b"a listing").unwrap(), id);
        assert_eq!(store.details().get(&id).unwrap().unwrap(), b"a listing");
    }

    #[test]
    fn a_text_in_pieces_is_the_same_text() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store"), Ownership::Root).unwrap();
        let text: Vec<u8> = (0..3 * PIECE + 5).map(|number| (number % 251) as u8).collect();
        let put =
            || store.details().put_with(|out| text.chunks(977).try_for_each(|piece| out.write_all(piece)));
        let id = put().unwrap();
        assert_eq!((put().unwrap(), store.details().put(&text).unwrap()), (id, id));
        assert!(store.details().get(&id).unwrap().unwrap() == text);
        let full = store.details().put_with(|_| Err(io::ErrorKind::StorageFull.into()));
        assert!(full.is_err());
    }
}
