//! What `mica diff` and its like may be asked about: an image of the store, a path, or a name in a registry.

use std::path::Path;
use std::sync::Arc;

use mica_image::archive::ImageArchive;
use mica_image::{Descriptor, ImageConfig, MediaType, Platform, Reference};
use mica_solver::EventSender;

use crate::engine::Engine;
use crate::engine::bases::{open_archived, path_and_name};
use crate::engine::blocking::blocking;
use crate::engine::history::{LookError, OpenImage, Part};
use crate::engine::images::{self, FindError};
use crate::engine::import::{Unpack, import_layer};
use crate::engine::output::StoredImage;

impl Engine {
    /// Opens an image by name, `name@version` or id; the archive, layout or tar at a path; or what a registry has. `#3` after it is
    /// its third layer alone, `#..3` all up to that.
    ///
    /// What is read from elsewhere stays in the store without a name until the next `prune`.
    pub(crate) async fn open_image(&self, text: &str, events: &EventSender) -> Result<OpenImage, LookError> {
        match Part::split(text) {
            (name, Some(part)) if !Path::new(text).exists() => {
                self.open_whole(name, events).await?.only(part, name)
            }
            _ => self.open_whole(text, events).await,
        }
    }

    async fn open_whole(&self, text: &str, events: &EventSender) -> Result<OpenImage, LookError> {
        if is_path(text) {
            let (path, name) = path_and_name(text);
            let image = self.read_path(Path::new(path), name, events).await?;
            return self.opened(image).await;
        }
        match images::find(&self.host.store, text) {
            Ok(image) => self.opened(image).await,
            Err(FindError::Unknown(_)) if Reference::parse(text).is_ok() && text.contains('/') => {
                let reference = Reference::parse(text).map_err(FindError::from)?.with_default_tag();
                let id = self.fetch_unnamed(&reference, &Platform::host(), events).await?;
                let image = images::open(&self.host.store, &id)?;
                self.opened(image.ok_or_else(|| FindError::Unknown(text.to_owned()))?).await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn opened(&self, image: StoredImage) -> Result<OpenImage, LookError> {
        let store = self.host.store.clone();
        blocking(move || OpenImage::open(&store, image)).await
    }

    async fn read_path(
        &self,
        path: &Path,
        name: Option<&str>,
        events: &EventSender,
    ) -> Result<StoredImage, LookError> {
        let (host, at) = (self.host.clone(), path.to_owned());
        let opened = blocking(move || -> Result<_, LookError> {
            let scratch = host.store.layers().begin()?;
            Ok(ImageArchive::open(&at, &scratch.files()).map(|archive| (archive, scratch)))
        })
        .await?;
        let (archive, _scratch) = match opened {
            Ok(opened) => opened,
            // Every archive has a list of its images; a tar without one is the tar of a file system.
            Err(error) if path.is_dir() || name.is_some() => {
                return Err(crate::engine::bases::BaseError::Archive(error).into());
            }
            Err(_) => return self.read_file_system(path).await,
        };
        let archive = Arc::new(archive);
        let first = || archive.images().first().map(|image| image.target.digest.to_string());
        let wanted = name.map(str::to_owned).or_else(first);
        let base =
            open_archived(&archive, wanted.as_deref(), &Platform::host(), &path.display().to_string())?;
        let id = base.import(&self.host, events).await?;
        let unknown = || FindError::Unknown(path.display().to_string());
        Ok(images::open(&self.host.store, &id)?.ok_or_else(unknown)?)
    }

    /// Reads a tar as the one layer of an image that says nothing else.
    async fn read_file_system(&self, path: &Path) -> Result<StoredImage, LookError> {
        let (store, path) = (self.host.store.clone(), path.to_owned());
        blocking(move || {
            let shown = path.display().to_string();
            let failed = |source| LookError::Read { path: shown.clone(), source };
            let mut hasher = mica_image::compress::DigestWriter::new(std::io::sink());
            std::io::copy(&mut std::fs::File::open(&path).map_err(failed)?, &mut hasher).map_err(failed)?;
            let (_, digest, size) = hasher.finish();
            let blob = Descriptor::new(MediaType::default(), digest, size);
            let mut stream = std::fs::File::open(&path).map_err(failed)?;
            let layer = import_layer(&store, &mut stream, &blob, None, Some(&Vec::new()), Unpack::WhenNeeded)
                .map_err(|source| LookError::Tar { path: shown.clone(), source })?
                .expect("with what is below it a layer is imported or fails");
            let mut config = ImageConfig::default();
            config.rootfs.diff_ids = layer.diff_id.into_iter().collect();
            let (id, tree, platform) = (config.digest(), vec![layer], config.platform());
            Ok(StoredImage { id, config, tree, platform, manifest: None, said: Vec::new() })
        })
        .await
    }
}

/// Paths begin with `/`, `./` or `../`, or name a file that no image can be called by.
fn is_path(text: &str) -> bool {
    let starts = ["/", "./", "../"].iter().any(|start| text.starts_with(start)) || matches!(text, "." | "..");
    let is_tar = |path: &str| path.ends_with(".tar") && Path::new(path).is_file();
    starts || is_tar(text) || text.rsplit_once(':').is_some_and(|(path, _)| is_tar(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        for path in ["/x", "./x", "../x", "."] {
            assert!(is_path(path), "{path}");
        }
        for name in ["app", "app@2", "localhost:5000/team/app", "no-such-file.tar"] {
            assert!(!is_path(name), "{name}");
        }
    }
}
