//! What is different between two images: their files, their configuration, and the sizes of their layers.
//!
//! Indexes are compared, never the files themselves. A semantic comparison leaves out times: of files, of the image, of its history,
//! and with them the digests that depend on them.

mod config;
mod files;
mod layers;
mod side;

pub(crate) use config::ConfigChange;
pub(crate) use files::{Aspect, Change, FileChange, State, state};
pub(crate) use layers::LayerPair;

use super::history::{LookError, OpenImage};
use mica_image::ContentDigest;

/// How images are compared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DiffOptions {
    /// Leaves out times.
    pub semantic: bool,
}

/// All differences of two images.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Difference {
    /// The ids of both.
    pub images: [ContentDigest; 2],
    /// Files, by path.
    pub files: Vec<FileChange>,
    /// Fields of the configuration.
    pub config: Vec<ConfigChange>,
    /// The layers of both, side by side.
    pub layers: Vec<LayerPair>,
}

/// How much is different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Files that are new.
    pub added: usize,
    /// Files that are gone.
    pub removed: usize,
    /// Files that are not what they were.
    pub changed: usize,
    /// Fields of the configuration.
    pub config: usize,
}

impl Difference {
    /// Returns how much is different.
    pub(crate) fn counts(&self) -> Counts {
        let count = |wanted| self.files.iter().filter(|file| file.change == wanted).count();
        Counts {
            added: count(Change::Added),
            removed: count(Change::Removed),
            changed: count(Change::Changed),
            config: self.config.len(),
        }
    }

    /// Tells whether nothing is different.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.config.is_empty()
    }
}

/// Compares two images.
pub(crate) fn compare(
    before: &OpenImage,
    after: &OpenImage,
    options: DiffOptions,
) -> Result<Difference, LookError> {
    // Some layers of an image have no configuration of their own.
    let are_whole = before.part.is_none() && after.part.is_none();
    let config = match are_whole {
        true => config::compare(&before.image.config, &after.image.config, options),
        false => Vec::new(),
    };
    Ok(Difference {
        images: [before.image.id, after.image.id],
        files: files::compare(before, after, options)?,
        config,
        layers: layers::pair(&before.history, &after.history),
    })
}
