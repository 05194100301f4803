//! What two contents of one file give away about the cause of their difference.

use std::collections::BTreeSet;

use super::archive::{header_difference, unpacked};
use super::{Cause, Trial};

/// What is known of both builds.
pub(super) struct Facts<'a> {
    pub(super) before: &'a Trial,
    pub(super) after: &'a Trial,
    /// The host name of a step that was given no other.
    pub(super) usual_hostname: &'a str,
}

/// Returns the cause of a difference and what shows it; `None` where the contents do not tell.
pub(super) fn of_contents(
    path: &[u8],
    before: &[u8],
    after: &[u8],
    facts: &Facts<'_>,
) -> Option<(Cause, String)> {
    of_plain_contents(path, before, after, facts).or_else(|| {
        let (before, after) = (unpacked(before)?, unpacked(after)?);
        of_plain_contents(path, &before, &after, facts)
    })
}

/// The same, with nothing unpacked.
fn of_plain_contents(path: &[u8], before: &[u8], after: &[u8], facts: &Facts<'_>) -> Option<(Cause, String)> {
    if let Some(field) = header_difference(path, before, after) {
        return Some((Cause::ArchiveHeader, field));
    }
    named(before, after, facts).or_else(|| match (std::str::from_utf8(before), std::str::from_utf8(after)) {
        (Ok(before), Ok(after)) => of_texts(before, after, facts),
        _ => binary_time(before, after, facts)
            .or_else(|| time_of_one(&strings(before), &strings(after), facts)),
    })
}

/// Values that are only in one of the builds.
fn named(before: &[u8], after: &[u8], facts: &Facts<'_>) -> Option<(Cause, String)> {
    let conditions = &facts.after.conditions;
    let found = |value: &Option<String>, cause| {
        let value = value.as_deref().filter(|value| contains(after, value) && !contains(before, value))?;
        Some((cause, format!("it holds `{value}`")))
    };
    let path = |bytes: &[u8], trial: &Trial| contains(bytes, &place(trial));
    found(&conditions.hostname, Cause::HostName)
        .filter(|_| contains(before, facts.usual_hostname))
        .or_else(|| found(&conditions.locale, Cause::Locale))
        .or_else(|| {
            let holds = path(before, facts.before) && path(after, facts.after);
            holds.then(|| (Cause::BuildPath, "it holds the path of mica's store".to_owned()))
        })
        .or_else(|| {
            let zone = conditions.time_zone.as_deref().map(zone_name).map(str::to_owned);
            found(&zone, Cause::TimeZone).filter(|_| !tells_time(before))
        })
}

/// The end of a store's path: what is before it depends on where its file system is mounted.
fn place(trial: &Trial) -> String {
    let names: Vec<_> = trial.store.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
    names.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// The name in front of the offset.
fn zone_name(zone: &str) -> &str {
    zone.split(|byte: char| !byte.is_ascii_alphabetic()).next().unwrap_or(zone)
}

fn tells_time(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| words(text).any(is_clock))
}

fn of_texts(before: &str, after: &str, facts: &Facts<'_>) -> Option<(Cause, String)> {
    if is_permuted(before.lines(), after.lines()) {
        return Some((Cause::Order, "the same lines in another order".to_owned()));
    }
    if is_permuted(before.split_whitespace(), after.split_whitespace()) {
        return Some((Cause::Order, "the same words in another order".to_owned()));
    }
    let pairs = differing_words(before, after);
    let all_are = |a: &str, b: &str| !pairs.is_empty() && pairs.iter().all(|pair| *pair == (a, b));
    let (old, new) = (facts.before.processors.to_string(), facts.after.processors.to_string());
    if old != new && all_are(&old, &new) {
        return Some((Cause::Processors, format!("`{old}`, then `{new}`")));
    }
    if let Some(umask) = facts.after.conditions.umask {
        let octal = |text: &str, mask: u32| u32::from_str_radix(text, 8) == Ok(mask);
        if !pairs.is_empty() && pairs.iter().all(|(a, b)| octal(a, 0o022) && octal(b, umask)) {
            return Some((Cause::Umask, format!("`{}`, then `{}`", pairs[0].0, pairs[0].1)));
        }
    }
    if facts.after.is_nested && before.contains(ALL_IDS) && !after.contains(ALL_IDS) {
        return Some((Cause::User, "it holds the map of user ids".to_owned()));
    }
    let shown = |cause, (a, b): &(&str, &str)| (cause, format!("`{a}`, then `{b}`"));
    let is_shifted = |a: &str, b: &str| is_clock(a) && is_clock(b) && past_hours(a) == past_hours(b);
    let is_time = |(a, b): &&(&str, &str)| are_times(a, b, facts) && !is_shifted(a, b);
    if let Some(pair) = pairs.iter().find(is_time) {
        return Some(shown(Cause::Time, pair));
    }
    // The same minute of another hour, wherever there is one.
    if let Some(pair) = pairs.iter().find(|(a, b)| is_shifted(a, b)) {
        return facts.after.conditions.time_zone.as_ref().map(|_| shown(Cause::TimeZone, pair));
    }
    time_of_one(before, after, facts)
}

fn are_times(a: &str, b: &str, facts: &Facts<'_>) -> bool {
    (is_clock(a) && is_clock(b))
        || (is_date(a) && is_date(b))
        || (is_epoch(a, facts.before.seconds) && is_epoch(b, facts.after.seconds))
}

/// A time that only one of them tells where the other tells another, at whatever place.
fn time_of_one(before: &str, after: &str, facts: &Facts<'_>) -> Option<(Cause, String)> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (words(before).collect(), words(after).collect());
    // With seconds: among the strings of a program many words look like hours and minutes.
    let is_exact = |word: &&&str| is_clock(word) && word.matches(':').count() > 1;
    let clocks = old.difference(&new).find(is_exact).zip(new.difference(&old).find(is_exact));
    let epoch = |seconds| move |word: &&&str| is_epoch(word, seconds);
    let (a, b) = clocks.or_else(|| {
        let first = old.difference(&new).find(epoch(facts.before.seconds));
        first.zip(new.difference(&old).find(epoch(facts.after.seconds)))
    })?;
    Some((Cause::Time, format!("`{a}`, then `{b}`")))
}

/// The texts in a program or other binary, one a line.
fn strings(bytes: &[u8]) -> String {
    const SHORTEST: usize = 4;
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let runs = bytes.split(|byte| !is_text(byte)).filter(|run| run.len() >= SHORTEST);
    runs.map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
}

/// Returns the first words that only one of the contents has: what whoever looks for the cause sees first.
pub(super) fn example(before: &[u8], after: &[u8]) -> Option<String> {
    const LONGEST: usize = 80;
    let texts = [before, after].map(|bytes| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => strings(bytes),
    });
    let [old, new] = texts.each_ref().map(|text| words(text).collect::<BTreeSet<_>>());
    let first = |text: &str, other: &BTreeSet<&str>| {
        let word = words(text).find(|word| !other.contains(word))?;
        Some(word.chars().take(LONGEST).collect::<String>())
    };
    Some(format!("`{}`, then `{}`", first(&texts[0], &new)?, first(&texts[1], &old)?))
}

/// The number of ids in the map of a host.
const ALL_IDS: &str = "4294967295";

fn is_permuted<'a>(before: impl Iterator<Item = &'a str>, after: impl Iterator<Item = &'a str>) -> bool {
    let (mut a, mut b) = (before.collect::<Vec<_>>(), after.collect::<Vec<_>>());
    if a == b {
        return false;
    }
    a.sort_unstable();
    b.sort_unstable();
    a == b
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter.is_whitespace() || "\"'=,;()[]{}<>".contains(letter))
        .filter(|word| !word.is_empty())
}

/// Words at the same place that are not the same; nothing where the texts have another number of words.
fn differing_words<'a>(before: &'a str, after: &'a str) -> Vec<(&'a str, &'a str)> {
    let (a, b): (Vec<_>, Vec<_>) = (words(before).collect(), words(after).collect());
    if a.len() != b.len() {
        return Vec::new();
    }
    a.into_iter().zip(b).filter(|(a, b)| a != b).collect()
}

/// `13:04`, `13:04:27`, `2026-11-21T13:04:27Z`, `13:04:27.5`.
fn is_clock(word: &str) -> bool {
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let time = word.rsplit('T').next().unwrap_or(word);
    let mut parts = time.split(':');
    let (Some(hours), Some(minutes)) = (parts.next(), parts.next()) else { return false };
    let seconds = parts.next().is_none_or(|seconds| seconds.get(..2).is_some_and(digits));
    digits(hours) && minutes.get(..2).is_some_and(digits) && seconds
}

/// `2026-11-21` or `20261121`.
fn is_date(word: &str) -> bool {
    let digits: String = word.split('-').collect();
    let is_dashed = word.len() == 10 && word.as_bytes()[4] == b'-' && word.as_bytes()[7] == b'-';
    let is_number = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (word.len() == 8 || is_dashed) && is_number && digits.starts_with("20")
}

/// The minutes of a clock, and what is after them.
fn past_hours(word: &str) -> Option<&str> {
    word.split_once(':').map(|(_, rest)| rest)
}

/// A number of seconds, milli- or nanoseconds within the build.
fn is_epoch(word: &str, (first, last): (i64, i64)) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let seconds = word.get(..10).filter(|_| matches!(digits, 10 | 13 | 16 | 19));
    seconds
        .and_then(|seconds| seconds.parse().ok())
        .is_some_and(|seconds: i64| (first..=last).contains(&seconds))
}

/// Four bytes at the same place that are a second of each build.
fn binary_time(before: &[u8], after: &[u8], facts: &Facts<'_>) -> Option<(Cause, String)> {
    let differing = before.iter().zip(after).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at);
    let within = |bytes: [u8; 4], (first, last): (i64, i64)| {
        [u32::from_le_bytes(bytes), u32::from_be_bytes(bytes)]
            .map(|seconds| (first..=last).contains(&i64::from(seconds)))
    };
    for at in differing {
        for start in at.saturating_sub(3)..=at {
            let word =
                |bytes: &[u8]| bytes.get(start..start + 4).and_then(|word| <[u8; 4]>::try_from(word).ok());
            let (Some(a), Some(b)) = (word(before), word(after)) else { continue };
            let (a, b) = (within(a, facts.before.seconds), within(b, facts.after.seconds));
            if (a[0] && b[0]) || (a[1] && b[1]) {
                return Some((Cause::Time, format!("seconds since 1970 at byte {start}")));
            }
        }
    }
    None
}

fn contains(bytes: &[u8], text: &str) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::Conditions;
    use super::*;

    fn cause(before: &str, after: &str) -> Option<Cause> {
        let usual = Trial {
            store: "/var/tmp/r/first".into(),
            report: "x".into(),
            layout: None,
            is_nested: false,
            conditions: Conditions::default(),
            processors: 2,
            seconds: (1_700_000_000, 1_700_000_010),
        };
        let other = Trial {
            store: "/dev/shm/second".into(),
            is_nested: true,
            processors: 1,
            seconds: (1_700_000_020, 1_700_000_030),
            conditions: Conditions {
                hostname: Some("elsewhere".into()),
                locale: Some("et_EE.UTF-8".into()),
                time_zone: Some("KIRI-14".into()),
                umask: Some(0o002),
                ..Conditions::default()
            },
            ..usual.clone()
        };
        let facts = Facts { before: &usual, after: &other, usual_hostname: "buildkitsandbox" };
        of_contents(b"file", before.as_bytes(), after.as_bytes(), &facts).map(|(cause, _)| cause)
    }

    #[test]
    fn contents_tell_their_cause() {
        let cases = [
            ("built 1700000003\n", "built 1700000024\n", Some(Cause::Time)),
            ("Sat Nov 21 13:04:27 UTC 2026\n", "Sun Nov 22 03:04:47 KIRI 2026\n", Some(Cause::Time)),
            ("UTC\n", "KIRI\n", Some(Cause::TimeZone)),
            ("made 16:08\nin 16:09\n", "made 06:08\nin 06:09\n", Some(Cause::TimeZone)),
            ("built 2026-11-21\n", "built 2026-11-22\n", Some(Cause::Time)),
            ("20261121\n", "20261120\n", Some(Cause::Time)),
            ("2026-11\n", "2026-12\n", None),
            ("made 16:08\nin 16:09\n", "made 06:08\nin 06:10\n", Some(Cause::Time)),
            ("C\n", "et_EE.UTF-8\n", Some(Cause::Locale)),
            ("on buildkitsandbox\n", "on elsewhere\n", Some(Cause::HostName)),
            ("0022\n", "0002\n", Some(Cause::Umask)),
            ("jobs=2\n", "jobs=1\n", Some(Cause::Processors)),
            ("0 0 4294967295\n", "0 0 65536\n", Some(Cause::User)),
            ("/var/tmp/r/first/x\n", "/dev/shm/second/x\n", Some(Cause::BuildPath)),
            ("a\nb\n", "b\na\n", Some(Cause::Order)),
            ("a b\n", "b a\n", Some(Cause::Order)),
            ("x 13:04:27\n", "13:04:28 y z\n", Some(Cause::Time)),
            ("x 13:04\n", "13:05 y z\n", None),
            ("\u{0}\u{1}program built 13:04:27\0", "\u{0}\u{1}program built 13:04:29\0", Some(Cause::Time)),
            ("9f2c\n", "11aa\n", None),
        ];
        for (before, after, expected) in cases {
            assert_eq!(cause(before, after), expected, "{before} {after}");
        }
    }

    #[test]
    fn words_of_either_are_shown() {
        let shown = |a: &[u8], b: &[u8]| example(a, b).unwrap_or_default();
        assert_eq!(shown(b"in /tmp/x1 now\n", b"now in /tmp/y2\n"), "`/tmp/x1`, then `/tmp/y2`");
        assert_eq!(shown(b"\xff\0/tmp/x1\0same\0", b"\xff\0same\0/tmp/y2\0"), "`/tmp/x1`, then `/tmp/y2`");
        assert_eq!(shown(b"a b", b"b a"), "");
    }

    #[test]
    fn times_are_told_from_other_words() {
        assert!(is_clock("13:04:27") && is_clock("2026-11-21T13:04:27Z") && is_clock("13:04"));
        assert!(!is_clock("1:2") && !is_clock("ab:cd") && !is_clock("13"));
        assert!(
            is_epoch("1700000000123", (1_700_000_000, 1_700_000_001))
                && !is_epoch("17000000001", (0, i64::MAX))
        );
    }
}
