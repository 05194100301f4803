//! What is known of a layer besides its index: small sealed files in its directory.

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
}

/// The facts of a layer that is being stored.
pub(super) struct NewMeta<'a> {
    pub(super) kind: LayerKind,
    pub(super) created: i64,
    pub(super) index: &'a mica_image::index::LayerIndex,
    pub(super) index_bytes: usize,
}

impl LayerMeta {
    pub(super) fn new(shared: &Shared, new: &NewMeta<'_>) -> Self {
        use mica_image::index::{Bytes, Node};
        let (mut own_bytes, mut total_bytes) = (0, 0);
        for entry in &new.index.entries {
            if let Node::File { size, bytes, .. } = &entry.node {
                total_bytes += size;
                own_bytes += if *bytes == Bytes::Here { *size } else { 0 };
            }
        }
        Self {
            format: FORMAT,
            kind: new.kind,
            boot: shared.boot.clone(),
            created: new.created,
            entries: new.index.entries.len() as u64,
            index_bytes: new.index_bytes as u64,
            own_bytes,
            total_bytes,
            holders: new.index.holders().into_iter().collect(),
        }
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

/// Reads what is known of a layer, without counting that as a use; `None` as for [`is_usable`], whose index is not looked at.
pub(crate) fn read_meta(shared: &Shared, id: &LayerId) -> Result<Option<LayerMeta>, FileError> {
    let bytes = read_optional(&layer_directory(shared, id).join("meta"))?;
    let meta = bytes.and_then(|bytes| unseal::<LayerMeta>(&bytes));
    let may_be_lost =
        |meta: &LayerMeta| meta.boot != shared.boot && !layer_directory(shared, id).join("durable").exists();
    Ok(meta.filter(|meta| meta.format == FORMAT && !may_be_lost(meta)))
}

/// Reads what is known of a layer that can be used; `None` when it is not there, damaged, or may have been lost in a power cut.
///
/// It counts as used now.
pub(crate) fn is_usable(shared: &Shared, id: &LayerId) -> Result<Option<LayerMeta>, FileError> {
    let directory = layer_directory(shared, id);
    let Some(meta) = read_meta(shared, id)? else { return Ok(None) };
    let durable = directory.join("durable");
    if !durable.exists() {
        shared.note_volatile(durable);
    }
    let length = std::fs::metadata(directory.join("index")).map_or(0, |index| index.len());
    if length != meta.index_bytes {
        return Ok(None);
    }
    let path = directory.join("meta");
    match touch(&path) {
        Err(error) if is_absent(&error) => Ok(None),
        result => result.at("mark as used", &path).map(|()| Some(meta)),
    }
}
