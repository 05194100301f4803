//! Arguments of the commands about stored images, and of the small ones.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// `mica images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArguments {
    /// Print image ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print one JSON object per image
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
}

/// `mica inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Name, id or the first characters of an id
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `mica tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArguments {
    /// An image: name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// The name it gets besides those it has
    #[arg(value_name = "NAME")]
    pub(crate) target: String,
}

/// `mica rmi`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `mica pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// The image: `debian:bookworm-slim`, `registry.example.com/team/app@sha256:…`
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The platform to take from an image for several [default: this machine's]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Keep what is said of the image too, so that `mica verify --offline` works
    #[arg(long)]
    pub(crate) attestations: bool,
}

/// `mica load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// Read FILE, an archive or the directory of an OCI layout, instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

/// `mica save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArguments {
    /// The image: name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Write FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The form of the archive
    #[arg(long, value_enum, default_value_t = SaveFormat::Docker)]
    pub(crate) format: SaveFormat,
}

/// The forms `mica save` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// What `docker load` reads
    Docker,
    /// An OCI layout in one tar
    Oci,
}

/// `mica import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// A tar of a root file system, plain or compressed, or `-`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The name of the image
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `mica completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// `mica debug parse`.
#[derive(Debug, Args)]
pub(crate) struct ParseArguments {
    /// Dockerfiles; `-` reads their paths from standard input, one a line
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}
