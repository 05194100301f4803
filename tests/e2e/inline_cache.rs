//! The cache that an image carries in its own config, and builds that find it there.

use std::fs;

use serde_json::Value;

use crate::push::registry::{DebianRegistry, Speaks};
use crate::support::{Bench, Layout, has_peer, run_peer};

/// Commands, copies, times set on purpose, a removal, a hard link, and attributes of the root.
const IMAGE: &str = "FROM base\n\
    RUN cat /proc/sys/kernel/random/uuid > /first; touch -d '2001-02-03 04:05:06' /first; ln /first /again; chmod 711 /\n\
    COPY a /a\n\
    RUN rm /again; cat /proc/sys/kernel/random/uuid > /second; touch -d '2002-02-03 04:05' /second\n\
    COPY b /b\n";

/// Two machines that have the very same base.
fn machines() -> Option<(Bench, Bench)> {
    let (first, second) = (Bench::with_base()?, Bench::with_base()?);
    let archive = second.path("same.tar").display().to_string();
    first.mica(&["save", "-o", &archive, "base"]).succeeds();
    second.mica(&["load", "-i", &archive]).succeeds();
    for bench in [&first, &second] {
        bench.dockerfile(IMAGE).write("a", "a\n").write("b", "b\n");
    }
    Some((first, second))
}

#[test]
fn a_build_finds_its_steps_in_the_image_that_was_pushed() {
    for packing in ["gzip", "zstd"] {
        let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
        let Some((first, second)) = machines() else { return };
        let name = registry.name("app:1");
        let output = format!("type=registry,name={name},compression={packing}");
        let pushed = first.build_quiet(&["--cache-to", "type=inline", "-o", &output]);
        let from = ["--cache-to", "type=inline", "--cache-from", &name];
        let ran = second.mica(&[&["build", "--iidfile", "../id"], &from[..], &["."]].concat()).succeeds();
        ran.says(&["all 4 steps were cached"]).says_not("is not used");
        assert_eq!(fs::read_to_string(second.path("id")).unwrap().trim_end(), pushed);
        // What came is pushed as it came.
        let again = second.mica(&[&["build", "-o", &output], &from[..], &["."]].concat()).succeeds();
        again.says(&["all 4 steps were cached"]).says_not("pushing");
        // A changed step runs on what was found.
        second.write("b", "other\n");
        let ran = second.mica(&["build", "--cache-from", &name, "-o", "../out", "."]).succeeds();
        ran.says(&["3 steps cached, 1 ran"]);
        assert_eq!(fs::read_to_string(second.path("out/b")).unwrap(), "other\n");
    }
}

#[test]
fn times_that_are_clamped_are_no_hindrance() {
    let Some((first, second)) = machines() else { return };
    let fixed = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--cache-to", "type=inline"];
    let layout = first.path("layout");
    let output = format!("type=oci,tar=false,name=app:1,dest={}", layout.display());
    let image = first.build_quiet(&[&fixed[..], &["-o", &output]].concat());
    let from = format!("type=local,src={},tag=1", layout.display());
    let ran =
        second.mica(&[&["build", "--iidfile", "../id", "--cache-from", &from], &fixed[..], &["."]].concat());
    ran.succeeds().says(&["all 4 steps were cached"]);
    assert_eq!(fs::read_to_string(second.path("id")).unwrap().trim_end(), image);
}

#[test]
fn images_of_all_platforms_are_asked() {
    let Some(registry) = DebianRegistry::start(Speaks::Http) else { return };
    let machine = || {
        let bench = Bench::new();
        bench.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\nCOPY shared /shared\n");
        bench.write("amd64", "amd64\n").write("arm64", "arm64\n").write("shared", "shared\n");
        bench
    };
    let (first, second) = (machine(), machine());
    let name = registry.name("app:1");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    first
        .mica(
            &[&["build", "--push", "-t", &name, "--cache-to", "type=inline"], &platforms[..], &["."]]
                .concat(),
        )
        .succeeds();
    let ran = second.mica(&[&["build", "--cache-from", &name], &platforms[..], &["."]].concat()).succeeds();
    ran.says(&["all 4 steps were cached"]);
}

#[test]
fn the_argument_of_the_reference_does_the_same() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\n").write("a", "a\n");
    let by_flag = bench.build_quiet(&["--cache-to", "type=inline"]);
    assert_eq!(bench.build_quiet(&["--build-arg", "BUILDKIT_INLINE_CACHE=1"]), by_flag);
    assert_ne!(bench.build_quiet(&[]), by_flag);
}

#[test]
fn an_image_made_from_one_with_a_cache_carries_its_own_or_none() {
    if !has_peer("skopeo") {
        return;
    }
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\n").write("a", "a\n").write("b", "b\n");
    bench.build_quiet(&["-t", "lower", "--cache-to", "type=inline"]);
    bench.dockerfile("FROM lower\nCOPY b /b\n");
    let config = |arguments: &[&str]| -> Value {
        bench.mica(&[&["build", "-o", "type=oci,dest=../app.tar"], arguments, &["."]].concat()).succeeds();
        let archive = format!("oci-archive:{}", bench.path("app.tar").display());
        serde_json::from_str(&run_peer("skopeo", &["inspect", "--config", "--raw", &archive])).unwrap()
    };
    assert_eq!(config(&[])["mica.cache.v1"], Value::Null);
    let carried = config(&["--cache-to", "type=inline"])["mica.cache.v1"].clone();
    assert_eq!(carried["records"].as_array().unwrap().len(), 1, "{carried}");
    assert_eq!(carried["layers"].as_object().unwrap().len(), 1, "{carried}");
}

type Change = fn(&mut Value, &[String]);

/// A hostile or damaged cache in an image counts as none.
#[test]
fn a_carried_cache_that_lies_is_found_out() {
    let machine = || {
        let bench = Bench::new();
        bench.dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\n").write("a", "a\n").write("b", "b\n");
        bench
    };
    let first = machine();
    let layout = Layout(first.path("layout"));
    let place = layout.0.display();
    let output = format!("type=oci,tar=false,name=app:1,dest={place}");
    first.build_quiet(&["--cache-to", "type=inline", "-o", &output]);
    let from = format!("type=local,src={place},tag=1");
    let top = layout.top();
    let manifest = layout.json(&top["manifests"][0]["digest"]);
    let config = layout.json(&manifest["config"]["digest"]);
    let field = &config["mica.cache.v1"];
    let ids: Vec<String> = field["layers"].as_object().unwrap().keys().cloned().collect();
    let changes: [(&str, Change); 5] = [
        ("has format 9", |field, _| field["format"] = 9.into()),
        ("is not valid", |field, _| field["records"] = 1.into()),
        ("has no layer", |field, ids| {
            field["layers"][&ids[0]]["diffId"] = format!("sha256:{}", "0".repeat(64)).into();
        }),
        ("more entries than times", |field, ids| {
            field["layers"][&ids[0]]["times"] = Value::Array(Vec::new())
        }),
        ("its index is another layer's", |field, ids| {
            let layers = field["layers"].clone();
            field["layers"][&ids[0]] = layers[&ids[1]].clone();
            field["layers"][&ids[1]] = layers[&ids[0]].clone();
        }),
    ];
    for (expected, change) in changes {
        let (mut config, mut manifest, mut top) = (config.clone(), manifest.clone(), top.clone());
        change(&mut config["mica.cache.v1"], &ids);
        layout.put(config.to_string().as_bytes(), &mut manifest["config"]);
        layout.put(manifest.to_string().as_bytes(), &mut top["manifests"][0]);
        layout.set_top(&top);
        let machine = machine();
        let ran = machine.mica(&["build", "--cache-from", &from, "-o", "../out", "."]).succeeds();
        ran.says(&[expected]);
        assert_eq!(fs::read_to_string(machine.path("out/b")).unwrap(), "b\n");
    }
}

#[test]
fn a_rebuild_carries_what_the_image_did() {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /dir/\n").write("a", "a\n");
    let out = "type=oci,tar=false,dest=../layout";
    let build = ["build", "--provenance=true", "--reproducible", "--cache-to", "type=inline", "-o", out, "."];
    bench.mica(&build).succeeds();
    let honest = bench.mica(&["verify", "--rebuild", "../layout", "."]).succeeds();
    assert!(honest.stdout.contains("a rebuild gives the same"), "{honest:?}");
}
