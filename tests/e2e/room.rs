//! The size that `mica.toml` gives the store.

use std::path::Path;

use crate::support::{Bench, reading_as_owner};

const MAX: u64 = 24 << 20;

/// What a directory takes on the disk.
fn taken(path: &Path) -> u64 {
    let told = reading_as_owner("du").args(["--summarize", "--block-size=1"]).arg(path).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.split_whitespace().next().unwrap().parse().unwrap()
}

/// Builds an image with 3 MB of its own.
fn build(bench: &Bench, number: u8, more: &[&str]) -> crate::support::Ran {
    let content: Vec<u8> = (0..3_000_000_u32).map(|byte| (byte % 251) as u8 ^ number).collect();
    bench
        .write("large", content)
        .dockerfile("FROM base\nCOPY large /\nRUN cat /large > /again && rm /large\n");
    bench.mica(&[&["build", "."], more].concat()).succeeds()
}

#[test]
fn the_store_keeps_to_its_size_and_to_what_is_needed() {
    let Some(bench) = Bench::with_base() else { return };
    std::fs::create_dir_all(bench.path("home/.config/mica")).unwrap();
    let toml = format!("[store]\nmax-size = \"{MAX}\"\nkeep-versions = 2\n");
    std::fs::write(bench.path("home/.config/mica/mica.toml"), toml).unwrap();
    let store = bench.path("store");
    let mut removed = 0;
    for number in 0..8 {
        let ran = build(&bench, number, &[]);
        removed += usize::from(ran.stderr.contains("store: removed "));
        // Leases and their directories are gone, and the report of this build has come.
        let room = taken(&store);
        assert!(room <= MAX + (1 << 16), "{number}: {room}\n{}", ran.stderr);
        build(&bench, number, &[]).says(&["all 2 steps were cached"]);
    }
    assert!(removed > 3, "{removed}");
    let told = bench.mica(&["du"]).succeeds().stdout;
    assert!(told.contains("`max-size` of `mica.toml` allows"), "{told}");
    bench.mica(&["fsck"]).succeeds();

    // Kept versions stay whatever they take; of those there are two.
    for number in 0..8 {
        build(&bench, number, &["-t", &format!("app{number}")]);
    }
    let ran = build(&bench, 9, &["-t", "app0"])
        .says(&["warning: the store takes", "help: `mica prune --keep-versions N`"]);
    assert!(taken(&store) > MAX, "{}", ran.stderr);
    for number in 0..8 {
        let shown = bench.mica(&["run", "--rm", &format!("app{number}"), "wc", "-c", "/again"]).succeeds();
        assert!(shown.stdout.starts_with("3000000"), "{}", shown.stdout);
    }
}

#[test]
fn a_size_that_is_none_is_refused() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("home/.config/mica")).unwrap();
    std::fs::write(bench.path("home/.config/mica/mica.toml"), "[store]\nmax-size = \"much\"\n").unwrap();
    bench.mica(&["du"]).exits(1).says(&["mica.toml", "`much` is not a size"]);
}
