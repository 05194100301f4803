//! An OCI layout on disk, read and written blob by blob, as somebody with an editor would.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::image::digest;

/// A layout with one image, or one index.
pub(crate) struct Layout(pub(crate) PathBuf);

impl Layout {
    /// Returns where a blob lies.
    pub(crate) fn path(&self, digest: &Value) -> PathBuf {
        let hex = digest.as_str().and_then(|text| text.strip_prefix("sha256:")).expect("it is a digest");
        self.0.join("blobs/sha256").join(hex)
    }

    /// Reads a blob, which must be what its digest says.
    #[track_caller]
    pub(crate) fn bytes(&self, name: &Value) -> Vec<u8> {
        let bytes = fs::read(self.path(name)).expect("the blob is there");
        assert_eq!(digest(&bytes), name.as_str().expect("it is a digest"));
        bytes
    }

    /// Reads a document.
    #[track_caller]
    pub(crate) fn json(&self, digest: &Value) -> Value {
        serde_json::from_slice(&self.bytes(digest)).expect("it is JSON")
    }

    /// Reads `index.json`.
    pub(crate) fn top(&self) -> Value {
        let bytes = fs::read(self.0.join("index.json")).expect("it is a layout");
        serde_json::from_slice(&bytes).expect("it is JSON")
    }

    /// Writes `index.json`.
    pub(crate) fn set_top(&self, top: &Value) {
        fs::write(self.0.join("index.json"), top.to_string()).expect("files can be written");
    }

    /// Returns the index that its first entry stands for.
    pub(crate) fn index(&self) -> Value {
        self.json(&self.top()["manifests"][0]["digest"])
    }

    /// Writes a blob, and makes a descriptor describe it.
    pub(crate) fn put(&self, bytes: &[u8], descriptor: &mut Value) {
        let name = Value::from(digest(bytes));
        fs::write(self.path(&name), bytes).expect("files can be written");
        descriptor["size"] = bytes.len().into();
        descriptor["digest"] = name;
    }
}
