//! Arguments of `mica fsck`.

use clap::Args;

/// `mica fsck`.
#[derive(Debug, Args)]
pub(crate) struct FsckArguments {
    /// Drop what is wrong, unless a running mica uses it; builds and pulls make it anew
    #[arg(long)]
    pub(crate) repair: bool,
}
