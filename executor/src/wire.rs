//! What the engine's process and the init stage say to each other.
//!
//! The init stage starts with these descriptors and no others:
//!
//! ```text
//! 0 1 2   the step's own
//! 3       memory file with the `Orders` as JSON
//! 4       pipe for `Report`s, one JSON line each; closed by a successful exec
//! 5       the network namespace to join (only for a step with a network of its own)
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::spec::{RunSpec, SourceId};

/// The stage of a failure to execute the step itself.
pub(crate) const EXEC_STAGE: &str = "exec";
/// The argument that selects the init stage.
pub(crate) const INIT_ARGUMENT: &str = "__step-init";
pub(crate) const ORDERS_FD: i32 = 3;
pub(crate) const REPORT_FD: i32 = 4;
pub(crate) const NETWORK_FD: i32 = 5;

/// How ids inside the step relate to those outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdMode {
    /// No user namespace: ids are those of the host.
    Root,
    /// A user namespace with a range of ids.
    Range,
    /// A user namespace in which only root exists.
    Single,
}

impl IdMode {
    pub(crate) fn in_user_namespace(self) -> bool {
        self != IdMode::Root
    }
}

/// Everything the init stage needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) spec: RunSpec,
    pub(crate) ids: IdMode,
    pub(crate) lowers: Vec<Bytes>,
    pub(crate) upper: Bytes,
    pub(crate) work: Bytes,
    pub(crate) skeleton: Bytes,
    pub(crate) scratch: Bytes,
    pub(crate) sources: BTreeMap<SourceId, WireSource>,
    pub(crate) resolv_conf: Bytes,
    pub(crate) hosts: Bytes,
    pub(crate) stdio: StdioKind,
    /// Files to which the init stage writes itself, to join its control groups.
    pub(crate) cgroups: Vec<Bytes>,
    /// System call filters in the form `sys::install_filter` takes, first to last.
    pub(crate) filters: Vec<Vec<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StdioKind {
    Captured,
    Passed,
    Terminal,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireSource {
    Path(Bytes),
    Content(Bytes),
}

/// What the init stage tells.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Mount points that had to be made in the upper directory.
    Created(Vec<Created>),
    /// It cannot go on.
    Failed(Failure),
}

/// One thing that had to be made in the upper directory so that something could be mounted there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Created {
    /// Its path inside the root without symbolic links.
    pub(crate) path: Bytes,
    pub(crate) is_directory: bool,
    /// The time of its directory before (seconds and nanoseconds) and after.
    pub(crate) parent_before: (i64, i64),
    pub(crate) parent_after: (i64, i64),
}

/// Why a step could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) stage: String,
    /// What was attempted, with its subject, as in ``mount `/proc` ``.
    pub(crate) action: String,
    pub(crate) errno: Option<i32>,
    /// Further words, as of the kernel's mount log.
    pub(crate) detail: String,
}

/// A byte string that reads well in JSON when it is text, as paths nearly always are.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl From<PathBuf> for Bytes {
    fn from(path: PathBuf) -> Bytes {
        Bytes(OsString::from(path).into_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Raw(Vec<u8>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => Bytes(text.into_bytes()),
            Form::Raw(bytes) => Bytes(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_as_text_or_not() {
        for bytes in [&b"/plain"[..], b"/\xff\xfe", b""] {
            let json = serde_json::to_string(&Bytes(bytes.to_vec())).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, bytes);
        }
        assert_eq!(serde_json::to_string(&Bytes(b"/plain".to_vec())).unwrap(), "\"/plain\"");
    }
}
