//! The nouns of container images and the formats they are kept in.
#![forbid(unsafe_code)]

pub mod archive;
pub mod compress;
pub mod config;
mod digest;
pub mod fault;
pub mod index;
pub mod layout;
mod lenient;
pub mod manifest;
mod media_type;
mod platform;
mod reference;
pub mod root_dir;
pub mod tar;
mod timestamp;
pub mod tree;
pub mod unpack;
mod verify;

pub use archive::ImageArchive;
pub use config::ImageConfig;
pub use digest::{ChainId, ContentDigest, DiffId, FileDigest, InvalidDigest, LayerId, StateDigest};
pub use index::{IndexFile, LayerIndex, LayerLookup};
pub use manifest::{Descriptor, Document, Index, Manifest};
pub use media_type::{Dialect, LayerCompression, MediaType};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
pub use root_dir::RootDir;
pub use timestamp::Timestamp;
pub use tree::{Fact, FileTree, MergedTree, RecordingTree, Tree, TreeEntry, TreeLayer};
pub use verify::{BlobMismatch, BlobVerifier, VerifyingReader};
