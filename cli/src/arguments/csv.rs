//! Comma-separated values of one flag, quoted as the reference's flags are.

use mica_parser::csv::{self, CsvError};

/// Splits `text` into fields; an empty one is a field too.
pub(super) fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    if text.is_empty() { Ok(vec![String::new()]) } else { csv::fields(text) }
}

/// Splits `field` at its first `=`; the key is lower-cased and trimmed.
pub(super) fn key_value(field: &str) -> Option<(String, &str)> {
    let (key, value) = field.split_once('=')?;
    Some((key.trim().to_ascii_lowercase(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_one_field() {
        assert_eq!(fields("").unwrap(), [""]);
        assert_eq!(fields(r#"type=local,"dest=a,b""#).unwrap(), ["type=local", "dest=a,b"]);
        assert_eq!(fields(r#""a"#), Err(CsvError::Quote));
    }

    #[test]
    fn keys_are_case_insensitive() {
        assert_eq!(key_value("Type=OCI"), Some(("type".to_owned(), "OCI")));
        assert_eq!(key_value("a=b=c"), Some(("a".to_owned(), "b=c")));
        assert_eq!(key_value("alone"), None);
    }
}
