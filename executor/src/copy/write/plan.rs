//! What has to be created, and below which directory.

use mica_image::index::{Bytes, Entry, Node, compare_paths, is_below};

use super::{Devices, WriteError, WriteOptions};
use crate::copy::paths::shown;
use crate::copy::place::PlacedEntry;

/// What is done for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: it lies elsewhere, or only in the index.
    Nothing,
    /// A directory is made.
    Directory,
    /// A file, symbolic link, pipe or device is made.
    Object,
    /// Another name is made for the entry with this number.
    Name(usize),
}

/// The actions for all entries, and who lies in which directory.
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    /// For each directory with objects: its number (`None` is the root) and theirs.
    pub(super) objects: Vec<(Option<usize>, Vec<usize>)>,
}

impl Plan {
    /// Decides for each entry.
    pub(super) fn new(placed: &[PlacedEntry], options: &WriteOptions<'_>) -> Result<Self, WriteError> {
        let mut actions = Vec::with_capacity(placed.len());
        for position in 0..placed.len() {
            let action = match &placed[position].entry.node {
                Node::HardLink { target } => {
                    let first =
                        placed.binary_search_by(|other| compare_paths(&other.entry.path, target)).ok();
                    match first.map(|first| (first, actions.get(first))) {
                        Some((first, Some(Action::Object))) => Action::Name(first),
                        _ => Action::Nothing,
                    }
                }
                _ => action(&placed[position], options)?,
            };
            actions.push(action);
        }
        let parents = parents(placed);
        need_directories(placed, &parents, &mut actions, options);
        let objects = objects(&parents, &actions);
        Ok(Self { actions, objects })
    }
}

fn action(placed: &PlacedEntry, options: &WriteOptions<'_>) -> Result<Action, WriteError> {
    let PlacedEntry { entry, origin, .. } = placed;
    if let Node::File { bytes, .. } = &entry.node {
        if matches!(bytes, Bytes::In { .. }) {
            return Ok(Action::Nothing);
        }
        if origin.is_none() {
            return Err(WriteError::NoContent { path: shown(&entry.path) });
        }
        return Ok(Action::Object);
    }
    let made = match &entry.node {
        // As a lower layer's entry, device 0:0 would mean a removal.
        Node::CharDevice { major: 0, minor: 0 } => false,
        Node::CharDevice { .. } | Node::BlockDevice { .. } => options.devices == Devices::Make,
        Node::Symlink { .. } | Node::Fifo => true,
        // Directories are decided by what is in them; nobody places removals.
        Node::Directory { .. } | Node::Whiteout | Node::HardLink { .. } | Node::File { .. } => false,
    };
    Ok(if made && !(options.shown)(entry) { Action::Object } else { Action::Nothing })
}

/// Returns for each entry the number of the directory it lies in.
fn parents(placed: &[PlacedEntry]) -> Vec<Option<usize>> {
    let mut above: Vec<usize> = Vec::new();
    let mut parents = Vec::with_capacity(placed.len());
    for (position, PlacedEntry { entry, .. }) in placed.iter().enumerate() {
        while above.last().is_some_and(|&last| !is_below(&entry.path, &placed[last].entry.path)) {
            above.pop();
        }
        parents.push(above.last().copied());
        if is_directory(entry) {
            above.push(position);
        }
    }
    parents
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.node, Node::Directory { .. })
}

/// Marks the directories that hold something, and those that nothing shows yet.
fn need_directories(
    placed: &[PlacedEntry],
    parents: &[Option<usize>],
    actions: &mut [Action],
    options: &WriteOptions<'_>,
) {
    for position in (0..placed.len()).rev() {
        let entry = &placed[position].entry;
        if is_directory(entry) && actions[position] == Action::Nothing && !(options.shown)(entry) {
            actions[position] = Action::Directory;
        }
        if let (Some(parent), true) = (parents[position], actions[position] != Action::Nothing) {
            actions[parent] = Action::Directory;
        }
    }
}

fn objects(parents: &[Option<usize>], actions: &[Action]) -> Vec<(Option<usize>, Vec<usize>)> {
    let mut by_directory: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut in_root = Vec::new();
    for (position, action) in actions.iter().enumerate() {
        if *action == Action::Object {
            match parents[position] {
                Some(parent) => by_directory[parent].push(position),
                None => in_root.push(position),
            }
        }
    }
    let below = by_directory.into_iter().enumerate().map(|(number, objects)| (Some(number), objects));
    std::iter::once((None, in_root)).chain(below).filter(|(_, objects)| !objects.is_empty()).collect()
}
