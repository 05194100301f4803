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
    let text = bench.mica(&["blame", "app", "/out/moved"]).succeeds().stdout;
    assert!(text.contains("from `moved` in `build`, put by line 3: RUN mv /tmp/m /moved"), "{text}");
    let text = bench.mica(&["blame", "app", "/gone"]).succeeds().stdout;
    assert!(text.contains("removed by line 9: RUN rm /gone") && text.contains("from `gone`"), "{text}");
    let listed = bench.mica(&["blame", "app", "/app"]).succeeds().stdout;
    assert!(listed.contains("/app/a  put by line 6: COPY src /app/"), "{listed}");
    bench.mica(&["blame", "app", "/never"]).exits(1).says(&["/never"]);
}

/// Copies, moves, overwrites, deletions, links and packages of both kinds of databases.
const EVERYTHING: &str = "\
FROM base AS tools
RUN mkdir -p /t/sub; echo tool > /t/tool; echo sub > /t/sub/file; cp /t/tool /t/copy
COPY given /t/given

FROM base
COPY src /app/
COPY --from=tools /t /opt/t/
RUN mv /app/moved /app/elsewhere; echo over > /app/over; rm -r /app/gone; ln /app/kept /app/name; ln -s kept /app/link
COPY over /app/over
RUN --mount=type=bind,target=/ctx sh /ctx/install dpkg tree 2.1-1
RUN --mount=type=bind,target=/ctx sh /ctx/install dpkg less 590; echo mine > /usr/bin/tree
RUN --mount=type=bind,target=/ctx sh /ctx/install apk curl 8.1-r0
RUN mkdir /app/gone; echo again > /app/gone/file
COPY --from=tools /t/tool /t/sub/file /last/
";

/// What package managers leave: files, and what they know of them.
const INSTALL: &str = "\
mkdir -p /usr/bin /usr/share/doc/$2; echo $2 > /usr/bin/$2; echo doc > /usr/share/doc/$2/README
test -e /sbin || ln -s usr/bin /sbin
case $1 in
dpkg)
    mkdir -p /var/lib/dpkg/info
    printf 'Package: %s\\nStatus: install ok installed\\nVersion: %s\\n\\n' $2 $3 >> /var/lib/dpkg/status
    printf '%s\\n' /. /sbin /sbin/$2 /usr/share/doc/$2 /usr/share/doc/$2/README > /var/lib/dpkg/info/$2.list ;;
apk)
    mkdir -p /lib/apk/db
    printf 'C:Q1\\nP:%s\\nV:%s\\nF:usr/bin\\nR:%s\\nF:usr/share/doc/%s\\nR:README\\n\\n' $2 $3 $2 $2 >> /lib/apk/db/installed ;;
esac
";

#[test]
fn every_file_of_an_image_is_blamed_on_the_right_line() {
    let Some(bench) = Bench::with_base() else { return };
    for name in ["moved", "over", "kept", "gone/file"] {
        bench.write(&format!("src/{name}"), format!("{name} of src\n"));
    }
    bench.write("over", "final\n").write("given", "given\n").write("install", INSTALL);
    bench.dockerfile(EVERYTHING);
    bench.mica(&["build", "-t", "app", "."]).succeeds();
    let mut found = Vec::new();
    for blamed in json(&bench, &["blame", "--json", "app", "/"]).as_array().unwrap() {
        let deed = &blamed["deeds"][0];
        if deed["line"].is_null() {
            continue;
        }
        let word =
            |value: &serde_json::Value| value.as_str().map(|text| format!(" {text}")).unwrap_or_default();
        let mut told = format!("{} {}", blamed["path"].as_str().unwrap(), deed["line"]);
        if deed["puts"].is_null() {
            told.push_str(" removed");
        }
        told.push_str(&(word(&deed["package"]) + &word(&deed["from"])));
        let source = &deed["source"];
        if source.is_object() {
            told.push_str(&format!(
                " < {}{}{}",
                source["line"],
                word(&source["stage"]),
                word(&source["from"])
            ));
        }
        found.push(told);
    }
    let expected = [
        "/app/elsewhere 8",
        "/app/gone/file 13",
        "/app/kept 8",
        "/app/link 8",
        "/app/name 8",
        "/app/over 9 over",
        "/last/file 14 t/sub/file < 2 tools",
        "/last/tool 14 t/tool < 2 tools",
        "/lib/apk/db/installed 12",
        "/opt/t/copy 7 t/copy < 2 tools",
        "/opt/t/given 7 t/given < 3 tools given",
        "/opt/t/sub/file 7 t/sub/file < 2 tools",
        "/opt/t/tool 7 t/tool < 2 tools",
        "/sbin 10 tree 2.1-1",
        "/usr/bin/curl 12 curl 8.1-r0",
        "/usr/bin/less 11 less 590",
        "/usr/bin/tree 11",
        "/usr/share/doc/curl/README 12 curl 8.1-r0",
        "/usr/share/doc/less/README 11 less 590",
        "/usr/share/doc/tree/README 10 tree 2.1-1",
        "/var/lib/dpkg/info/less.list 11",
        "/var/lib/dpkg/info/tree.list 10",
        "/var/lib/dpkg/status 11",
    ];
    assert_eq!(found, expected);
    let text = bench.mica(&["blame", "app", "/usr/bin/less"]).succeeds().stdout;
    assert!(text.contains("with the package less 590"), "{text}");
    // An image that comes back from elsewhere is still the one that was built here.
    bench.mica(&["save", "app", "--format", "oci", "-o", "../app.tar"]).succeeds();
    bench.mica(&["diff", "app", "../app.tar"]).succeeds();
    assert_eq!(deeds(&bench, "/app/over")[0], (9, Some("over".to_owned()), true));
    let sourced = json(&bench, &["blame", "--json", "app", "/last/tool"]);
    assert_eq!(sourced[0]["deeds"][0]["source"]["line"], 2, "{sourced}");
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
