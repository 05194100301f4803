//! Arguments of `mica attest` and `mica verify`.

use std::path::PathBuf;

use clap::Args;

use super::build::BuildArguments;

/// What the help of `mica attest` ends with.
pub(super) const ATTEST_EXAMPLES: &str = "\
Examples:
  openssl genpkey -algorithm ed25519 -out key.pem        make a key
  openssl pkey -in key.pem -pubout -out key.pub          and its public half
  mica attest --key key.pem registry.example.com/app     sign what is said of an image
  mica attest --key key.pem ./layout                     the same of an OCI layout
  mica attest --key key.pem --type https://example.com/tested/v1 --predicate tested.json ./layout";

/// What the help of `mica verify` ends with.
pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  mica verify --key key.pub registry.example.com/app     has this key signed what is said of the image?
  mica verify --key key.pub ./layout                     of a layout every blob is read; no network is needed
  mica verify --rebuild registry.example.com/app .       build it again from its provenance, and compare
  mica verify --rebuild --offline registry.example.com/app .       with what the store knows of it alone

Exit codes: 0 it is as it should be, 1 it is not, 2 that could not be told.";

/// `mica attest`.
#[derive(Debug, Args)]
pub(crate) struct AttestArguments {
    /// The image: a directory with an OCI layout (`PATH` or `PATH:NAME`), or a name in a registry
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The private key that signs: Ed25519 or P-256, PKCS #8 in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The type of a statement of your own [default: sign what is attached already]
    #[arg(long = "type", value_name = "URI", requires = "predicate")]
    pub(crate) kind: Option<String>,
    /// What that statement says, as JSON
    #[arg(long, value_name = "FILE", requires = "kind")]
    pub(crate) predicate: Option<PathBuf>,
}

/// `mica verify`.
#[derive(Debug, Args)]
#[command(
    override_usage = "mica verify --key FILE IMAGE\n       mica verify --rebuild IMAGE [OPTIONS] PATH | URL"
)]
pub(crate) struct VerifyArguments {
    /// The image: an OCI layout or archive (`PATH` or `PATH:NAME`), or a name in a registry
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The public key that must have signed what is said of the image
    #[arg(long, value_name = "FILE", required_unless_present = "rebuild")]
    pub(crate) key: Option<PathBuf>,
    /// Build the image again from its provenance, and compare
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// What a rebuild cannot know: the context, secrets and the like.
    #[command(flatten)]
    pub(crate) build: BuildArguments,
}
