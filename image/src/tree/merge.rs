//! The whole of a merged tree in one pass: a merge of the layers' sorted entries.

use std::borrow::Cow;

use super::merged::{Found, MergedTree, Said, View, decide};
use super::{TreeEntry, TreeError};
use crate::index::{Entry, LayerPath, compare_paths, is_below};

/// The entries of one layer that are still to come.
struct Cursor<'a> {
    layer: usize,
    entries: Cow<'a, [Entry]>,
    next: usize,
}

/// A directory that is being filled, and the cursors (topmost layer first) that have a part in it.
struct Open {
    path: LayerPath,
    cursors: View,
}

/// Returns all that the tree shows below the directory `path`.
pub(super) fn subtree(tree: &MergedTree, path: &[u8]) -> Result<Vec<TreeEntry>, TreeError> {
    let Some(view) = tree.view(path)? else { return Ok(Vec::new()) };
    let mut cursors = Vec::with_capacity(view.len());
    for &layer in view.iter() {
        let entries = tree.layers[layer].ask(|lookup| lookup.subtree(path))?;
        cursors.push(Cursor { layer, entries, next: 0 });
    }
    let mut found = Vec::with_capacity(cursors.iter().map(|cursor| cursor.entries.len()).sum());
    let mut open = vec![Open { path: path.to_vec(), cursors: (0..cursors.len()).collect() }];
    while let Some(head) = first_head(&cursors) {
        while !is_below(head, &open.last().expect("every head is below the first").path) {
            open.pop();
        }
        let directory = open.last().expect("every head is below the first");
        let path = first_step(head, &directory.path).to_vec();
        let decision = decide(&directory.cursors, |cursor| Ok(cursors[cursor].say(&path)))?;
        // What is no directory is opened too, without layers: so it hides all that layers have below it.
        let view = match decision {
            Found::Absent => View::new(),
            Found::Object { layer, entry } => {
                found.push(tree.show(cursors[layer].layer, entry.clone())?);
                View::new()
            }
            Found::Directory { attributes, view } => {
                found.push(MergedTree::show_directory(&path, attributes.cloned()));
                view
            }
        };
        for cursor in &mut cursors {
            cursor.pass(&path);
        }
        open.push(Open { path, cursors: view });
    }
    Ok(found)
}

fn first_head<'a>(cursors: &'a [Cursor<'_>]) -> Option<&'a [u8]> {
    cursors.iter().filter_map(Cursor::head).map(|entry| &entry.path[..]).min_by(|a, b| compare_paths(a, b))
}

/// Returns the path one component below `directory` on the way to `path`.
fn first_step<'a>(path: &'a [u8], directory: &[u8]) -> &'a [u8] {
    let start = if directory.is_empty() { 0 } else { directory.len() + 1 };
    let length = path[start..].iter().position(|&byte| byte == b'/').unwrap_or(path.len() - start);
    &path[..start + length]
}

impl Cursor<'_> {
    fn head(&self) -> Option<&Entry> {
        self.entries.get(self.next)
    }

    fn say(&self, path: &[u8]) -> Said<&Entry> {
        match self.head() {
            Some(entry) if entry.path == path => Said::Entry(entry),
            Some(entry) if is_below(&entry.path, path) => Said::Implied,
            _ => Said::Nothing,
        }
    }

    fn pass(&mut self, path: &[u8]) {
        if self.head().is_some_and(|entry| entry.path == path) {
            self.next += 1;
        }
    }
}
