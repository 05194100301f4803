//! Images of the store: made of a tree and a config.

use std::sync::Arc;

use mica_cache::{BuiltBy, CacheRecord, ImageRecord, Store};
use mica_image::tree::Tree;
use mica_image::{ImageConfig, Platform, Timestamp};
use mica_solver::graph::{HistoryItem, Target};

use super::assemble::{AssembledLayer, image_config};
use super::build_error::BuildError;
use super::exchange;
use super::output::StoredImage;
use super::request::BuildRequest;

/// What an image carries of the cache: records of steps, with their places.
pub(super) struct Carried {
    /// What was asked for.
    pub(super) request: Arc<BuildRequest>,
    /// The records.
    pub(super) records: Vec<(String, CacheRecord)>,
}

/// Makes and stores the image of a tree.
pub(super) fn assemble(
    store: &Store,
    target: &Target,
    tree: Tree,
    epoch: Option<i64>,
    (carried, built_by): (Option<Carried>, Option<BuiltBy>),
) -> Result<StoredImage, BuildError> {
    let layers = store.layers();
    let mut assembled = Vec::with_capacity(tree.len());
    for layer in &tree {
        let created = match layer.diff_id {
            Some(_) => None,
            None => Some(Timestamp::from_unix(layers.require(&layer.id)?.meta().created, 0)),
        };
        let diff_id = layers.diff_id(layer)?;
        assembled.push(AssembledLayer { diff_id, created });
    }
    let mut config = image_config(target, &assembled, epoch);
    if let Some(Carried { request, records }) = carried {
        exchange::carry(store, &request, &records, &mut config, (&tree, epoch))
            .map_err(|source| BuildError::Cache { cache: "type=inline".to_owned(), source })?;
    }
    let lines = lines(&config, &target.history);
    store_image(store, config, tree, &target.platform, (lines, built_by))
}

/// Stores an image's config and record.
pub(super) fn store_image(
    store: &Store,
    config: ImageConfig,
    tree: Tree,
    platform: &Platform,
    (lines, built_by): (Vec<u32>, Option<BuiltBy>),
) -> Result<StoredImage, BuildError> {
    let id = store.blobs().put(&config.to_bytes())?;
    let created = config.created.as_ref().and_then(Timestamp::unix).map_or(0, |(seconds, _)| seconds);
    let record = ImageRecord {
        id,
        tree: tree.clone(),
        platform: platform.to_string(),
        created,
        manifest: None,
        lines,
        built_by,
    };
    store.images().put(&record)?;
    Ok(StoredImage { id, config, tree, platform: platform.clone(), manifest: None, said: Vec::new() })
}

/// The lines of all history entries: 0 for the base's, which come first.
fn lines(config: &ImageConfig, new: &[HistoryItem]) -> Vec<u32> {
    let mut lines = vec![0; config.history.len().saturating_sub(new.len())];
    lines.extend(new.iter().map(|item| item.line));
    lines
}
