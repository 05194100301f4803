//! The value of `--output`.

use std::path::PathBuf;

use mica_image::Reference;
use mica_parser::go::parse_bool;

use super::error::ArgumentError;
use super::{csv, packing};
use crate::engine::request::{Output, OutputKind, Packing, Push};

const FLAG: &str = "--output";
const TYPES: &str = "oci, docker, tar, local, image and registry";

/// Parses one `--output`: a directory, `-`, or `type=…,dest=…` and further keys.
pub(super) fn parse(word: &str) -> Result<Output, ArgumentError> {
    let fields = csv::fields(word).map_err(|error| ArgumentError::value(FLAG, word, error.to_string()))?;
    match fields.as_slice() {
        [field] if field == "-" => Ok(Output::new(OutputKind::Tar, None)),
        [field] if field == word && !word.starts_with("type=") => directory(word),
        _ => from_fields(word, &fields),
    }
}

fn directory(word: &str) -> Result<Output, ArgumentError> {
    if word.is_empty() {
        return Err(ArgumentError::value(FLAG, word, "the directory is missing"));
    }
    Ok(Output::new(OutputKind::Local, Some(PathBuf::from(word))))
}

#[derive(Default)]
struct Keys {
    kind: Option<String>,
    destination: Option<String>,
    tar: Option<bool>,
    names: Option<String>,
    push: Option<bool>,
    how: Push,
    clamps_times: bool,
    packing: Packing,
    /// The last key that only images have, and the last that only registries have.
    of_images: Option<String>,
    of_registries: Option<String>,
}

fn from_fields(word: &str, fields: &[String]) -> Result<Output, ArgumentError> {
    let invalid = |why: String| ArgumentError::value(FLAG, word, why);
    let mut keys = Keys::default();
    for field in fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| invalid(format!("`{field}` is not of the form key=value")))?;
        read_key(&mut keys, key.trim(), value).map_err(invalid)?;
    }
    let kind = keys.kind.as_deref().ok_or_else(|| {
        invalid("the type is missing".to_owned()).with_hint(format!("the types are {TYPES}"))
    })?;
    let kind = output_kind(word, kind, &keys)?;
    check_keys(kind, &keys).map_err(invalid)?;
    let names = names(&keys).map_err(invalid)?;
    let destination = keys.destination.filter(|path| path != "-").map(PathBuf::from);
    check_destination(word, kind, destination.is_some())?;
    Ok(Output { kind, destination, names, packing: keys.packing, clamps_times: keys.clamps_times })
}

fn read_key(keys: &mut Keys, key: &str, value: &str) -> Result<(), String> {
    let name = key.to_ascii_lowercase();
    let switch = || parse_bool(value).ok_or_else(|| format!("`{name}={value}`: not true or false"));
    match name.as_str() {
        "type" => keys.kind = Some(value.to_owned()),
        "dest" => keys.destination = Some(value.to_owned()),
        "tar" => keys.tar = Some(switch()?),
        "push" => keys.push = Some(switch()?),
        "push-by-digest" => keys.how.by_digest = switch()?,
        "registry.insecure" => keys.how.insecure = switch()?,
        // Names in mica's store are canonical, and it is always stored.
        "name-canonical" => drop(switch()?),
        "store" if switch()? => {}
        "unpack" | "oci-artifact" | "prefer-nondist-layers" if !switch()? => {}
        "rewrite-timestamp" => keys.clamps_times = switch()?,
        "name" => keys.names = Some(value.to_owned()),
        _ => match packing::read_key(&mut keys.packing, key, value) {
            Some(read) => read?,
            None => return Err(format!("the key `{name}` is not supported")),
        },
    }
    match name.as_str() {
        "type" | "dest" | "tar" => {}
        "push" | "push-by-digest" | "registry.insecure" | "name-canonical" => keys.of_registries = Some(name),
        _ => keys.of_images = Some(name),
    }
    Ok(())
}

fn output_kind(word: &str, kind: &str, keys: &Keys) -> Result<OutputKind, ArgumentError> {
    let invalid = |why: String| ArgumentError::value(FLAG, word, why);
    let known = match (kind, keys.tar) {
        ("oci", Some(false)) => OutputKind::OciLayout,
        ("oci", _) => OutputKind::OciArchive,
        (_, Some(false)) => return Err(invalid("`tar=false` belongs to `type=oci`".to_owned())),
        ("docker", _) if keys.destination.is_none() => OutputKind::Daemon,
        ("docker", _) => OutputKind::DockerArchive,
        ("tar", _) => OutputKind::Tar,
        ("local", _) => OutputKind::Local,
        ("registry", _) if keys.push != Some(false) => OutputKind::Registry(keys.how),
        ("image", _) if keys.push == Some(true) => OutputKind::Registry(keys.how),
        ("image" | "cacheonly" | "registry", _) => OutputKind::Image,
        _ => {
            return Err(invalid(format!("there is no output type `{kind}`"))
                .with_hint(format!("the types are {TYPES}")));
        }
    };
    Ok(known)
}

/// A key that would do nothing is a mistake.
fn check_keys(kind: OutputKind, keys: &Keys) -> Result<(), String> {
    let is_tree = matches!(kind, OutputKind::Tar | OutputKind::Local);
    let takes_push = matches!(kind, OutputKind::Image | OutputKind::Registry(_));
    match (&keys.of_images, &keys.of_registries) {
        (Some(key), _) if is_tree => Err(format!("`{key}` is about images, and this writes files")),
        (_, Some(key)) if !takes_push => Err(format!("`{key}` belongs to `type=image` and `type=registry`")),
        _ => packing::check(&keys.packing),
    }
}

/// An image that goes by its digest has no tag.
fn names(keys: &Keys) -> Result<Vec<Reference>, String> {
    let mut names = Vec::new();
    for word in keys.names.iter().flat_map(|names| names.split(',')).map(str::trim) {
        let name = Reference::parse(word).map_err(|error| error.to_string())?;
        if name.digest().is_some() {
            return Err(format!("`{word}`: a name with a digest cannot be given to an image"));
        }
        if keys.how.by_digest && name.tag().is_some() {
            return Err(format!("`{word}`: what is pushed by its digest gets no tag"));
        }
        names.push(name.with_default_tag());
    }
    Ok(names)
}

fn check_destination(word: &str, kind: OutputKind, has_path: bool) -> Result<(), ArgumentError> {
    match kind {
        OutputKind::Local | OutputKind::OciLayout if !has_path => {
            Err(ArgumentError::value(FLAG, word, "a directory is needed").with_hint("add `dest=DIRECTORY`"))
        }
        OutputKind::Image | OutputKind::Registry(_) if has_path => {
            Err(ArgumentError::value(FLAG, word, "an image in a store or registry takes no `dest`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        let cases = [
            ("out", Ok((OutputKind::Local, Some("out")))),
            ("-", Ok((OutputKind::Tar, None))),
            ("type=local,dest=out", Ok((OutputKind::Local, Some("out")))),
            ("type=tar", Ok((OutputKind::Tar, None))),
            ("type=tar,dest=-", Ok((OutputKind::Tar, None))),
            ("type=oci,dest=a.tar", Ok((OutputKind::OciArchive, Some("a.tar")))),
            ("type=oci,dest=dir,tar=false", Ok((OutputKind::OciLayout, Some("dir")))),
            ("TYPE=docker,dest=-", Ok((OutputKind::DockerArchive, None))),
            (r#"type=local,"dest=a,b""#, Ok((OutputKind::Local, Some("a,b")))),
            ("type=image", Ok((OutputKind::Image, None))),
            ("type=image,push=false", Ok((OutputKind::Image, None))),
            ("type=docker", Ok((OutputKind::Daemon, None))),
            ("type=local", Err("a directory is needed")),
            ("type=oci,tar=false", Err("a directory is needed")),
            ("type=tar,tar=false", Err("`tar=false` belongs to `type=oci`")),
            ("type=registry", Ok((OutputKind::Registry(Push::default()), None))),
            ("type=registry,push=false", Ok((OutputKind::Image, None))),
            ("type=image,push=true", Ok((OutputKind::Registry(Push::default()), None))),
            (
                "type=image,push=true,push-by-digest=true,name-canonical=true,registry.insecure=true",
                Ok((OutputKind::Registry(Push { by_digest: true, insecure: true }), None)),
            ),
            ("type=registry,dest=x", Err("an image in a store or registry takes no `dest`")),
            ("type=oci,dest=x,push=true", Err("`push` belongs to `type=image` and `type=registry`")),
            (
                "type=local,dest=x,compression=gzip",
                Err("`compression` is about images, and this writes files"),
            ),
            ("type=image,push=x", Err("`push=x`: not true or false")),
            (
                "type=image,push=true,push-by-digest=1,name=x:1",
                Err("`x:1`: what is pushed by its digest gets no tag"),
            ),
            ("type=zip", Err("there is no output type `zip`")),
            ("dest=x,tar=true", Err("the type is missing")),
            ("type=oci,colour=red", Err("the key `colour` is not supported")),
            ("type=oci,unpack=true", Err("the key `unpack` is not supported")),
            ("type=oci,dest", Err("`dest` is not of the form key=value")),
            ("", Err("the directory is missing")),
        ];
        for (word, expected) in cases {
            let expected = match expected {
                Ok((kind, path)) => Ok(Output::new(kind, path.map(PathBuf::from))),
                Err(why) => Err(format!("`--output {word}`: {why}")),
            };
            assert_eq!(parse(word).map_err(|error| error.to_string()), expected, "{word}");
        }
    }

    /// Every pair of keys with every value: each is taken or refused, and what is refused says of which flag.
    #[test]
    fn no_value_is_too_odd() {
        let keys = [
            "type",
            "dest",
            "tar",
            "name",
            "push",
            "push-by-digest",
            "registry.insecure",
            "name-canonical",
            "store",
            "unpack",
            "oci-mediatypes",
            "compression",
            "compression-level",
            "force-compression",
            "annotation.a",
            "annotation-index[linux].b",
            "",
            "nonsense",
        ];
        let values = [
            "",
            "-",
            "true",
            "0",
            "oci",
            "docker",
            "local",
            "image",
            "gzip",
            "zstd",
            "a,b:@",
            "\u{fe0f}[",
            "99999999999",
        ];
        let fields: Vec<String> = keys
            .iter()
            .flat_map(|key| values.iter().map(move |value| format!("\"{key}={value}\"")))
            .collect();
        for first in &fields {
            for second in fields.iter().map(String::as_str).chain(["", "\"", "x", "\"a\"b"]) {
                if let Err(error) = parse(&format!("{first},{second}")) {
                    assert!(error.to_string().starts_with("`--output "), "{error}");
                }
            }
        }
    }

    #[test]
    fn names_and_packing() {
        let output = parse(r#"type=image,"name=a,example.com/b:1",compression=zstd,annotation.K=v"#).unwrap();
        let names: Vec<String> = output.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:latest", "example.com/b:1"]);
        assert_eq!(output.packing.compression, Some(mica_image::LayerCompression::Zstd));
        assert_eq!(output.packing.annotations[0].key, "K");
    }
}
