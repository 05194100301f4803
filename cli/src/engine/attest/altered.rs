//! A layer whose bytes are not what its digest says: which one it is, which line made it, and what in it is different.

use std::collections::BTreeMap;
use std::io::Read as _;

use futures_util::StreamExt as _;
use mica_image::compress::Decoder;
use mica_image::index::{Entry, LayerIndex, Node};
use mica_image::tar::{IndexOnly, TarLimits, read_layer};
use mica_image::{ContentDigest, Descriptor, Platform};
use mica_remote::RegistryError;

use super::rebuild::RebuildError;
use super::seat::{STATEMENT_SIZE_MAX, Seat, SeatError};
use crate::engine::bases::whole;
use crate::engine::blocking::blocking;
use crate::engine::history::{LookError, OpenImage};
use crate::engine::{Engine, chain};

/// Blobs that are not what their digests say, and what is wrong with them.
pub(super) type AlteredBlobs = Vec<(ContentDigest, String)>;

impl Engine {
    /// Reads the layers a registry has of an image, but those that bringing the image would fetch and verify anyway.
    pub(super) async fn altered_in_registry(
        &self,
        seat: &Seat,
        platform: &Platform,
    ) -> Result<AlteredBlobs, RebuildError> {
        let mut altered = Vec::new();
        let Some(manifest) = seat.manifest(platform).await? else { return Ok(altered) };
        let store = &self.host.store;
        let is_here = whole(store, &manifest.config.digest).map_err(LookError::from)?.is_some();
        for layer in &manifest.layers {
            let is_known = is_here || store.blobs().size(&layer.digest).map_err(SeatError::from)?.is_some();
            let Some(mut stream) = seat.stream(layer).filter(|_| is_known) else { continue };
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(_) => {}
                    Err(error @ RegistryError::Blob { .. }) => altered.push((layer.digest, chain(&error))),
                    Err(error) => return Err(seat.failed(error).into()),
                }
            }
        }
        Ok(altered)
    }
}

/// Tells what is wrong with the layer `digest` of `layers`, as far as the same layer of a rebuild lets it be told.
pub(super) async fn altered_layer(
    seat: &Seat,
    layers: &[Descriptor],
    digest: &ContentDigest,
    why: &str,
    rebuilt: &OpenImage,
) -> Vec<String> {
    let Some(number) = layers.iter().position(|layer| layer.digest == *digest) else {
        return vec![format!("layer {digest}: {why}")];
    };
    let line = match rebuilt.layers.get(number) {
        Some(_) => rebuilt.line(number).place(),
        None => "no line of the Dockerfile".to_owned(),
    };
    let head = format!("layer {} ({line})", number + 1);
    let mut problems = vec![format!("{head}: {why}")];
    let honest = rebuilt.layers.get(number).map(|layer| layer.index.clone());
    let read = unverified(seat, &layers[number]).await;
    if let (Some(honest), Some(altered)) = (honest, read) {
        problems.extend(files(&altered, &honest).into_iter().map(|told| format!("{head}: {told}")));
    }
    problems
}

/// Returns what a registry sends for a blob, whatever it is.
async fn sent(seat: &Seat, blob: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(mut stream) = seat.stream(blob) else { return bytes };
    // It ends with an error that is known already.
    while let Some(Ok(piece)) = stream.next().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > STATEMENT_SIZE_MAX {
            break;
        }
    }
    bytes
}

/// Reads what a layout or registry has in the place of a layer, if it is a layer at all.
async fn unverified(seat: &Seat, layer: &Descriptor) -> Option<LayerIndex> {
    // Of this size it can be anything, so that all of it is read before it is found not to be what it should.
    let anything = Descriptor { size: u64::MAX, ..layer.clone() };
    let sent = sent(seat, &anything).await;
    let archive = seat.layout().cloned();
    blocking(move || {
        let mut bytes = sent;
        if let Some(archive) = archive {
            // The error is known already: the bytes are not what the digest says.
            let _ = archive.open_blob(&anything).ok()?.take(STATEMENT_SIZE_MAX).read_to_end(&mut bytes);
        }
        let decoder = Decoder::new(bytes.as_slice()).ok()?;
        read_layer(decoder, &TarLimits::default(), &mut IndexOnly).ok()
    })
    .await
}

/// Compares two layers file by file.
fn files(altered: &LayerIndex, honest: &LayerIndex) -> Vec<String> {
    let by_path = |index: &LayerIndex| -> BTreeMap<Vec<u8>, Entry> {
        index.entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (altered, honest) = (by_path(altered), by_path(honest));
    let shown = |path: &[u8]| format!("/{}", String::from_utf8_lossy(path));
    let mut told = Vec::new();
    for (path, entry) in &altered {
        match honest.get(path) {
            None => told.push(format!("{} is there and should not be", shown(path))),
            Some(other) if is_other(entry, other) => told.push(format!("{} is different", shown(path))),
            Some(_) => {}
        }
    }
    let missing = honest.keys().filter(|path| !altered.contains_key(*path));
    told.extend(missing.map(|path| format!("{} is missing", shown(path))));
    told
}

/// Whether two entries are different in anything but times, and where their bytes lie.
fn is_other(a: &Entry, b: &Entry) -> bool {
    let nodes = match (&a.node, &b.node) {
        (Node::File { digest: a, .. }, Node::File { digest: b, .. }) => a == b,
        (a, b) => a == b,
    };
    !nodes || (a.mode, a.uid, a.gid, &a.xattrs) != (b.mode, b.uid, b.gid, &b.xattrs)
}
