//! Archives by enemies.

use super::*;
use crate::index::testing::{file, hard_link, symlink};

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
fn only_files_have_bytes_whatever_their_header_says() {
    let mut odd = header(&Raw('5', "d", "", b""));
    odd.set_size(512);
    odd.set_cksum();
    let bytes = [block(&odd, b""), archive(&[Raw('0', "f", "", b"x")])].concat();
    assert_eq!(read(&bytes).unwrap().entries.len(), 2);
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
