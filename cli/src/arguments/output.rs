//! The value of `--output`.

use std::path::PathBuf;

use super::csv;
use super::error::ArgumentError;
use crate::engine::request::{Output, OutputKind};

const FLAG: &str = "--output";

/// Parses one `--output`: a directory, `-`, or `type=…,dest=…` and further keys.
pub(super) fn parse(word: &str) -> Result<Output, ArgumentError> {
    let fields = csv::fields(word).map_err(|error| ArgumentError::value(FLAG, word, error.to_string()))?;
    match fields.as_slice() {
        [field] if field == "-" => Ok(Output { kind: OutputKind::Tar, destination: None }),
        [field] if field == word && !word.starts_with("type=") => directory(word),
        _ => from_fields(word, &fields),
    }
}

fn directory(word: &str) -> Result<Output, ArgumentError> {
    if word.is_empty() {
        return Err(ArgumentError::value(FLAG, word, "the directory is missing"));
    }
    Ok(Output { kind: OutputKind::Local, destination: Some(PathBuf::from(word)) })
}

#[derive(Default)]
struct Keys {
    kind: Option<String>,
    destination: Option<String>,
    tar: Option<bool>,
}

fn from_fields(word: &str, fields: &[String]) -> Result<Output, ArgumentError> {
    let mut keys = Keys::default();
    for field in fields {
        let (key, value) = csv::key_value(field).ok_or_else(|| {
            ArgumentError::value(FLAG, word, format!("`{field}` is not of the form key=value"))
        })?;
        read_key(word, &mut keys, &key, value)?;
    }
    let kind = keys.kind.as_deref().ok_or_else(|| {
        ArgumentError::value(FLAG, word, "the type is missing")
            .with_hint("the types are oci, docker, tar, local and image")
    })?;
    let kind = output_kind(word, kind, keys.tar)?;
    let destination = keys.destination.filter(|path| path != "-").map(PathBuf::from);
    check_destination(word, kind, destination.is_some(), fields)?;
    Ok(Output { kind, destination })
}

fn read_key(word: &str, keys: &mut Keys, key: &str, value: &str) -> Result<(), ArgumentError> {
    let not_bool = || ArgumentError::value(FLAG, word, format!("`{key}={value}`: not true or false"));
    match key {
        "type" => keys.kind = Some(value.to_owned()),
        "dest" => keys.destination = Some(value.to_owned()),
        "tar" => keys.tar = Some(boolean(value).ok_or_else(not_bool)?),
        "push" if boolean(value) == Some(false) => {}
        "push" | "push-by-digest" => {
            return Err(ArgumentError::value(FLAG, word, "mica cannot push to a registry"));
        }
        "name" => {
            return Err(
                ArgumentError::value(FLAG, word, "names are not given here").with_hint("use `-t NAME`")
            );
        }
        _ => return Err(ArgumentError::value(FLAG, word, format!("the key `{key}` is not supported"))),
    }
    Ok(())
}

fn output_kind(word: &str, kind: &str, tar: Option<bool>) -> Result<OutputKind, ArgumentError> {
    let invalid = |why: String| ArgumentError::value(FLAG, word, why);
    let known = match (kind, tar) {
        ("oci", Some(false)) => OutputKind::OciLayout,
        ("oci", _) => OutputKind::OciArchive,
        (_, Some(false)) => return Err(invalid("`tar=false` belongs to `type=oci`".to_owned())),
        ("docker", _) => OutputKind::DockerArchive,
        ("tar", _) => OutputKind::Tar,
        ("local", _) => OutputKind::Local,
        ("image" | "cacheonly", _) => OutputKind::Image,
        ("registry", _) => return Err(invalid("mica cannot push to a registry".to_owned())),
        _ => {
            return Err(invalid(format!("there is no output type `{kind}`"))
                .with_hint("the types are oci, docker, tar, local and image"));
        }
    };
    Ok(known)
}

fn check_destination(
    word: &str,
    kind: OutputKind,
    has_path: bool,
    fields: &[String],
) -> Result<(), ArgumentError> {
    let asks_for_standard_output = fields.iter().any(|field| field.to_ascii_lowercase().starts_with("dest="));
    match kind {
        OutputKind::Local | OutputKind::OciLayout if !has_path => {
            Err(ArgumentError::value(FLAG, word, "a directory is needed").with_hint("add `dest=DIRECTORY`"))
        }
        OutputKind::DockerArchive if !has_path && !asks_for_standard_output => {
            Err(ArgumentError::value(FLAG, word, "there is no daemon to load the image into")
                .with_hint("add `dest=FILE`, or `dest=-` for standard output"))
        }
        OutputKind::Image if has_path => {
            Err(ArgumentError::value(FLAG, word, "the image goes to mica's store, which takes no `dest`"))
        }
        _ => Ok(()),
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
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
            ("type=docker", Err("there is no daemon to load the image into")),
            ("type=local", Err("a directory is needed")),
            ("type=oci,tar=false", Err("a directory is needed")),
            ("type=tar,tar=false", Err("`tar=false` belongs to `type=oci`")),
            ("type=registry", Err("mica cannot push to a registry")),
            ("type=image,push=true", Err("mica cannot push to a registry")),
            ("type=image,name=x", Err("names are not given here")),
            ("type=zip", Err("there is no output type `zip`")),
            ("dest=x,tar=true", Err("the type is missing")),
            ("type=oci,compression=zstd", Err("the key `compression` is not supported")),
            ("type=oci,dest", Err("`dest` is not of the form key=value")),
            ("", Err("the directory is missing")),
        ];
        for (word, expected) in cases {
            let expected = match expected {
                Ok((kind, path)) => Ok(Output { kind, destination: path.map(PathBuf::from) }),
                Err(why) => Err(format!("`--output {word}`: {why}")),
            };
            assert_eq!(parse(word).map_err(|error| error.to_string()), expected, "{word}");
        }
    }
}
