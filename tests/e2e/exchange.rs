//! Caches that travel: one machine builds and exports, another builds the same and finds it done. A machine is a bench here.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::push::registry::{DebianRegistry, Speaks};
use crate::support::{Bench, digest};

/// Two stages without a command, so that no sandbox is needed.
const COPIES: &str = "FROM scratch AS parts\n\
    COPY a /parts/a\n\
    COPY b /parts/b\n\
    FROM scratch\n\
    WORKDIR /w\n\
    COPY --from=parts /parts/a /w/\n";

const COMMANDS: &str = "FROM base AS tools\n\
    RUN cat /proc/sys/kernel/random/uuid > /tool\n\
    FROM base\n\
    COPY a /a\n\
    COPY --from=tools /tool /tool\n\
    RUN cat /a /tool > /both\n";

fn machine(dockerfile: &str, bench: Bench) -> Bench {
    bench.dockerfile(dockerfile).write("a", "a\n").write("b", "b\n");
    bench
}

fn copies() -> Bench {
    machine(COPIES, Bench::new())
}

fn to(place: &Path, more: &str) -> String {
    format!("type=local,dest={}{more}", place.display())
}

fn from(place: &Path) -> String {
    format!("type=local,src={}", place.display())
}

/// Returns a directory with the cache of a build, and the build's image.
fn exported(bench: &Bench, more: &str) -> (PathBuf, String) {
    let place = bench.path("cache");
    let image = bench.build_quiet(&["--cache-to", &to(&place, more)]);
    (place, image)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(place: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    place.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

fn manifest(place: &Path) -> Value {
    json(&blob(place, &json(&place.join("index.json"))["manifests"][0]))
}

fn document(place: &Path) -> Value {
    json(&blob(place, &manifest(place)["config"]))
}

#[test]
fn another_machine_finds_every_step_done() {
    let (first, second) = (copies(), copies());
    let (place, image) = exported(&first, ",mode=max");
    let ran = second.mica(&["build", "--cache-from", &from(&place), "."]).succeeds();
    ran.says(&["all 4 steps were cached"]);
    assert_eq!(second.build_quiet(&[]), image, "and the next build needs no cache");
}

#[test]
fn only_what_the_image_needs_is_read() {
    let (first, second) = (copies(), copies());
    let (place, image) = exported(&first, ",mode=max");
    // Without the bytes of the stage that is only copied from.
    let document = document(&place);
    let layers = document["layers"].as_object().unwrap();
    for record in document["records"].as_array().unwrap() {
        if record["place"].as_str().unwrap().starts_with("parts ") {
            fs::remove_file(blob(&place, &layers[record["layer"].as_str().unwrap()]["blob"])).unwrap();
        }
    }
    let ran = second.mica(&["build", "--cache-from", &from(&place), "."]).succeeds();
    ran.says(&["all 4 steps were cached"]).says_not("is not used");
    assert_eq!(second.build_quiet(&[]), image);
}

#[test]
fn the_least_mode_has_what_the_image_is_made_of() {
    let (first, second) = (copies(), copies());
    let (place, _) = exported(&first, "");
    assert_eq!(document(&place)["records"].as_array().unwrap().len(), 2);
    let ran = second.mica(&["build", "--cache-from", &from(&place), "."]).succeeds();
    ran.says(&["2 steps cached, 2 ran"]);
}

#[test]
fn commands_run_on_what_came_from_elsewhere() {
    let (Some(first), Some(second)) = (Bench::with_base(), Bench::with_base()) else { return };
    let (first, second) = (machine(COMMANDS, first), machine(COMMANDS, second));
    let (place, _) = exported(&first, ",mode=max,compression=zstd");
    let ran = second.mica(&["build", "--cache-from", &from(&place), "."]).succeeds();
    ran.says(&["all 4 steps were cached"]);
    // What it kept of the cache is compared with what is, though values of variables did not come along.
    second.write("a", "another\n").mica(&["build", "."]).succeeds().says(&["2 ran"]).says_not("the variable");
    // A changed step runs where the steps before it were never made, and says against what it is new.
    let third = machine(COMMANDS, Bench::with_base().unwrap());
    third.write("a", "other\n");
    let ran = third.mica(&["build", "--cache-from", &from(&place), "-o", "../out", "."]).succeeds();
    ran.says(&["2 steps cached, 2 ran", "the content of `/a` changed"]);
    let tool = fs::read_to_string(third.path("out/tool")).unwrap();
    assert_eq!(fs::read_to_string(third.path("out/both")).unwrap(), format!("other\n{tool}"));
}

#[test]
fn an_export_of_what_was_imported_sends_it_on() {
    let (first, second, third) = (copies(), copies(), copies());
    let (place, _) = exported(&first, ",mode=max");
    let next = second.path("next");
    let arguments = ["build", "--cache-from", &from(&place), "--cache-to", &to(&next, ",mode=max"), "."];
    second.mica(&arguments).succeeds().says(&["all 4 steps were cached"]);
    fs::remove_dir_all(&place).unwrap();
    third.mica(&["build", "--cache-from", &from(&next), "."]).succeeds().says(&["all 4 steps were cached"]);
}

/// Every file of the cache, one after the other, is cut, changed and removed.
#[test]
fn a_cache_that_is_wrong_costs_only_time() {
    let first = copies();
    let (place, image) = exported(&first, ",mode=max");
    let files: Vec<PathBuf> = fs::read_dir(place.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .chain([place.join("index.json")])
        .collect();
    assert!(files.len() > 8, "{files:?}");
    for file in &files {
        let whole = fs::read(file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let cut = whole[..whole.len() / 2].to_vec();
        for damage in [Some(cut), Some(flipped), None] {
            match &damage {
                Some(bytes) => fs::write(file, bytes).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            let machine = copies();
            let arguments =
                ["build", "--progress=plain", "--iidfile", "../id", "--cache-from", &from(&place), "."];
            let ran = machine.mica(&arguments).succeeds();
            assert!(ran.stderr.matches("is not used").count() <= 1, "{}", ran.stderr);
            let same = files_of(&machine) == files_of(&first);
            assert!(same, "{}", ran.stderr);
        }
        fs::write(file, whole).unwrap();
    }
    let machine = copies();
    assert_eq!(machine.build_quiet(&["--cache-from", &from(&place)]), image, "and all is well again");
}

fn files_of(bench: &Bench) -> (String, bool) {
    let out = bench.path("out");
    bench.mica(&["build", "-o", "../out", "."]).succeeds();
    (fs::read_to_string(out.join("w/a")).unwrap(), out.join("w/b").exists())
}

#[test]
fn a_cache_that_lies_about_a_layer_is_found_out() {
    let first = copies();
    let (place, _) = exported(&first, ",mode=max");
    let mut document = document(&place);
    // Each layer is said to have the index and blob of the next.
    let layers = document["layers"].as_object().unwrap().clone();
    let ids: Vec<_> = layers.keys().cloned().collect();
    for (number, id) in ids.iter().enumerate() {
        document["layers"][id] = layers[&ids[(number + 1) % ids.len()]].clone();
    }
    put_document(&place, &document);
    let machine = copies();
    let ran = machine.mica(&["build", "--cache-from", &from(&place), "."]).succeeds();
    ran.says(&["4 steps ran", "its index is another layer's"]);
    assert_eq!(files_of(&machine), files_of(&first));
}

fn put_document(place: &Path, document: &Value) {
    let mut manifest = manifest(place);
    let bytes = serde_json::to_vec(document).unwrap();
    manifest["config"]["digest"] = Value::String(digest(&bytes));
    manifest["config"]["size"] = bytes.len().into();
    fs::write(blob(place, &manifest["config"]), bytes).unwrap();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let mut index = json(&place.join("index.json"));
    index["manifests"][0]["digest"] = Value::String(digest(&bytes));
    index["manifests"][0]["size"] = bytes.len().into();
    fs::write(blob(place, &index["manifests"][0]), bytes).unwrap();
    fs::write(place.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

#[test]
fn no_secret_and_no_value_of_a_variable_travels() {
    let Some(bench) = Bench::with_base() else { return };
    bench.write("token", "sesame-open-now\n");
    bench.dockerfile(
        "FROM base\nARG PASSWORD\nRUN --mount=type=secret,id=t cat /run/secrets/t > /dev/null; echo sesame-open-now > /dev/null\n",
    );
    let place = bench.path("cache");
    let secret = ["--secret", "id=t,src=token", "--build-arg", "PASSWORD=hunter-two", "--cache-to"];
    bench.mica(&[&["build"][..], &secret, &[&to(&place, ",mode=max"), "."]].concat()).succeeds();
    let text = document(&place).to_string();
    assert!(text.contains("env PASSWORD") && text.contains("***"), "{text}");
    assert!(!text.contains("hunter-two") && !text.contains("sesame"), "{text}");
}

#[test]
fn an_export_that_fails_fails_the_build_unless_it_may() {
    let bench = copies();
    let place = bench.path("cache");
    fs::write(&place, "a file").unwrap();
    let failed = bench.mica(&["build", "--cache-to", &to(&place, ""), "."]).exits(1);
    failed.says(&["cannot write the cache"]);
    let told = bench.mica(&["build", "--cache-to", &to(&place, ",ignore-error=true"), "."]).succeeds();
    told.says(&["was not written"]);
    let missing = bench.mica(&["build", "--cache-from", &from(&bench.path("nothing")), "."]).succeeds();
    missing.says(&["it is not there (yet)"]);
    bench.mica(&["build", "--cache-to", "type=gha", "."]).exits(2).says(&["no caches of type `gha`"]);
}

#[test]
fn a_registry_keeps_a_cache_beside_the_image() {
    for speaks in [Speaks::Http, Speaks::Tls] {
        let Some(registry) = DebianRegistry::start(speaks) else { return };
        let (first, second) = (copies(), copies());
        let (app, cache) = (registry.name("app:1"), registry.name("app:cache"));
        let ran = first.mica(&["build", "--push", "-t", &app, "--cache-to", &cache, "."]).succeeds();
        ran.says(&["writing the cache"]);
        let ran = second.mica(&["build", "--push", "-t", &app, "--cache-from", &cache, "."]).succeeds();
        ran.says(&["2 steps cached, 2 ran"]).says_not("pushing");
        // The image carries none, and that is said.
        second.mica(&["build", "--cache-from", &app, "."]).succeeds().says(&["no image that carries one"]);
    }
}

/// Adds a line of its own and one that all change to a cache mount, and shows what was there.
const MOUNTED: &str = "FROM base\nARG WHO\nRUN --mount=type=cache,id=pip,target=/c \\\n    cat /c/* > /seen; echo $WHO > /c/$WHO; echo $WHO > /c/all\n";

fn with_mount(who: &str, arguments: &[&str]) -> Option<(Bench, String)> {
    let bench = Bench::with_base()?;
    bench.dockerfile(MOUNTED);
    let who = format!("WHO={who}");
    let all = [&["build", "--build-arg", &who, "-o", "../out"][..], arguments, &["."]].concat();
    bench.mica(&all).succeeds().says_not("is not used");
    let seen = fs::read_to_string(bench.path("out/seen")).unwrap();
    Some((bench, seen))
}

#[test]
fn a_cache_mount_travels_if_it_is_named() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("cache");
    let mounts = to(&place, ",mounts=pip");
    let Some((first, seen)) = with_mount("one", &["--cache-to", &to(&place, "")]) else { return };
    assert_eq!(seen, "");
    let (_, seen) = with_mount("two", &["--cache-from", &from(&place)]).unwrap();
    assert_eq!(seen, "", "nobody named it");
    first.mica(&["build", "--no-cache", "--build-arg", "WHO=one", "--cache-to", &mounts, "."]).succeeds();
    let (_, seen) = with_mount("two", &["--cache-from", &from(&place), "--cache-to", &mounts]).unwrap();
    assert_eq!(seen, "one\none\n");
    let none = format!("{},mounts=other", from(&place));
    assert_eq!(with_mount("three", &["--cache-from", &none]).unwrap().1, "");
    let (_, seen) = with_mount("three", &["--cache-from", &from(&place)]).unwrap();
    assert_eq!(seen, "two\none\ntwo\n", "and one head is left");
    let heads = json(&place.join("index.json"))["manifests"].as_array().unwrap().len();
    assert_eq!(heads, 2);
}

#[test]
fn writers_at_once_lose_none_of_each_others_work() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("cache");
    let mounts = to(&place, ",mounts=all");
    if with_mount("first", &["--cache-to", &mounts]).is_none() {
        return;
    }
    let names = ["a", "b", "c", "d", "e"];
    std::thread::scope(|scope| {
        for who in names {
            let (place, mounts) = (from(&place), &mounts);
            scope.spawn(move || with_mount(who, &["--cache-from", &place, "--cache-to", mounts]).unwrap());
        }
    });
    let (_, seen) = with_mount("last", &["--cache-from", &from(&place)]).unwrap();
    let mut lines: Vec<&str> = seen.lines().collect();
    lines.sort_unstable();
    // Each one's own line, and one whole version of the line that all wrote.
    let all: Vec<&str> = lines.iter().copied().filter(|line| names.contains(line)).collect();
    assert_eq!(all.len(), names.len() + 1, "{lines:?}");
    assert!(names.iter().all(|name| all.contains(name)) && lines.contains(&"first"), "{lines:?}");
}
