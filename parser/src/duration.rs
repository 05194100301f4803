//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use nom::bytes::complete::take_while;
use nom::character::complete::{char, digit0};
use nom::combinator::opt;
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("invalid duration `{0}`")]
    Invalid(String),
    #[error("missing unit in duration `{0}`")]
    MissingUnit(String),
    #[error("unknown unit `{unit}` in duration `{text}`")]
    UnknownUnit { unit: String, text: String },
}

/// Returns the duration in nanoseconds.
pub(crate) fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (sign, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (after, (whole, fraction, unit)) = term(rest).map_err(|_| invalid())?;
        if whole.is_empty() && fraction.is_none_or(str::is_empty) {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let scale = nanoseconds(unit)
            .ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        let value = value(whole, fraction.unwrap_or_default(), scale).ok_or_else(invalid)?;
        total = total.checked_add(value).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(sign * total)
}

/// Digits, an optional fraction, and a unit.
fn term(text: &str) -> IResult<&str, (&str, Option<&str>, &str)> {
    let unit = take_while(|c: char| c != '.' && !c.is_ascii_digit());
    (digit0, opt(preceded(char('.'), digit0)), unit).parse(text)
}

fn nanoseconds(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Returns `whole.fraction` times `scale`, the fraction cut off at a nanosecond; `None` on overflow.
fn value(whole: &str, fraction: &str, scale: i64) -> Option<i64> {
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    // Digits past the 18th cannot change a nanosecond.
    let digits = &fraction[..fraction.len().min(18)];
    let numerator = digits.parse::<i64>().unwrap_or_default();
    let part = numerator as f64 * (scale as f64 / 10f64.powi(digits.len() as i32));
    whole.checked_mul(scale)?.checked_add(part as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("1h1m1.5s", Some(3_661_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1.0000000000000000000000001ms", Some(1_000_000)),
            ("10µs", Some(10_000)),
            ("-5ms", Some(-5_000_000)),
            ("+5ms", Some(5_000_000)),
            ("", None),
            ("+", None),
            ("5", None),
            (".s", None),
            ("1q", None),
            ("1 s", None),
            ("1S", None),
            ("9223372036854775808ns", None),
            ("3000000h", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
