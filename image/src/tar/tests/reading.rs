//! Archives by friends, in all dialects.

use super::*;
use crate::index::testing::{directory, file, hard_link, opaque, symlink, whiteout};
use crate::tree::{FileTree, join};

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
fn the_stream_is_read_to_its_end() {
    let mut bytes = archive(&[Raw('0', "f", "", b"x")]);
    bytes.resize(10_240, 0);
    bytes.extend_from_slice(b"whatever follows");
    let mut rest = &bytes[..];
    read_layer(&mut rest, &TarLimits::default(), &mut IndexOnly).unwrap();
    assert!(rest.is_empty());
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
