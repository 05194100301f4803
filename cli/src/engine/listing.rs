//! Listings of what a COPY took, as records keep them: a JSON array with a line for each entry.

use std::borrow::Cow;
use std::io;

use mica_executor::copy::{Listed, Selection};

/// What is between two lines. No path has it in it: there, quotes are escaped.
const BETWEEN: &[u8] = b"\"},{\"path\":\"";

/// About how long a line is.
const USUAL_LINE: usize = 144;

/// A line of a listing, mostly where it was read to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Line<'a> {
    /// Where an entry lies in what it was taken from.
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    /// Everything about it that counts.
    #[serde(borrow)]
    pub state: Cow<'a, str>,
}

/// Writes the listing of a selection.
pub(crate) fn write(selection: &Selection, out: &mut dyn io::Write) -> io::Result<()> {
    let mut text = b"[".to_vec();
    selection.list(|line| {
        put_line(&mut text, line);
        out.write_all(&text)?;
        text.clear();
        text.push(b',');
        Ok::<_, io::Error>(())
    })?;
    // Of nothing there is only the bracket.
    text.retain(|byte| *byte == b'[');
    text.push(b']');
    out.write_all(&text)
}

fn put_line(out: &mut Vec<u8>, line: Listed<'_>) {
    for (start, text) in [("{\"path\":", line.path), (",\"state\":", line.state)] {
        out.extend_from_slice(start.as_bytes());
        put_text(out, text);
    }
    out.push(b'}');
}

/// Writes a JSON string. Nearly all are plain, and telling that of many bytes at once is quicker than looking at each.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| (byte >= b' ') & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("memory takes any text");
    }
}

/// Returns the listing of a selection.
pub(crate) fn written(selection: &Selection) -> Vec<u8> {
    let mut listing = Vec::with_capacity(selection.count() * USUAL_LINE);
    write(selection, &mut listing).expect("memory takes any text");
    listing
}

/// Reads a listing; nothing of what is none.
pub(crate) fn read(listing: &[u8]) -> Vec<Line<'_>> {
    serde_json::from_slice(listing).unwrap_or_default()
}

/// Reads of two listings only what is between their common start and their common end.
pub(crate) fn differing<'a>(old: &'a [u8], new: &'a [u8]) -> (Vec<Line<'a>>, Vec<Line<'a>>) {
    if old == new {
        return (Vec::new(), Vec::new());
    }
    let start = common_start(old, new);
    let end = common_end(&old[start..], &new[start..]);
    let (start, end) = (last_between(&old[..start]), first_between(&old[old.len() - end..]));
    let between = |listing: &'a [u8]| {
        let end = listing.len().checked_sub(end);
        // What is no listing may be shorter.
        end.and_then(|end| listing.get(start..end)).map_or_else(Vec::new, lines)
    };
    (between(old), between(new))
}

/// So many bytes are compared in one go.
const MANY: usize = 4096;

fn common_start(a: &[u8], b: &[u8]) -> usize {
    let many = a.chunks_exact(MANY).zip(b.chunks_exact(MANY)).take_while(|(a, b)| a == b).count() * MANY;
    many + a[many..].iter().zip(&b[many..]).take_while(|(a, b)| a == b).count()
}

fn common_end(a: &[u8], b: &[u8]) -> usize {
    let many = a.rchunks_exact(MANY).zip(b.rchunks_exact(MANY)).take_while(|(a, b)| a == b).count() * MANY;
    let (a, b) = (&a[..a.len() - many], &b[..b.len() - many]);
    many + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Returns where the last whole line ends and the next begins, or where the first begins.
fn last_between(start: &[u8]) -> usize {
    memchr::memmem::rfind(start, BETWEEN).map_or(b"[".len(), |at| at + b"\"},".len())
}

/// Returns how far from the end the first whole line ends, or the last.
fn first_between(end: &[u8]) -> usize {
    memchr::memmem::find(end, BETWEEN).map_or(b"]".len(), |at| end.len() - at - b"\"}".len())
}

/// Reads lines without what is around them.
fn lines(mut text: &[u8]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    while !text.is_empty() {
        let mut stream = serde_json::Deserializer::from_slice(text).into_iter();
        let Some(Ok(line)) = stream.next() else { return Vec::new() };
        lines.push(line);
        let rest = &text[stream.byte_offset()..];
        text = rest.strip_prefix(b",").unwrap_or(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line() -> impl Strategy<Value = (String, String)> {
        let text = "[ab\"\\\\{},:]{0,4}";
        (prop_oneof![text, Just("\"},{\"path\":\"".to_owned())], text)
    }

    fn json(lines: &[(String, String)]) -> Vec<u8> {
        let lines = lines.iter().map(|(path, state)| Listed { path, state });
        serde_json::to_vec(&lines.collect::<Vec<_>>()).unwrap()
    }

    fn one(name: &str) -> Selection {
        let mtime = mica_image::index::Time::UNSET;
        Selection::from_inline(name.as_bytes(), name.as_bytes().into(), 0o644, mtime)
    }

    #[test]
    fn nothing_is_an_empty_list() {
        assert_eq!(written(&Selection::default()), b"[]");
    }

    proptest! {
        #[test]
        fn a_listing_is_what_a_writer_of_json_makes_of_its_lines(names in proptest::collection::vec(".{1,3}", 0..4)) {
            let names = names.iter().filter(|name| !name.contains('/'));
            let selection = Selection { items: names.flat_map(|name| one(name).items).collect() };
            let mut lines = Vec::new();
            let keep = |line: Listed<'_>| {
                lines.push((line.path.to_owned(), line.state.to_owned()));
                Ok::<_, io::Error>(())
            };
            selection.list(keep).unwrap();
            prop_assert_eq!(written(&selection), json(&lines));
        }

        #[test]
        fn outside_what_differs_lines_are_the_same(
            common in proptest::collection::vec(line(), 0..4),
            [old, new] in [(); 2].map(|()| proptest::collection::vec(line(), 0..3)),
            rest in proptest::collection::vec(line(), 0..4),
        ) {
            let [old, new] = [old, new].map(|middle| json(&[common.clone(), middle, rest.clone()].concat()));
            let (gone, come) = differing(&old, &new);
            let (old, new) = (read(&old), read(&new));
            prop_assert_eq!(old.len() - gone.len(), new.len() - come.len());
            let same = old.len() - gone.len();
            let fits = |start: usize| {
                let (old_end, new_end) = (start + gone.len(), start + come.len());
                old[..start] == new[..start]
                    && (&old[start..old_end], &new[start..new_end]) == (&gone[..], &come[..])
                    && old[old_end..] == new[new_end..]
            };
            prop_assert!((0..=same).any(fits));
        }

        #[test]
        fn what_is_no_listing_has_no_lines(old: Vec<u8>, new: Vec<u8>) {
            let _ = (read(&old), differing(&old, &new));
        }
    }
}
