//! Comma-separated values of one flag, quoted as the reference's flags are.
//!
//! A field that starts with `"` runs to the next lone `"`; `""` inside it is one quote.

/// Why a text is no list of fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CsvError {
    #[error("a quote is not closed")]
    Unclosed,
    #[error("a quote stands inside an unquoted field")]
    BareQuote,
    #[error("text follows a closing quote")]
    AfterQuote,
}

/// Splits `text` into fields.
pub(super) fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match after {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// Splits `field` at its first `=`; the key is lower-cased and trimmed.
pub(super) fn key_value(field: &str) -> Option<(String, &str)> {
    let (key, value) = field.split_once('=')?;
    Some((key.trim().to_ascii_lowercase(), value))
}

fn plain_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') { Err(CsvError::BareQuote) } else { Ok((field.to_owned(), after)) }
}

fn quoted_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or(CsvError::Unclosed)?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if after.is_empty() => return Ok((field, None)),
            None => {
                let next = after.strip_prefix(',').ok_or(CsvError::AfterQuote)?;
                return Ok((field, Some(next)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], CsvError>) {
        let expected =
            expected.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>());
        assert_eq!(fields(text), expected, "{text}");
    }

    #[test]
    fn fields_are_split_and_unquoted() {
        check("a=1,b=2", Ok(&["a=1", "b=2"]));
        check("", Ok(&[""]));
        check("a,", Ok(&["a", ""]));
        check(r#"type=local,"dest=a,b""#, Ok(&["type=local", "dest=a,b"]));
        check(r#""say ""hi""",x"#, Ok(&[r#"say "hi""#, "x"]));
        check(r#""a"#, Err(CsvError::Unclosed));
        check(r#"a"b"#, Err(CsvError::BareQuote));
        check(r#""a"b"#, Err(CsvError::AfterQuote));
    }

    #[test]
    fn keys_are_case_insensitive() {
        assert_eq!(key_value("Type=OCI"), Some(("type".to_owned(), "OCI")));
        assert_eq!(key_value("a=b=c"), Some(("a".to_owned(), "b=c")));
        assert_eq!(key_value("alone"), None);
    }
}
