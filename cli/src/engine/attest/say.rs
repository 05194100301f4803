//! Says of the images of a finished build what was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use mica_image::{Reference, Timestamp};
use mica_solver::graph::{BuildGraph, ImageLocation, Op};
use mica_solver::{BuildEvent, EventSender};

use super::provenance::{BaseMaterial, Materials, provenance};
use super::sbom::{SbomError, sbom};
use crate::engine::Engine;
use crate::engine::bases::BaseError;
use crate::engine::blocking::blocking;
use crate::engine::commit::commit_of;
use crate::engine::context::DockerfileText;
use crate::engine::materials::{DescribeError, RemoteMaterial, context_digest};
use crate::engine::output::StoredImage;
use crate::engine::request::{BuildRequest, ContextInput};
use crate::engine::runner::EngineRunner;
use crate::environment::now;

/// Nothing could be said of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SayError {
    /// A context could not be described.
    #[error("cannot describe the context for the provenance")]
    Context(#[from] DescribeError),
    /// A base could not be described.
    #[error("cannot describe a base for the provenance")]
    Base(#[from] BaseError),
    /// The packages could not be listed.
    #[error("cannot list the packages of the image")]
    Sbom(#[from] SbomError),
}

/// A finished build, as far as something can be said of it.
pub(in crate::engine) struct Finished<'a> {
    pub(in crate::engine) request: &'a Arc<BuildRequest>,
    pub(in crate::engine) graph: &'a BuildGraph,
    pub(in crate::engine) runner: &'a Arc<EngineRunner>,
    pub(in crate::engine) dockerfile: &'a DockerfileText,
    pub(in crate::engine) remote: &'a [RemoteMaterial],
    pub(in crate::engine) started: Timestamp,
    pub(in crate::engine) epoch: Option<i64>,
}

impl Engine {
    /// Adds to each image what was asked to be said of it.
    pub(in crate::engine) async fn say(
        &self,
        build: Finished<'_>,
        images: &mut [StoredImage],
        events: &EventSender,
    ) -> Result<(), SayError> {
        let attest = &build.request.attest;
        if attest.provenance.is_some() {
            let materials = self.materials(&build).await?;
            let told = provenance(build.request, build.dockerfile, &materials, build.epoch);
            images.iter_mut().for_each(|image| image.said.extend(told.clone()));
        }
        if attest.sbom {
            let name = build.request.tags.first().map_or("image".to_owned(), Reference::familiar);
            for image in images {
                let (store, one, name) = (self.host.store.clone(), image.clone(), name.clone());
                let (told, unread) = blocking(move || sbom(&store, &one, &name)).await?;
                image.said.push(told);
                for database in unread {
                    let message = format!("`{database}` is not read: the SBOM lacks the packages of rpm");
                    events.send(BuildEvent::Warning { message }).await;
                }
            }
        }
        Ok(())
    }

    async fn materials(&self, build: &Finished<'_>) -> Result<Materials, SayError> {
        let mut contexts = BTreeMap::new();
        for step in build.graph.steps() {
            let Op::Context(source) = &step.op else { continue };
            let (store, runner, name) = (self.host.store.clone(), build.runner.clone(), source.name.clone());
            let digest = blocking(move || context_digest(&store, &runner.resolved().contexts[&name])).await?;
            contexts.insert(source.name.clone(), digest);
        }
        let mut bases = Vec::new();
        for (source, base) in build.runner.resolved().bases.iter() {
            let name = match &source.location {
                ImageLocation::Reference(reference) => reference.to_string(),
                ImageLocation::OciLayout(text) => format!("oci-layout://{text}"),
            };
            let (platform, digest) = (source.platform.clone(), base.name_digest(&self.host, source)?);
            bases.push(BaseMaterial { name, platform, digest, id: base.id() });
        }
        bases.sort_by_key(|base| (base.name.clone(), base.platform.to_string()));
        let revision = match &build.request.context {
            ContextInput::Directory(directory) => commit_of(directory),
            _ => None,
        };
        let (remote, started) = (build.remote.to_vec(), build.started.clone());
        Ok(Materials { contexts, revision, bases, remote, started, finished: now() })
    }
}
