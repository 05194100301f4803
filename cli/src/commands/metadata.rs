//! What `--metadata-file` gets: the reference's keys, as JSON.
//!
//! An image that only lies in the store has no manifest yet; its id stands for it, as it does in docker's own store.

use std::path::Path;

use mica_image::Descriptor;
use serde::Serialize;

use super::exit::Failure;
use crate::engine::build::BuildReport;

#[derive(Debug, Default, Serialize)]
struct Metadata {
    #[serde(rename = "containerimage.config.digest", skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    #[serde(rename = "containerimage.descriptor", skip_serializing_if = "Option::is_none")]
    descriptor: Option<Descriptor>,
    #[serde(rename = "containerimage.digest", skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(rename = "image.name", skip_serializing_if = "String::is_empty")]
    name: String,
}

/// Writes what a build made.
pub(super) fn write(path: &Path, report: &BuildReport) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(&metadata(report)).expect("what is written has text keys");
    text.push(b'\n');
    std::fs::write(path, text)
        .map_err(|error| Failure::local(format!("cannot write `{}`", path.display()), error))
}

fn metadata(report: &BuildReport) -> Metadata {
    let config = match report.images.as_slice() {
        [only] => Some(only.id.to_string()),
        _ => None,
    };
    // Of several outputs the last is told, as the reference does.
    match report.exported.last() {
        Some(exported) => Metadata {
            config,
            digest: Some(exported.target.digest.to_string()),
            descriptor: Some(exported.target.clone()),
            name: exported.names.join(","),
        },
        None => Metadata { digest: config.clone(), config, descriptor: None, name: report.names.join(",") },
    }
}
