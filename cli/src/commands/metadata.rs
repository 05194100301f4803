//! What `--metadata-file` gets: the reference's keys, as JSON.
//!
//! An image that only lies in the store has no manifest yet; its id stands for it, as it does in docker's own store.

use std::collections::BTreeMap;
use std::path::Path;

use mica_image::Descriptor;
use serde::Serialize;
use serde_json::Value;

use super::exit::Failure;
use crate::engine::attest::statement::PROVENANCE;
use crate::engine::build::BuildReport;

#[derive(Debug, Default, Serialize)]
struct Metadata {
    #[serde(flatten)]
    provenance: BTreeMap<String, Value>,
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
    let provenance = provenance(report);
    // Of several outputs the last is told, as the reference does.
    match report.exported.last() {
        Some(exported) => Metadata {
            provenance,
            config,
            digest: Some(exported.target.digest.to_string()),
            descriptor: Some(exported.target.clone()),
            name: exported.names.join(","),
        },
        None => Metadata {
            provenance,
            digest: config.clone(),
            config,
            descriptor: None,
            name: report.names.join(","),
        },
    }
}

/// What is said of how each image was made; of several platforms each has a key of its own.
fn provenance(report: &BuildReport) -> BTreeMap<String, Value> {
    const KEY: &str = "buildx.build.provenance";
    let mut told = BTreeMap::new();
    for image in &report.images {
        let key = if report.images.len() > 1 { format!("{KEY}/{}", image.platform) } else { KEY.to_owned() };
        let said = image.said.iter().find(|said| said.kind == PROVENANCE);
        told.extend(said.map(|said| (key, said.value.clone())));
    }
    told
}
