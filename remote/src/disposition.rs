//! `Content-Disposition`, as far as it names a file, and the percent-encoding that occurs in it.

/// Returns the file name a header gives; `None` if it gives none or is malformed.
pub(crate) fn file_name(header: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    let (mut plain, mut extended) = (None, None);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            break;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = take_value(after.trim_start())?;
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value),
            "filename*" => extended = decode_extended(&value),
            _ => {}
        }
        rest = after;
    }
    let name = extended.or(plain).filter(|name| !name.is_empty() && !name.ends_with('/'))?;
    name.rsplit('/').next().map(str::to_owned)
}

/// Takes a quoted string or a token off the front.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.find(';').unwrap_or(text.len());
        return Some((text[..length].trim().to_owned(), &text[length..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Decodes `UTF-8'language'percent-encoded`.
fn decode_extended(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let charset = parts.next()?.to_ascii_lowercase();
    let encoded = parts.nth(1)?;
    matches!(charset.as_str(), "utf-8" | "us-ascii").then(|| percent_decoded(encoded))?
}

/// Decodes `%41`; `None` if that is not valid, or not text.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (header, expected) in [
            ("attachment; filename=plain.txt", Some("plain.txt")),
            ("attachment; FileName = \"q\\\"uoted;.txt\" ; size=3", Some("q\"uoted;.txt")),
            ("attachment; filename=x; filename*=UTF-8''%e2%82%ac.txt", Some("€.txt")),
            ("attachment; filename*=iso-8859-1'en'%A3", None),
            ("attachment; filename=\"unterminated", None),
            ("attachment; filename=\"\"", None),
            ("attachment; filename=dir/", None),
            ("inline", None),
        ] {
            assert_eq!(file_name(header).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn bad_escapes_are_refused() {
        for bad in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
        assert_eq!(percent_decoded("a%41").as_deref(), Some("aA"));
    }
}
