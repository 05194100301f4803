//! What is written is read, and another reader agrees.

use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::index::testing;

/// The content of a file that the generated layers have.
fn content_of(entry: &Entry) -> Vec<u8> {
    let Node::File { digest, .. } = entry.node else { return Vec::new() };
    (0..4u8).map(|content| vec![content]).find(|content| FileDigest::of(content) == digest).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(index in testing::arbitrary_index()) {
        let mut bytes = Vec::new();
        write_layer(&index, |entry| Ok(io::Cursor::new(content_of(entry))), &mut bytes, &TarOptions::default()).unwrap();
        // A tar has neither the root, nor fractions of times, nor where else the bytes are.
        let entries = index.entries.iter().filter(|entry| !entry.path.is_empty()).cloned().map(|mut entry| {
            (entry.mtime.nanoseconds, entry.mtime.kind) = (0, TimeKind::Set);
            if let Node::File { bytes, .. } = &mut entry.node {
                *bytes = Bytes::Here;
            }
            entry
        });
        let expected = LayerIndex::from_entries(entries.collect()).unwrap();
        prop_assert_eq!(read(&bytes).unwrap(), expected);
    }

    /// The `tar` crate's own reader agrees about names, sizes and bytes of what both accept.
    #[test]
    fn another_reader_agrees(members in prop::collection::vec((prop::sample::select(vec!['0', '5', '2', 'x']), 0..4usize, 0..700usize), 0..6), flip in prop::option::of((0..2000usize, any::<u8>()))) {
        let content = vec![b'c'; 700];
        let names = ["a", "b/c", "d", "e/f/g"];
        let mut bytes = Vec::new();
        for (kind, name, length) in members {
            let raw = Raw(kind, names[name], "target", if kind == '0' { &content[..length] } else { b"" });
            match kind {
                'x' => {
                    let records = pax(&[("path", "renamed"), ("mtime", "5")]);
                    bytes.extend(block(&header(&Raw('x', "pax", "", &records)), &records));
                    bytes.extend(block(&header(&Raw('0', "short", "", b"")), b""));
                }
                _ => bytes.extend(block(&header(&raw), raw.3)),
            }
        }
        bytes.resize(bytes.len() + 1024, 0);
        if let Some((at, byte)) = flip {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let limits = TarLimits::default();
        let mut ours = TarReader::new(&bytes[..], &limits);
        let mut found = Vec::new();
        let mut agreed = true;
        loop {
            match ours.next_member() {
                Ok(Some(member)) => {
                    let mut data = Vec::new();
                    agreed &= ours.read_data(|bytes| { data.extend_from_slice(bytes); Ok(()) }).is_ok();
                    found.push((member.path, data));
                }
                Ok(None) => break,
                Err(_) => { agreed = false; break }
            }
        }
        if agreed {
            let mut archive = ::tar::Archive::new(&bytes[..]);
            let mut theirs = Vec::new();
            for entry in archive.entries().unwrap() {
                let Ok(mut entry) = entry else { return Ok(()) };
                let mut data = Vec::new();
                if entry.read_to_end(&mut data).is_err() { return Ok(()) }
                theirs.push((entry.path_bytes().into_owned(), data));
            }
            prop_assert_eq!(found, theirs);
        }
    }

    #[test]
    fn nonsense_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), fix: bool) {
        if fix && bytes.len() >= 512 {
            let mut header = ::tar::Header::from_byte_slice(&bytes[..512]).clone();
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        // That it returns is all that is asked.
        let _ = read(&bytes);
    }
}
