//! ADD of a local archive: a file that is one by its content is replaced by its members.
//!
//! Members are read once; the bytes of each file go to a file of its own in a spool directory. Where that lies on the file
//! system of the layer, writing the layer just moves them. A cache key needs none of this: what an archive gives is a function
//! of its bytes, so the digest of the selection before its archives were expanded says it all.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use mica_image::compress::{Decoder, is_archive};
use mica_image::index::{Entry, LayerIndex, LayerPath, Node};
use mica_image::tar::{Removals, Spool, TarError, TarLimits, read_layer};
use mica_image::tree::TreeEntry;

use super::place::Origin;
use super::selection::{Content, Item, Part, Reason, Selection, Shape};

/// An archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file that may be an archive cannot be opened.
    #[error("cannot open `{source_name}`")]
    Open {
        /// The source.
        source_name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What looks like an archive is not one that can be extracted.
    #[error("cannot extract `{source_name}`")]
    Extract {
        /// The archive.
        source_name: String,
        /// Why.
        #[source]
        source: TarError,
    },
}

/// Replaces every archive among the single files of a selection with its members.
///
/// `number` is the selection's number in the placement to come, `open` opens files of its tree, and `spool` is an empty
/// directory for the bytes.
pub fn expand_archives(
    selection: Selection,
    number: usize,
    open: &dyn Fn(&Origin) -> io::Result<File>,
    spool: &Path,
) -> Result<Selection, ArchiveError> {
    let mut spool = Spool::new(spool);
    let expand = |item: Item| match single_file(&item) {
        Some(part) => {
            let failed = |source| ArchiveError::Open { source_name: lossy(&item.source), source };
            let mut file = open_part(part, number, open).map_err(failed)?;
            if !is_archive(&mut file) {
                return Ok(item);
            }
            file.rewind().map_err(failed)?;
            members(file, &item.source, &mut spool)
        }
        None => Ok(item),
    };
    let items = selection.items.into_iter().map(expand).collect::<Result<_, _>>()?;
    Ok(Selection { items })
}

fn single_file(item: &Item) -> Option<&Part> {
    match (&item.shape, item.parts.as_slice()) {
        (Shape::Named(_), [part]) if matches!(part.entry.entry.node, Node::File { .. }) => Some(part),
        _ => None,
    }
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

fn open_part(
    part: &Part,
    selection: usize,
    open: &dyn Fn(&Origin) -> io::Result<File>,
) -> io::Result<Box<dyn ReadSeek>> {
    Ok(match part.origin(selection) {
        Some(Origin::Inline(content)) => Box::new(Cursor::new(content)),
        Some(Origin::File(path) | Origin::Spooled(path)) => Box::new(File::open(path)?),
        Some(origin @ Origin::Tree { .. }) => Box::new(open(&origin)?),
        None => Box::new(io::empty()),
    })
}

/// Reads an archive, compressed or not, into an item.
fn members(archive: impl Read + Send, source: &[u8], spool: &mut Spool) -> Result<Item, ArchiveError> {
    let extract = |source_error| ArchiveError::Extract { source_name: lossy(source), source: source_error };
    let decoder = Decoder::new(archive).map_err(|error| extract(TarError::Read(error)))?;
    let limits = TarLimits { removals: Removals::Named, ..TarLimits::default() };
    spool.next_archive();
    let index = read_layer(decoder, &limits, spool).map_err(extract)?;
    Ok(Item { source: source.to_vec(), shape: Shape::Members, parts: parts(index, spool) })
}

/// Turns an index into parts; names of one inode share a number instead of pointing to the first.
fn parts(index: LayerIndex, spool: &Spool) -> Vec<Part> {
    let shared: HashSet<&LayerPath> = index.entries.iter().filter_map(link_target).collect();
    let firsts: HashMap<LayerPath, (u64, Node, Content)> = index
        .entries
        .iter()
        .filter(|entry| shared.contains(&entry.path))
        .zip(0..)
        .map(|(entry, link)| (entry.path.clone(), (link, entry.node.clone(), content(spool, &entry.path))))
        .collect();
    let part = |mut entry: Entry| {
        let first = link_target(&entry).unwrap_or(&entry.path);
        let (link, node, content) = match firsts.get(first) {
            Some((link, node, content)) => (Some(*link), Some(node.clone()), content.clone()),
            None => (None, None, content(spool, &entry.path)),
        };
        if let Some(node) = node {
            entry.node = node;
        }
        let path = entry.path.clone();
        Part { path, entry: TreeEntry { entry: Arc::new(entry), link }, reason: Reason::Chosen, content }
    };
    index.entries.into_iter().map(part).collect()
}

fn content(spool: &Spool, path: &[u8]) -> Content {
    match spool.file(path) {
        Some(file) => Content::Spooled(Arc::clone(file)),
        // Nothing but files has bytes, so this is never read.
        None => Content::Tree,
    }
}

fn link_target(entry: &Entry) -> Option<&LayerPath> {
    match &entry.node {
        Node::HardLink { target } => Some(target),
        _ => None,
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
