//! Archives put together by hand, and what is expected of them.

mod agreement;
mod hostile;
mod reading;

use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::FileDigest;
use crate::index::{Bytes, Entry, LayerIndex, Node, Time, TimeKind};

/// What has been stored, by path.
#[derive(Default, Debug, PartialEq)]
struct Stored {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
    open: Option<(Vec<u8>, Vec<u8>)>,
}

impl LayerSink for Stored {
    fn begin_file(&mut self, path: &[u8]) -> io::Result<()> {
        assert!(!self.files.contains_key(path), "the place was cleared");
        self.open = Some((path.to_vec(), Vec::new()));
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.as_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }
    fn end_file(&mut self) -> io::Result<()> {
        self.files.extend(self.open.take());
        Ok(())
    }
    fn rename(&mut self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let bytes = self.files.remove(from).expect("what is renamed is stored");
        assert!(self.files.insert(to.to_vec(), bytes).is_none());
        Ok(())
    }
    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        self.files.retain(|stored, _| stored != path && !crate::index::is_below(stored, path));
        Ok(())
    }
}

/// One member: kind letter, name, link target, content.
#[derive(Clone, Copy)]
struct Raw<'a>(char, &'a str, &'a str, &'a [u8]);

fn header(raw: &Raw<'_>) -> ::tar::Header {
    let mut header = ::tar::Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..raw.1.len()].copy_from_slice(raw.1.as_bytes());
    old.linkname[..raw.2.len()].copy_from_slice(raw.2.as_bytes());
    old.linkflag[0] = if raw.0 == '_' { 0 } else { raw.0 as u8 };
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(raw.3.len() as u64);
    header.set_cksum();
    header
}

fn block(header: &::tar::Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(members: &[Raw<'_>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(|raw| block(&header(raw), raw.3)).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = if rest + 1 < 10 {
            1
        } else if rest + 2 < 100 {
            2
        } else {
            3
        };
        body.extend_from_slice(format!("{} {key}={value}\n", rest + digits).as_bytes());
    }
    body
}

fn read_with(bytes: &[u8], limits: &TarLimits<'_>) -> Result<(LayerIndex, Stored), TarError> {
    let mut stored = Stored::default();
    let index = read_layer(bytes, limits, &mut stored)?;
    let here: BTreeMap<_, _> = index
        .entries
        .iter()
        .filter_map(|entry| match entry.node {
            Node::File { digest, bytes: Bytes::Here, .. } => Some((entry.path.clone(), digest)),
            _ => None,
        })
        .collect();
    let kept: BTreeMap<_, _> =
        stored.files.iter().map(|(path, bytes)| (path.clone(), FileDigest::of(bytes))).collect();
    assert_eq!(here, kept, "what is stored is what the index says");
    Ok((index, stored))
}

fn read(bytes: &[u8]) -> Result<LayerIndex, TarError> {
    read_with(bytes, &TarLimits::default()).map(|(index, _)| index)
}

fn error(members: &[Raw<'_>]) -> String {
    read(&archive(members)).expect_err("the archive is refused").to_string()
}

/// The entries as `archive` gives them: all times set to 7.
fn expect(members: &[Raw<'_>], entries: Vec<Entry>) {
    let timed = |entry: Entry| match entry.node {
        Node::Whiteout => entry,
        _ => Entry { mode: 0o755, mtime: Time { seconds: 7, nanoseconds: 0, kind: TimeKind::Set }, ..entry },
    };
    let entries = entries.into_iter().map(timed).collect();
    assert_eq!(read(&archive(members)).unwrap(), LayerIndex::from_entries(entries).unwrap());
}
