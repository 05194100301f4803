//! Readings of numbers and booleans that differ between Go and Rust.

/// Reads a boolean: `1`, `t`, `T`, `true`, `True`, `TRUE` and their opposites.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Reads digits of a base as a 32-bit number; unlike Rust's own, a sign is refused.
pub(crate) fn parse_u32(text: &str, base: u32) -> Option<u32> {
    text.chars().all(|c| c.is_digit(base)).then(|| u32::from_str_radix(text, base).ok()).flatten()
}
