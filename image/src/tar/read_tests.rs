//! Archives by friends and enemies.

use std::collections::BTreeMap;
use std::io::{self, Read};

use proptest::prelude::*;

use super::*;
use crate::FileDigest;
use crate::index::testing::{directory, file, hard_link, opaque, symlink, whiteout};
use crate::index::{Bytes, Entry, LayerIndex, Node, Time, TimeKind, testing};
use crate::tree::{FileTree, join};

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

#[test]
fn names_are_brought_into_form() {
    let members = [
        Raw('5', "./", "", b""),
        Raw('5', "./d/", "", b""),
        Raw('0', "/d//f", "", b"one"),
        Raw('_', "old/", "", b""),
        Raw('1', "./d/g", "/d/./f", b""),
        Raw('2', "d/s", "../../x", b""),
        Raw('0', "d/none/../../up", "", b"two"),
    ];
    let entries = vec![
        directory(""),
        directory("d"),
        file("d/f", b"one"),
        directory("old"),
        hard_link("d/g", "d/f"),
        symlink("d/s", "../../x"),
        file("up", b"two"),
    ];
    expect(&members, entries);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../f", "a/../../f", "a/b/../../..", "/.."] {
        assert!(error(&[Raw('0', name, "", b"")]).ends_with("whose name leads out of the archive"), "{name}");
        assert!(
            error(&[Raw('0', "f", "", b""), Raw('1', "g", name, b"")])
                .ends_with("whose name leads out of the archive")
        );
        assert!(error(&[Raw('2', name, "x", b"")]).ends_with("whose name leads out of the archive"));
    }
    assert!(error(&[Raw('0', "", "", b"")]).ends_with("whose name is empty"));
    assert!(error(&[Raw('0', "./", "", b"")]).ends_with("whose name is that of the root"));
    assert!(error(&[Raw('0', "a/..", "", b"")]).ends_with("whose name is that of the root"));
    assert!(error(&[Raw('1', "./", "f", b"")]).ends_with("whose name is that of the root"));
    assert!(error(&[Raw('0', ".wh...", "", b"")]).ends_with("marks no name for removal"));
    assert!(error(&[Raw('0', ".wh.", "", b"")]).ends_with("marks no name for removal"));
    assert!(error(&[Raw('0', ".wh.a/b", "", b"")]).ends_with("lies in a removal"));
}

#[test]
fn a_member_below_a_link_goes_where_it_leads_inside() {
    let members = [
        Raw('2', "out", "/../../etc", b""),
        Raw('0', "out/passwd", "", b"mine"),
        Raw('2', "a", "b/c/..", b""),
        Raw('0', "a/x", "", b"deep"),
        Raw('1', "y", "a/x", b""),
    ];
    let entries = vec![
        symlink("out", "/../../etc"),
        file("etc/passwd", b"mine"),
        symlink("a", "b/c/.."),
        file("b/x", b"deep"),
        hard_link("y", "b/x"),
    ];
    expect(&members, entries);
    let circle = [Raw('2', "a", "b", b""), Raw('2', "b", "a", b""), Raw('0', "a/x", "", b"")];
    assert_eq!(error(&circle), "the archive has `/a/x` below a loop of symbolic links");
    let below_file = [Raw('0', "a", "", b""), Raw('0', "a/x", "", b"")];
    assert_eq!(error(&below_file), "the archive has `/a/x` below `/a`, which is no directory");
}

#[test]
fn a_link_that_appears_later_counts_from_then_on() {
    let members = [
        Raw('0', "d/one", "", b"1"),
        Raw('2', "e", "d", b""),
        Raw('0', "e/two", "", b"2"),
        Raw('0', "e", "", b"3"),
        Raw('0', "d/two", "", b"4"),
    ];
    expect(&members, vec![file("d/one", b"1"), file("d/two", b"4"), file("e", b"3")]);
}

#[test]
fn the_later_of_two_members_stays() {
    expect(&[Raw('0', "f", "", b"one"), Raw('0', "f", "", b"two")], vec![file("f", b"two")]);
    expect(&[Raw('0', "d/f", "", b"one"), Raw('0', "d", "", b"two")], vec![file("d", b"two")]);
    expect(
        &[Raw('0', "d", "", b"one"), Raw('5', "d", "", b""), Raw('0', "d/f", "", b"x")],
        vec![directory("d"), file("d/f", b"x")],
    );
    expect(
        &[Raw('5', "d", "", b""), Raw('0', "d/f", "", b"x"), Raw('5', "d", "", b"")],
        vec![directory("d"), file("d/f", b"x")],
    );
    expect(&[Raw('2', "l", "x", b""), Raw('5', "l", "", b"")], vec![directory("l")]);
}

#[test]
fn an_inode_outlives_its_first_name() {
    let members = [Raw('0', "z", "", b"old"), Raw('1', "b", "z", b""), Raw('0', "z", "", b"new")];
    expect(&members, vec![file("b", b"old"), file("z", b"new")]);
    // The first name in order holds the bytes, whichever was in the archive.
    expect(
        &[
            Raw('0', "z", "", b"x"),
            Raw('1', "a", "z", b""),
            Raw('1', "a-", "a", b""),
            Raw('1', "a/", "a", b""),
        ][..3],
        vec![file("a", b"x"), hard_link("a-", "a"), hard_link("z", "a")],
    );
}

#[test]
fn hard_links_need_their_target() {
    assert_eq!(
        error(&[Raw('1', "a", "b", b"")]),
        "the archive has a hard link `/a` to `/b`, which does not exist"
    );
    assert_eq!(
        error(&[Raw('0', "a", "", b""), Raw('1', "a", "a", b"")]),
        "the archive has a hard link `/a` to `/a`, which does not exist"
    );
    assert_eq!(
        error(&[Raw('5', "b", "", b""), Raw('1', "a", "b", b"")]),
        "the archive has a hard link `/a` to `/b`, which is a directory"
    );
    let base = LayerIndex::from_entries(vec![symlink("l", "d"), file("d/f", b"base")]).unwrap();
    let tree = crate::tree::MergedTree::new(vec![(base.layer_id(), std::sync::Arc::new(base.clone()))]);
    let limits = TarLimits { lower: Some(&tree), ..TarLimits::default() };
    let (index, stored) =
        read_with(&archive(&[Raw('1', "a", "l/f", b""), Raw('1', "b", "a", b"")]), &limits).unwrap();
    let Node::File { bytes: Bytes::In { layer, path }, .. } = &index.find(b"a").unwrap().node else {
        panic!("a is a file")
    };
    assert_eq!((*layer, &path[..]), (base.layer_id(), &b"d/f"[..]));
    assert_eq!(index.find(b"b").unwrap().node, Node::HardLink { target: b"a".to_vec() });
    assert!(stored.files.is_empty());
}

#[test]
fn marks_only_concern_layers_below() {
    expect(&[Raw('0', "d/.wh.f", "", b"")], vec![whiteout("d/f")]);
    expect(&[Raw('0', "f", "", b"x"), Raw('0', ".wh.f", "", b"")], vec![file("f", b"x")]);
    expect(&[Raw('5', "d", "", b""), Raw('0', ".wh.d", "", b"")], vec![opaque("d")]);
    expect(&[Raw('0', ".wh.d", "", b""), Raw('5', "d", "", b"")], vec![opaque("d")]);
    expect(&[Raw('5', "d", "", b""), Raw('0', "d/.wh..wh..opq", "", b"")], vec![opaque("d")]);
    expect(&[Raw('0', ".wh.d", "", b""), Raw('0', "d/.wh.f", "", b"")], vec![whiteout("d")]);
    expect(&[Raw('0', ".wh..wh.plnk", "", b""), Raw('0', ".wh..wh.aufs", "", b"")], vec![]);
    let (index, _) = read_with(
        &archive(&[Raw('0', "d/.wh..wh..opq", "", b""), Raw('0', "d/f", "", b"")]),
        &TarLimits::default(),
    )
    .unwrap();
    assert_eq!(index.find(b"d").unwrap().node, Node::Directory { opaque: true });
    let named = TarLimits { removals: Removals::Named, ..TarLimits::default() };
    let (index, _) = read_with(&archive(&[Raw('0', "d/.wh.f", "", b"x")]), &named).unwrap();
    assert!(matches!(index.find(b"d/.wh.f").unwrap().node, Node::File { .. }));
}

#[test]
fn pax_records_overrule_the_header() {
    let records = pax(&[
        ("path", "long/näme"),
        ("size", "3"),
        ("uid", "3000000"),
        ("mtime", "-1.25"),
        ("SCHILY.xattr.user.k", "v"),
        ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ("comment", ""),
    ]);
    let mut file_header = header(&Raw('0', "short", "", b""));
    // The header says there are no bytes; whoever believes it takes the content for the next header.
    file_header.set_size(0);
    file_header.set_cksum();
    let mut bytes =
        block(&header(&Raw('g', "global", "", &pax(&[("path", "ignored")]))), &pax(&[("path", "ignored")]));
    bytes.extend(block(&header(&Raw('x', "pax", "", &records)), &records));
    bytes.extend(block(&file_header, b"abc"));
    bytes.extend(archive(&[Raw('0', "next", "", b"n")]));
    let index = read(&bytes).unwrap();
    let entry = index.find("long/näme".as_bytes()).unwrap();
    assert_eq!((entry.uid, entry.gid), (3_000_000, 0));
    assert_eq!((entry.mtime.seconds, entry.mtime.nanoseconds), (-2, 750_000_000));
    assert_eq!(entry.xattrs, BTreeMap::from([(b"user.k".to_vec(), b"v".to_vec())]));
    assert!(matches!(entry.node, Node::File { size: 3, digest, .. } if digest == FileDigest::of(b"abc")));
    assert!(index.find(b"next").is_some() && index.entries.len() == 2);
}

#[test]
fn only_files_have_bytes_whatever_their_header_says() {
    let mut odd = header(&Raw('5', "d", "", b""));
    odd.set_size(512);
    odd.set_cksum();
    let bytes = [block(&odd, b""), archive(&[Raw('0', "f", "", b"x")])].concat();
    assert_eq!(read(&bytes).unwrap().entries.len(), 2);
}

#[test]
fn gnu_long_names_are_read() {
    let name = format!("{}\0", "n".repeat(180));
    let link = format!("{}\0", "l".repeat(180));
    let mut bytes = block(&header(&Raw('L', "././@LongLink", "", name.as_bytes())), name.as_bytes());
    bytes.extend(block(&header(&Raw('K', "././@LongLink", "", link.as_bytes())), link.as_bytes()));
    bytes.extend(archive(&[Raw('2', "cut", "cut", b"")]));
    let index = read(&bytes).unwrap();
    assert_eq!(
        index.find("n".repeat(180).as_bytes()).unwrap().node,
        Node::Symlink { target: "l".repeat(180).into_bytes() }
    );
}

fn sparse_file(entry: &LayerIndex, path: &[u8]) -> (u64, FileDigest) {
    match entry.find(path).unwrap().node {
        Node::File { size, digest, .. } => (size, digest),
        ref other => panic!("{other:?} is no file"),
    }
}

#[test]
fn holes_are_filled_in_every_sparse_form() {
    let content = [&[0; 1000][..], b"data", &[0; 2000], b"more", &[0; 96]].concat();
    let expected = (content.len() as u64, FileDigest::of(&content));
    let size = content.len().to_string();
    let with = |records: &[(&str, &str)], stored: &[u8]| {
        let records = pax(records);
        let mut bytes = block(&header(&Raw('x', "pax", "", &records)), &records);
        bytes.extend(archive(&[Raw('0', "f", "", stored), Raw('0', "next", "", b"")]));
        sparse_file(&read(&bytes).unwrap(), b"f")
    };
    assert_eq!(
        with(
            &[
                ("GNU.sparse.size", &size),
                ("GNU.sparse.offset", "1000"),
                ("GNU.sparse.numbytes", "4"),
                ("GNU.sparse.offset", "3004"),
                ("GNU.sparse.numbytes", "4")
            ],
            b"datamore"
        ),
        expected
    );
    assert_eq!(
        with(
            &[("GNU.sparse.size", &size), ("GNU.sparse.map", "1000,4,3004,4"), ("GNU.sparse.name", "f")],
            b"datamore"
        ),
        expected
    );
    let mut stored = b"2\n1000\n4\n3004\n4\n".to_vec();
    stored.resize(512, 0);
    stored.extend_from_slice(b"datamore");
    assert_eq!(
        with(
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", &size)],
            &stored
        ),
        expected
    );

    let mut gnu = ::tar::Header::new_gnu();
    gnu.as_mut_bytes()[..345].copy_from_slice(&header(&Raw('S', "f", "", b"datamore")).as_bytes()[..345]);
    gnu.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    let fields = gnu.as_gnu_mut().unwrap();
    fields.set_real_size(content.len() as u64);
    for (field, offset) in fields.sparse.iter_mut().zip([1000, 3004]) {
        field.set_offset(offset);
        field.set_length(4);
    }
    gnu.set_cksum();
    let bytes = [block(&gnu, b"datamore"), archive(&[Raw('0', "next", "", b"")])].concat();
    assert_eq!(sparse_file(&read(&bytes).unwrap(), b"f"), expected);
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for (size, map) in [
        ("10", "0,11"),
        ("10", "5,4,4,4"),
        ("10", "0,4"),
        ("10", "0"),
        ("10", "18446744073709551615,4"),
        ("10", "a,b"),
    ] {
        let records = pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]);
        let bytes = [
            block(&header(&Raw('x', "pax", "", &records)), &records),
            archive(&[Raw('0', "f", "", b"12345678")]),
        ]
        .concat();
        assert!(read(&bytes).is_err(), "{map}");
    }
}

#[test]
fn bombs_meet_limits() {
    let limits =
        TarLimits { entries: 20, bytes: 1000, path: 50, depth: 5, extension: 600, ..TarLimits::default() };
    let refused = |bytes: &[u8]| read_with(bytes, &limits).expect_err("over a limit").to_string();
    let many = vec![Raw('5', "d", "", b""); 30];
    assert_eq!(refused(&archive(&many)), "the archive has more than 20 headers");
    let globals = vec![Raw('g', "g", "", b""); 30];
    assert_eq!(refused(&archive(&globals)), "the archive has more than 20 headers");
    let big = [b'x'; 600];
    assert_eq!(
        refused(&archive(&[Raw('0', "a", "", &big), Raw('0', "b", "", &big)])),
        "the archive has more than 1000 bytes of files"
    );
    let huge = pax(&[("size", "9223372036854775807")]);
    let bytes =
        [block(&header(&Raw('x', "pax", "", &huge)), &huge), archive(&[Raw('0', "a", "", b"")])].concat();
    assert_eq!(refused(&bytes), "the archive has more than 1000 bytes of files");
    let holes = pax(&[("GNU.sparse.size", "9999999999"), ("GNU.sparse.map", "9999999999,0")]);
    let bytes =
        [block(&header(&Raw('x', "pax", "", &holes)), &holes), archive(&[Raw('0', "a", "", b"")])].concat();
    assert_eq!(refused(&bytes), "the archive has more than 1000 bytes of files");
    assert!(refused(&archive(&[Raw('0', "a/a/a/a/a/a", "", b"")])).ends_with("is too deep"));
    assert!(refused(&archive(&[Raw('0', &"a".repeat(60), "", b"")])).ends_with("is too long"));
    let mut long = header(&Raw('x', "pax", "", b""));
    long.set_size(1 << 40);
    long.set_cksum();
    assert_eq!(refused(&block(&long, b"")), "the archive has more than 600 bytes of one extended header");
}

#[test]
fn damage_is_told_from_an_end() {
    let whole = archive(&[Raw('0', "f", "", b"content"), Raw('5', "d", "", b"")]);
    for length in 1..whole.len() - 1024 {
        let result = read(&whole[..length]);
        // Between members an archive may just end, as for the reference.
        assert_eq!(result.is_ok(), length == 1024, "cut to {length}");
    }
    assert_eq!(read(&[]).unwrap(), LayerIndex::default());
    assert!(read(b"certainly no archive").is_err());
    assert!(read(&[b'a'; 512]).is_err());
    let torn = [&[0; 512][..], &archive(&[Raw('0', "f", "", b"")])].concat();
    assert_eq!(
        read(&torn).expect_err("torn").to_string(),
        "the archive is damaged: a block of zeros stands between its members"
    );
    assert_eq!(
        error(&[Raw('V', "volume", "", b"")]),
        "the archive has `volume` of kind `V`, which is not supported"
    );
}

#[test]
fn the_stream_is_read_to_its_end() {
    let mut bytes = archive(&[Raw('0', "f", "", b"x")]);
    bytes.resize(10_240, 0);
    bytes.extend_from_slice(b"whatever follows");
    let mut rest = &bytes[..];
    read_layer(&mut rest, &TarLimits::default(), &mut IndexOnly).unwrap();
    assert!(rest.is_empty());
}

/// A layer with the content each of its files has.
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

#[test]
fn a_tree_reads_the_layers_it_was_written_from() {
    let bytes = archive(&[Raw('5', "d", "", b""), Raw('0', "d/f", "", b"x"), Raw('1', "e", "d/f", b"")]);
    let index = read(&bytes).unwrap();
    let id = index.layer_id();
    let tree = crate::tree::MergedTree::new(vec![(id, std::sync::Arc::new(index))]);
    let shown = tree.entry(&join(b"d", b"f")).unwrap().unwrap();
    assert!(shown.link.is_some());
}
