//! Digests: the OCI ones (SHA-256, of blobs and tars) and mica's own (BLAKE3, of file bytes, layers and keys).
//!
//! Each kind of name is its own type, so that a diff id can never be handed over where a blob digest is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A digest in text that is not of the form `algorithm:hex` with the right algorithm and length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest of the form `{algorithm}:<64 hexadecimal digits>`")]
pub struct InvalidDigest {
    text: String,
    algorithm: &'static str,
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $algorithm:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The algorithm's name as it stands before the colon.
            pub const ALGORITHM: &'static str = $algorithm;

            /// Wraps the raw 32 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the raw 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the 64 lower-case hexadecimal digits, without the algorithm.
            #[must_use]
            pub fn hex(&self) -> String {
                digits_in(&digits_of(&self.0)).to_owned()
            }

            /// Reads 64 hexadecimal digits without an algorithm, as used in file names of the store.
            pub fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
                parse_hex(text)
                    .map(Self)
                    .ok_or_else(|| InvalidDigest { text: text.to_owned(), algorithm: $algorithm })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($algorithm, ":"))?;
                f.write_str(digits_in(&digits_of(&self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &digits_in(&digits_of(&self.0))[..12])
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix(concat!($algorithm, ":"))
                    .and_then(parse_hex)
                    .map(Self)
                    .ok_or_else(|| InvalidDigest { text: text.to_owned(), algorithm: $algorithm })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// The SHA-256 digest of a blob as the OCI image specification names content: a config, a manifest, a layer blob.
    ContentDigest, "sha256"
);
digest_type!(
    /// The SHA-256 digest of a layer's uncompressed tar (OCI image specification, “layer DiffID”).
    DiffId, "sha256"
);
digest_type!(
    /// The SHA-256 digest that names a stack of layers (OCI image specification, “layer ChainID”).
    ChainId, "sha256"
);
digest_type!(
    /// The BLAKE3 digest of one regular file's bytes.
    FileDigest, "blake3"
);
digest_type!(
    /// mica's name of a layer: the BLAKE3 digest of its canonical index (see [`crate::index`]).
    LayerId, "blake3"
);
digest_type!(
    /// The BLAKE3 digest of something observed in a tree (see [`crate::tree::Observed`]).
    StateDigest, "blake3"
);

impl ContentDigest {
    /// Returns the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl FileDigest {
    /// Returns the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Returns the hexadecimal digits of a digest; no room is asked for, for there are listings of many.
fn digits_of(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

fn digits_in(digits: &[u8; 64]) -> &str {
    std::str::from_utf8(digits).expect("digits are ASCII")
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
