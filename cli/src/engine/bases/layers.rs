//! The layers of base images, on their way into the store.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use mica_cache::{ImageRecord, Resolved};
use mica_image::tree::{Tree, TreeLayer};
use mica_image::{ContentDigest, Descriptor, DiffId, Timestamp};
use mica_solver::{BuildEvent, EventSender, StepId};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{Base, BaseError, Origin, whole};
use crate::engine::Host;
use crate::engine::blocking::blocking;
use crate::engine::import::{Unpack, import_layer};
use crate::environment::now;

/// Where a transfer's progress is told, and what for layers are brought.
#[derive(Clone)]
pub(super) struct Transfer {
    pub(super) events: EventSender,
    pub(super) step: Option<StepId>,
    /// When the layers' files are made.
    pub(super) unpack: Unpack,
}

impl Transfer {
    async fn tell(&self, what: &str, current: u64, total: u64) {
        let what = what.to_owned();
        if let Some(id) = self.step {
            self.events.send(BuildEvent::StepProgress { id, what, current, total: Some(total) }).await;
        }
    }
}

impl Base {
    /// Brings the layers into the store, all at once, and returns the tree.
    pub(super) async fn fetch(&self, host: &Arc<Host>, transfer: &Transfer) -> Result<Tree, BaseError> {
        let manifest = match &self.origin {
            Origin::Stored(tree) => return Ok(tree.clone()),
            Origin::Registry { manifest, .. } | Origin::Archive { manifest, .. } => manifest,
        };
        // An image that was built here keeps the layers it was built of, and what is known of them.
        if let Some(image) = whole(&host.store, &self.id)? {
            self.keep(host, &image.tree)?;
            return Ok(image.tree);
        }
        let wanted: Vec<_> = manifest.layers.iter().zip(&self.config.rootfs.diff_ids).collect();
        let fetches = wanted.iter().map(|(blob, diff_id)| self.layer(host, blob, **diff_id, None, transfer));
        let fetched = try_join_all(fetches).await?;
        let mut tree = Tree::new();
        for ((blob, diff_id), layer) in wanted.iter().zip(fetched) {
            let layer = match layer {
                Some(layer) => Some(layer),
                None => self.layer(host, blob, **diff_id, Some(tree.clone()), transfer).await?,
            };
            tree.push(layer.expect("with what is below it a layer is imported or fails"));
        }
        self.keep(host, &tree)?;
        Ok(tree)
    }

    /// Returns one layer, from the store if it is there.
    async fn layer(
        &self,
        host: &Arc<Host>,
        blob: &Descriptor,
        diff_id: DiffId,
        below: Option<Tree>,
        transfer: &Transfer,
    ) -> Result<Option<TreeLayer>, BaseError> {
        if let Some((layer, _)) = host.store.layers().imported(&diff_id)? {
            return Ok(Some(TreeLayer::imported(layer.id(), diff_id)));
        }
        let (store, blob, unpack) = (host.store.clone(), blob.clone(), transfer.unpack);
        let imported = match &self.origin {
            Origin::Stored(_) => unreachable!("a stored image has its layers"),
            Origin::Archive { archive, .. } => {
                let archive = archive.clone();
                blocking(move || {
                    let mut stream = archive.open_blob(&blob)?;
                    Ok(import_layer(&store, &mut stream, &blob, Some(diff_id), below.as_ref(), unpack))
                })
                .await
                .map_err(BaseError::Archive)?
            }
            Origin::Registry { reference, .. } => {
                let what = format!("downloading {}", &blob.digest.to_string()[..19]);
                let total = blob.size;
                transfer.tell(&what, 0, total).await;
                let stream = host.registry()?.fetch_blob(reference, &blob).map_err(std::io::Error::other);
                let mut bridge = SyncIoBridge::new(Box::pin(StreamReader::new(stream)));
                let import =
                    move || import_layer(&store, &mut bridge, &blob, Some(diff_id), below.as_ref(), unpack);
                let imported = blocking(import).await;
                transfer.tell(&what, total, total).await;
                imported
            }
        };
        imported.map_err(|source| BaseError::Import { reference: self.name.clone(), source })
    }

    /// Records the image, so that it is found again without its origin.
    fn keep(&self, host: &Host, tree: &Tree) -> Result<(), BaseError> {
        let images = host.store.images();
        let (manifest, config_bytes) = match &self.origin {
            Origin::Registry { manifest_digest, .. } => (Some(*manifest_digest), None),
            Origin::Archive { archive, manifest } => (None, Some(archive.read_config(&manifest.config)?.1)),
            Origin::Stored(_) => (None, None),
        };
        if let Some(bytes) = config_bytes {
            host.store.blobs().put(&bytes)?;
        }
        let created =
            self.config.created.as_ref().and_then(Timestamp::unix).map_or(0, |(seconds, _)| seconds);
        let platform = self.platform.to_string();
        let record = ImageRecord {
            id: self.id,
            tree: tree.clone(),
            platform,
            created,
            manifest,
            lines: vec![],
            built_by: None,
        };
        images.put(&record)?;
        if let Origin::Registry { reference, platform, top, .. } = &self.origin {
            let when = now().unix().map_or(0, |(seconds, _)| seconds);
            let resolved =
                Resolved { reference: reference.to_string(), manifest: *top, image: self.id, when };
            images.remember_resolved(&reference.to_string(), &platform.to_string(), &resolved)?;
        }
        Ok(())
    }

    /// Brings an archived image into the store and returns it.
    pub(in crate::engine) async fn import(
        &self,
        host: &Arc<Host>,
        events: &EventSender,
    ) -> Result<ContentDigest, BaseError> {
        self.fetch(host, &Transfer { events: events.clone(), step: None, unpack: Unpack::WhenNeeded })
            .await?;
        Ok(self.id)
    }
}
