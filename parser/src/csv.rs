//! One line of comma-separated values, as `--mount`, `--device` and flags of the command line take them.

/// Why a text is not one line of comma-separated values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// There is nothing.
    #[error("the value is empty")]
    Empty,
    /// A `"` inside a field that does not start with one.
    #[error("bare `\"` in a field that is not quoted")]
    BareQuote,
    /// A `"` inside a quoted field that is neither doubled nor its end, or an end that is missing.
    #[error("extraneous or missing `\"` in a quoted field")]
    Quote,
}

/// Splits a line at its commas; a field in double quotes may contain commas, and `""` stands for one quote.
pub fn fields(line: &str) -> Result<Vec<String>, CsvError> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Returns the field, and what follows the comma after it.
fn plain_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let (field, rest) = text.split_once(',').map_or((text, None), |(field, rest)| (field, Some(rest)));
    if field.contains('"') {
        return Err(CsvError::BareQuote);
    }
    Ok((field.to_owned(), rest))
}

fn quoted_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or(CsvError::Quote)?;
        field.push_str(part);
        match after.chars().next() {
            None => return Ok((field, None)),
            Some(',') => return Ok((field, Some(&after[1..]))),
            Some('"') => field.push('"'),
            Some(_) => return Err(CsvError::Quote),
        }
        rest = &after[1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_at_commas_outside_quotes() {
        for (line, expected) in [
            ("a", Ok(vec!["a"])),
            ("a,,b,", Ok(vec!["a", "", "b", ""])),
            ("\"a,b\",c", Ok(vec!["a,b", "c"])),
            ("\"say \"\"hi\"\"\"\r\n", Ok(vec!["say \"hi\""])),
            ("", Err(CsvError::Empty)),
            ("a\"b", Err(CsvError::BareQuote)),
            ("\"a\"b", Err(CsvError::Quote)),
            ("\"a", Err(CsvError::Quote)),
        ] {
            assert_eq!(
                fields(line),
                expected.map(|fields| fields.into_iter().map(str::to_owned).collect()),
                "{line}"
            );
        }
    }
}
