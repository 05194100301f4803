//! What is different in the heads of two archives or compressed files.

use std::io::Read as _;

use mica_image::compress::{Codec, Decoder};

/// Contents up to this size are looked into.
const LIMIT: u64 = 64 << 20;
const BLOCK: usize = 512;

/// Returns in words which field of a head is the first that differs; `None` where the heads are equal or there are none.
pub(super) fn header_difference(path: &[u8], before: &[u8], after: &[u8]) -> Option<String> {
    let both = |magic: &[u8]| before.starts_with(magic) && after.starts_with(magic);
    if both(b"\x1f\x8b") && before.get(4..8)? != after.get(4..8)? {
        return Some("gzip: time of the original".to_owned());
    }
    if both(b"PK\x03\x04") {
        return zip(before, after);
    }
    if both(b"!<arch>\n") {
        return ar(before, after);
    }
    if path.ends_with(b".pyc") && before.get(8..12)? != after.get(8..12)? {
        return Some("compiled Python: time of the source".to_owned());
    }
    if before.get(257..262)? == b"ustar" && after.get(257..262)? == b"ustar" {
        return tar(before, after);
    }
    None
}

/// Returns what is in something compressed; `None` of anything else.
pub(super) fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let decoder = Decoder::new(bytes).ok().filter(|decoder| decoder.codec() != Codec::Plain)?;
    // What is no proper archive is compared as it is.
    decoder.take(LIMIT).read_to_end(&mut content).ok()?;
    Some(content)
}

fn zip(before: &[u8], after: &[u8]) -> Option<String> {
    let heads = |bytes: &[u8]| -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some(next) = bytes[at..].windows(4).position(|window| window == b"PK\x03\x04") {
            found.push(at + next);
            at += next + 4;
        }
        found
    };
    let (old, new) = (heads(before), heads(after));
    let differs = |(a, b): (&usize, &usize)| before.get(a + 10..a + 14) != after.get(b + 10..b + 14);
    old.iter().zip(&new).any(differs).then(|| "zip: time of a member".to_owned())
}

fn ar(before: &[u8], after: &[u8]) -> Option<String> {
    let fields = [(16..28, "time"), (28..40, "owner"), (40..48, "mode")];
    let mut at = 8;
    while let (Some(a), Some(b)) = (before.get(at..at + 60), after.get(at..at + 60)) {
        if let Some((_, name)) = fields.iter().find(|(range, _)| a[range.clone()] != b[range.clone()]) {
            return Some(format!("ar: {name} of `{}`", text(&a[..16])));
        }
        let size: usize = text(&a[48..58]).parse().ok()?;
        at += 60 + size + size % 2;
    }
    None
}

/// One member of a tar: its head, and where the next is.
fn members(bytes: &[u8]) -> Vec<&[u8]> {
    let mut heads = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + BLOCK).filter(|head| head[0] != 0) {
        heads.push(head);
        let size = usize::from_str_radix(&text(&head[124..136]), 8).unwrap_or(0);
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    heads
}

fn tar(before: &[u8], after: &[u8]) -> Option<String> {
    let (old, new) = (members(before), members(after));
    let name = |head: &[u8]| text(&head[..100]);
    let names = |heads: &[&[u8]]| -> Vec<String> { heads.iter().map(|head| name(head)).collect() };
    let (mut a, mut b) = (names(&old), names(&new));
    if a != b {
        a.sort();
        b.sort();
        return (a == b).then(|| "tar: order of members".to_owned());
    }
    let fields = [(136..148, "time"), (108..124, "owner"), (265..329, "owner's name"), (100..108, "mode")];
    fields.iter().find_map(|(range, field)| {
        let (head, _) = old.iter().zip(&new).find(|(a, b)| a[range.clone()] != b[range.clone()])?;
        Some(format!("tar: {field} of `{}`", name(head)))
    })
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(names: &[&str], time: &str, mode: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in names {
            let mut head = [0; BLOCK];
            head[..name.len()].copy_from_slice(name.as_bytes());
            head[100..100 + mode.len()].copy_from_slice(mode.as_bytes());
            head[124..126].copy_from_slice(b"1\0");
            head[136..136 + time.len()].copy_from_slice(time.as_bytes());
            head[257..262].copy_from_slice(b"ustar");
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(&[7; BLOCK]);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    #[test]
    fn the_first_field_is_named() {
        let difference = |a: &[u8], b: &[u8]| header_difference(b"x", a, b);
        let plain = tar_of(&["a", "b"], "17", "644");
        let told = |other: &[u8]| difference(&plain, other).unwrap();
        assert_eq!(told(&tar_of(&["a", "b"], "18", "664")), "tar: time of `a`");
        assert_eq!(told(&tar_of(&["a", "b"], "17", "664")), "tar: mode of `a`");
        assert_eq!(told(&tar_of(&["b", "a"], "17", "644")), "tar: order of members");
        assert_eq!(difference(&plain, &tar_of(&["a", "c"], "17", "644")), None);
        assert_eq!(
            difference(b"\x1f\x8b\x08\0\x01\0\0\0", b"\x1f\x8b\x08\0\x02\0\0\0").unwrap(),
            "gzip: time of the original"
        );
        let head = |time: &str| {
            format!("!<arch>\n{:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\nxy", "a/", 0, 0, 644, 2).into_bytes()
        };
        assert_eq!(difference(&head("1"), &head("2")).unwrap(), "ar: time of `a/`");
        assert_eq!(difference(b"text", b"other"), None);
    }
}
