//! The file tree of an image, as a tar or a directory.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use mica_image::LayerId;
use mica_image::fault::{Point, reach};
use mica_image::index::{Bytes, Entry, IndexError, LayerIndex, LayerLookup, Node};
use mica_image::root_dir::{Links, RootDir};
use mica_image::tar::{TarOptions, WriteTarError, write_layer};
use mica_image::tree::{FileTree as _, MergedTree, TreeEntry, TreeError};
use mica_image::unpack::{Ownership, UnpackError, UnpackOptions, materialise};

use super::StoredImage;
use crate::engine::Host;

/// A tree could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeOutputError {
    /// It could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Its layers could not be read.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// It is inconsistent.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The tar could not be written.
    #[error(transparent)]
    Tar(#[from] WriteTarError),
    /// Files could not be made.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The directory could not be made.
    #[error("cannot make or open the directory")]
    Directory(#[source] io::Error),
    /// What was there before is in the way.
    #[error("cannot replace what is there already")]
    MakeWay(#[source] io::Error),
}

/// Writes the trees as one tar; several platforms each below a directory of their own.
pub(super) fn write_tar(
    host: &Host,
    images: &[StoredImage],
    out: &mut dyn Write,
) -> Result<(), TreeOutputError> {
    let mut entries = Vec::new();
    for image in images {
        let prefix = prefix(image, images);
        if !prefix.is_empty() {
            entries.push(directory(&prefix));
        }
        entries.extend(flat(host, image)?.into_iter().map(|entry| below(&prefix, entry)));
    }
    let index = LayerIndex::from_entries(entries)?;
    let reader = host.store.layers().reader();
    write_layer(&index, |entry| open(&reader, entry), out, &TarOptions::default())?;
    Ok(())
}

/// Writes the trees into a directory, as the user who builds; several platforms each below a directory of their own.
pub(super) fn write_directory(
    host: &Host,
    images: &[StoredImage],
    path: &Path,
) -> Result<(), TreeOutputError> {
    let reader = host.store.layers().reader();
    for image in images {
        let target = path.join(String::from_utf8_lossy(&prefix(image, images)).as_ref());
        reach(Point::OutputMake)
            .and_then(|()| std::fs::create_dir_all(&target))
            .map_err(TreeOutputError::Directory)?;
        let root = RootDir::open(&target, Links::Refused).map_err(TreeOutputError::Directory)?;
        let index = LayerIndex::from_entries(flat(host, image)?)?;
        make_way(&root, &index).map_err(TreeOutputError::MakeWay)?;
        let options = UnpackOptions { ownership: Ownership::Ignore, devices: false, opaque_xattr: None };
        materialise(&index, &|entry| open(&reader, entry), &root, &options)?;
    }
    Ok(())
}

/// Removes what has the place of a file, as of an earlier output into the same directory; directories are shared.
fn make_way(root: &RootDir, index: &LayerIndex) -> io::Result<()> {
    if root.list(b"")?.is_empty() {
        return Ok(());
    }
    for entry in index.entries.iter().filter(|entry| !entry.is_directory()) {
        match root.remove(&entry.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn open(reader: &mica_cache::layer::LayerReader, entry: &Entry) -> io::Result<std::fs::File> {
    match &entry.node {
        Node::File { bytes: Bytes::In { layer, path }, .. } => {
            reader.open(layer, path, &Bytes::Here).map_err(io::Error::other)
        }
        _ => Err(io::Error::other("not a file of a layer")),
    }
}

fn prefix(image: &StoredImage, all: &[StoredImage]) -> Vec<u8> {
    if all.len() < 2 { Vec::new() } else { image.platform.to_string().replace('/', "_").into_bytes() }
}

/// All entries of an image's tree without its root, hard links restored.
fn flat(host: &Host, image: &StoredImage) -> Result<Vec<Entry>, TreeOutputError> {
    let tree = tree(host, image)?;
    let mut first_names = std::collections::HashMap::new();
    let relink = |found: TreeEntry| {
        let mut entry = std::sync::Arc::unwrap_or_clone(found.entry);
        if let (Some(link), false) = (found.link, matches!(entry.node, Node::Directory { .. })) {
            match first_names.entry(link) {
                std::collections::hash_map::Entry::Vacant(slot) => {
                    slot.insert(entry.path.clone());
                }
                std::collections::hash_map::Entry::Occupied(first) => {
                    entry.node = Node::HardLink { target: first.get().clone() };
                }
            }
        }
        if let Node::Directory { opaque } = &mut entry.node {
            *opaque = false;
        }
        entry
    };
    Ok(tree.subtree(b"")?.into_iter().map(relink).collect())
}

/// The image's tree with the times its layers have as tars.
fn tree(host: &Host, image: &StoredImage) -> Result<MergedTree, TreeOutputError> {
    if image.tree.iter().all(|layer| layer.clamp.is_none()) {
        return Ok(host.store.layers().tree(&image.tree)?);
    }
    let mut layers: Vec<(LayerId, Arc<dyn LayerLookup>)> = Vec::with_capacity(image.tree.len());
    for layer in &image.tree {
        let mut index = host.store.layers().require(&layer.id)?.load_index()?;
        layer.tar_options().apply_to(&mut index);
        layers.push((layer.id, Arc::new(index)));
    }
    Ok(MergedTree::new(layers))
}

fn below(prefix: &[u8], mut entry: Entry) -> Entry {
    if prefix.is_empty() {
        return entry;
    }
    entry.path = mica_image::tree::join(prefix, &entry.path);
    if let Node::HardLink { target } = &mut entry.node {
        *target = mica_image::tree::join(prefix, target);
    }
    entry
}

fn directory(path: &[u8]) -> Entry {
    use mica_image::index::{Time, TimeKind};
    Entry {
        path: path.to_vec(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 0, nanoseconds: 0, kind: TimeKind::Set },
        xattrs: Default::default(),
        node: Node::Directory { opaque: false },
    }
}
