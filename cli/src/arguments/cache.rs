//! The values of `--cache-from` and `--cache-to`.

use std::path::PathBuf;
use std::time::Duration;

use mica_image::{LayerCompression, Reference};
use mica_parser::go::parse_bool;
use mica_remote::{BucketOptions, Secret};

use super::error::ArgumentError;
use super::values::text_variable;
use super::{csv, packing};
use crate::engine::exchange::options::{
    BucketPlaceOptions, CacheExport, CacheImport, CacheMode, CachePlace, DocumentName, Mounts,
};
use crate::engine::request::Packing;
use crate::environment::Environment;

const TYPES: &str = "registry, local and s3";
/// Where a cache may be written besides: into the image.
const INLINE: &str = "inline";
const USUAL_NAME: &str = "latest";
const USUAL_DEADLINE: Duration = Duration::from_secs(600);

/// Parses one `--cache-from`: a name, or `type=…` and further keys.
pub(super) fn import(word: &str, environment: &dyn Environment) -> Result<CacheImport, ArgumentError> {
    const FLAG: &str = "--cache-from";
    let mut keys = read(FLAG, word)?;
    let mounts = keys.take("mounts").map_or(Mounts::All, |word| mounts(&word));
    let place = place(&mut keys, "src", environment).map_err(|error| error.of(FLAG, word))?;
    keys.finish().map_err(|error| error.of(FLAG, word))?;
    Ok(CacheImport { place, mounts })
}

/// One `--cache-to`.
#[derive(Debug)]
pub(super) enum Export {
    /// To a place of its own.
    To(Box<CacheExport>),
    /// Into the image.
    Inline,
}

/// Parses one `--cache-to`.
pub(super) fn export(word: &str, environment: &dyn Environment) -> Result<Export, ArgumentError> {
    const FLAG: &str = "--cache-to";
    let mut keys = read(FLAG, word)?;
    let parsed = match keys.is(INLINE) {
        true => inline_keys(keys).map(|()| Export::Inline),
        false => export_keys(&mut keys, environment).map(|export| Export::To(Box::new(export))),
    };
    parsed.map_err(|error| error.of(FLAG, word))
}

/// An image has its own layers and nothing else, compressed as its outputs say.
fn inline_keys(mut keys: Keys) -> Result<(), Invalid> {
    keys.take("type");
    match keys.take("mode").as_deref() {
        None | Some("min") => keys.finish(),
        Some(other) => Err(Invalid {
            why: format!("`mode={other}`: an image carries only what it is made of"),
            hint: Some("write everything to `type=registry,ref=…,mode=max`".to_owned()),
        }),
    }
}

fn export_keys(keys: &mut Keys, environment: &dyn Environment) -> Result<CacheExport, Invalid> {
    let place = place(keys, "dest", environment)?;
    let is_digest = match &place {
        CachePlace::Bucket(_) => false,
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
        mounts: keys.take("mounts").map_or(Mounts::Ids(Vec::new()), |word| mounts(&word)),
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
fn place(keys: &mut Keys, path_key: &str, environment: &dyn Environment) -> Result<CachePlace, Invalid> {
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
        Some("s3") => bucket(keys, environment).map(CachePlace::Bucket),
        Some(INLINE) => Err(Invalid {
            why: "a cache that an image carries is read by the image's name".to_owned(),
            hint: Some("use `type=registry,ref=IMAGE`".to_owned()),
        }),
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

/// The reference's keys of a bucket; what they do not say is taken from the variables of AWS's own tools.
fn bucket(keys: &mut Keys, environment: &dyn Environment) -> Result<BucketPlaceOptions, Invalid> {
    let mut given = |key: &str, variables: &[&str]| -> Result<Option<String>, Invalid> {
        if let Some(value) = keys.take(key).filter(|value| !value.is_empty()) {
            return Ok(Some(value));
        }
        for name in variables {
            let value = text_variable(name, environment).map_err(|error| error.to_string())?;
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    };
    let name = given("bucket", &["AWS_BUCKET"])?.ok_or("`bucket` is missing")?;
    let mut settings = Vec::new();
    for (key, setting, variables) in [
        ("region", "region", &["AWS_REGION", "AWS_DEFAULT_REGION"][..]),
        ("access_key_id", "access_key_id", &["AWS_ACCESS_KEY_ID"][..]),
        ("secret_access_key", "secret_access_key", &["AWS_SECRET_ACCESS_KEY"][..]),
        ("session_token", "session_token", &["AWS_SESSION_TOKEN"][..]),
        ("", "web_identity_token_file", &["AWS_WEB_IDENTITY_TOKEN_FILE"][..]),
        ("", "role_arn", &["AWS_ROLE_ARN"][..]),
    ] {
        settings.extend(given(key, variables)?.map(|value| (setting.to_owned(), Secret::new(value))));
    }
    let endpoint = given("endpoint_url", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?;
    let prefix = given("prefix", &[])?.unwrap_or_default();
    let blobs_prefix = given("blobs_prefix", &[])?.unwrap_or_else(|| "blobs/".to_owned());
    let manifests_prefix = given("manifests_prefix", &[])?.unwrap_or_else(|| "manifests/".to_owned());
    let document = given("name", &[])?.unwrap_or_else(|| "mica".to_owned());
    let path_style = keys.switch("use_path_style")?.unwrap_or(false);
    let bucket = BucketOptions { name, endpoint, path_style, settings };
    Ok(BucketPlaceOptions { bucket, prefix, blobs_prefix, manifests_prefix, name: document })
}

fn mounts(word: &str) -> Mounts {
    match word {
        "all" => Mounts::All,
        ids => Mounts::Ids(ids.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()),
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
        if let (Some((_, ids)), false) =
            (keys.last_mut().filter(|(key, _)| key == "mounts"), field.contains('='))
        {
            // `mounts=a,b` needs no quotes.
            *ids = format!("{ids},{field}");
            continue;
        }
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
    fn is(&self, kind: &str) -> bool {
        self.0.iter().any(|(key, value)| key == "type" && value == kind)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name && !name.is_empty())?;
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
    use crate::arguments::Fake;

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
            match (import(word, &Fake::with(&[])), expected) {
                (Ok(import), Ok(place)) => assert_eq!(import.place, place, "{word}"),
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                (found, expected) => panic!("{word}: {found:?}, {expected:?}"),
            }
        }
        let pinned = import(&format!("type=local,src=d,digest={digest}"), &Fake::with(&[])).unwrap().place;
        assert!(matches!(pinned, CachePlace::Directory { name: DocumentName::Digest(_), .. }));
    }

    fn to(word: &str) -> CacheExport {
        match export(word, &Fake::with(&[])).unwrap() {
            Export::To(export) => *export,
            Export::Inline => panic!("{word} is carried by the image"),
        }
    }

    #[test]
    fn an_image_carries_only_what_it_is_made_of() {
        for word in ["type=inline", "type=inline,mode=min"] {
            assert!(matches!(export(word, &Fake::with(&[])), Ok(Export::Inline)), "{word}");
        }
        for (word, why) in [
            ("type=inline,mode=max", "`mode=max`: an image carries only what it is made of"),
            ("type=inline,mounts=pip", "the key `mounts` is not supported"),
            ("type=inline,ref=app", "the key `ref` is not supported"),
        ] {
            let error = export(word, &Fake::with(&[])).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = import("type=inline", &Fake::with(&[])).unwrap_err();
        assert!(error.to_string().contains("is read by the image's name"), "{error}");
    }

    #[test]
    fn how() {
        let usual = to("app:cache");
        assert_eq!((usual.mode, usual.ignore_error, usual.force), (CacheMode::Min, false, false));
        assert_eq!((usual.compression, usual.deadline), (LayerCompression::Gzip, USUAL_DEADLINE));
        let word = "type=local,dest=d,mode=max,compression=zstd,compression-level=9,ignore-error=true,timeout=90s,\
                    image-manifest=true,oci-mediatypes=true,force-compression=1";
        let all = to(word);
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
            let error = export(word, &Fake::with(&[])).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn mounts_go_by_their_ids_and_only_if_named() {
        let mounts = |word: &str| to(word).mounts;
        assert_eq!(mounts("app:cache"), Mounts::Ids(Vec::new()));
        assert_eq!(mounts("type=local,dest=d,mounts=all"), Mounts::All);
        let two = Mounts::Ids(vec!["pip".to_owned(), "/root/.cache".to_owned()]);
        assert_eq!(mounts("type=local,mounts=pip,/root/.cache,dest=d"), two);
        assert_eq!(import("app:cache", &Fake::with(&[])).unwrap().mounts, Mounts::All);
    }

    #[test]
    fn a_bucket_is_found_by_keys_and_by_variables() {
        let variables = Fake::with(&[("AWS_REGION", "eu-north-1"), ("AWS_SECRET_ACCESS_KEY", "sesame")]);
        let word = "type=s3,bucket=b,name=app,prefix=p/,endpoint_url=http://127.0.0.1:1,use_path_style=true,access_key_id=me";
        let CachePlace::Bucket(options) = import(word, &variables).unwrap().place else {
            panic!("no bucket")
        };
        let keys: Vec<_> =
            options.bucket.settings.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
        let expected = [("region", "eu-north-1"), ("access_key_id", "me"), ("secret_access_key", "sesame")];
        assert_eq!(keys, expected);
        assert!(options.bucket.path_style && !format!("{options:?}").contains("sesame"));
        assert_eq!((options.blobs_prefix.as_str(), options.name.as_str()), ("blobs/", "app"));
        let error = import("type=s3", &variables).unwrap_err().to_string();
        assert!(error.contains("`bucket` is missing"), "{error}");
    }
}
