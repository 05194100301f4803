//! Which line put a file there, and where the bytes of an image are.

use crate::support::Bench;

fn json(bench: &Bench, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&bench.mica(arguments).succeeds().stdout).unwrap()
}

/// Line and source of whoever did something to a path, the last first; no source stands for a removal or an unknown one.
fn deeds(bench: &Bench, path: &str) -> Vec<(u64, Option<String>, bool)> {
    let blamed = json(bench, &["blame", "--json", "app", path]);
    let deed = |deed: &serde_json::Value| {
        (deed["line"].as_u64().unwrap(), deed["from"].as_str().map(str::to_owned), deed["puts"].is_object())
    };
    blamed[0]["deeds"].as_array().unwrap().iter().map(deed).collect()
}

#[test]
fn each_file_has_a_line_and_a_source() {
    let Some(bench) = Bench::with_base() else { return };
    bench.write("src/a", "a").write("src/sub/b", "b").write("other", "overwrites").write("gone", "g");
    bench.dockerfile(
        "FROM base AS build\nRUN echo made > /made; echo moved > /tmp/m\nRUN mv /tmp/m /moved\n\n\
         FROM base\nCOPY src /app/\nCOPY other /app/sub/b\nCOPY gone /gone\nRUN rm /gone; echo x > /app/new\n\
         COPY --from=build /made /moved /out/\n",
    );
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    let from = |source: &str| Some(source.to_owned());
    assert_eq!(deeds(&bench, "/app/a"), [(6, from("src/a"), true)]);
    assert_eq!(deeds(&bench, "app/sub/b"), [(7, from("other"), true), (6, from("src/sub/b"), true)]);
    assert_eq!(deeds(&bench, "/gone"), [(9, None, false), (8, from("gone"), true)]);
    assert_eq!(deeds(&bench, "/app/new"), [(9, None, true)]);
    assert_eq!(deeds(&bench, "/out/made"), [(10, from("made"), true)]);
    assert_eq!(deeds(&bench, "/out/moved"), [(10, from("moved"), true)]);
    let text = bench.mica(&["blame", "app", "/gone"]).succeeds().stdout;
    assert!(text.contains("removed by line 9: RUN rm /gone") && text.contains("from `gone`"), "{text}");
    let listed = bench.mica(&["blame", "app", "/app"]).succeeds().stdout;
    assert!(listed.contains("/app/a  put by line 6: COPY src /app/"), "{listed}");
    bench.mica(&["blame", "app", "/never"]).exits(1).says(&["/never"]);
}

#[test]
fn planted_waste_is_found() {
    let Some(bench) = Bench::with_base() else { return };
    bench
        .write("big", vec![b'x'; 50_000])
        .write("other", vec![b'y'; 30_000])
        .write("twice", vec![b'z'; 20_000]);
    bench.dockerfile(
        "FROM base\nCOPY big /big\nCOPY other /over\nCOPY big /over\nRUN rm /big\nCOPY twice /one\nCOPY twice /two\n\
         RUN mkdir -p /var/lib/apt/lists && head -c 9000 /two > /var/lib/apt/lists/index\nRUN chmod 600 /one\n",
    );
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    let sizes = json(&bench, &["size", "--json", "app"]);
    let waste: Vec<_> = sizes["waste"].as_array().unwrap().iter().collect();
    let found = |kind: &str, path: &str| {
        let is_it = |waste: &&&serde_json::Value| waste["kind"] == kind && waste["path"] == path;
        let waste = waste.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {path} in {sizes}"));
        (
            waste["bytes"].as_u64().unwrap(),
            waste["by"].as_str().unwrap().to_owned(),
            waste["advice"].as_str().unwrap().to_owned(),
        )
    };
    let (bytes, by, advice) = found("deleted", "/big");
    assert_eq!((bytes, by.as_str()), (50_000, "line 2: COPY big /big"));
    assert!(advice.contains("line 5: RUN rm /big"), "{advice}");
    assert_eq!(found("overwritten", "/over").0, 30_000);
    assert!(found("overwritten", "/one").2.contains("stored again by line 9"));
    assert_eq!(found("duplicate", "/two").0, 20_000);
    assert_eq!(found("cache", "/var/lib/apt/lists").1.split(':').next(), Some("line 8"));
    let text = bench.mica(&["size", "app"]).succeeds().stdout;
    assert!(text.contains("could be saved") && text.contains("50.0 kB  /big"), "{text}");
}
