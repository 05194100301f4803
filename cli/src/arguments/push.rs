//! Arguments of the commands that speak to registries.

use clap::{ArgAction, Args};

use super::error::ArgumentError;
use super::packing;
use crate::engine::request::{Packing, Push};

/// `mica push`.
#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// The image: name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The name it gets in the registry [default: its own]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How layers made here are compressed: `gzip`, `zstd` or `uncompressed`
    #[arg(long, value_name = "CODEC")]
    compression: Option<String>,
    /// The level: 0 to 9 for gzip, 0 to 22 for zstd
    #[arg(long, value_name = "N")]
    compression_level: Option<i32>,
    /// Compress layers of base images anew too
    #[arg(long)]
    force_compression: bool,
    /// Put up with plain HTTP, or a certificate nobody vouches for
    #[arg(long, action = ArgAction::SetTrue)]
    insecure: bool,
}

/// `mica login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "REGISTRY", default_value = "docker.io", hide_default_value = true)]
    pub(crate) registry: String,
    /// The user
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The password; everybody on this machine can see it there
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin", hide = true)]
    pub(crate) password: Option<String>,
    /// Put up with plain HTTP, or a certificate nobody vouches for
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// `mica logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArguments {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "REGISTRY", default_value = "docker.io", hide_default_value = true)]
    pub(crate) registry: String,
}

impl PushArguments {
    /// Returns how it goes there.
    pub(crate) fn push(&self) -> Push {
        Push { by_digest: false, insecure: self.insecure }
    }

    /// Returns how layers are compressed.
    pub(crate) fn packing(&self) -> Result<Packing, ArgumentError> {
        let word = self.compression.clone().unwrap_or_default();
        let invalid = |why: String| ArgumentError::value("--compression", word.clone(), why);
        let compression =
            self.compression.as_deref().map(packing::compression).transpose().map_err(invalid)?;
        let packing = Packing {
            compression,
            level: self.compression_level,
            force: self.force_compression,
            ..Packing::default()
        };
        packing::check(&packing).map_err(invalid)?;
        Ok(packing)
    }
}
