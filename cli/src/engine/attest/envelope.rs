//! DSSE envelopes: a statement with signatures under it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mica_image::ContentDigest;
use serde::{Deserialize, Serialize};

use super::key::{KeyError, SigningKey, VerifyingKey};
use super::statement::{STATEMENT_TYPE, Statement};

/// The type of what is in the envelopes.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// An envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// An envelope that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    /// It is none.
    #[error("it is no envelope with a statement")]
    Form,
    /// Another key signed it.
    #[error("it is signed with another key ({0})")]
    OtherKey(String),
    /// The signature is not of what it holds.
    #[error("its signature does not match what it says: it was altered, or the key is another")]
    Signature,
    /// It is about something else.
    #[error("it speaks of another image ({0})")]
    OtherImage(String),
}

impl Envelope {
    /// Signs a statement.
    pub(crate) fn seal(statement: &Statement, key: &SigningKey) -> Result<Self, KeyError> {
        let payload = statement.to_bytes();
        let signature = key.sign(&authenticated(PAYLOAD_TYPE, &payload))?;
        Ok(Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&payload),
            signatures: vec![Signature { keyid: key.public().id(), sig: STANDARD.encode(signature) }],
        })
    }

    /// Returns its bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope has text keys")
    }

    /// Returns the statement if the key signed it, and it speaks of the image with this digest.
    pub(crate) fn open(
        bytes: &[u8],
        key: &VerifyingKey,
        image: &ContentDigest,
    ) -> Result<Statement, Distrust> {
        let envelope: Self = serde_json::from_slice(bytes).map_err(|_| Distrust::Form)?;
        let payload = STANDARD.decode(&envelope.payload).map_err(|_| Distrust::Form)?;
        let message = authenticated(&envelope.payload_type, &payload);
        let signed = envelope.signatures.iter().any(|signature| {
            STANDARD.decode(&signature.sig).is_ok_and(|signature| key.verifies(&message, &signature))
        });
        if !signed {
            let ids: Vec<&str> = envelope.signatures.iter().map(|it| it.keyid.as_str()).collect();
            return Err(match ids.contains(&key.id().as_str()) || ids.iter().all(|id| id.is_empty()) {
                true => Distrust::Signature,
                false => Distrust::OtherKey(ids.join(", ")),
            });
        }
        let statement: Statement = serde_json::from_slice(&payload).map_err(|_| Distrust::Form)?;
        if envelope.payload_type != PAYLOAD_TYPE || statement.kind != STATEMENT_TYPE {
            return Err(Distrust::Form);
        }
        match statement.speaks_of(image) {
            true => Ok(statement),
            false => Err(Distrust::OtherImage(statement.digests())),
        }
    }
}

/// What is signed: the type counts as much as the content.
fn authenticated(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_as_the_specification_has_it() {
        let text = String::from_utf8(authenticated("http://example.com/HelloWorld", b"hello world")).unwrap();
        assert_eq!(text, "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
