//! The values of secrets, as they are needed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use super::request::SecretSource;

/// The largest value; the reference's limit.
const SIZE_MAX: u64 = 500 * 1024;

/// A secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too large.
    #[error("it is larger than {} KiB: a large file that must stay out of the image can be bind-mounted from a named context", SIZE_MAX / 1024)]
    TooLarge,
    /// It cannot be a variable.
    #[error("it is not UTF-8 text and cannot be a variable: mount it as a file instead, without `env=`")]
    NotText,
}

/// Reads a secret.
pub(crate) fn read(source: &SecretSource) -> Result<Vec<u8>, SecretError> {
    let value = match source {
        SecretSource::Variable { value, .. } => value.clone(),
        SecretSource::File(path) => {
            let failed = |source| SecretError::Read { path: path.clone(), source };
            let file = File::open(path).map_err(failed)?;
            let mut value = Vec::new();
            // One byte more tells that there is more.
            file.take(SIZE_MAX + 1).read_to_end(&mut value).map_err(failed)?;
            value
        }
    };
    match value.len() as u64 {
        0..=SIZE_MAX => Ok(value),
        _ => Err(SecretError::TooLarge),
    }
}

/// Returns a secret as the value of a variable.
pub(crate) fn text(value: &[u8]) -> Result<String, SecretError> {
    String::from_utf8(value.to_vec()).map_err(|_| SecretError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_a_limit() {
        let limit = usize::try_from(SIZE_MAX).unwrap();
        let variable = |length| SecretSource::Variable { name: "TOKEN".into(), value: vec![b'x'; length] };
        assert_eq!(read(&variable(limit)).unwrap().len(), limit);
        let endless = SecretSource::File("/dev/zero".into());
        for too_large in [variable(limit + 1), endless] {
            assert!(matches!(read(&too_large), Err(SecretError::TooLarge)));
        }
    }

    #[test]
    fn only_text_is_a_variable() {
        assert_eq!(text("ü".as_bytes()).unwrap(), "ü");
        assert!(matches!(text(b"\xff"), Err(SecretError::NotText)));
    }
}
