//! Small values on disk: one line of JSON, then one line with the BLAKE3 digest of the first.
//!
//! A file that was cut short or changed does not match its digest and reads as “not there”; it never reads as something else.
//!
//! ```text
//! {"format":1,…}\n
//! <64 hexadecimal digits>\n
//! ```

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{FileError, read_optional};

/// Encodes `value` with its checksum.
pub(crate) fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(value).expect("the store's values have string keys and finite numbers");
    let digest = blake3::hash(&bytes).to_hex();
    bytes.push(b'\n');
    bytes.extend_from_slice(digest.as_bytes());
    bytes.push(b'\n');
    bytes
}

/// Decodes what [`seal`] made; `None` for anything else.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let body = bytes.strip_suffix(b"\n")?;
    let end = body.len().checked_sub(64)?;
    let (json, digest) = (body[..end].strip_suffix(b"\n")?, &body[end..]);
    if blake3::hash(json).to_hex().as_bytes() != digest {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Reads the sealed file at `path`; `None` where there is none, or one that is damaged.
pub(crate) fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    Ok(read_optional(path)?.and_then(|bytes| unseal(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let sealed = seal(&vec![1, 2, 3]);
        assert_eq!(unseal::<Vec<u32>>(&sealed), Some(vec![1, 2, 3]));
        for cut in 0..sealed.len() {
            assert_eq!(unseal::<Vec<u32>>(&sealed[..cut]), None, "cut at {cut}");
        }
        for flipped in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[flipped] ^= 1;
            assert_eq!(unseal::<Vec<u32>>(&damaged), None, "flipped at {flipped}");
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        let expected = "[1]\n44730cbaaac49851b5b5dd8f1cda6e700c73191748b0f60904074029795a3023\n";
        assert_eq!(String::from_utf8(seal(&[1])).unwrap(), expected);
    }
}
