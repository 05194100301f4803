//! Arguments of `mica image index`.

use clap::{Args, Subcommand};

use super::error::ArgumentError;
use super::packing;
use crate::engine::request::{Annotated, Annotation};

/// `mica image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Indexes of images for several platforms, in registries
    #[command(subcommand)]
    Index(IndexCommand),
}

/// `mica image index`.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Join images that are in registries into one index
    Create(CreateArguments),
    /// Show what a name in a registry stands for
    Inspect(InspectIndexArguments),
    /// Copy an image or index to another name, with everything it names
    Copy(CopyArguments),
}

/// `mica image index create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Names in registries; an index among them brings all its images
    #[arg(required = true, value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// The name the index gets; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Annotate the index
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Print the index and push nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl CreateArguments {
    /// Returns what is annotated; `index:` before a key may be left out.
    pub(crate) fn annotations(&self) -> Result<Vec<Annotation>, ArgumentError> {
        let mut all = Vec::new();
        for word in &self.annotation {
            let invalid = |why: String| ArgumentError::value("--annotation", word, why);
            let about_index = if word.starts_with("index:") { word.clone() } else { format!("index:{word}") };
            let found = packing::annotations(&about_index).map_err(invalid)?;
            all.extend(found.into_iter().filter(|annotation| annotation.subject == Annotated::Index));
        }
        Ok(all)
    }
}

/// `mica image index inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectIndexArguments {
    /// A name in a registry
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Print the document as the registry has it
    #[arg(long)]
    pub(crate) raw: bool,
}

/// `mica image index copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// A name in a registry
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// The name it gets
    #[arg(value_name = "NAME")]
    pub(crate) target: String,
}
