//! An image as others read it: an OCI layout in a tar, verified and flattened, with its files told in words.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// What was read of an archive.
pub(crate) struct Image {
    /// The whole configuration.
    pub(crate) config: Value,
    /// What each layer's members are, by name, in the order of the layers.
    pub(crate) layers: Vec<BTreeMap<String, String>>,
    /// The files after all layers: `file 0644 0:0 text`, `dir 0755 0:0`, `link target`.
    pub(crate) files: BTreeMap<String, String>,
}

impl Image {
    /// Reads an OCI layout; every digest, size and diff id must be right.
    #[track_caller]
    pub(crate) fn read(archive: &[u8]) -> Self {
        let members = members(archive);
        let json = |path: &str| -> Value {
            let bytes = members.get(path).unwrap_or_else(|| panic!("{path} is not in the archive"));
            serde_json::from_slice(bytes).expect("it is JSON")
        };
        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let manifest: Value = from_blob(&members, &json("index.json")["manifests"][0]);
        let config: Value = from_blob(&members, &manifest["config"]);
        let mut image = Self { config, layers: Vec::new(), files: BTreeMap::new() };
        for (number, descriptor) in
            manifest["layers"].as_array().expect("layers are a list").iter().enumerate()
        {
            let tar = decompress(blob(&members, descriptor), descriptor["mediaType"].as_str());
            assert_eq!(image.config["rootfs"]["diff_ids"][number], digest(&tar), "diff id of layer {number}");
            image.apply(&tar);
        }
        let filled = image.config["history"].as_array().expect("history is a list").iter();
        let filled = filled.filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!(filled, image.layers.len(), "history and layers disagree");
        image
    }

    /// Returns a key of the configuration's `config`.
    pub(crate) fn setting(&self, key: &str) -> &Value {
        &self.config["config"][key]
    }

    fn apply(&mut self, archive: &[u8]) {
        let mut layer = BTreeMap::new();
        let mut reader = tar::Archive::new(archive);
        for entry in reader.entries().expect("the layer is a tar") {
            let mut entry = entry.expect("the layer is a tar");
            let path = entry.path().expect("names are paths").to_string_lossy().into_owned();
            let path = format!("/{}", path.trim_start_matches("./").trim_matches('/'));
            let told = tell(&mut entry);
            assert!(layer.insert(path.clone(), told).is_none(), "{path} is twice in a layer");
        }
        // Whiteouts are about the layers below, wherever they stand.
        let below = std::mem::take(&mut self.files);
        let (whiteouts, present): (Vec<_>, Vec<_>) =
            layer.iter().partition(|(path, _)| name_of(path).starts_with(".wh."));
        self.files = below;
        for (path, _) in whiteouts {
            let (parent, name) = path.rsplit_once('/').expect("paths begin with a slash");
            let hidden = if name == ".wh..wh..opq" {
                format!("{parent}/")
            } else {
                format!("{parent}/{}", &name[4..])
            };
            self.files.retain(|path, _| {
                *path != hidden && !path.starts_with(&format!("{}/", hidden.trim_end_matches('/')))
            });
        }
        for (path, told) in present {
            if !told.starts_with("dir ") {
                self.files.retain(|other, _| !other.starts_with(&format!("{path}/")));
            }
            // A hard link is a name of what its target is.
            let told = match told.strip_prefix("hard link ") {
                Some(target) => self
                    .files
                    .get(target)
                    .cloned()
                    .unwrap_or_else(|| format!("hard link to no file {target}")),
                None => told.clone(),
            };
            self.files.insert(path.clone(), told);
        }
        self.layers.push(layer);
    }

    /// Returns the paths that the layers above the first `below` bring and that are there at the end.
    pub(crate) fn brought_after(&self, below: usize) -> BTreeSet<&str> {
        let layers = self.layers.iter().skip(below);
        layers
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .filter(|path| self.files.contains_key(*path))
            .collect()
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Tells a member in words.
fn tell(entry: &mut tar::Entry<'_, &[u8]>) -> String {
    let header = entry.header();
    let mode = header.mode().expect("members have modes");
    let owner =
        format!("{}:{}", header.uid().expect("owners are numbers"), header.gid().expect("groups too"));
    let target = entry.link_name().expect("targets are paths");
    let target = target.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default();
    match entry.header().entry_type() {
        tar::EntryType::Directory => format!("dir {mode:04o} {owner}"),
        tar::EntryType::Symlink => format!("link {target}"),
        tar::EntryType::Link => {
            format!("hard link /{}", target.trim_start_matches("./").trim_start_matches('/'))
        }
        tar::EntryType::Fifo => format!("fifo {mode:04o} {owner}"),
        tar::EntryType::Regular => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("the archive is in memory");
            let content = match String::from_utf8(content) {
                Ok(text) if text.len() <= 400 => text,
                Ok(text) => format!("({} bytes)", text.len()),
                Err(error) => format!("({} bytes)", error.as_bytes().len()),
            };
            format!("file {mode:04o} {owner} {content}")
        }
        other => format!("{other:?} {mode:04o} {owner}"),
    }
}

fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("it is a tar") {
        let mut entry = entry.expect("it is a tar");
        let path = entry.path().expect("names are paths").to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("the archive is in memory");
        members.insert(path, content);
    }
    members
}

fn blob<'a>(members: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let name = descriptor["digest"].as_str().expect("descriptors have digests");
    let bytes = &members[&format!("blobs/{}", name.replace(':', "/"))];
    assert_eq!(digest(bytes), name, "a blob's name is its digest");
    assert_eq!(descriptor["size"], bytes.len(), "size of {name}");
    bytes
}

fn from_blob(members: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Value {
    serde_json::from_slice(blob(members, descriptor)).expect("it is JSON")
}

fn decompress(bytes: &[u8], media_type: Option<&str>) -> Vec<u8> {
    match media_type {
        Some("application/vnd.oci.image.layer.v1.tar") => bytes.to_vec(),
        Some("application/vnd.oci.image.layer.v1.tar+gzip") => {
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).expect("it is gzip");
            tar
        }
        other => panic!("a layer of media type {other:?}"),
    }
}

/// Returns the digest of bytes as images write it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hexadecimal: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hexadecimal}")
}
