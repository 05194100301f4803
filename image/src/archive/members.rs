//! The table of contents of a tar that can be read at any position: where each member's bytes lie.
//!
//! Headers are walked by hand because nothing here trusts the archive: extension records are bounded before they are read,
//! and no member's name ever becomes a path of this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tar::{EntryType, Header, PaxExtensions};

const BLOCK: u64 = 512;
const MEMBERS_MAX: usize = 200_000;
const EXTENSION_MAX: u64 = 1 << 20;
const LINKS_MAX: usize = 16;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum MalformedArchive {
    /// It cannot be read, or ends within a member.
    #[error("it cannot be read at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A header has a wrong checksum or number.
    #[error("there is no valid tar header at byte {offset}")]
    Header {
        /// Where.
        offset: u64,
    },
    /// A long name or attribute list is longer than any real one.
    #[error("the extended header at byte {offset} is larger than {EXTENSION_MAX} bytes")]
    Extension {
        /// Where.
        offset: u64,
    },
    /// A member has holes, which no image archive has.
    #[error("member `{name}` is a sparse file")]
    Sparse {
        /// The member.
        name: String,
    },
    /// There are more members than any real archive has.
    #[error("it has more than {MEMBERS_MAX} members")]
    TooMany,
}

/// A tar's members by name; of two with the same name the later counts.
#[derive(Debug)]
pub(super) struct Members {
    file: Arc<File>,
    by_name: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    File(Extent),
    Link(String),
}

/// A run of bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    offset: u64,
    pub(super) size: u64,
}

impl Members {
    /// Walks the headers of a tar.
    pub(super) fn read(file: File) -> Result<Self, MalformedArchive> {
        let length = file.metadata().map_err(|source| MalformedArchive::Read { offset: 0, source })?.len();
        let mut walk = Walk { file: &file, length, offset: 0, pending: Pending::default() };
        let mut by_name = BTreeMap::new();
        while let Some((name, member)) = walk.next()? {
            if by_name.len() >= MEMBERS_MAX {
                return Err(MalformedArchive::TooMany);
            }
            if let (Some(name), Some(member)) = (normalize("", &name), member) {
                by_name.insert(name, member);
            }
        }
        Ok(Self { file: Arc::new(file), by_name })
    }

    /// Returns where the bytes of the file `name` lie, following links within the archive.
    pub(super) fn find(&self, name: &str) -> Option<Extent> {
        let mut name = normalize("", name)?;
        for _ in 0..LINKS_MAX {
            match self.by_name.get(&name)? {
                Member::File(extent) => return Some(*extent),
                Member::Link(target) => name = target.clone(),
            }
        }
        None
    }

    /// Reads a run of bytes.
    pub(super) fn open(&self, extent: Extent) -> ExtentReader {
        ExtentReader { file: Arc::clone(&self.file), extent }
    }
}

/// Reads a run of bytes of a file, independently of the file's own position.
#[derive(Debug)]
pub(super) struct ExtentReader {
    file: Arc<File>,
    extent: Extent,
}

impl Read for ExtentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.extent.size).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.extent.offset)?;
        self.extent.offset += count as u64;
        self.extent.size -= count as u64;
        Ok(count)
    }
}

/// What extension headers said about the member that follows.
#[derive(Default)]
struct Pending {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

struct Walk<'a> {
    file: &'a File,
    length: u64,
    offset: u64,
    pending: Pending,
}

impl Walk<'_> {
    /// Returns the next member, `None` at the end. Members that are neither files nor links come without content.
    fn next(&mut self) -> Result<Option<(String, Option<Member>)>, MalformedArchive> {
        while self.offset < self.length {
            let Some(header) = self.header()? else { return Ok(None) };
            let start = self.offset + BLOCK;
            let kind = header.entry_type();
            let own_size =
                header.entry_size().map_err(|_| MalformedArchive::Header { offset: self.offset })?;
            if is_extension(kind) {
                self.extension(kind, start, own_size)?;
                continue;
            }
            let pending = std::mem::take(&mut self.pending);
            let has_content = matches!(kind, EntryType::Regular | EntryType::Continuous);
            let size = if has_content { pending.size.unwrap_or(own_size) } else { own_size };
            self.skip(start, size)?;
            let name = pending.name.unwrap_or_else(|| text(&header.path_bytes()));
            let link = pending.link.or_else(|| header.link_name_bytes().map(|link| text(&link)));
            let member = match kind {
                _ if has_content => Some(Member::File(Extent { offset: start, size })),
                EntryType::Symlink => link.and_then(|link| normalize(parent(&name), &link)).map(Member::Link),
                EntryType::Link => link.and_then(|link| normalize("", &link)).map(Member::Link),
                EntryType::GNUSparse => return Err(MalformedArchive::Sparse { name }),
                _ => None,
            };
            return Ok(Some((name, member)));
        }
        Ok(None)
    }

    /// Reads the header at the current offset; a block of zeros is the end.
    fn header(&self) -> Result<Option<Header>, MalformedArchive> {
        let offset = self.offset;
        let mut header = Header::new_old();
        self.file
            .read_exact_at(header.as_mut_bytes(), offset)
            .map_err(|source| MalformedArchive::Read { offset, source })?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(MalformedArchive::Header { offset });
        }
        Ok(Some(header))
    }

    fn extension(&mut self, kind: EntryType, start: u64, size: u64) -> Result<(), MalformedArchive> {
        let offset = self.offset;
        self.skip(start, size)?;
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        if size > EXTENSION_MAX {
            return Err(MalformedArchive::Extension { offset });
        }
        let mut bytes = vec![0; usize::try_from(size).expect("it is at most a mebibyte")];
        self.file
            .read_exact_at(&mut bytes, start)
            .map_err(|source| MalformedArchive::Read { offset: start, source })?;
        match kind {
            EntryType::GNULongName => self.pending.name = Some(until_nul(&bytes)),
            EntryType::GNULongLink => self.pending.link = Some(until_nul(&bytes)),
            _ => self.pax(&bytes).ok_or(MalformedArchive::Header { offset })?,
        }
        Ok(())
    }

    fn pax(&mut self, bytes: &[u8]) -> Option<()> {
        for record in PaxExtensions::new(bytes) {
            let record = record.ok()?;
            match record.key_bytes() {
                b"path" => self.pending.name = Some(text(record.value_bytes())),
                b"linkpath" => self.pending.link = Some(text(record.value_bytes())),
                b"size" => self.pending.size = Some(record.value().ok()?.parse().ok()?),
                _ => {}
            }
        }
        Some(())
    }

    /// Moves behind `size` bytes of content, which must be there.
    fn skip(&mut self, start: u64, size: u64) -> Result<(), MalformedArchive> {
        let end = start.checked_add(size).filter(|end| *end <= self.length);
        let Some(end) = end else {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(MalformedArchive::Read { offset: self.offset, source });
        };
        self.offset = end.next_multiple_of(BLOCK);
        Ok(())
    }
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until_nul(bytes: &[u8]) -> String {
    text(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Resolves `name` against `directory` by its text alone; `None` if it leaves the archive.
fn normalize(directory: &str, name: &str) -> Option<String> {
    let mut components: Vec<&str> = Vec::new();
    let base = if name.starts_with('/') { "" } else { directory };
    for component in base.split('/').chain(name.split('/')) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            other => components.push(other),
        }
    }
    Some(components.join("/"))
}
