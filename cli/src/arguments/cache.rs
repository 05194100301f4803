//! The values of `--cache-from` and `--cache-to`.

use std::path::PathBuf;
use std::time::Duration;

use mica_image::{LayerCompression, Reference};
use mica_parser::go::parse_bool;

use super::error::ArgumentError;
use super::{csv, packing};
use crate::engine::exchange::options::{CacheExport, CacheImport, CacheMode, CachePlace, DocumentName};
use crate::engine::request::Packing;

const TYPES: &str = "registry and local";
const USUAL_NAME: &str = "latest";
const USUAL_DEADLINE: Duration = Duration::from_secs(600);

/// Parses one `--cache-from`: a name, or `type=…` and further keys.
pub(super) fn import(word: &str) -> Result<CacheImport, ArgumentError> {
    const FLAG: &str = "--cache-from";
    let mut keys = read(FLAG, word)?;
    let place = place(&mut keys, "src").map_err(|error| error.of(FLAG, word))?;
    keys.finish().map_err(|error| error.of(FLAG, word))?;
    Ok(CacheImport { place })
}

/// Parses one `--cache-to`.
pub(super) fn export(word: &str) -> Result<CacheExport, ArgumentError> {
    const FLAG: &str = "--cache-to";
    let mut keys = read(FLAG, word)?;
    export_keys(&mut keys).map_err(|error| error.of(FLAG, word))
}

fn export_keys(keys: &mut Keys) -> Result<CacheExport, Invalid> {
    let place = place(keys, "dest")?;
    let is_digest = match &place {
        CachePlace::Registry { reference, .. } => reference.digest().is_some(),
        CachePlace::Directory { name, .. } => matches!(name, DocumentName::Digest(_)),
    };
    if is_digest {
        return Err("a cache is written under a tag, not under a digest".into());
    }
    let mode = match keys.take("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(other) => return Err(format!("`mode={other}`: there are min and max").into()),
    };
    for key in ["oci-mediatypes", "image-manifest"] {
        if keys.switch(key)? == Some(false) {
            return Err(format!("`{key}=false`: a cache is an OCI image manifest and nothing else").into());
        }
    }
    let compression = keys.take("compression").map(|word| packing::compression(&word)).transpose()?;
    let level = keys.take("compression-level");
    let level = level.map(|word| word.parse().map_err(|_| format!("`{word}` is no level of compression")));
    let packing = Packing { compression, level: level.transpose()?, ..Packing::default() };
    packing::check(&packing)?;
    let deadline = keys.take("timeout").map_or(Ok(USUAL_DEADLINE), |word| duration(&word))?;
    let export = CacheExport {
        place,
        mode,
        compression: packing.compression.unwrap_or(LayerCompression::Gzip),
        level: packing.level,
        force: keys.switch("force-compression")?.unwrap_or(false),
        ignore_error: keys.switch("ignore-error")?.unwrap_or(false),
        deadline,
    };
    keys.finish()?;
    Ok(export)
}

/// Reads the keys that say where; `path_key` is the one for a directory.
fn place(keys: &mut Keys, path_key: &str) -> Result<CachePlace, Invalid> {
    match keys.take("type").as_deref() {
        Some("registry") => {
            let name = keys.take("ref").ok_or("`ref` is missing")?;
            let reference = Reference::parse(&name).map_err(|error| error.to_string())?;
            let insecure = keys.switch("registry.insecure")?.unwrap_or(false);
            Ok(CachePlace::Registry { reference: reference.with_default_tag(), insecure })
        }
        Some("local") => {
            let path = keys.take(path_key).filter(|path| !path.is_empty());
            let path = path.ok_or_else(|| format!("`{path_key}` is missing"))?;
            let name = match (keys.take("digest"), keys.take("tag")) {
                (Some(digest), _) => {
                    DocumentName::Digest(digest.parse().map_err(|_| format!("`{digest}` is no digest"))?)
                }
                (None, tag) => DocumentName::Tag(tag.unwrap_or_else(|| USUAL_NAME.to_owned())),
            };
            Ok(CachePlace::Directory { path: PathBuf::from(path), name })
        }
        Some(kind @ ("gha" | "azblob")) => Err(Invalid {
            why: format!("mica has no caches of type `{kind}`"),
            hint: Some("a registry is one everywhere: `type=registry,ref=…`".to_owned()),
        }),
        Some(kind) => Err(Invalid {
            why: format!("there is no cache type `{kind}`"),
            hint: Some(format!("the types are {TYPES}")),
        }),
        None => Err(Invalid {
            why: "the type is missing".to_owned(),
            hint: Some(format!("the types are {TYPES}")),
        }),
    }
}

/// Keys that are yet to be read.
struct Keys(Vec<(String, String)>);

/// Why a value cannot be read.
struct Invalid {
    why: String,
    hint: Option<String>,
}

impl Invalid {
    fn of(self, flag: &'static str, word: &str) -> ArgumentError {
        let error = ArgumentError::value(flag, word, self.why);
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl<T: Into<String>> From<T> for Invalid {
    fn from(why: T) -> Self {
        Self { why: why.into(), hint: None }
    }
}

fn read(flag: &'static str, word: &str) -> Result<Keys, ArgumentError> {
    let invalid = |why: String| ArgumentError::value(flag, word, why);
    let fields = csv::fields(word).map_err(|error| invalid(error.to_string()))?;
    if let [name] = fields.as_slice()
        && !name.contains('=')
    {
        return Ok(Keys(vec![("type".to_owned(), "registry".to_owned()), ("ref".to_owned(), name.clone())]));
    }
    let mut keys: Vec<(String, String)> = Vec::new();
    for field in &fields {
        let (key, value) = csv::key_value(field)
            .ok_or_else(|| invalid(format!("`{field}` is not of the form key=value")))?;
        if keys.iter().any(|(known, _)| *known == key) {
            return Err(invalid(format!("`{key}` is given twice")));
        }
        keys.push((key, value.to_owned()));
    }
    Ok(Keys(keys))
}

impl Keys {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn switch(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        let Some(value) = self.take(name) else { return Ok(None) };
        parse_bool(&value).map(Some).ok_or_else(|| format!("`{name}={value}`: not true or false").into())
    }

    /// A key that nobody read means nothing here.
    fn finish(&self) -> Result<(), Invalid> {
        match self.0.first() {
            Some((key, _)) => Err(format!("the key `{key}` is not supported").into()),
            None => Ok(()),
        }
    }
}

/// Reads `90s`, `10m`, `1h`.
fn duration(word: &str) -> Result<Duration, Invalid> {
    let invalid = || Invalid::from(format!("`timeout={word}`: not a time like 90s, 10m or 1h"));
    let unit = word.chars().last().ok_or_else(invalid)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(invalid()),
    };
    let number: u64 = word[..word.len() - 1].parse().map_err(|_| invalid())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> CachePlace {
        let reference = Reference::parse(name).unwrap().with_default_tag();
        CachePlace::Registry { reference, insecure: false }
    }

    fn directory(path: &str, tag: &str) -> CachePlace {
        CachePlace::Directory { path: path.into(), name: DocumentName::Tag(tag.into()) }
    }

    #[test]
    fn where_from() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("example.com/app:cache", Ok(registry("example.com/app:cache"))),
            ("type=registry,ref=app", Ok(registry("app:latest"))),
            ("type=local,src=dir", Ok(directory("dir", "latest"))),
            ("type=local,src=dir,tag=x", Ok(directory("dir", "x"))),
            ("type=local,dest=dir", Err("`src` is missing")),
            ("type=local,src=dir,colour=red", Err("the key `colour` is not supported")),
            ("type=registry", Err("`ref` is missing")),
            ("type=gha", Err("mica has no caches of type `gha`")),
            ("type=azblob", Err("mica has no caches of type `azblob`")),
            ("type=disk", Err("there is no cache type `disk`")),
            ("ref=x,mode=max", Err("the type is missing")),
            ("type=local,src", Err("`src` is not of the form key=value")),
            ("type=local,src=a,src=b", Err("`src` is given twice")),
            ("a b", Err("`a b` is not a repository name")),
        ];
        for (word, expected) in cases {
            match (import(word), expected) {
                (Ok(import), Ok(place)) => assert_eq!(import.place, place, "{word}"),
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                (found, expected) => panic!("{word}: {found:?}, {expected:?}"),
            }
        }
        let pinned = import(&format!("type=local,src=d,digest={digest}")).unwrap().place;
        assert!(matches!(pinned, CachePlace::Directory { name: DocumentName::Digest(_), .. }));
    }

    #[test]
    fn how() {
        let usual = export("app:cache").unwrap();
        assert_eq!((usual.mode, usual.ignore_error, usual.force), (CacheMode::Min, false, false));
        assert_eq!((usual.compression, usual.deadline), (LayerCompression::Gzip, USUAL_DEADLINE));
        let word = "type=local,dest=d,mode=max,compression=zstd,compression-level=9,ignore-error=true,timeout=90s,\
                    image-manifest=true,oci-mediatypes=true,force-compression=1";
        let all = export(word).unwrap();
        assert_eq!((all.mode, all.compression, all.level), (CacheMode::Max, LayerCompression::Zstd, Some(9)));
        assert_eq!((all.force, all.ignore_error, all.deadline.as_secs()), (true, true, 90));
        for (word, why) in [
            ("type=local,dest=d,mode=most", "`mode=most`: there are min and max"),
            ("type=local,dest=d,timeout=0s", "`timeout=0s`: not a time like 90s, 10m or 1h"),
            (
                "type=local,dest=d,image-manifest=false",
                "`image-manifest=false`: a cache is an OCI image manifest",
            ),
            ("type=local,dest=d,compression=lz4", "there is no compression `lz4`"),
            ("type=local,dest=d,compression-level=99", "99 is no level of gzip"),
            ("type=local,src=d", "`dest` is missing"),
        ] {
            let error = export(word).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
