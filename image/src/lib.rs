//! The nouns of container images and the formats they are kept in.
#![forbid(unsafe_code)]

mod digest;
pub mod index;
pub mod tree;

pub use digest::{ChainId, ContentDigest, DiffId, FileDigest, InvalidDigest, LayerId};
