//! Writing archives as a stream: members sorted by name, all times zero, so equal images give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;
use tar::{EntryType, Header};

use crate::layout::{
    BLOBS, BlobSource, Contents, INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE, NamedImage, WriteLayoutError,
    index_bytes, index_entries, write_blob,
};
use crate::{ContentDigest, Descriptor, Reference};

const BLOCK: u64 = 512;
const MANIFEST_FILE: &str = "manifest.json";

/// Writes a tar of an OCI layout.
pub fn write_layout_archive(
    out: &mut dyn Write,
    images: &[NamedImage],
    source: &dyn BlobSource,
) -> Result<(), WriteLayoutError> {
    let contents = Contents::of(images, source)?;
    write_members(out, &contents, images, None, source)
}

/// Writes an archive that `docker load` reads, which is an OCI layout as well.
pub fn write_docker_archive(
    out: &mut dyn Write,
    images: &[NamedImage],
    source: &dyn BlobSource,
) -> Result<(), WriteLayoutError> {
    write_docker_archive_without(out, images, source, &BTreeSet::new())
}

/// Writes such an archive without some of its blobs, for a daemon that has them.
pub fn write_docker_archive_without(
    out: &mut dyn Write,
    images: &[NamedImage],
    source: &dyn BlobSource,
    left_out: &BTreeSet<ContentDigest>,
) -> Result<(), WriteLayoutError> {
    let mut contents = Contents::of(images, source)?;
    let manifest = docker_manifest(images, &contents)?;
    contents.blobs.retain(|digest, _| !left_out.contains(digest));
    write_members(out, &contents, images, Some(&manifest), source)
}

/// One entry of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

fn docker_manifest(images: &[NamedImage], contents: &Contents) -> Result<Vec<u8>, WriteLayoutError> {
    let mut names: BTreeMap<ContentDigest, Vec<&Reference>> = BTreeMap::new();
    for image in images {
        names.entry(image.target.digest).or_default().extend(&image.names);
    }
    let mut entries = Vec::new();
    for (digest, names) in names {
        let manifest =
            contents.manifests.get(&digest).ok_or(WriteLayoutError::SeveralPlatforms { digest })?;
        entries.push(DockerImage {
            config: blob_path(&manifest.config),
            repo_tags: names.iter().map(|name| name.with_default_tag().familiar()).collect(),
            layers: manifest.layers.iter().map(blob_path).collect(),
        });
    }
    Ok(serde_json::to_vec(&entries).expect("there are only texts in it"))
}

fn blob_path(blob: &Descriptor) -> String {
    format!("{BLOBS}/{}", blob.digest.hex())
}

fn write_members(
    out: &mut dyn Write,
    contents: &Contents,
    images: &[NamedImage],
    manifest: Option<&[u8]>,
    source: &dyn BlobSource,
) -> Result<(), WriteLayoutError> {
    for directory in ["blobs/", "blobs/sha256/"] {
        write_header(out, directory, EntryType::Directory, 0o755, 0)?;
    }
    for blob in contents.blobs.values() {
        write_header(out, &blob_path(blob), EntryType::Regular, 0o444, blob.size)?;
        write_blob(blob, source, out)?;
        pad(out, blob.size)?;
    }
    write_member(out, INDEX_FILE, 0o644, &index_bytes(index_entries(images)))?;
    if let Some(manifest) = manifest {
        write_member(out, MANIFEST_FILE, 0o644, manifest)?;
    }
    write_member(out, LAYOUT_FILE, 0o444, LAYOUT_CONTENT)?;
    out.write_all(&[0; 2 * BLOCK as usize]).and_then(|()| out.flush()).map_err(WriteLayoutError::Stream)
}

fn write_member(out: &mut dyn Write, name: &str, mode: u32, bytes: &[u8]) -> Result<(), WriteLayoutError> {
    let size = bytes.len() as u64;
    write_header(out, name, EntryType::Regular, mode, size)?;
    out.write_all(bytes).map_err(WriteLayoutError::Stream)?;
    pad(out, size)
}

fn write_header(
    out: &mut dyn Write,
    name: &str,
    kind: EntryType,
    mode: u32,
    size: u64,
) -> Result<(), WriteLayoutError> {
    let mut header = Header::new_ustar();
    header.set_path(name).expect("the names of a layout are short");
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes()).map_err(WriteLayoutError::Stream)
}

fn pad(out: &mut dyn Write, size: u64) -> Result<(), WriteLayoutError> {
    let padding = size.next_multiple_of(BLOCK) - size;
    io::copy(&mut io::Read::take(io::repeat(0), padding), &mut &mut *out)
        .map_err(WriteLayoutError::Stream)?;
    Ok(())
}
