//! Images from archives: docker archives, OCI layouts, and plain tars of a root file system.

use std::path::Path;
use std::sync::Arc;

use mica_image::archive::ImageArchive;
use mica_image::config::History;
use mica_image::{ContentDigest, Descriptor, ImageConfig, MediaType, Platform, Reference};
use mica_solver::EventSender;

use super::bases::{BaseError, open_archived};
use super::blocking::blocking;
use super::build_error::BuildError;
use super::import::{Unpack, import_layer};
use super::stored::store_image;
use super::{Engine, images};
use crate::environment::now;

/// One image that was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its id.
    pub id: ContentDigest,
    /// The names it was given.
    pub names: Vec<Reference>,
}

impl Engine {
    /// Loads every image of a docker archive or OCI layout under the names it has there.
    pub(crate) async fn load(&self, path: &Path, events: &EventSender) -> Result<Vec<Loaded>, BaseError> {
        let (host, path) = (self.host.clone(), path.to_owned());
        let archive = blocking(move || -> Result<ImageArchive, BaseError> {
            Ok(ImageArchive::open(&path, &host.store.layers().begin()?.files())?)
        })
        .await?;
        let archive = Arc::new(archive);
        let mut loaded = Vec::new();
        for image in archive.images() {
            let wanted = image.target.digest.to_string();
            let base = open_archived(&archive, Some(&wanted), &Platform::host(), &wanted)?;
            let id = base.import(&self.host, events).await?;
            // A name that is only a tag says nothing about which image it is.
            let names: Vec<_> = image
                .names
                .iter()
                .filter(|name| name.contains('/') || name.contains(':'))
                .filter_map(|name| Reference::parse(name).ok())
                .collect();
            for name in &names {
                images::tag(&self.host.store, id, name)?;
            }
            loaded.push(Loaded { id, names });
        }
        Ok(loaded)
    }

    /// Makes an image of one layer from the tar of a root file system.
    pub(crate) async fn import(&self, path: &Path, name: &Reference) -> Result<ContentDigest, BuildError> {
        let (store, path, name) = (self.host.store.clone(), path.to_owned(), name.clone());
        blocking(move || {
            let failed = |source| BuildError::Import { path: path.clone(), source };
            let open = || {
                std::fs::File::open(&path).map_err(|source| {
                    BuildError::Context(super::context::ContextError::Open { path: path.clone(), source })
                })
            };
            // The blob is named by its digest, so it is read once for that and once for what is in it.
            let mut hasher = mica_image::compress::DigestWriter::new(std::io::sink());
            std::io::copy(&mut open()?, &mut hasher).map_err(|source| {
                BuildError::Context(super::context::ContextError::Open { path: path.clone(), source })
            })?;
            let (_, digest, size) = hasher.finish();
            let blob = Descriptor::new(MediaType::default(), digest, size);
            let mut stream = open()?;
            let layer = import_layer(&store, &mut stream, &blob, None, Some(&Vec::new()), Unpack::WhenNeeded)
                .map_err(failed)?
                .expect("with what is below it a layer is imported or fails");
            let platform = Platform::host();
            let mut config = ImageConfig { created: Some(now()), ..ImageConfig::default() };
            config.set_platform(&platform);
            config.rootfs.diff_ids = layer.diff_id.into_iter().collect();
            config.history = vec![History {
                created: config.created.clone(),
                created_by: "mica import".to_owned(),
                ..History::default()
            }];
            let image = store_image(&store, config, vec![layer], &platform, (vec![], None))?;
            images::tag(&store, image.id, &name)?;
            store.sync()?;
            Ok(image.id)
        })
        .await
    }
}
