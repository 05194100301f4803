//! Writing a layer as its canonical tar.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use ::tar::EntryType;

use super::header::{self, Fields};
use crate::index::{Entry, LayerIndex, LayerPath, Node, Time, TimeKind, is_below, name, parent, shown};

/// Headers and bytes that are handed on in one piece: a whole number of blocks.
const PIECE: usize = 256 * 1024;
const BLOCK: usize = 512;
const MARKER: &[u8] = b".wh..wh..opq";
const REMOVAL: &[u8] = b".wh.";

/// How a tar differs from the plain one of its layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TarOptions {
    /// Times set on purpose that lie after this second are written as it, and so are all that merely say “made now”: a clamped tar
    /// holds nothing that the layer's id does not cover.
    pub clamp: Option<i64>,
}

impl TarOptions {
    /// Returns the second that is written for a time.
    #[must_use]
    pub fn seconds(&self, time: Time) -> i64 {
        match (self.clamp, time.kind) {
            (None, _) => time.seconds,
            (Some(clamp), TimeKind::Now) => clamp,
            (Some(clamp), TimeKind::Set) => time.seconds.min(clamp),
        }
    }

    /// Gives the entries of a layer the times they have in its tar, for who reads the index instead.
    pub fn apply_to(&self, index: &mut LayerIndex) {
        if self.clamp.is_none() {
            return;
        }
        for time in index.entries.iter_mut().map(|entry| &mut entry.mtime) {
            let seconds = self.seconds(*time);
            if seconds != time.seconds || time.kind == TimeKind::Now {
                (time.seconds, time.nanoseconds) = (seconds, 0);
            }
        }
    }
}

/// A layer could not be written as a tar.
#[derive(Debug, thiserror::Error)]
pub enum WriteTarError {
    /// The bytes of a file could not be read.
    #[error("cannot read `{}`", shown(path))]
    Read {
        /// The file's path in the layer.
        path: LayerPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not have the size it is known with.
    #[error("`{}` does not have {expected} bytes", shown(path))]
    Size {
        /// The file's path in the layer.
        path: LayerPath,
        /// The size in the index.
        expected: u64,
    },
    /// A name would be read as a removal.
    #[error("`{}` cannot be in an image: names that begin with `.wh.` mark removals there", shown(path))]
    Reserved {
        /// The entry's path in the layer.
        path: LayerPath,
    },
    /// Something about an entry has no form in a tar.
    #[error("`{}` has {what}, which no tar can hold", shown(path))]
    Unwritable {
        /// The entry's path in the layer.
        path: LayerPath,
        /// What.
        what: &'static str,
    },
    /// The tar could not be written.
    #[error("cannot write a layer's tar")]
    Write(#[source] io::Error),
}

/// Writes the canonical tar of `index` to `out`; `open` gives the bytes of a file that has any.
pub fn write_layer<R: Read>(
    index: &LayerIndex,
    open: impl FnMut(&Entry) -> io::Result<R>,
    out: &mut dyn Write,
    options: &TarOptions,
) -> Result<(), WriteTarError> {
    write_pieces(index, open, &mut Handing(out), options)?;
    out.flush().map_err(WriteTarError::Write)
}

/// Takes a tar in large pieces.
pub(super) trait Pieces {
    /// Takes the first `filled` bytes of `piece`, and leaves a buffer of the same length in its place.
    fn take(&mut self, piece: &mut Vec<u8>, filled: usize) -> io::Result<()>;
}

struct Handing<'a>(&'a mut dyn Write);

impl Pieces for Handing<'_> {
    fn take(&mut self, piece: &mut Vec<u8>, filled: usize) -> io::Result<()> {
        self.0.write_all(&piece[..filled])
    }
}

/// Writes the canonical tar of `index` in pieces.
pub(super) fn write_pieces<R: Read>(
    index: &LayerIndex,
    open: impl FnMut(&Entry) -> io::Result<R>,
    out: &mut dyn Pieces,
    options: &TarOptions,
) -> Result<(), WriteTarError> {
    let (piece, header) = (vec![0; PIECE], Vec::new());
    let mut writer = Writer { open, out, piece, filled: 0, header, options, removals: removals(index) };
    for entry in &index.entries {
        check(entry)?;
        writer.put_removals_above(&entry.path)?;
        match &entry.node {
            Node::Whiteout => {}
            Node::Directory { opaque: true } => {
                writer.put_entry(entry)?;
                writer.put_mark(&entry.path, MARKER)?;
            }
            _ => writer.put_entry(entry)?,
        }
    }
    writer.finish()
}

/// The removals in each directory that has any.
fn removals(index: &LayerIndex) -> HashMap<&[u8], Vec<&Entry>> {
    let mut removals: HashMap<_, Vec<_>> = HashMap::new();
    for entry in index.entries.iter().filter(|entry| entry.node == Node::Whiteout) {
        removals.entry(parent(&entry.path)).or_default().push(entry);
    }
    removals
}

fn check(entry: &Entry) -> Result<(), WriteTarError> {
    let path = || entry.path.clone();
    if entry.path.split(|&byte| byte == b'/').any(|component| component.starts_with(REMOVAL)) {
        return Err(WriteTarError::Reserved { path: path() });
    }
    if entry.xattrs.keys().any(|name| name.contains(&b'=')) {
        let what = "an extended attribute with `=` in its name";
        return Err(WriteTarError::Unwritable { path: path(), what });
    }
    match entry.node {
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor }
            if (major | minor) >> 21 != 0 =>
        {
            Err(WriteTarError::Unwritable { path: path(), what: "a device number of more than 21 bits" })
        }
        _ => Ok(()),
    }
}

struct Writer<'a, F> {
    open: F,
    out: &'a mut dyn Pieces,
    /// What was not handed on yet is at its start.
    piece: Vec<u8>,
    filled: usize,
    /// Room for a header.
    header: Vec<u8>,
    options: &'a TarOptions,
    /// Those not yet written, by directory.
    removals: HashMap<&'a [u8], Vec<&'a Entry>>,
}

impl<'a, R: Read, F: FnMut(&Entry) -> io::Result<R>> Writer<'a, F> {
    /// Writes the removals of all directories that hold `path`, before the first entry in them.
    fn put_removals_above(&mut self, path: &'a [u8]) -> Result<(), WriteTarError> {
        if self.removals.is_empty() {
            return Ok(());
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let directories = std::iter::once(0).chain(slashes).map(|end| &path[..end]);
        for directory in directories.filter(|directory| is_below(path, directory)) {
            for entry in self.removals.remove(directory).unwrap_or_default() {
                self.put_mark(directory, &[REMOVAL, name(&entry.path)].concat())?;
            }
        }
        Ok(())
    }

    fn put_mark(&mut self, directory: &[u8], mark: &[u8]) -> Result<(), WriteTarError> {
        let path = crate::tree::join(directory, mark);
        self.put_header(&Fields { path: &path, ..EMPTY })
    }

    fn put_entry(&mut self, entry: &Entry) -> Result<(), WriteTarError> {
        if entry.path.is_empty() {
            return Ok(());
        }
        let mut fields = Fields {
            path: &entry.path,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: self.options.seconds(entry.mtime),
            xattrs: Some(&entry.xattrs),
            ..EMPTY
        };
        let slashed;
        match &entry.node {
            Node::File { size, .. } => fields.size = *size,
            Node::Directory { .. } => {
                slashed = [&entry.path[..], b"/"].concat();
                (fields.kind, fields.path) = (EntryType::Directory, &slashed);
            }
            Node::Symlink { target } => (fields.kind, fields.link) = (EntryType::Symlink, target),
            Node::HardLink { target } => {
                (fields.kind, fields.link, fields.xattrs) = (EntryType::Link, target, None);
            }
            Node::CharDevice { major, minor } => {
                (fields.kind, fields.device) = (EntryType::Char, (*major, *minor));
            }
            Node::BlockDevice { major, minor } => {
                (fields.kind, fields.device) = (EntryType::Block, (*major, *minor));
            }
            Node::Fifo => fields.kind = EntryType::Fifo,
            Node::Whiteout => return Ok(()),
        }
        self.put_header(&fields)?;
        if fields.size > 0 { self.put_file(entry, fields.size) } else { Ok(()) }
    }

    fn put_header(&mut self, fields: &Fields<'_>) -> Result<(), WriteTarError> {
        let mut header = std::mem::take(&mut self.header);
        header.clear();
        header::put_header(&mut header, fields);
        self.put_bytes(&header)?;
        self.header = header;
        Ok(())
    }

    fn put_bytes(&mut self, mut bytes: &[u8]) -> Result<(), WriteTarError> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// Returns where the next bytes go; there is room for one at least.
    fn room(&mut self) -> Result<&mut [u8], WriteTarError> {
        if self.filled == PIECE {
            self.flush()?;
        }
        Ok(&mut self.piece[self.filled..])
    }

    fn put_file(&mut self, entry: &Entry, size: u64) -> Result<(), WriteTarError> {
        let failed = |source| WriteTarError::Read { path: entry.path.clone(), source };
        let wrong_size = || WriteTarError::Size { path: entry.path.clone(), expected: size };
        let mut file = (self.open)(entry).map_err(failed)?;
        let mut missing = size;
        // A byte more than there should be is asked for: a file that grew gives it.
        let mut is_at_end = false;
        while missing > 0 {
            let room = self.room()?;
            let most = usize::try_from(missing + 1).unwrap_or(PIECE).min(room.len());
            let read = read_some(&mut file, &mut room[..most]).map_err(failed)?;
            if read == 0 || read as u64 > missing {
                return Err(wrong_size());
            }
            is_at_end = read < most;
            self.filled += read;
            missing -= read as u64;
        }
        if !is_at_end && read_some(&mut file, &mut [0]).map_err(failed)? != 0 {
            return Err(wrong_size());
        }
        self.pad()
    }

    /// Writes zeros up to a whole number of blocks.
    fn pad(&mut self) -> Result<(), WriteTarError> {
        // Pieces are whole numbers of blocks.
        let count = self.filled.next_multiple_of(BLOCK) - self.filled;
        self.put_bytes(&[0; BLOCK][..count])
    }

    fn flush(&mut self) -> Result<(), WriteTarError> {
        self.out.take(&mut self.piece, self.filled).map_err(WriteTarError::Write)?;
        self.filled = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<(), WriteTarError> {
        self.put_bytes(&[0; 2 * BLOCK])?;
        self.flush()
    }
}

const EMPTY: Fields<'static> = Fields {
    kind: EntryType::Regular,
    path: b"",
    link: b"",
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0,
    device: (0, 0),
    xattrs: None,
};

fn read_some(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff_id;
    use super::*;
    use crate::index::testing::{directory, file, hard_link, opaque, sample, symlink, whiteout};
    use crate::index::{Time, TimeKind};

    fn contents(entry: &Entry) -> io::Result<&'static [u8]> {
        Ok(match &entry.path[..] {
            b"usr/bin/tool" => b"#!tool",
            b"etc/copied" => b"copied",
            b"etc/held" | b"etc/moved" => b"held",
            _ => b"x",
        })
    }

    fn tar(index: &LayerIndex, options: TarOptions) -> Vec<u8> {
        let mut out = Vec::new();
        write_layer(index, contents, &mut out, &options).unwrap();
        out
    }

    /// What another reader finds: kind, path, link target, size.
    fn listing(tar: &[u8]) -> Vec<String> {
        let mut archive = ::tar::Archive::new(tar);
        let line = |entry: io::Result<::tar::Entry<'_, &[u8]>>| {
            let entry = entry.unwrap();
            let link = entry.link_name_bytes().unwrap_or_default().into_owned();
            let kind = char::from(entry.header().entry_type().as_byte());
            let (path, link) = (
                String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
                String::from_utf8_lossy(&link).into_owned(),
            );
            format!("{kind} {path} {link} {}", entry.size())
        };
        archive.entries().unwrap().map(line).collect()
    }

    fn layer(entries: Vec<Entry>) -> LayerIndex {
        LayerIndex::from_entries(entries).unwrap()
    }

    #[test]
    fn the_tar_of_a_fixed_layer_is_pinned() {
        let digest = |options| diff_id(&sample(), contents, &options).unwrap().hex();
        assert_eq!(
            digest(TarOptions::default()),
            "74df95e204537d2e24aeaca3e9b6f685ff0395ecea72678bb5070edb77d71148"
        );
        assert_eq!(
            digest(TarOptions { clamp: Some(1) }),
            "4e55d7d59a278104f746b6db689da184a4c2f656a5b9a4d542309004dd0e66e1"
        );
    }

    #[test]
    fn another_reader_finds_every_entry() {
        let expected = [
            "3 dev/null  0",
            "4 dev/sda  0",
            "0 etc/copied  6",
            "0 etc/held  4",
            "0 etc/moved  4",
            "5 opt/  0",
            "0 opt/.wh..wh..opq  0",
            "6 run/pipe  0",
            "0 tmp/.wh.gone  0",
            "5 usr/  0",
            "5 usr/bin/  0",
            "0 usr/bin/tool  6",
            "1 usr/bin/tool2 usr/bin/tool 0",
            "2 usr/lib64 lib 0",
        ];
        assert_eq!(listing(&tar(&sample(), TarOptions::default())), expected);
    }

    #[test]
    fn markers_and_removals_precede_all_else_in_their_directory() {
        let entries = vec![
            opaque(""),
            opaque("d"),
            file("d/a", b"x"),
            whiteout("d/z"),
            directory("d/b"),
            whiteout("d/b/z"),
            whiteout("e/f/z"),
            file("e/a/x", b"x"),
            whiteout("z"),
        ];
        let paths: Vec<_> = listing(&tar(&layer(entries), TarOptions::default()))
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
            .collect();
        let expected = [
            ".wh..wh..opq",
            ".wh.z",
            "d/",
            "d/.wh..wh..opq",
            "d/.wh.z",
            "d/a",
            "d/b/",
            "d/b/.wh.z",
            "e/a/x",
            "e/f/.wh.z",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn an_empty_layer_is_two_blocks_of_zeros() {
        assert_eq!(tar(&LayerIndex::default(), TarOptions::default()), [0; 1024]);
        assert_eq!(tar(&layer(vec![directory("")]), TarOptions::default()), [0; 1024]);
    }

    #[test]
    fn late_times_are_clamped_and_only_those_set_on_purpose_are_kept() {
        let at = |seconds, path: &str, kind| Entry {
            mtime: Time { seconds, nanoseconds: 999, kind },
            ..file(path, b"x")
        };
        let bytes = tar(
            &layer(vec![
                at(5, "early", TimeKind::Set),
                at(50, "late", TimeKind::Set),
                hard_link("later", "late"),
                at(5, "made", TimeKind::Now),
            ]),
            TarOptions { clamp: Some(10) },
        );
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let times: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap()).collect();
        assert_eq!(times, [5, 10, 10, 10]);
    }

    #[test]
    fn a_file_of_another_size_is_named() {
        let index = layer(vec![file("d/f", b"four")]);
        for content in [&b"xyz"[..], b"fives"] {
            let error = write_layer(&index, |_| Ok(content), &mut io::sink(), &TarOptions::default());
            assert_eq!(error.expect_err("wrong size").to_string(), "`/d/f` does not have 4 bytes");
        }
    }

    #[test]
    fn what_a_layer_tar_cannot_say_is_refused() {
        let error = |entry: Entry| {
            write_layer(&layer(vec![entry]), contents, &mut io::sink(), &TarOptions::default())
                .expect_err("unwritable")
                .to_string()
        };
        let reserved = "`/d/.wh.f` cannot be in an image: names that begin with `.wh.` mark removals there";
        assert_eq!(error(file("d/.wh.f", b"x")), reserved);
        assert!(error(symlink(".wh.d/f", "x")).contains("`/.wh.d/f` cannot be in an image"));
        let mut odd = file("f", b"x");
        odd.xattrs.insert(b"user.a=b".to_vec(), Vec::new());
        assert!(error(odd).contains("`=` in its name"));
    }

    #[test]
    fn files_larger_than_the_buffer_arrive_whole() {
        let content: Vec<u8> = (0..3 * PIECE + 77).map(|number| (number % 251) as u8).collect();
        let index = layer(vec![file("a", b"x"), file("big", &content), file("c", b"x")]);
        let mut out = Vec::new();
        let open = |entry: &Entry| Ok(if entry.path == b"big" { &content[..] } else { b"x" });
        write_layer(&index, open, &mut out, &TarOptions::default()).unwrap();
        let mut archive = ::tar::Archive::new(&out[..]);
        let mut big = archive.entries().unwrap().nth(1).unwrap().unwrap();
        let mut read = Vec::new();
        big.read_to_end(&mut read).unwrap();
        assert!(read == content);
    }
}
