//! Sizes with binary units: `64m`, `1.5GiB`, `100 kb`.

/// Returns the number of bytes, or `None` when the text is no size.
pub(super) fn parse(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = match text.as_bytes()[last] {
        b' ' => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    let number = parse_float(number).filter(|number| *number >= 0.0)?;
    Some((number * multiplier(&unit.to_ascii_lowercase())?) as i64)
}

fn multiplier(unit: &str) -> Option<f64> {
    let power = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" if matches!(unit, "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let suffix = &unit[usize::from(power > 0)..];
    matches!(suffix, "" | "b" | "ib").then(|| 1024f64.powi(power))
}

/// Rust reads `inf` and `nan` where no digits need be; a size has some.
fn parse_float(text: &str) -> Option<f64> {
    text.contains(|c: char| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("32", Some(32)),
            ("32b", Some(32)),
            ("32k", Some(32 << 10)),
            ("32KB", Some(32 << 10)),
            ("32 kib", Some(32 << 10)),
            ("32.5kB", Some(33_280)),
            (".3kB", Some(307)),
            ("1G", Some(1 << 30)),
            ("1tb", Some(1 << 40)),
            ("1P", Some(1 << 50)),
            ("", None),
            ("hello", None),
            ("-32", None),
            (" 32 ", None),
            ("32m b", None),
            ("32 mm", None),
            ("32bb", None),
            ("32ib", None),
            ("32mbb", None),
            ("32mibib", None),
            ("32e", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
