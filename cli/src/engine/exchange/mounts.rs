//! Cache mounts that travel: what is in one is a document beside the cache's own, and several writers' documents are joined when read.
//!
//! ```text
//! <cache's name>.mount-<hash of the mount's id>.<generation>-<random>
//!   manifest ├── config  application/vnd.mica.cache-mount.v1+json   this head: id · generation · merged · tree · packs
//!            ├── application/vnd.mica.mount-tree.v1+zstd            the tree, see `mount_tree`
//!            └── application/vnd.oci.image.layer.v1.tar+zstd        packs: files named by their digests
//! ```
//!
//! Nobody ever writes a head that another wrote: a writer reads all heads there are, joins them with its own work, and adds one of a
//! new name that lists those it has joined. A reader joins whatever no other head lists. So two that write at once lose nothing,
//! in a registry as in a bucket. Heads that were joined are taken away where that is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mica_cache::Store;
use mica_image::compress::{Decoder, ZstdEncoder};
use mica_image::index::{Bytes as Lies, Entry, LayerIndex, LayerPath, Node, Time};
use mica_image::root_dir::{Links, RootDir};
use mica_image::tar::{LayerSink, TarLimits, TarOptions, read_layer, write_layer};
use mica_image::{
    ContentDigest, Descriptor, Dialect, FileDigest, LayerCompression, LayerId, Manifest, MediaType,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::document::{DOCUMENT_SIZE_MAX, INDEX_SIZE_MAX, config_of_type};
use super::error::ExchangeError;
use super::mount_tree::MountTree;
use super::options::DocumentName;
use super::place::Place;
use crate::engine::Host;
use crate::engine::blocking::blocking;
use crate::engine::output::{Content, StoreBlobs};

const FORMAT: u32 = 1;
const HEAD_TYPE: &str = "application/vnd.mica.cache-mount.v1+json";
const TREE_TYPE: &str = "application/vnd.mica.mount-tree.v1+zstd";
const LEVEL: i32 = 3;
/// With so many packs, all files that are here are packed anew.
const PACKS_MAX: usize = 12;
/// The longest part of a cache's name in a head's, so that tags do not become too long.
const NAME_MAX: usize = 60;

/// What a head says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// The mount's id as it is known in stores.
    id: String,
    generation: u32,
    /// The heads whose work is in this one.
    merged: BTreeSet<String>,
    tree: Descriptor,
    packs: BTreeMap<LayerId, Descriptor>,
}

/// All heads of a mount, joined.
#[derive(Debug, Clone, Default)]
pub(super) struct Joined {
    pub(super) tree: MountTree,
    packs: BTreeMap<LayerId, Descriptor>,
    /// The heads there are.
    heads: BTreeSet<String>,
    generation: u32,
}

/// Returns what the names of a mount's heads begin with.
fn prefix(place: &Place, id: &str) -> String {
    let name = match place.name() {
        DocumentName::Tag(tag) => tag.chars().take(NAME_MAX).collect(),
        DocumentName::Digest(digest) => digest.hex()[..16].to_owned(),
    };
    format!("{name}.mount-{}.", &blake3::hash(id.as_bytes()).to_hex()[..16])
}

/// Reads a mount's heads.
pub(super) async fn read(place: &Place, id: &str) -> Result<Joined, ExchangeError> {
    let heads: BTreeSet<String> = place.names(&prefix(place, id)).await?.into_iter().collect();
    let mut read: BTreeMap<String, Head> = BTreeMap::new();
    // The latest first, which lists most of the others.
    let mut left: Vec<&String> = heads.iter().collect();
    left.sort_by_key(|name| (generation_of(name), name.as_str()));
    while let Some(name) = left.pop() {
        if read.values().any(|head| head.merged.contains(name)) {
            continue;
        }
        // One that is gone since was joined by another, which the next to read will see.
        if let Some(head) = head(place, name).await?.filter(|head| head.id == id) {
            read.insert(name.clone(), head);
        }
    }
    let mut joined = Joined { generation: 0, heads: heads.clone(), ..Joined::default() };
    let mut trees = Vec::new();
    for head in read.into_values() {
        trees.push(tree(place, &head.tree).await?);
        joined.generation = joined.generation.max(head.generation);
        joined.packs.extend(head.packs);
    }
    joined.tree = MountTree::union(trees);
    Ok(joined)
}

fn generation_of(name: &str) -> u32 {
    let last = name.rsplit('.').next().and_then(|last| last.split('-').next());
    last.and_then(|number| number.parse().ok()).unwrap_or(0)
}

async fn head(place: &Place, name: &str) -> Result<Option<Head>, ExchangeError> {
    let Some(manifest) = place.manifest(&DocumentName::Tag(name.to_owned())).await? else { return Ok(None) };
    let config = config_of_type(&manifest, HEAD_TYPE)?;
    let bytes = place.read(&config, DOCUMENT_SIZE_MAX).await?;
    let head: Head = serde_json::from_slice(&bytes)
        .map_err(|error| ExchangeError::Format(format!("the cache mount is not valid: {error}")))?;
    match head.format {
        FORMAT => Ok(Some(head)),
        other => Err(ExchangeError::Format(format!(
            "the cache mount has format {other}, this mica knows {FORMAT}"
        ))),
    }
}

async fn tree(place: &Place, descriptor: &Descriptor) -> Result<MountTree, ExchangeError> {
    let packed = place.read(descriptor, INDEX_SIZE_MAX).await?;
    let mut bytes = Vec::new();
    let wrong = |source| ExchangeError::Blob { digest: descriptor.digest, source };
    let decoder = Decoder::new(packed.as_slice()).map_err(wrong)?;
    decoder.take(INDEX_SIZE_MAX).read_to_end(&mut bytes).map_err(wrong)?;
    MountTree::parse(&bytes).ok_or_else(|| wrong(io::Error::other("it is no tree")))
}

/// Puts into a mount's directory what it does not have; runs where it may block.
pub(super) fn fill(
    runtime: &Handle,
    place: &Place,
    store: &Store,
    joined: &Joined,
    directory: &Path,
) -> Result<(), ExchangeError> {
    let layers = store.layers();
    let wanted = layers.missing(directory, &joined.tree.index())?;
    let scratch = layers.begin()?;
    let spool = scratch.files();
    let mut by_pack: BTreeMap<LayerId, BTreeSet<LayerPath>> = BTreeMap::new();
    for entry in &wanted.entries {
        if let Node::File { bytes: Lies::In { layer, path }, .. } = &entry.node {
            by_pack.entry(*layer).or_default().insert(path.clone());
        }
    }
    for (pack, names) in by_pack {
        let descriptor = joined.packs.get(&pack).ok_or_else(|| {
            ExchangeError::Format("the cache mount names a pack it does not have".to_owned())
        })?;
        let stream = runtime.block_on(place.blob(descriptor))?;
        let bridge = SyncIoBridge::new_with_handle(StreamReader::new(stream), runtime.clone());
        unpack(bridge, &spool, names)
            .map_err(|source| ExchangeError::Blob { digest: descriptor.digest, source })?;
    }
    let open = |entry: &Entry| match &entry.node {
        Node::File { digest, .. } => File::open(spool.join(digest.hex())),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(layers.add_to_mount(directory, &wanted, &open)?)
}

/// Reads a pack, keeping the files of these names, each of which must have the digest that is its name.
fn unpack(pack: impl Read + Send, spool: &Path, names: BTreeSet<LayerPath>) -> io::Result<()> {
    let mut decoder = Decoder::new(pack)?;
    let mut sink = Sink { spool: spool.to_owned(), names, open: None };
    let index = read_layer(&mut decoder, &TarLimits::default(), &mut sink).map_err(io::Error::other)?;
    // The stream says at its very end whether it was what it should be.
    io::copy(&mut decoder, &mut io::sink())?;
    let is_right = |name: &LayerPath| {
        let found = index.find(name).map(|entry| &entry.node);
        matches!(found, Some(Node::File { digest, .. }) if digest.hex().as_bytes() == name)
    };
    match sink.names.iter().all(is_right) {
        true => Ok(()),
        false => Err(io::Error::other("it does not have the files it should")),
    }
}

struct Sink {
    spool: PathBuf,
    names: BTreeSet<LayerPath>,
    open: Option<File>,
}

impl LayerSink for Sink {
    fn begin_file(&mut self, path: &[u8]) -> io::Result<()> {
        // Names that are asked for are hexadecimal digits, or they match nothing.
        let name = std::str::from_utf8(path).ok().filter(|name| FileDigest::from_hex(name).is_ok());
        let wanted = name.filter(|_| self.names.contains(path));
        self.open = wanted.map(|name| File::create(self.spool.join(name))).transpose()?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    fn end_file(&mut self) -> io::Result<()> {
        self.open = None;
        Ok(())
    }

    fn rename(&mut self, _from: &[u8], _to: &[u8]) -> io::Result<()> {
        Err(io::Error::other("a pack has no links"))
    }

    fn remove(&mut self, _path: &[u8]) -> io::Result<()> {
        Err(io::Error::other("a pack has no name twice"))
    }
}

/// Whether a cache mount could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was.
    Done,
    /// Another build uses it.
    Busy,
}

/// Sends what is in the cache mount `id`, joined with what others sent since `base` was read.
pub(super) async fn send(
    host: &Arc<Host>,
    place: &Place,
    id: &str,
    base: MountTree,
) -> Result<Sent, ExchangeError> {
    let (store, name) = (host.store.clone(), id.to_owned());
    let taken = blocking(move || store.mounts().take_alone(&name)).await?;
    let Some(lease) = taken else { return Ok(Sent::Busy) };
    let directory = lease.path().to_owned();
    let (layers, read_from) = (host.store.layers(), directory.clone());
    let now = blocking(move || layers.read_mount(&read_from)).await?;
    let theirs = read(place, id).await?;
    let generation = theirs.generation + 1;
    let mut next = theirs.tree.advance(&base, now, generation);
    if next == theirs.tree {
        return Ok(Sent::Done);
    }
    let known = match theirs.packs.len() < PACKS_MAX {
        true => theirs.tree.packed(),
        false => BTreeMap::new(),
    };
    let mut packs = theirs.packs.clone();
    let new = next.point(&known);
    if !new.is_empty() {
        let packed = pack(host, place, new, directory).await?;
        next.point(&packed.files);
        packs.insert(packed.id, packed.blob);
    }
    drop(lease);
    let used = next.packs();
    packs.retain(|pack, _| used.contains(pack));
    let tree = put_tree(place, &next).await?;
    let head =
        Head { format: FORMAT, id: id.to_owned(), generation, merged: theirs.heads.clone(), tree, packs };
    put_head(place, &head).await?;
    for old in &theirs.heads {
        // It says nothing new to anybody; where nothing may be taken away it only takes room.
        if let Err(error) = place.remove(old).await {
            tracing::debug!(old, %error, "a head that was joined stays");
        }
    }
    Ok(Sent::Done)
}

struct Pack {
    id: LayerId,
    blob: Descriptor,
    files: BTreeMap<FileDigest, (LayerId, LayerPath)>,
}

/// Makes a pack of files of a directory, and sends it.
async fn pack(
    host: &Arc<Host>,
    place: &Place,
    files: BTreeMap<FileDigest, Entry>,
    directory: PathBuf,
) -> Result<Pack, ExchangeError> {
    let (store, threads) = (host.store.clone(), host.threads);
    let (id, blob, names) = blocking(move || {
        let named = |(digest, entry): (&FileDigest, &Entry)| Entry {
            path: digest.hex().into_bytes(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::UNSET,
            xattrs: BTreeMap::new(),
            node: entry.node.clone(),
        };
        let mut entries: Vec<Entry> = files.iter().map(named).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let index = LayerIndex { entries };
        let by_name: BTreeMap<LayerPath, LayerPath> =
            files.iter().map(|(digest, entry)| (digest.hex().into_bytes(), entry.path.clone())).collect();
        let failed = |source: io::Error| ExchangeError::file("read", &directory, source);
        let root = RootDir::open(&directory, Links::Refused).map_err(failed)?;
        let open = |entry: &Entry| root.open_file(&by_name[&entry.path]);
        let mut ingest = store.blobs().ingest()?;
        let workers = u32::try_from(threads).unwrap_or(1).max(1);
        let mut encoder = ZstdEncoder::new(&mut ingest, LEVEL, workers).map_err(failed)?;
        write_layer(&index, open, &mut encoder, &TarOptions::default())
            .map_err(|error| failed(io::Error::other(error)))?;
        encoder.finish().map_err(failed)?;
        let size = ingest.size();
        let digest: ContentDigest = ingest.commit(None).map_err(|error| failed(io::Error::other(error)))?;
        let blob = Descriptor::new(MediaType::layer(Dialect::Oci, LayerCompression::Zstd), digest, size);
        Ok::<_, ExchangeError>((index.layer_id(), blob, files.into_keys().collect::<Vec<_>>()))
    })
    .await?;
    if !place.has(&blob).await? {
        let blobs = Arc::new(StoreBlobs::new(&host.store, host.threads));
        place.put(&blob, &Content { blobs, blob: blob.clone() }).await?;
    }
    let files = names.into_iter().map(|digest| (digest, (id, digest.hex().into_bytes()))).collect();
    Ok(Pack { id, blob, files })
}

async fn put_tree(place: &Place, tree: &MountTree) -> Result<Descriptor, ExchangeError> {
    let failed = |source| ExchangeError::file("compress", "the tree of a cache mount", source);
    let mut encoder = ZstdEncoder::new(Vec::new(), LEVEL, 1).map_err(failed)?;
    encoder.write_all(&tree.to_bytes()).map_err(failed)?;
    let bytes = encoder.finish().map_err(failed)?;
    let descriptor = Descriptor::of(MediaType::parse(TREE_TYPE), &bytes);
    place.put(&descriptor, &Bytes::from(bytes)).await?;
    Ok(descriptor)
}

async fn put_head(place: &Place, head: &Head) -> Result<(), ExchangeError> {
    let bytes = serde_json::to_vec(head).expect("the maps of a head have text keys");
    let config = Descriptor::of(MediaType::parse(HEAD_TYPE), &bytes);
    // A name nobody else has: the keys of the hasher are random.
    let random = RandomState::new().build_hasher().finish();
    let name = format!("{}{}-{random:016x}", prefix(place, &head.id), head.generation);
    place.put(&config, &Bytes::from(bytes)).await?;
    let mut blobs = vec![head.tree.clone()];
    blobs.extend(head.packs.values().cloned());
    place.put_manifest(&name, Manifest::new(Dialect::Oci, config, blobs).to_bytes()).await
}

/// Returns the id as the Dockerfile has it.
pub(super) fn shown(id: &str) -> &str {
    id.split('\0').next().unwrap_or(id)
}
