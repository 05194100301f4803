//! Which line of the Dockerfile put a file where it is, from what, and what happened to the path before.

use std::collections::HashMap;

use mica_cache::{CacheRecord, Store};
use mica_executor::copy::Listed;
use mica_image::index::{Entry, LayerPath, Node, name};
use mica_image::tree::FileTree;
use mica_image::{FileDigest, LayerId};

use super::diff::{State, state};
use super::history::{Deed, LookError, OpenImage};

/// What is known of one path.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Blamed {
    /// The path, with its leading slash.
    pub path: String,
    /// What was done to it, the last first.
    pub deeds: Vec<Told>,
}

/// One thing that was done to a path.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Told {
    /// The line of the Dockerfile; nothing for the base's.
    pub line: Option<u32>,
    /// The instruction.
    pub instruction: String,
    /// What was put there; nothing for a removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub puts: Option<State>,
    /// The file it was copied from, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Tells about `path`, and about everything below it where it is a directory of the image.
///
/// Nothing is returned for what no layer ever had.
pub(crate) fn blame(store: &Store, image: &OpenImage, path: &str) -> Result<Vec<Blamed>, LookError> {
    let path = relative(path);
    let mut sources = Sources { store, records: HashMap::new() };
    let mut blamed = Vec::new();
    blamed.extend(told(image, &path, &mut sources)?);
    for found in image.tree.subtree(&path)? {
        if !found.entry.is_directory() {
            blamed.extend(told(image, &found.entry.path, &mut sources)?);
        }
    }
    Ok(blamed)
}

/// A path as indexes have it, however it was typed.
fn relative(path: &str) -> LayerPath {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/").into_bytes()
}

fn told(image: &OpenImage, path: &[u8], sources: &mut Sources<'_>) -> Result<Option<Blamed>, LookError> {
    let mut deeds = Vec::new();
    let mut is_there = false;
    for (number, layer) in image.layers.iter().enumerate() {
        let Some(deed) = layer.deed(path) else { continue };
        let line = image.line(number);
        let (puts, from) = match deed {
            Deed::Puts(entry) => (Some(state(&entry)), sources.source(&layer.id, &entry)?),
            // A layer may remove what was not there: the directory above it is new.
            Deed::Removes if !is_there => continue,
            Deed::Removes => (None, None),
        };
        is_there = puts.is_some();
        deeds.push(Told { line: line.line, instruction: line.instruction.clone(), puts, from });
    }
    deeds.reverse();
    let path = format!("/{}", String::from_utf8_lossy(path));
    Ok(if deeds.is_empty() { None } else { Some(Blamed { path, deeds }) })
}

/// What the steps that made layers took.
struct Sources<'a> {
    store: &'a Store,
    records: HashMap<LayerId, Vec<Listed>>,
}

impl Sources<'_> {
    /// Returns the path a file was copied from: the one with its content, and its name if there are several.
    fn source(&mut self, layer: &LayerId, entry: &Entry) -> Result<Option<String>, LookError> {
        let Node::File { digest, .. } = &entry.node else { return Ok(None) };
        if !self.records.contains_key(layer) {
            let record = self.store.records().made(layer)?;
            let listed = record.map(|record| self.listed(&record)).transpose()?;
            self.records.insert(*layer, listed.unwrap_or_default());
        }
        Ok(best(&self.records[layer], digest, &entry.path))
    }

    fn listed(&self, record: &CacheRecord) -> Result<Vec<Listed>, LookError> {
        let mut all = Vec::new();
        for part in record.parts.iter().filter(|part| part.name.starts_with("content `")) {
            let Some(detail) = &part.detail else { continue };
            let Some(bytes) = self.store.details().get(detail)? else { continue };
            all.extend(serde_json::from_slice::<Vec<Listed>>(&bytes).unwrap_or_default());
        }
        Ok(all)
    }
}

fn best(listed: &[Listed], digest: &FileDigest, path: &[u8]) -> Option<String> {
    let digest = digest.to_string();
    let same = listed.iter().filter(|line| line.state.split(' ').any(|word| word == digest));
    let path = String::from_utf8_lossy(path);
    let common = |line: &&Listed| {
        let (ours, theirs) = (path.rsplit('/'), line.path.rsplit('/'));
        ours.zip(theirs).take_while(|(a, b)| a == b).count()
    };
    let is_named_so = |line: &Listed| line.path.as_bytes().ends_with(name(path.as_bytes()));
    same.max_by_key(|line| (common(line), is_named_so(line))).map(|line| line.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_with_the_longest_common_end_is_told() {
        let digest = FileDigest::of(b"x");
        let line = |path: &str| Listed { path: path.into(), state: format!("file 0644 0:0 1 {digest}") };
        let listed = [line("src/a"), line("src/sub/a"), line("src/b")];
        assert_eq!(best(&listed, &digest, b"app/sub/a"), Some("src/sub/a".into()));
        assert_eq!(best(&listed, &digest, b"app/b"), Some("src/b".into()));
        assert_eq!(best(&listed, &FileDigest::of(b"y"), b"app/b"), None);
    }

    #[test]
    fn paths_may_be_typed_in_any_form() {
        for text in ["/a/b", "a/b/", "./a//b"] {
            assert_eq!(relative(text), b"a/b");
        }
        assert_eq!(relative("/"), b"");
    }
}
