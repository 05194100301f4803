//! How images are written: the keys of `--output` about it, `--annotation`, and the flags of `mica push`.

use mica_image::{Dialect, LayerCompression, Platform};
use mica_parser::go::parse_bool;

use crate::engine::request::{Annotated, Annotation, Packing};

/// Reads one key of `--output`; returns `None` for a key that is about something else.
pub(super) fn read_key(packing: &mut Packing, key: &str, value: &str) -> Option<Result<(), String>> {
    let name = key.to_ascii_lowercase();
    let read = match name.as_str() {
        "compression" => compression(value).map(|found| packing.compression = Some(found)),
        "compression-level" => level(value).map(|found| packing.level = Some(found)),
        "force-compression" => switch(&name, value).map(|found| packing.force = found),
        "oci-mediatypes" => switch(&name, value).map(|found| packing.dialect = Some(dialect(found))),
        _ => annotation_key(key, value)?.map(|found| packing.annotations.push(found)),
    };
    Some(read)
}

fn dialect(oci: bool) -> Dialect {
    if oci { Dialect::Oci } else { Dialect::Docker }
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    parse_bool(value).ok_or_else(|| format!("`{key}={value}`: not true or false"))
}

/// Reads the name of a compression.
pub(super) fn compression(word: &str) -> Result<LayerCompression, String> {
    match word {
        "uncompressed" => Ok(LayerCompression::None),
        "gzip" => Ok(LayerCompression::Gzip),
        "zstd" => Ok(LayerCompression::Zstd),
        "estargz" => Err("mica writes no estargz layers; there are gzip, zstd and uncompressed".to_owned()),
        _ => Err(format!("there is no compression `{word}`; there are gzip, zstd and uncompressed")),
    }
}

fn level(word: &str) -> Result<i32, String> {
    word.parse().map_err(|_| format!("`{word}` is no level of compression"))
}

/// Finds what does not go together.
pub(super) fn check(packing: &Packing) -> Result<(), String> {
    let (most, codec) = match packing.compression {
        Some(LayerCompression::Zstd) => (22, "zstd"),
        _ => (9, "gzip"),
    };
    if let Some(level) = packing.level.filter(|level| !(0..=most).contains(level)) {
        return Err(format!("{level} is no level of {codec}, whose levels are 0 to {most}"));
    }
    if packing.dialect == Some(Dialect::Docker) {
        if packing.compression == Some(LayerCompression::Zstd) {
            return Err("docker's media types have no zstd: leave out `oci-mediatypes=false`".to_owned());
        }
        if !packing.annotations.is_empty() {
            return Err(
                "docker's media types have no annotations: leave out `oci-mediatypes=false`".to_owned()
            );
        }
    }
    Ok(())
}

/// Reads `annotation.KEY`, `annotation-index.KEY`, `annotation-manifest[PLATFORM].KEY` and so on.
fn annotation_key(key: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = key.strip_prefix("annotation")?;
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    // A platform has no dots, and a key may have any.
    let (about, name) = rest.split_once('.')?;
    Some(
        subject(if about.starts_with('[') || about.is_empty() {
            format!("manifest{about}")
        } else {
            about.to_owned()
        })
        .ok_or_else(|| {
            format!("`{key}`: annotations are written to a manifest, an index, or the descriptor of one")
        })
        .and_then(|(subject, platform)| make(subject, platform, name, value)),
    )
}

/// Reads `--annotation`: `[WHERE[,WHERE]:]KEY=VALUE`.
pub(super) fn annotations(word: &str) -> Result<Vec<Annotation>, String> {
    let (key, value) = word.split_once('=').ok_or("not of the form KEY=VALUE")?;
    let prefixed = key.split_once(':').and_then(|(places, key)| {
        let places = places.split(',').map(|place| subject(place.to_owned())).collect::<Option<Vec<_>>>()?;
        Some((places, key))
    });
    let (places, key) = prefixed.unwrap_or_else(|| (vec![(Annotated::Manifest, None)], key));
    places.into_iter().map(|(subject, platform)| make(subject, platform, key, value)).collect()
}

/// Reads `manifest`, `index-descriptor`, `manifest[linux/amd64]`: where, and the platform's text.
fn subject(text: String) -> Option<(Annotated, Option<String>)> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.to_owned())),
        None => (text.as_str(), None),
    };
    let subject = match name {
        "manifest" => Annotated::Manifest,
        "manifest-descriptor" => Annotated::ManifestDescriptor,
        "index" => Annotated::Index,
        "index-descriptor" => Annotated::IndexDescriptor,
        _ => return None,
    };
    Some((subject, platform))
}

fn make(subject: Annotated, platform: Option<String>, key: &str, value: &str) -> Result<Annotation, String> {
    if key.is_empty() {
        return Err("the annotation's key is missing".to_owned());
    }
    let platform =
        platform.map(|text| Platform::parse(&text)).transpose().map_err(|error| error.to_string())?;
    Ok(Annotation { subject, platform, key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(subject: Annotated, platform: Option<&str>, key: &str, value: &str) -> Annotation {
        let platform = platform.map(|text| Platform::parse(text).unwrap());
        Annotation { subject, platform, key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn annotations_of_the_flag() {
        let cases = [
            ("a=b=c", vec![annotation(Annotated::Manifest, None, "a", "b=c")]),
            ("index:a=1", vec![annotation(Annotated::Index, None, "a", "1")]),
            (
                "manifest,index-descriptor:com.Example=1",
                vec![
                    annotation(Annotated::Manifest, None, "com.Example", "1"),
                    annotation(Annotated::IndexDescriptor, None, "com.Example", "1"),
                ],
            ),
            (
                "manifest-descriptor[linux/arm64]:a=",
                vec![annotation(Annotated::ManifestDescriptor, Some("linux/arm64"), "a", "")],
            ),
            // A key may have a colon of its own.
            ("com.example:a=1", vec![annotation(Annotated::Manifest, None, "com.example:a", "1")]),
        ];
        for (word, expected) in cases {
            assert_eq!(annotations(word), Ok(expected), "{word}");
        }
        for bad in ["a", "=b", "index:=b", "manifest[a/b/c/d]:a=1"] {
            annotations(bad).unwrap_err();
        }
    }

    #[test]
    fn annotations_of_keys() {
        let read = |key: &str| {
            let mut packing = Packing::default();
            read_key(&mut packing, key, "v").map(|result| result.map(|()| packing.annotations.remove(0)))
        };
        assert_eq!(read("annotation.A.b"), Some(Ok(annotation(Annotated::Manifest, None, "A.b", "v"))));
        assert_eq!(
            read("annotation[linux/amd64].a"),
            Some(Ok(annotation(Annotated::Manifest, Some("linux/amd64"), "a", "v")))
        );
        assert_eq!(
            read("annotation-index-descriptor.a"),
            Some(Ok(annotation(Annotated::IndexDescriptor, None, "a", "v")))
        );
        assert!(matches!(read("annotation-layer.a"), Some(Err(_))));
        assert_eq!(read("annotation"), None);
        assert_eq!(read("dest"), None);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let check_keys = |keys: &[(&str, &str)]| {
            let mut packing = Packing::default();
            for (key, value) in keys {
                read_key(&mut packing, key, value).unwrap()?;
            }
            check(&packing)
        };
        check_keys(&[("compression", "zstd"), ("compression-level", "19")]).unwrap();
        check_keys(&[("oci-mediatypes", "false"), ("compression", "gzip")]).unwrap();
        let bad: [&[(&str, &str)]; 7] = [
            &[("compression-level", "19")],
            &[("compression-level", "-1")],
            &[("compression", "estargz")],
            &[("compression", "lz4")],
            &[("force-compression", "maybe")],
            &[("compression", "zstd"), ("oci-mediatypes", "0")],
            &[("oci-mediatypes", "0"), ("annotation.a", "b")],
        ];
        for keys in bad {
            check_keys(keys).unwrap_err();
        }
    }
}
