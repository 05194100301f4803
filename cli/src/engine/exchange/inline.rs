//! A cache that an image carries in its config: the records of the steps it is made of. Its layers are the image's own.
//!
//! ```text
//! config
//! └── mica.cache.v1
//!     ├── format 1
//!     ├── records   as in the document of any cache, but without times: equal builds make equal images
//!     └── layers    by layer id: diffId · clamp · created · what the tar does not tell of the layer's index (times, rest)
//! ```
//!
//! There are no indexes beside the tars, so a layer that is a hit comes whole: the image needs it anyway.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mica_cache::{CacheRecord, Store};
use mica_image::compress::Codec;
use mica_image::config::CACHE_FIELD;
use mica_image::index::LayerIndex;
use mica_image::tar::{IndexOnly, Remainder, TarLimits, TarOptions};
use mica_image::{Descriptor, DiffId, ImageConfig, LayerCompression, LayerId, Manifest};
use serde::{Deserialize, Serialize};

use super::document::{FORMAT, SentRecord};
use super::error::ExchangeError;
use super::export::Secrets;
use crate::engine::import::receive_layer;
use crate::engine::output::as_it_came;
use crate::engine::request::BuildRequest;

/// The largest cache that is put into a config: other programs read no config of any size.
const SIZE_MAX: usize = 2 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct InlineDocument {
    format: u32,
    records: Vec<SentRecord>,
    layers: BTreeMap<LayerId, InlineLayer>,
}

/// A layer of the image, and what turns its tar into its index.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineLayer {
    diff_id: DiffId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clamp: Option<i64>,
    created: i64,
    times: Vec<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    rest: String,
}

/// What an image carries.
pub(super) struct Carried {
    /// The records of its steps.
    pub(super) records: Vec<SentRecord>,
    /// Its layers.
    pub(super) layers: BTreeMap<LayerId, CarriedLayer>,
}

/// A layer that lies in an image.
#[derive(Debug, Clone)]
pub(super) struct CarriedLayer {
    /// The blob with its tar.
    pub(super) blob: Descriptor,
    /// How its tar was written.
    pub(super) tar: TarOptions,
    /// The digest of that tar.
    pub(super) diff_id: DiffId,
    /// When the layer was made, in seconds since 1970.
    pub(super) created: i64,
    remainder: Remainder,
}

/// Puts the records of steps into the config of the image that is made of them; `created` is when the image says it was made, if
/// that is not when it was.
pub(crate) fn carry(
    store: &Store,
    request: &BuildRequest,
    records: &[(String, CacheRecord)],
    config: &mut ImageConfig,
    (tree, created): (&mica_image::tree::Tree, Option<i64>),
) -> Result<(), ExchangeError> {
    let secrets = Secrets::of(request);
    let mut layers = BTreeMap::new();
    for (layer, diff_id) in tree.iter().zip(&config.rootfs.diff_ids) {
        let is_made_here = records.iter().any(|(_, record)| record.layer == layer.id);
        if layer.diff_id.is_some() || !is_made_here || layers.contains_key(&layer.id) {
            continue;
        }
        let store = store.layers();
        let made = store.require(&layer.id)?.meta().created;
        let remainder = Remainder::of(&store.portable_index(&layer.id)?, &layer.tar_options());
        let rest = match remainder.entries.entries.is_empty() {
            true => String::new(),
            false => STANDARD.encode(remainder.entries.encode()),
        };
        let created = created.unwrap_or(made);
        let told =
            InlineLayer { diff_id: *diff_id, clamp: layer.clamp, created, times: remainder.turns, rest };
        layers.insert(layer.id, told);
    }
    let there = records.iter().filter(|(_, record)| layers.contains_key(&record.layer));
    let timeless = |(place, record): &(String, CacheRecord)| {
        secrets.portable(place, &CacheRecord { started: 0, duration: 0, ..record.clone() })
    };
    let records = there.map(timeless).collect();
    let document = InlineDocument { format: FORMAT, records, layers };
    let value = serde_json::to_value(&document).expect("the maps of a cache have text keys");
    let size = value.to_string().len();
    if size > SIZE_MAX {
        return Err(ExchangeError::TooLarge { size, allowed: SIZE_MAX });
    }
    config.other.insert(CACHE_FIELD.to_owned(), value);
    Ok(())
}

/// Reads what an image carries; `None` if it carries nothing.
pub(super) fn carried(manifest: &Manifest, config: &[u8]) -> Result<Option<Carried>, ExchangeError> {
    let not_valid = |why: &dyn std::fmt::Display| ExchangeError::Format(format!("it is not valid: {why}"));
    let mut config = ImageConfig::parse(config).map_err(|error| not_valid(&error))?;
    let Some(value) = config.other.remove(CACHE_FIELD) else { return Ok(None) };
    let document: InlineDocument = serde_json::from_value(value).map_err(|error| not_valid(&error))?;
    if document.format != FORMAT {
        let found = document.format;
        return Err(ExchangeError::Format(format!("it has format {found}, this mica knows {FORMAT}")));
    }
    let blobs: BTreeMap<_, _> = config.rootfs.diff_ids.iter().zip(&manifest.layers).collect();
    let mut layers = BTreeMap::new();
    for (id, layer) in document.layers {
        let InlineLayer { diff_id, clamp, created, times, rest } = layer;
        let Some(blob) = blobs.get(&diff_id) else {
            return Err(ExchangeError::Format(format!("its image has no layer `{diff_id}`")));
        };
        let entries = match rest.is_empty() {
            true => LayerIndex::default(),
            false => {
                let bytes = STANDARD.decode(&rest).map_err(|error| not_valid(&error))?;
                LayerIndex::decode(&bytes).map_err(|error| not_valid(&error))?
            }
        };
        let remainder = Remainder { turns: times, entries };
        let (blob, tar) = ((*blob).clone(), TarOptions { clamp });
        layers.insert(id, CarriedLayer { blob, tar, diff_id, created, remainder });
    }
    Ok(Some(Carried { records: document.records, layers }))
}

impl CarriedLayer {
    /// Stores the blob that `stream` brings; returns the layer's index, and the codec its blob is remembered by.
    pub(super) fn receive(
        &self,
        store: &Store,
        stream: &mut (dyn std::io::Read + Send),
    ) -> Result<(LayerIndex, String), ExchangeError> {
        let wrong = |source| ExchangeError::Blob { digest: self.blob.digest, source };
        let received = receive_layer(
            store,
            stream,
            &self.blob,
            Some(self.diff_id),
            &TarLimits::default(),
            &mut IndexOnly,
        )?;
        let compression = match received.codec {
            Codec::Plain => LayerCompression::None,
            Codec::Gzip => LayerCompression::Gzip,
            Codec::Zstd => LayerCompression::Zstd,
            Codec::Bzip2 | Codec::Xz => {
                return Err(wrong(std::io::Error::other("no layer is compressed so")));
            }
        };
        let index = self.remainder.complete(received.index);
        Ok((index.map_err(|error| wrong(std::io::Error::other(error)))?, as_it_came(compression)))
    }
}
