//! What is known of a layer besides its index: small sealed files in its directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mica_image::tree::Tree;
use mica_image::{ContentDigest, DiffId, LayerId};
use serde::{Deserialize, Serialize};

use crate::files::{At, FileError, is_absent, read_optional, sharded, touch};
use crate::sealed::unseal;
use crate::store::Shared;

/// Version of the files in a layer's directory.
const FORMAT: u32 = 1;

/// Where a layer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// A step made it; its tar is a recipe.
    Made,
    /// It was pulled or loaded; its tars are what they were there.
    Imported,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    format: u32,
    /// Where it comes from.
    pub kind: LayerKind,
    /// The boot during which it was stored: another one trusts it only if it is marked durable.
    pub boot: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// How many entries its index has.
    pub entries: u64,
    /// The length of its index file, which shows one that was cut short.
    pub index_bytes: u64,
    /// The bytes of files the layer brings itself.
    pub own_bytes: u64,
    /// The bytes of all files in its index.
    pub total_bytes: u64,
    /// The other layers that hold bytes of its files.
    pub holders: Vec<LayerId>,
    /// What was known of each of them then. One that went and was made anew may have its bytes elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<Mark>,
}

/// Tells a layer in the store from one of the same id that is made when it has gone: the start of the digest of its facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark(String);

/// The facts of a layer that is being stored.
pub(super) struct NewMeta<'a> {
    pub(super) kind: LayerKind,
    pub(super) created: i64,
    pub(super) index: &'a mica_image::index::LayerIndex,
    pub(super) index_bytes: usize,
}

impl LayerMeta {
    pub(super) fn new(shared: &Shared, new: &NewMeta<'_>) -> Result<Self, FileError> {
        use mica_image::index::{Bytes, Node};
        let (mut own_bytes, mut total_bytes) = (0, 0);
        for entry in &new.index.entries {
            if let Node::File { size, bytes, .. } = &entry.node {
                total_bytes += size;
                own_bytes += if *bytes == Bytes::Here { *size } else { 0 };
            }
        }
        let holders: Vec<LayerId> = new.index.holders().into_iter().collect();
        let mut marks = Vec::with_capacity(holders.len());
        for holder in &holders {
            // One that has just gone makes this layer unusable, which whoever looks it up finds out.
            marks.push(known(shared, holder)?.map_or_else(|| Mark(String::new()), |(_, mark)| mark));
        }
        Ok(Self {
            format: FORMAT,
            kind: new.kind,
            boot: shared.boot.clone(),
            created: new.created,
            entries: new.index.entries.len() as u64,
            index_bytes: new.index_bytes as u64,
            own_bytes,
            total_bytes,
            holders,
            marks,
        })
    }
}

impl LayerMeta {
    /// Returns the holders with what was known of them; layers of earlier versions say nothing of that.
    fn needs(&self) -> Vec<(LayerId, Option<Mark>)> {
        let mark = |number: usize| self.marks.get(number).cloned();
        self.holders.iter().enumerate().map(|(number, holder)| (*holder, mark(number))).collect()
    }
}

/// One of an imported layer's tars, and the blob it came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The digest of the blob as the registry has it.
    pub digest: ContentDigest,
    /// The blob's length in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The tree below that the tar was read with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower: Tree,
}

/// A layer's tar in compressed form, as it was written once and would be again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedBlob {
    /// The digest of the compressed bytes.
    pub digest: ContentDigest,
    /// How many there are.
    pub size: u64,
}

/// Returns the directory of a layer.
pub(crate) fn layer_directory(shared: &Shared, id: &LayerId) -> PathBuf {
    sharded(&shared.root.join("layers"), &id.hex())
}

/// Reads what is known of a layer, without counting that as a use; `None` as for [`usable`], whose index is not looked at.
pub(crate) fn read_meta(shared: &Shared, id: &LayerId) -> Result<Option<LayerMeta>, FileError> {
    Ok(known(shared, id)?.map(|(meta, _)| meta))
}

fn known(shared: &Shared, id: &LayerId) -> Result<Option<(LayerMeta, Mark)>, FileError> {
    let Some(bytes) = read_optional(&layer_directory(shared, id).join("meta"))? else { return Ok(None) };
    let Some(meta) = unseal::<LayerMeta>(&bytes).filter(|meta| meta.format == FORMAT) else {
        return Ok(None);
    };
    if meta.boot != shared.boot && !layer_directory(shared, id).join("durable").exists() {
        return Ok(None);
    }
    let digest = blake3::hash(&bytes).to_hex();
    Ok(Some((meta, Mark(digest[..16].to_owned()))))
}

/// Reads what is known of a layer that can be used; `None` when it is not there, damaged, or may have been lost in a power cut.
fn usable(shared: &Shared, id: &LayerId) -> Result<Option<(LayerMeta, Mark)>, FileError> {
    let Some((meta, mark)) = known(shared, id)? else { return Ok(None) };
    let length = std::fs::metadata(layer_directory(shared, id).join("index")).map_or(0, |index| index.len());
    Ok((length == meta.index_bytes).then_some((meta, mark)))
}

/// Returns what is known of a layer, and all layers it needs, itself first; `None` unless all of them can be used.
///
/// They count as used now.
pub(crate) fn use_whole(
    shared: &Shared,
    id: &LayerId,
) -> Result<Option<(LayerMeta, Vec<LayerId>)>, FileError> {
    let Some((meta, _)) = usable(shared, id)? else { return Ok(None) };
    let mut needed = vec![*id];
    let mut open: Vec<(LayerId, Option<Mark>)> = meta.needs();
    while let Some((holder, expected)) = open.pop() {
        if needed.contains(&holder) {
            continue;
        }
        let Some((found, mark)) = usable(shared, &holder)? else { return Ok(None) };
        if expected.is_some_and(|expected| expected != mark) {
            return Ok(None);
        }
        needed.push(holder);
        open.extend(found.needs());
    }
    for id in &needed {
        if !note_use(shared, id)? {
            return Ok(None);
        }
    }
    Ok(Some((meta, needed)))
}

/// Marks a layer as used now; false if it has gone.
fn note_use(shared: &Shared, id: &LayerId) -> Result<bool, FileError> {
    let directory = layer_directory(shared, id);
    let (durable, path) = (directory.join("durable"), directory.join("meta"));
    if !durable.exists() {
        shared.note_volatile(durable);
    }
    match touch(&path) {
        Err(error) if is_absent(&error) => Ok(false),
        result => result.at("mark as used", &path).map(|()| true),
    }
}

/// Returns the layers that must stay for a layer, itself first; `metas` knows all layers there are.
pub(crate) fn needed_by(id: &LayerId, metas: &BTreeMap<LayerId, LayerMeta>) -> Vec<LayerId> {
    let (mut needed, mut open) = (Vec::new(), vec![*id]);
    while let Some(id) = open.pop() {
        if let Some(meta) = metas.get(&id)
            && !needed.contains(&id)
        {
            needed.push(id);
            open.extend(&meta.holders);
        }
    }
    needed
}
