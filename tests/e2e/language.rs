//! What Dockerfiles mean: `fixtures/e2e/language/<group>-<name>/` holds a `Dockerfile` and a `case.json`.
//!
//! The facts of a case are written by hand from what the language says, never recorded from mica:
//!
//! ```text
//! title         what the case is about
//! context       by path: the text of a file, or an object with text | directory | link | fifo | tar (+ gzip), and mode
//! arguments     of `mica build`
//! environment   variables of `mica build`
//! files         by path: `file 0644 0:0 text`, `dir 0755 0:0`, `link target`; no file that is not listed may be new
//! absent        paths that are not in the image
//! config        keys of the image's configuration; null is absent
//! says          texts on standard error
//! fails         the build ends with exit code 1 and says these texts
//! ```
//!
//! Directories that are not listed may be new: their parents are. Each case is built as the one who runs the tests and, when that is
//! root, as an ordinary user.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::support::{Bench, Entry, Image, Person, Ran, directory, file, gzip, hard_link, symlink, tar};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[expect(dead_code, reason = "the title is for whoever reads the case")]
    title: String,
    #[serde(default)]
    context: BTreeMap<String, Content>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    absent: Vec<String>,
    #[serde(default)]
    config: BTreeMap<String, Value>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    fails: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Object(Object),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Object {
    text: String,
    directory: bool,
    link: Option<String>,
    fifo: bool,
    tar: Option<Vec<Member>>,
    gzip: bool,
    mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    path: String,
    #[serde(default)]
    text: String,
    link: Option<String>,
    hard: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    owner: (u64, u64),
}

macro_rules! groups {
    ($($name:ident)*) => {
        const GROUPS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check_group(stringify!($name));
            }
        )*
    };
}

groups! { add arg config copy error expand heredoc ignore mount parse run stage user workdir }

#[test]
fn every_case_is_in_a_group() {
    let cases = cases();
    for path in &cases {
        assert!(GROUPS.contains(&group_of(path)), "{}", path.display());
    }
    assert!(cases.len() >= 60, "{}", cases.len());
}

fn cases() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/e2e/language");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn group_of(case: &Path) -> &str {
    let name = case.file_name().unwrap().to_str().unwrap();
    name.split('-').next().unwrap()
}

/// Builds every case of a group and tells all that are wrong at once.
fn check_group(group: &str) {
    let cases: Vec<PathBuf> = cases().into_iter().filter(|path| group_of(path) == group).collect();
    assert!(!cases.is_empty(), "no case is named `{group}-…`");
    let mut wrong = Vec::new();
    for person in [Person::Myself, Person::Ordinary] {
        let Some(bench) = Bench::with_base_for(person) else { continue };
        for path in &cases {
            let told = check(&bench, path).into_iter();
            let name = path.file_name().unwrap().to_str().unwrap();
            wrong.extend(told.map(|what| format!("{name} as {person:?}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Builds a case and returns what is not as it should be.
fn check(bench: &Bench, path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path.join("case.json")).unwrap();
    let case: Case =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let context = bench.path(path.file_name().unwrap().to_str().unwrap());
    std::fs::create_dir(&context).unwrap();
    std::fs::copy(path.join("Dockerfile"), context.join("Dockerfile")).unwrap();
    bench.give(&context);
    bench.give(&context.join("Dockerfile"));
    for (name, content) in &case.context {
        lay_out(bench, &context, name, content);
    }
    let mut arguments = vec!["build", "--output=type=oci,dest=image.tar"];
    arguments.extend(case.arguments.iter().map(String::as_str));
    arguments.push(".");
    let variables: Vec<(&str, &str)> =
        case.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let ran = bench.mica_in(&context, &arguments, &variables);
    if !case.fails.is_empty() {
        return wrong_failure(&case, &ran);
    }
    if ran.code != Some(0) {
        return vec![format!("it fails:\n{}", ran.stderr)];
    }
    let mut wrong = not_said(&case.says, &ran);
    wrong.extend(wrong_image(&case, &Image::read(&std::fs::read(context.join("image.tar")).unwrap())));
    wrong
}

fn wrong_failure(case: &Case, ran: &Ran) -> Vec<String> {
    if ran.code != Some(1) {
        return vec![format!("exit code {:?} instead of 1:\n{}", ran.code, ran.stderr)];
    }
    not_said(&case.fails, ran)
}

fn not_said(texts: &[String], ran: &Ran) -> Vec<String> {
    let lacking = texts.iter().filter(|text| !ran.stderr.contains(text.as_str()));
    lacking.map(|text| format!("it does not say {text:?}:\n{}", ran.stderr)).collect()
}

fn wrong_image(case: &Case, image: &Image) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, expected) in &case.files {
        let found = image.files.get(path).map_or("absent", String::as_str);
        if found != expected {
            wrong.push(format!("{path}: {found:?} instead of {expected:?}"));
        }
    }
    let below = usize::from(image.layers.first().is_some_and(|layer| layer.contains_key("/bin/busybox")));
    for path in image.brought_after(below) {
        if !case.files.contains_key(path) && !image.files[path].starts_with("dir ") {
            wrong.push(format!("{path}: {:?} is not expected", image.files[path]));
        }
    }
    let there = case.absent.iter().filter(|path| image.files.contains_key(*path));
    wrong.extend(there.map(|path| format!("{path} is in the image")));
    for (key, expected) in &case.config {
        let found = image.setting(key);
        if found != expected {
            wrong.push(format!("{key}: {found} instead of {expected}"));
        }
    }
    wrong
}

fn lay_out(bench: &Bench, context: &Path, name: &str, content: &Content) {
    let path = context.join(name);
    let parent = path.parent().unwrap();
    std::fs::create_dir_all(parent).unwrap();
    for made in parent.ancestors().take_while(|directory| *directory != context) {
        std::fs::set_permissions(made, PermissionsExt::from_mode(0o755)).unwrap();
        bench.give(made);
    }
    let plain = Object::default();
    let (text, object) = match content {
        Content::Text(text) => (text, &plain),
        Content::Object(object) => (&object.text, object),
    };
    let mode = |usual| object.mode.as_deref().map_or(usual, octal);
    if let Some(target) = &object.link {
        std::os::unix::fs::symlink(target, &path).unwrap();
    } else if object.fifo {
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    } else if object.directory {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode(0o755))).unwrap();
    } else {
        let bytes = object.tar.as_ref().map_or_else(|| text.as_bytes().to_vec(), |members| archive(members));
        std::fs::write(&path, if object.gzip { gzip(&bytes) } else { bytes }).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode(0o644))).unwrap();
    }
    bench.give(&path);
}

fn archive(members: &[Member]) -> Vec<u8> {
    let entries: Vec<Entry> = members
        .iter()
        .map(|member| {
            let entry = match (&member.link, &member.hard) {
                (Some(target), _) => symlink(&member.path, target),
                (None, Some(target)) => hard_link(&member.path, target),
                (None, None) if member.path.ends_with('/') => directory(&member.path),
                (None, None) => file(&member.path, &member.text),
            };
            let entry = entry.owner(member.owner.0, member.owner.1);
            match &member.mode {
                Some(mode) => entry.mode(octal(mode)),
                None => entry,
            }
        })
        .collect();
    tar(&entries)
}

fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).expect("modes are octal")
}
