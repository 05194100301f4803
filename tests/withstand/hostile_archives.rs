//! Over a hundred archives that want out, lie about themselves, or want everything: each as ADD, as a loaded layer, as a base.

use crate::bench::Bench;
use crate::hostile_images::layout;
use crate::raw_tar::{
    BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, FIFO, FILE, HARD_LINK, Raw, SYMLINK, bomb, gzip, header,
    record, sign,
};

/// An archive, and a text the error has where it must be refused.
pub(crate) struct Case {
    name: String,
    bytes: Vec<u8>,
    refused_with: Option<&'static str>,
}

fn case(name: impl Into<String>, bytes: Vec<u8>) -> Case {
    Case { name: name.into(), bytes, refused_with: None }
}

fn refused(name: impl Into<String>, bytes: Vec<u8>, with: &'static str) -> Case {
    Case { name: name.into(), bytes, refused_with: Some(with) }
}

#[test]
fn nothing_outside_is_read_or_changed() {
    let benches = [Bench::new(), Bench::new()];
    let failed: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn({
                    let bench = &benches[half];
                    move || try_half(bench, half)
                })
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Tries every other case and returns those that failed: what is wrong with one says little about the next.
fn try_half(bench: &Bench, half: usize) -> Vec<String> {
    let cases = all(bench);
    assert!(cases.len() > 150, "only {}", cases.len());
    let mut failed = Vec::new();
    for case in cases.into_iter().skip(half).step_by(2) {
        let tried = std::panic::AssertUnwindSafe(|| (added(bench, &case), loaded(bench, &case)));
        if std::panic::catch_unwind(tried).is_err() {
            failed.push(case.name);
        }
    }
    failed
}

/// As ADD, whose result is written to a directory of the machine.
fn added(bench: &Bench, case: &Case) {
    bench.write("evil.tar", &case.bytes);
    bench.write("Dockerfile", "FROM scratch\nADD evil.tar /in/\n");
    let ran = bench.mica(&["build", "-o", "../out", "."]);
    let name = format!("ADD of {}", case.name);
    ran.is_an_answer(&name);
    if let Some(text) = case.refused_with {
        ran.refuses(&name, "evil.tar");
        ran.refuses(&name, text);
    }
    bench.is_unharmed(&name);
}

/// As a layer of an image that is loaded, copied from and built upon.
fn loaded(bench: &Bench, case: &Case) {
    let name = format!("load of {}", case.name);
    let layout = layout(&[case.bytes.as_slice()]);
    std::fs::write(bench.path("image.tar"), layout).unwrap();
    let ran = bench.mica(&["load", "-i", "../image.tar"]);
    ran.is_an_answer(&name);
    if let Some(text) = case.refused_with {
        ran.refuses(&name, text);
    }
    bench.is_unharmed(&name);
    if ran.code != Some(0) {
        return;
    }
    // What links there are is written through, copied and exported.
    bench.write(
        "Dockerfile",
        "FROM evil.example/image:1 AS base\nCOPY Dockerfile /link/x\nCOPY Dockerfile /d/link/x\nFROM scratch\nCOPY --from=base / /copy/\n",
    );
    bench.mica(&["build", "-o", "../out", "."]).is_an_answer(&format!("build on {}", case.name));
    bench.is_unharmed(&name);
}

fn all(bench: &Bench) -> Vec<Case> {
    let mut cases = names();
    cases.extend(links(bench));
    cases.extend(hard_links(bench));
    cases.extend(devices_and_duplicates());
    cases.extend(sizes());
    cases.extend(extensions());
    cases.extend(headers());
    cases.extend(whiteouts_and_attributes());
    cases.extend(bombs());
    cases
}

/// Names that lead out, with every kind of member.
fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["/../../../../../outside/a", "../outside/a", "a/../../outside/a", "./../../../outside/a"] {
        for (kind, link) in [
            (FILE, ""),
            (DIRECTORY, ""),
            (SYMLINK, "x"),
            (HARD_LINK, "x"),
            (FIFO, ""),
            (CHARACTER_DEVICE, ""),
        ] {
            cases.push(case(
                format!("`{name}` of kind {}", kind as char),
                Raw::default().file("x", b"x").member(name, kind, link).end(),
            ));
        }
    }
    for name in [
        "",
        ".",
        "..",
        "/",
        "//",
        "/..",
        "a//b",
        "a/./b",
        "a/..",
        "-rf",
        "a\nb",
        "\u{1b}[2J",
        "con\u{202e}txt",
    ] {
        cases.push(case(format!("name {name:?}"), Raw::default().file(name, b"evil").end()));
    }
    cases.push(case("a name that is not UTF-8", {
        let block = header(b"\xff\xfe/\x80", FILE, b"", b"00000000000\0");
        Raw::default().block(&block).end()
    }));
    cases
}

/// Symbolic links to outside, then members that go through them.
fn links(bench: &Bench) -> Vec<Case> {
    let outside = bench.path("outside").to_str().unwrap().to_owned();
    let up = format!("{}{}", "../".repeat(40), outside.trim_start_matches('/'));
    let mut cases = Vec::new();
    for target in
        [outside.as_str(), &up, "..", "/", "/proc/self/root", "/proc/self/cwd/../outside", "/dev/fd/3"]
    {
        let link = || Raw::default().member("d", DIRECTORY, "").member("d/link", SYMLINK, target);
        let through = |what: &str| format!("{what} through a link to {target}");
        cases.push(case(through("a file"), link().file("d/link/new", b"evil").end()));
        cases.push(case(through("a file that is there"), link().file("d/link/secret", b"evil").end()));
        cases.push(case(through("a directory"), link().member("d/link/directory/", DIRECTORY, "").end()));
        cases.push(case(through("a mode"), link().member("d/link/", DIRECTORY, "").end()));
        cases.push(case(through("a hard link"), link().member("copy", HARD_LINK, "d/link/secret").end()));
        cases.push(case(through("a removal"), link().file("d/link/.wh.secret", b"").end()));
        cases.push(case(through("an opaque mark"), link().file("d/link/.wh..wh..opq", b"").end()));
    }
    let chain =
        Raw::default().member("a", SYMLINK, "..").member("b", SYMLINK, "a/a/a").member("c", SYMLINK, "b/b/b");
    cases.push(case("a chain of links", chain.file(&format!("c{outside}/new"), b"evil").end()));
    let ring = Raw::default().member("a", SYMLINK, "b").member("b", SYMLINK, "a").file("a/x", b"evil");
    cases.push(refused("a ring of links", ring.end(), "`/a/x`"));
    let late = Raw::default()
        .member("d", DIRECTORY, "")
        .file("d/x", b"1")
        .member("d", SYMLINK, &outside)
        .file("d/secret", b"2");
    cases.push(case("a directory replaced by a link", late.end()));
    cases
}

fn hard_links(bench: &Bench) -> Vec<Case> {
    let secret = bench.secret();
    let link = |target: &str| Raw::default().member("hard", HARD_LINK, target).end();
    vec![
        case("a hard link to outside", link(&format!("/{secret}"))),
        case("a hard link up to outside", link(&format!("{}{secret}", "../".repeat(40)))),
        refused("a hard link to nothing", link("missing"), "`/hard`"),
        refused("a hard link to itself", link("hard"), "`/hard`"),
        refused(
            "a hard link to a directory",
            Raw::default().member("d", DIRECTORY, "").member("hard", HARD_LINK, "d").end(),
            "`/hard`",
        ),
        case("a hard link to a link to outside", {
            let raw =
                Raw::default().member("s", SYMLINK, &format!("/{secret}")).member("hard", HARD_LINK, "s");
            raw.file("hard", b"evil").end()
        }),
        refused(
            "two hard links to each other",
            Raw::default().member("a", HARD_LINK, "b").member("b", HARD_LINK, "a").end(),
            "`/a`",
        ),
        case("a file over a name of another", {
            Raw::default().file("a", b"1").member("b", HARD_LINK, "a").file("a", b"2").file("b", b"3").end()
        }),
    ]
}

fn devices_and_duplicates() -> Vec<Case> {
    let kinds = [FILE, DIRECTORY, SYMLINK, BLOCK_DEVICE];
    let mut cases = Vec::new();
    for first in kinds {
        for second in kinds {
            let raw = Raw::default()
                .member("same", first, "/etc")
                .member("same", second, "/etc")
                .file("same/x", b"evil");
            cases.push(case(format!("{} again as {}", first as char, second as char), raw.end()));
        }
    }
    let many = (0..2000).fold(Raw::default(), |raw, number| raw.file("same", format!("{number}").as_bytes()));
    cases.push(case("one name two thousand times", many.end()));
    cases
}

fn sizes() -> Vec<Case> {
    let with_size = |size: &[u8]| {
        Raw::default().file("first", b"1").block(&header(b"lying", FILE, b"", size)).content(b"data").end()
    };
    let pax = |size: &str, real: &[u8]| {
        let raw = Raw::default().file("first", b"1").extension(b'x', &record("size", size.as_bytes()));
        raw.block(&header(b"lying", FILE, b"", b"00000000000\0")).content(real).file("after", b"after").end()
    };
    let hidden = Raw::default().file("../../outside/hidden", b"evil").unfinished();
    vec![
        refused("a size beyond the end", with_size(b"00077777777\0"), "archive"),
        refused("a size that is no number", with_size(b"zzzzzzzzzzz\0"), "archive"),
        case("a size without an end", with_size(b"000000000004")),
        refused("a negative size", with_size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"), "archive"),
        refused("the largest size", with_size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), "archive"),
        refused(
            "a size larger than that",
            with_size(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            "archive",
        ),
        case("an extended size where the header has none, over headers", pax("1536", &hidden)),
        refused("an extended size beyond the end", pax("99999999999", b"x"), "archive"),
        refused("a negative extended size", pax("-1", b"x"), "archive"),
        refused("an extended size that is no number", pax("1e3", b"x"), "archive"),
        refused("an extended size of twenty digits", pax("99999999999999999999", b"x"), "archive"),
        case(
            "a directory with a size",
            Raw::default().block(&header(b"d", DIRECTORY, b"", b"00000001000\0")).content(&[0; 512]).end(),
        ),
        case(
            "a link with a size",
            Raw::default().block(&header(b"l", SYMLINK, b"x", b"00000001000\0")).content(&hidden).end(),
        ),
    ]
}

fn extensions() -> Vec<Case> {
    let with = |kind: u8, content: &[u8]| {
        Raw::default().file("first", b"1").extension(kind, content).file("plain", b"x").end()
    };
    let path = |path: &[u8]| with(b'x', &record("path", path));
    let long = |length: usize| vec![b'a'; length];
    let nested = [b"d/".repeat(3000).as_slice(), b"x"].concat();
    vec![
        case("an extended path out", path(b"../../outside/evil")),
        case("an absolute extended path", path(b"/../../outside/evil")),
        refused("an extended path with a null", path(b"a\0b"), "archive"),
        case("an empty extended path", path(b"")),
        refused("a path of a megabyte", path(&long(1 << 20)), "archive"),
        refused("three thousand directories deep", path(&nested), "archive"),
        refused("a name of five thousand bytes", with(b'L', &long(5000)), "archive"),
        case("a long name out", with(b'L', b"../../outside/evil\0")),
        case("a global path out", with(b'g', &record("path", b"../../outside/evil"))),
        case("an extended link out", {
            let raw = Raw::default().extension(b'x', &record("linkpath", b"/etc/passwd"));
            raw.member("hard", HARD_LINK, "plain").end()
        }),
        refused("a record shorter than it says", with(b'x', b"99 path=a\n"), "archive"),
        refused("a record of no length", with(b'x', b"0 path=a\n"), "archive"),
        refused("a record without a number", with(b'x', b"path=a\n"), "archive"),
        refused("a record without an end", with(b'x', b"8 path=aa"), "archive"),
        refused("a record without a value", with(b'x', b"7 path\n"), "archive"),
        refused("an extension of eight megabytes", with(b'x', &record("comment", &long(8 << 20))), "archive"),
        refused("a long name of eight megabytes", with(b'L', &long(8 << 20)), "archive"),
        case("extensions of nothing", Raw::default().extension(b'x', b"").extension(b'x', b"").end()),
        refused(
            "a long name at the end",
            Raw::default().file("first", b"1").extension(b'L', b"name\0").unfinished(),
            "archive",
        ),
    ]
}

fn headers() -> Vec<Case> {
    let mut wrong_sum = header(b"x", FILE, b"", b"00000000000\0");
    wrong_sum[0] ^= 1;
    let mut garbage = [0xff_u8; 512];
    sign(&mut garbage);
    let whole = Raw::default().file("x", &[b'x'; 2000]).end();
    vec![
        refused("a wrong checksum", Raw::default().file("a", b"a").block(&wrong_sum).end(), "archive"),
        refused("a block of ones", Raw::default().file("a", b"a").block(&garbage).end(), "archive"),
        refused(
            "half a header",
            Raw::default().file("a", b"a").block(&wrong_sum[..200]).unfinished(),
            "archive",
        ),
        refused("half a file", whole[..1000].to_vec(), "archive"),
        case("no end", Raw::default().file("a", b"a").unfinished()),
        case("one zero block", vec![0; 512]),
        case("an unknown kind", Raw::default().member("odd", b'Q', "").end()),
        case(
            "a volume label and a multi-volume part",
            Raw::default().member("v", b'V', "").member("m", b'M', "").end(),
        ),
        case(
            "something after the end",
            [Raw::default().file("a", b"a").end(), Raw::default().file("../b", b"b").end()].concat(),
        ),
        // What cannot be told to be an archive is added as a file.
        case("half a gzip", {
            let packed = gzip(&whole);
            packed[..packed.len() / 2].to_vec()
        }),
        case("gzip in gzip", gzip(&gzip(&whole))),
        case("something after a gzip", [gzip(&whole), b"garbage".to_vec()].concat()),
        // The frame says that a window of two gigabytes is needed.
        case(
            "a zstd window of two gigabytes",
            [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8][..], &[0; 64]].concat(),
        ),
    ]
}

fn whiteouts_and_attributes() -> Vec<Case> {
    let names =
        [".wh.", ".wh..", ".wh...", "d/.wh./x", ".wh..wh.", ".wh..wh.plnk/x", ".wh..wh..opq/x", ".wh.a/b"];
    let mut cases: Vec<Case> =
        names.iter().map(|name| case(*name, Raw::default().file(name, b"").end())).collect();
    for (key, value) in [
        ("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..]),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ("SCHILY.xattr.security.capability", b"short"),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0"),
        ("SCHILY.xattr.", b"nameless"),
        ("SCHILY.xattr.user.large", &[b'x'; 100_000]),
        ("mtime", b"-99999999999999999999.5"),
        ("mtime", b"9223372036854775807"),
        ("uid", b"4294967295"),
        ("uid", b"-1"),
        ("gid", b"18446744073709551615"),
    ] {
        let raw = Raw::default().extension(b'x', &record(key, value)).file("marked", b"x");
        cases.push(case(format!("{key} of {} bytes", value.len()), raw.end()));
    }
    cases
}

fn bombs() -> Vec<Case> {
    let many = (0..50_000).fold(Raw::default(), |raw, number| raw.member(&format!("d/{number}"), FILE, ""));
    let sparse = |size: &str, map: &str| {
        let records = [
            record("GNU.sparse.major", b"0"),
            record("GNU.sparse.minor", b"1"),
            record("GNU.sparse.size", size.as_bytes()),
            record("GNU.sparse.map", map.as_bytes()),
        ];
        Raw::default().file("first", b"1").extension(b'x', &records.concat()).file("sparse", b"x").end()
    };
    vec![
        case("three hundred megabytes of zeros in a gzip", bomb("zeros", 300 << 20)),
        case("fifty thousand files in a gzip", gzip(&many.end())),
        refused("a file of holes of eight exabytes", sparse("9223372036854775807", "0,1"), "archive"),
        refused("a file of holes whose map goes back", sparse("4096", "100,1,50,1"), "archive"),
        refused(
            "a file of holes whose map is a megabyte",
            sparse("4096", &"1,0,".repeat(1 << 18)),
            "archive",
        ),
    ]
}
