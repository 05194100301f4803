//! The files that COPY and ADD took, from the records of the steps that made layers.

use std::collections::HashMap;

use mica_cache::{CacheRecord, Store};
use mica_image::index::{Entry, Node, name};
use mica_image::{FileDigest, LayerId};

use crate::engine::history::LookError;
use crate::engine::listing;

/// What the steps that made layers took.
pub(super) struct Sources<'a> {
    store: &'a Store,
    taken: HashMap<LayerId, Vec<Taken>>,
}

/// A file a step took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    /// The source of the instruction it was taken by, as written after expansion.
    pub source: String,
    /// Its path there.
    pub path: String,
    state: String,
}

impl<'a> Sources<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, taken: HashMap::new() }
    }

    /// Returns the file a file was copied from: the one with its content, and its name if there are several.
    pub(super) fn source(&mut self, layer: &LayerId, entry: &Entry) -> Result<Option<Taken>, LookError> {
        let Node::File { digest, .. } = &entry.node else { return Ok(None) };
        if !self.taken.contains_key(layer) {
            let record = self.store.records().made(layer)?;
            let taken = record.map(|record| self.taken(&record)).transpose()?;
            self.taken.insert(*layer, taken.unwrap_or_default());
        }
        Ok(best(&self.taken[layer], digest, &entry.path).cloned())
    }

    fn taken(&self, record: &CacheRecord) -> Result<Vec<Taken>, LookError> {
        let mut all = Vec::new();
        for part in &record.parts {
            let Some(source) = part.name.strip_prefix("content `").and_then(|rest| rest.strip_suffix('`'))
            else {
                continue;
            };
            let Some(detail) = &part.detail else { continue };
            let Some(bytes) = self.store.details().get(detail)? else { continue };
            all.extend(listing::read(&bytes).into_iter().map(|line| Taken {
                source: source.to_owned(),
                path: whole_path(source, line.path.into_owned()),
                state: line.state.into_owned(),
            }));
        }
        Ok(all)
    }
}

/// A single file is listed by its name alone: where it is, its source says, unless that holds wildcards.
fn whole_path(source: &str, path: String) -> String {
    let directory = source.trim_start_matches('/').rsplit_once('/').map_or("", |(directory, _)| directory);
    match path.contains('/') || directory.is_empty() || directory.contains(['*', '?', '[']) {
        true => path,
        false => format!("{directory}/{path}"),
    }
}

fn best<'a>(taken: &'a [Taken], digest: &FileDigest, path: &[u8]) -> Option<&'a Taken> {
    let digest = digest.to_string();
    let same = taken.iter().filter(|line| line.state.split(' ').any(|word| word == digest));
    let path = String::from_utf8_lossy(path);
    let common = |line: &&Taken| {
        let (ours, theirs) = (path.rsplit('/'), line.path.rsplit('/'));
        ours.zip(theirs).take_while(|(a, b)| a == b).count()
    };
    let is_named_so = |line: &Taken| line.path.as_bytes().ends_with(name(path.as_bytes()));
    same.max_by_key(|line| (common(line), is_named_so(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_files_are_told_with_their_directories() {
        let whole = |source, path: &str| whole_path(source, path.to_owned());
        assert_eq!(whole("/t/sub/file", "file"), "t/sub/file");
        assert_eq!(whole("sub/*.txt", "a.txt"), "sub/a.txt");
        assert_eq!(whole("*/x", "x"), "x");
        assert_eq!((whole("made", "made"), whole("/t", "t/a")), ("made".to_owned(), "t/a".to_owned()));
    }

    #[test]
    fn the_source_with_the_longest_common_end_is_told() {
        let digest = FileDigest::of(b"x");
        let line = |path: &str| Taken {
            source: "src".into(),
            path: path.into(),
            state: format!("file 0644 0:0 1 {digest}"),
        };
        let taken = [line("src/a"), line("src/sub/a"), line("src/b")];
        let best =
            |digest: &FileDigest, path: &[u8]| best(&taken, digest, path).map(|line| line.path.clone());
        assert_eq!(best(&digest, b"app/sub/a"), Some("src/sub/a".into()));
        assert_eq!(best(&digest, b"app/b"), Some("src/b".into()));
        assert_eq!(best(&FileDigest::of(b"y"), b"app/b"), None);
    }
}
