//! How an image came about: its history entries with their Dockerfile lines, and which layer each of them made.

use mica_cache::{ImageRecord, LayerError, Store};
use mica_image::index::{Entry, LayerIndex, LayerLookup, Lookup, Node, parent};
use mica_image::tree::MergedTree;
use mica_image::{LayerId, Timestamp};
use std::sync::Arc;

use super::images::FindError;
use super::output::StoredImage;

/// One entry of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct HistoryLine {
    /// The line of the Dockerfile; nothing for what came with the base.
    pub line: Option<u32>,
    /// The instruction.
    pub instruction: String,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// The layer it made.
    pub layer: Option<LayerId>,
    /// Bytes of the layer's files.
    pub size: Option<u64>,
}

impl HistoryLine {
    /// Returns `line 3: COPY a /`, or the instruction alone where the line is another file's.
    pub(crate) fn place(&self) -> String {
        match self.line {
            Some(line) => format!("line {line}: {}", self.instruction),
            None => format!("base: {}", self.instruction),
        }
    }
}

/// An image could not be looked into.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The image could not be found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Its tree could not be read.
    #[error(transparent)]
    Tree(#[from] mica_image::tree::TreeError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// An archive, layout or registry could not be read.
    #[error(transparent)]
    Base(#[from] super::bases::BaseError),
    /// The image has fewer layers.
    #[error("`{image}` has no layer {layer}: it has {layers}")]
    NoLayer {
        /// The image as named.
        image: String,
        /// The layer asked for, counted from 1.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
    /// A tar of a file system could not be read.
    #[error("cannot read `{path}`")]
    Tar {
        /// The tar.
        path: String,
        /// Why.
        #[source]
        source: super::import::ImportError,
    },
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LookError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Find(error) => error.hint(),
            Self::Base(error) => error.hint(),
            Self::Layer(error) => error.hint().map(str::to_owned),
            Self::Store(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}

/// Returns the history of an image, oldest first. Every layer has an entry, also where the config does not tell of it.
pub(crate) fn history(store: &Store, image: &StoredImage) -> Result<Vec<HistoryLine>, LookError> {
    let lines = store.images().get(&image.id)?.map(|ImageRecord { lines, .. }| lines).unwrap_or_default();
    let told = image.config.history.iter().filter(|entry| !entry.empty_layer).count();
    let mut layers = image.tree.iter();
    let mut history = Vec::new();
    for layer in layers.by_ref().take(image.tree.len().saturating_sub(told)) {
        history.push(HistoryLine {
            line: None,
            instruction: "unknown".to_owned(),
            created: None,
            layer: Some(layer.id),
            size: None,
        });
    }
    for (number, entry) in image.config.history.iter().enumerate() {
        let layer = if entry.empty_layer { None } else { layers.next().map(|layer| layer.id) };
        history.push(HistoryLine {
            line: lines.get(number).copied().filter(|line| *line > 0),
            instruction: instruction(&entry.created_by),
            created: entry.created.as_ref().and_then(Timestamp::unix).map(|(seconds, _)| seconds),
            layer,
            size: None,
        });
    }
    for entry in &mut history {
        if let Some(id) = &entry.layer {
            entry.size = Some(store.layers().require(id)?.meta().total_bytes);
        }
    }
    Ok(history)
}

/// Returns an instruction of a history in the words of the Dockerfile.
pub(super) fn instruction(created_by: &str) -> String {
    let text = created_by.strip_suffix(" # buildkit").unwrap_or(created_by).trim();
    let text = text.strip_prefix("/bin/sh -c #(nop) ").map_or(text, str::trim_start);
    match text.strip_prefix("/bin/sh -c ") {
        Some(command) => format!("RUN {command}"),
        None => {
            text.strip_prefix("RUN /bin/sh -c ").map_or(text.to_owned(), |command| format!("RUN {command}"))
        }
    }
}

/// An image with its layers in memory, to answer questions about every path.
pub(crate) struct OpenImage {
    /// The image.
    pub image: StoredImage,
    /// Its history.
    pub history: Vec<HistoryLine>,
    /// Its layers from the base up.
    pub layers: Vec<OpenLayer>,
    /// Its files.
    pub tree: MergedTree,
    /// Which of the image's layers these are, where they are not all.
    pub part: Option<Part>,
}

/// Some of an image's layers, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// One alone.
    Layer(usize),
    /// Those up to one.
    UpTo(usize),
}

impl Part {
    /// Splits `IMAGE#3` and `IMAGE#..3`.
    pub(crate) fn split(text: &str) -> (&str, Option<Self>) {
        let Some((image, part)) = text.rsplit_once('#') else { return (text, None) };
        let part = match part.strip_prefix("..") {
            Some(last) => last.parse().ok().map(Self::UpTo),
            None => part.parse().ok().map(Self::Layer),
        };
        if part.is_some() { (image, part) } else { (text, None) }
    }

    /// Returns the positions of the layers from 0, and the number of the last.
    fn range(self) -> (std::ops::Range<usize>, usize) {
        match self {
            Self::Layer(number) => (number.saturating_sub(1)..number, number),
            Self::UpTo(number) => (0..number, number),
        }
    }
}

/// One layer of an [`OpenImage`].
#[derive(Clone)]
pub(crate) struct OpenLayer {
    /// Its id.
    pub id: LayerId,
    /// Where in the history it was made.
    pub entry: usize,
    /// What it contains.
    pub index: Arc<LayerIndex>,
}

/// What a layer does to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It puts this there.
    Puts(Entry),
    /// It removes what was there.
    Removes,
}

impl OpenImage {
    /// Reads the layers of an image.
    pub(crate) fn open(store: &Store, image: StoredImage) -> Result<Self, LookError> {
        let history = history(store, &image)?;
        let mut layers = Vec::new();
        let entries = history.iter().enumerate().filter(|(_, line)| line.layer.is_some());
        for ((entry, _), layer) in entries.zip(&image.tree) {
            let mut index = store.layers().require(&layer.id)?.load_index()?;
            layer.tar_options().apply_to(&mut index);
            layers.push(OpenLayer { id: layer.id, entry, index: Arc::new(index) });
        }
        let tree = merged(&layers);
        Ok(Self { image, history, layers, tree, part: None })
    }

    /// Leaves out all but some of the layers; `name` is for the message where they are not there.
    pub(crate) fn only(mut self, part: Part, name: &str) -> Result<Self, LookError> {
        let (range, layer) = part.range();
        let layers = self.layers.len();
        let Some(kept) = self.layers.get(range).filter(|_| layer > 0) else {
            return Err(LookError::NoLayer { image: name.to_owned(), layer, layers });
        };
        self.layers = kept.to_vec();
        let entries: Vec<usize> = self.layers.iter().map(|layer| layer.entry).collect();
        self.history = entries.iter().map(|entry| self.history[*entry].clone()).collect();
        for (entry, layer) in self.layers.iter_mut().enumerate() {
            layer.entry = entry;
        }
        self.tree = merged(&self.layers);
        self.part = Some(part);
        Ok(self)
    }

    /// Returns the history entry of a layer.
    pub(crate) fn line(&self, layer: usize) -> &HistoryLine {
        &self.history[self.layers[layer].entry]
    }

    /// Returns the topmost layer that puts or removes something at `path`.
    pub(crate) fn last_deed(&self, path: &[u8]) -> Option<(usize, Deed)> {
        (0..self.layers.len()).rev().find_map(|layer| Some((layer, self.layers[layer].deed(path)?)))
    }
}

/// Returns the files that layers show together.
pub(super) fn merged(layers: &[OpenLayer]) -> MergedTree {
    let lookup = |layer: &OpenLayer| -> (LayerId, Arc<dyn LayerLookup>) { (layer.id, layer.index.clone()) };
    MergedTree::new(layers.iter().map(lookup).collect())
}

impl OpenLayer {
    /// Returns what this layer does to `path`.
    pub(crate) fn deed(&self, path: &[u8]) -> Option<Deed> {
        // An index in memory cannot fail to be read.
        match self.index.lookup(path) {
            Ok(Lookup::Entry(entry)) if entry.node == Node::Whiteout => return Some(Deed::Removes),
            Ok(Lookup::Entry(entry)) => return Some(Deed::Puts(entry)),
            Ok(Lookup::Implied) => return None,
            Ok(Lookup::Absent) | Err(_) => {}
        }
        let mut above = path;
        while !above.is_empty() {
            above = parent(above);
            let Some(entry) = self.index.find(above) else { continue };
            match entry.node {
                Node::Directory { opaque: false } => {}
                _ => return Some(Deed::Removes),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_by_their_number() {
        for (text, expected) in [
            ("app#3", ("app", Some(Part::Layer(3)))),
            ("app@2#..10", ("app@2", Some(Part::UpTo(10)))),
            ("app", ("app", None)),
            ("./a#b.tar", ("./a#b.tar", None)),
        ] {
            assert_eq!(Part::split(text), expected);
        }
    }

    #[test]
    fn instructions_are_told_as_they_were_written() {
        assert_eq!(instruction("RUN /bin/sh -c make # buildkit"), "RUN make");
        assert_eq!(instruction("/bin/sh -c #(nop)  CMD [\"sh\"]"), "CMD [\"sh\"]");
        assert_eq!(instruction("/bin/sh -c make"), "RUN make");
        assert_eq!(instruction("COPY a /a # buildkit"), "COPY a /a");
    }
}
