//! Finding bytes that layers have already: what a new layer need not bring again.

use std::collections::HashMap;

use mica_image::index::{LayerPath, RawFile, RawIndex, compare_paths};
use mica_image::{FileDigest, LayerId};

use super::error::LayerError;
use super::store::{Layer, LayerStore};

/// A file whose bytes some layer may have.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where it will be: where it most likely was.
    pub path: &'a [u8],
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: FileDigest,
}

/// The layer that has a file's bytes, and the path there.
pub type Place = (LayerId, LayerPath);

impl LayerStore {
    /// Returns for each of `wanted`, which are in index order, where its bytes lie; the first of `layers` that has them wins, whose
    /// index is read once. Layers that are not there (any more) hold nothing, and a large one is not looked into for little.
    pub fn held(&self, layers: &[LayerId], wanted: &[Wanted<'_>]) -> Result<Vec<Option<Place>>, LayerError> {
        let mut places = vec![None; wanted.len()];
        let mut is_first = true;
        for id in layers {
            let Some(layer) = self.get(id)? else { continue };
            if is_first || is_worth_it(&layer, wanted, &places) {
                look_in(&layer, wanted, &mut places)?;
            }
            is_first = false;
        }
        Ok(places)
    }
}

/// Whether so many bytes are missing that they are not written again in less time than a layer's index takes to be read.
fn is_worth_it(layer: &Layer, wanted: &[Wanted<'_>], places: &[Option<Place>]) -> bool {
    const SMALL_INDEX: u64 = 64 * 1024;
    let mut missing = wanted.iter().zip(places).filter(|(_, place)| place.is_none()).peekable();
    let index = layer.meta().index_bytes;
    missing.peek().is_some()
        && (index <= SMALL_INDEX || missing.map(|(wanted, _)| wanted.size).sum::<u64>() >= index / 8)
}

/// Finds files where they were in a layer, most of them; and the others wherever they are in it.
fn look_in(layer: &Layer, wanted: &[Wanted<'_>], places: &mut [Option<Place>]) -> Result<(), LayerError> {
    let raw = layer.raw_index()?;
    by_path(layer, &raw, wanted, places)?;
    by_content(layer, &raw, wanted, places)
}

/// Both are in index order, and gone through once.
fn by_path(
    layer: &Layer,
    raw: &RawIndex,
    wanted: &[Wanted<'_>],
    places: &mut [Option<Place>],
) -> Result<(), LayerError> {
    let mut missing = wanted.iter().zip(places).filter(|(_, place)| place.is_none()).peekable();
    for file in raw.files() {
        if missing.peek().is_none() {
            break;
        }
        let file = file.map_err(|source| layer.index_error(source))?;
        while missing.next_if(|(wanted, _)| compare_paths(wanted.path, file.path).is_lt()).is_some() {}
        if let Some((_, place)) =
            missing.next_if(|(wanted, _)| wanted.path == file.path && is_content(wanted, &file))
        {
            *place = Some(place_of(layer, &file));
        }
    }
    Ok(())
}

fn by_content(
    layer: &Layer,
    raw: &RawIndex,
    wanted: &[Wanted<'_>],
    places: &mut [Option<Place>],
) -> Result<(), LayerError> {
    let mut missing: HashMap<(FileDigest, u64), Vec<usize>> = HashMap::new();
    for (position, wanted) in wanted.iter().enumerate().filter(|(at, _)| places[*at].is_none()) {
        missing.entry((wanted.digest, wanted.size)).or_default().push(position);
    }
    for file in raw.files() {
        if missing.is_empty() {
            break;
        }
        let file = file.map_err(|source| layer.index_error(source))?;
        for position in missing.remove(&(file.digest, file.size)).into_iter().flatten() {
            places[position] = Some(place_of(layer, &file));
        }
    }
    Ok(())
}

fn is_content(wanted: &Wanted<'_>, file: &RawFile<'_>) -> bool {
    (wanted.digest, wanted.size) == (file.digest, file.size)
}

fn place_of(layer: &Layer, file: &RawFile<'_>) -> Place {
    let (holder, path) = file.holder.unwrap_or((layer.id(), file.path));
    (holder, path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::{commit, file, store};

    #[test]
    fn bytes_are_found_at_their_path_or_wherever_they_are() {
        let (_home, store) = store();
        let layers = store.layers();
        let make = |files: &[(&str, &[u8])]| {
            let entries = files.iter().map(|(path, content)| file(path, content)).collect();
            commit(&layers, entries, files).layer.id()
        };
        let new = make(&[("a", b"one"), ("b", b"two"), ("m", b"same"), ("z", b"same")]);
        let old = make(&[("a", b"two"), ("c", b"three")]);
        let gone = LayerId::from_bytes([9; 32]);
        let find = |wanted: &[(&str, &[u8])]| -> Vec<Option<(LayerId, String)>> {
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(path, bytes)| Wanted {
                    path: path.as_bytes(),
                    size: bytes.len() as u64,
                    digest: FileDigest::of(bytes),
                })
                .collect();
            let places = layers.held(&[new, gone, old], &wanted).unwrap().into_iter();
            places.map(|place| place.map(|(id, path)| (id, String::from_utf8(path).unwrap()))).collect()
        };
        let wanted: [(&str, &[u8]); 6] =
            [("a", b"one"), ("b", b"three"), ("c", b"four"), ("n", b"two"), ("o", b"two"), ("z", b"same")];
        let at = |id, path: &str| Some((id, path.to_owned()));
        let expected = [at(new, "a"), at(old, "c"), None, at(new, "b"), at(new, "b"), at(new, "z")];
        assert_eq!(find(&wanted), expected);
        assert_eq!(find(&[]), []);
    }
}
