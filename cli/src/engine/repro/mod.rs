//! Two builds of one input under other conditions: which step made something else, in which file, and why.
//!
//! Steps are compared by the indexes of their layers, with times clamped as in an image. A step whose result differs though nothing
//! it takes does is where a difference begins; what follows from it is only counted. The cause is read off the contents
//! ([`evidence`]); what they do not tell is for whoever can run the step again under one other condition at a time.

mod archive;
mod cause;
mod compare;
mod evidence;

use std::path::PathBuf;

use mica_executor::{NetworkMode, RunSpec};
use serde::{Deserialize, Serialize};

pub(crate) use cause::Cause;
pub(crate) use compare::{Comparison, Finding, ONLY_IN_SECOND, Side, compare};

/// What RUN steps find otherwise than usual. It is in no key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Conditions {
    /// The host name.
    pub hostname: Option<String>,
    /// `LC_ALL`, unless the image sets it.
    pub locale: Option<String>,
    /// `TZ`, unless the image sets it.
    pub time_zone: Option<String>,
    /// The umask.
    pub umask: Option<u32>,
    /// How many processors there are.
    pub processors: Option<u32>,
    /// Whether there is no network.
    pub without_network: bool,
    /// Steps that run although their results are known, by the numbers a build shows.
    pub again: Vec<u32>,
}

impl Conditions {
    /// Puts a step under these conditions.
    pub(super) fn apply_to(&self, spec: &mut RunSpec) {
        for (name, value) in [("LC_ALL", &self.locale), ("TZ", &self.time_zone)] {
            if let Some(value) = value
                && !spec.env.iter().any(|(known, _)| known == name)
            {
                spec.env.push((name.to_owned(), value.clone()));
            }
        }
        if let Some(hostname) = &self.hostname {
            spec.hostname.clone_from(hostname);
        }
        spec.umask = self.umask.unwrap_or(spec.umask);
        spec.processors = self.processors;
        if self.without_network {
            spec.network = NetworkMode::None;
        }
    }
}

/// One of the builds that are compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// Its store.
    pub store: PathBuf,
    /// What it did, step by step: a [`BuildRecord`](super::build_record::BuildRecord).
    pub report: PathBuf,
    /// The image as an OCI layout, where it was written.
    pub layout: Option<PathBuf>,
    /// Whether root built in a user namespace.
    pub is_nested: bool,
    /// What its steps found.
    pub conditions: Conditions,
    /// How many processors its steps had.
    pub processors: u32,
    /// The first and last second of the build.
    pub seconds: (i64, i64),
}
