//! Keys: Ed25519 and ECDSA over P-256, in the PEM files that openssl writes.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mica_image::ContentDigest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey,
};

/// What comes before the 32 bytes of an Ed25519 key in its public form (RFC 8410).
const ED25519_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What comes before the 65 bytes of a point of P-256 in its public form (RFC 5480).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const KEY_SIZE_MAX: u64 = 1 << 16;

/// A key could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file could not be read.
    #[error("cannot read the key `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no key of a kind that is known.
    #[error("`{}` {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
    /// There was no randomness.
    #[error("cannot sign")]
    Sign,
}

impl KeyError {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        matches!(self, Self::Unusable { .. }).then(|| {
            "`openssl genpkey -algorithm ed25519 -out key.pem` makes a key, and \
             `openssl pkey -in key.pem -pubout -out key.pub` its public half"
                .to_owned()
        })
    }
}

/// A key that signs.
pub(crate) enum SigningKey {
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
    /// ECDSA over P-256 with SHA-256.
    P256(EcdsaKeyPair),
}

/// A key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifyingKey {
    kind: Kind,
    /// The key itself, without what says which kind it is.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ed25519,
    P256,
}

impl SigningKey {
    /// Reads a private key: PKCS #8 in PEM.
    pub(crate) fn read(path: &Path) -> Result<Self, KeyError> {
        let unusable = |problem| KeyError::Unusable { path: path.to_owned(), problem };
        let text = read(path)?;
        let Some(der) = block(&text, "PRIVATE KEY") else {
            return Err(unusable(match () {
                () if text.contains("ENCRYPTED PRIVATE KEY") => "is encrypted: give it without a passphrase",
                () if text.contains("BEGIN EC PRIVATE KEY") => {
                    "is not in PKCS #8: `openssl pkcs8 -topk8 -nocrypt` converts it"
                }
                () if text.contains("BEGIN PUBLIC KEY") => "is a public key, which cannot sign",
                () => "is no private key in PEM",
            }));
        };
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            return Ok(Self::Ed25519(pair));
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &SystemRandom::new())
            .map(Self::P256)
            .map_err(|_| unusable("is neither an Ed25519 nor a P-256 key"))
    }

    /// Returns its public half.
    pub(crate) fn public(&self) -> VerifyingKey {
        match self {
            Self::Ed25519(pair) => {
                VerifyingKey { kind: Kind::Ed25519, bytes: pair.public_key().as_ref().to_vec() }
            }
            Self::P256(pair) => VerifyingKey { kind: Kind::P256, bytes: pair.public_key().as_ref().to_vec() },
        }
    }

    /// Signs.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyError::Sign),
        }
    }
}

impl VerifyingKey {
    /// Reads a public key in PEM, or takes the public half of a private one.
    pub(crate) fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read(path)?;
        let Some(der) = block(&text, "PUBLIC KEY") else { return Ok(SigningKey::read(path)?.public()) };
        let of = |kind, head: &[u8], length| {
            let bytes = der.strip_prefix(head).filter(|rest| rest.len() == length)?;
            Some(Self { kind, bytes: bytes.to_vec() })
        };
        of(Kind::Ed25519, &ED25519_HEAD, 32).or_else(|| of(Kind::P256, &P256_HEAD, 65)).ok_or_else(|| {
            KeyError::Unusable { path: path.to_owned(), problem: "is neither an Ed25519 nor a P-256 key" }
        })
    }

    /// Returns its name: SHA-256 of its public form.
    pub(crate) fn id(&self) -> String {
        let head: &[u8] = match self.kind {
            Kind::Ed25519 => &ED25519_HEAD,
            Kind::P256 => &P256_HEAD,
        };
        ContentDigest::of(&[head, &self.bytes].concat()).hex()
    }

    /// Whether `signature` is this key's under `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self.kind {
            Kind::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature),
            Kind::P256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > KEY_SIZE_MAX {
        return Err(KeyError::Unusable { path: path.to_owned(), problem: "is larger than any key" });
    }
    let bytes = fs::read(path).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns what is between `BEGIN` and `END` of a kind.
fn block(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with openssl for these tests, and used for nothing else.
    const ED25519_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn a_signature_is_one_keys_under_one_message() {
        let (_kept, path) = file(ED25519_PRIVATE);
        let key = SigningKey::read(&path).unwrap();
        let public = key.public();
        let signature = key.sign(b"message").unwrap();
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!public.verifies(b"message", &signature[1..]));
        // RFC 8410 has this key, RFC 8032 its public half.
        assert_eq!(VerifyingKey::read(&path).unwrap(), public);
        let der = STANDARD.encode([&ED25519_HEAD[..], &public.bytes].concat());
        let (_kept, path) = file(&format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n"));
        assert_eq!(VerifyingKey::read(&path).unwrap(), public);
        assert_eq!(public.id().len(), 64);
    }

    #[test]
    fn what_is_no_key_is_told() {
        for (text, told) in [
            ("", "is no private key in PEM"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "is encrypted"),
            ("-----BEGIN EC PRIVATE KEY-----\n", "pkcs8 -topk8"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "neither an Ed25519"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot sign"),
        ] {
            let (_kept, path) = file(text);
            let Err(error) = SigningKey::read(&path) else { panic!("{text}") };
            assert!(error.to_string().contains(told), "{error}");
            assert!(VerifyingKey::read(&path).is_err());
        }
    }
}
