//! What holds for every value of the flags that have a language of their own: an answer and never a panic, and an error that names
//! the flag. `PROPTEST_CASES` sets how many are tried.

use proptest::prelude::*;

use super::values::tests::Fake;
use super::{ArgumentError, cache, output, packing, secret};
use crate::engine::request::OutputKind;

/// Pieces that such values are made of, and that take parsers apart.
const PIECES: [&str; 56] = [
    "type=",
    "oci",
    "docker",
    "tar",
    "local",
    "image",
    "registry",
    "s3",
    "inline",
    "gha",
    "dest=",
    "dest",
    "src=",
    "name=",
    "push=",
    "push-by-digest=",
    "compression=",
    "zstd",
    "gzip",
    "uncompressed",
    "compression-level=",
    "force-compression=",
    "tar=",
    "true",
    "false",
    "1",
    "-1",
    "22",
    "99999999999999999999",
    "annotation.",
    "annotation-index.",
    "annotation[linux/amd64].",
    "[",
    "]",
    "ref=",
    "mode=",
    "max",
    "min",
    "mounts=",
    "timeout=",
    "5m",
    "bucket=",
    "region=",
    "endpoint_url=",
    "id=",
    "env=",
    "TOKEN",
    "=",
    ",",
    "\"",
    "\"\"",
    "\n",
    "localhost:5000/a:b@",
    "é",
    "\u{0}",
    "/../",
];

fn words() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        12 => proptest::sample::select(&PIECES[..]).prop_map(str::to_owned),
        4 => Just(",".to_owned()),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// An error says what it is about.
fn names_its_flag<T>(parsed: &Result<T, ArgumentError>, flag: &str) {
    if let Err(error) = parsed {
        let text = error.to_string();
        assert!(text.contains(flag), "{text}");
    }
}

proptest! {
    #[test]
    fn outputs(word in words()) {
        let parsed = output::parse(&word);
        names_its_flag(&parsed, "--output");
        if let Ok(output) = parsed {
            let needs_place = matches!(output.kind, OutputKind::Local | OutputKind::OciLayout);
            prop_assert!(output.destination.is_some() || !needs_place, "{word:?}");
        }
    }

    #[test]
    fn caches(word in words()) {
        let environment = Fake::with(&[("TOKEN", "t0p")]);
        names_its_flag(&cache::import(&word, &environment), "--cache-from");
        names_its_flag(&cache::export(&word, &environment), "--cache-to");
    }

    #[test]
    fn secrets_and_agents(word in words()) {
        let environment = Fake::with(&[("TOKEN", "t0p")]);
        let parsed = secret::secret(&word, &environment);
        names_its_flag(&parsed, "--secret");
        prop_assert!(parsed.map_or_else(|error| !error.to_string().contains("t0p"), |(id, _)| !id.is_empty()));
        names_its_flag(&secret::ssh(&word, &environment), "--ssh");
    }

    #[test]
    fn annotations_and_compressions(word in words()) {
        let _ = (packing::annotations(&word), packing::compression(&word));
    }
}
