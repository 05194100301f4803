//! Images in the store: names, archives, another store.

use crate::support::Bench;

fn built() -> Bench {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\n").write("a", "content\n");
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    bench
}

#[test]
fn names_come_and_go() {
    let bench = built();
    let id = bench.mica(&["images", "-q"]).succeeds().stdout;
    bench.mica(&["tag", "app", "other:1"]).succeeds();
    assert_eq!(bench.mica(&["images", "-q"]).succeeds().stdout.lines().next(), id.lines().next());
    bench.mica(&["rmi", "app"]).succeeds();
    bench.mica(&["inspect", "app"]).exits(1).says(&["app"]);
    bench.mica(&["inspect", "other:1"]).succeeds();
    bench.mica(&["rmi", "other:1"]).succeeds();
    assert_eq!(bench.mica(&["images", "-q"]).succeeds().stdout, "");
}

#[test]
fn an_archive_carries_an_image_to_another_store() {
    let bench = built();
    let id = bench.mica(&["images", "-q"]).succeeds().stdout;
    for format in ["docker", "oci"] {
        bench.mica(&["save", "app", "--format", format, "-o", "../app.tar"]).succeeds();
        let elsewhere = Bench::new();
        let archive = bench.path("app.tar");
        elsewhere.mica(&["load", "-i", archive.to_str().unwrap()]).succeeds();
        assert_eq!(elsewhere.mica(&["images", "-q"]).succeeds().stdout, id, "{format}");
        elsewhere.dockerfile("FROM app\nCOPY b /b\n").write("b", "more\n");
        elsewhere.mica(&["build", "-o", "../out", "."]).succeeds();
        assert_eq!(std::fs::read_to_string(elsewhere.path("out/a")).unwrap(), "content\n", "{format}");
    }
}

#[test]
fn outputs_of_a_build_can_be_loaded() {
    let bench = built();
    for output in ["type=oci,dest=../x.tar", "type=docker,dest=../y.tar"] {
        bench.mica(&["build", "-t", "app", "-o", output, "."]).succeeds();
    }
    for name in ["x.tar", "y.tar"] {
        let elsewhere = Bench::new();
        elsewhere.mica(&["load", "-i", bench.path(name).to_str().unwrap()]).succeeds();
        elsewhere.mica(&["inspect", "app"]).succeeds();
    }
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let bench = Bench::new();
    let mut tar = Vec::new();
    tar.extend(entry("hello.txt", b"hello\n"));
    tar.extend([0; 1024]);
    std::fs::write(bench.path("root.tar"), tar).unwrap();
    bench.mica(&["import", "../root.tar", "base:1"]).succeeds();
    bench.dockerfile("FROM base:1\n");
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    assert_eq!(std::fs::read_to_string(bench.path("out/hello.txt")).unwrap(), "hello\n");
}

/// One file of a tar: a header with its checksum, and the content in whole blocks.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let fields = [
        (100, "0000644\0"),
        (108, "0000000\0"),
        (116, "0000000\0"),
        (136, "00000000000\0"),
        (148, "        "),
        (156, "0"),
        (257, "ustar\x0000"),
    ];
    for (at, text) in fields {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}
