//! `mica attest` and `mica verify`: 0 when an image is as it should be, 1 when it is not, 2 when that could not be told.

use std::path::Path;
use std::process::ExitCode;

use super::build::{explain, take_standard_input};
use super::exit::{COULD_NOT_TELL, Failure, NOT_SO};
use super::images::watched;
use super::{print, say, setup};
use crate::arguments::{AttestArguments, GlobalOptions, VerifyArguments};
use crate::engine::Engine;
use crate::engine::attest::rebuild::{RebuildError, Rebuilt};
use crate::engine::attest::sign::{SignError, SignRequest};
use crate::engine::attest::verify::{Verified, VerifyError};
use crate::environment::Environment;
use crate::terminal::Paint;

/// Signs; prints the type of each statement and the manifest it is kept in.
pub(super) fn attest(
    arguments: &AttestArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let predicate = match (&arguments.kind, &arguments.predicate) {
        (Some(kind), Some(path)) => Some((kind.clone(), read_json(path)?)),
        _ => None,
    };
    let request = SignRequest { image: arguments.image.clone(), key: arguments.key.clone(), predicate };
    let engine = setup::engine(global, environment)?;
    let signed = setup::runtime()?.block_on(engine.sign(&request)).map_err(|error: SignError| {
        let failure = Failure::of(&error).with_hint(error.hint());
        if error.is_unavailable() { failure.unavailable() } else { failure }
    })?;
    let lines = signed.iter().map(|signed| format!("{} {}\n", signed.kind, signed.manifest));
    print(lines.collect::<String>().as_bytes())
}

fn read_json(path: &Path) -> Result<serde_json::Value, Failure> {
    let named =
        |error: &dyn std::fmt::Display| Failure::plain(format!("cannot read `{}`: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| named(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| named(&error))
}

/// Verifies signatures, or rebuilds, or both.
pub(super) fn verify(
    arguments: &VerifyArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let mut code = ExitCode::SUCCESS;
    if let Some(key) = &arguments.key {
        let verified = verify_key(&engine, arguments, key)?;
        if !verified.is_good() {
            code = ExitCode::from(NOT_SO);
        }
        print(tell_verified(&arguments.image, &verified).as_bytes())?;
    }
    if arguments.rebuild && code == ExitCode::SUCCESS {
        let rebuilt = rebuild(&engine, arguments, environment).map_err(|it| it.with_code(COULD_NOT_TELL))?;
        if !rebuilt.problems.is_empty() {
            code = ExitCode::from(NOT_SO);
        }
        print(tell_rebuilt(&arguments.image, &rebuilt).as_bytes())?;
    }
    Ok(code)
}

fn verify_key(engine: &Engine, arguments: &VerifyArguments, key: &Path) -> Result<Verified, Failure> {
    let verifying = engine.verify(&arguments.image, key, arguments.build.is_offline());
    setup::runtime()?.block_on(verifying).map_err(|error: VerifyError| {
        let failure = Failure::of(&error).with_hint(error.hint());
        if error.is_unavailable() { failure.unavailable() } else { failure.with_code(COULD_NOT_TELL) }
    })
}

fn tell_verified(image: &str, verified: &Verified) -> String {
    let mut text = String::new();
    for problem in &verified.problems {
        text.push_str(&format!("not as it should be: {problem}\n"));
    }
    for statement in &verified.statements {
        text.push_str(&format!("signed: {}\n", statement.predicate_type));
    }
    if verified.is_good() && verified.blobs > 0 {
        text.push_str(&format!("{image}: all {} blobs are what their digests say\n", verified.blobs));
    }
    text
}

fn rebuild(
    engine: &Engine,
    arguments: &VerifyArguments,
    environment: &dyn Environment,
) -> Result<Rebuilt, Failure> {
    let mut request = setup::request(&arguments.build, environment)?;
    let _spooled = take_standard_input(&arguments.build, &mut request, engine)?;
    let image = &arguments.image;
    let rebuilt = watched(environment, async |events| engine.rebuild(image, request, events).await)?;
    rebuilt.map_err(|error| match error {
        RebuildError::Build(error) => explain(&error, Paint::for_stream(std::io::stderr(), environment)),
        other => Failure::of(&other).with_hint(other.hint()),
    })
}

fn tell_rebuilt(image: &str, rebuilt: &Rebuilt) -> String {
    if rebuilt.problems.is_empty() {
        if !rebuilt.is_same {
            say("times were left out: they are the same only where a build fixes them");
        }
        return format!("{image} for {}: a rebuild gives the same\n", rebuilt.platform);
    }
    let lines = rebuilt.problems.iter().map(|problem| format!("not as it should be: {problem}\n"));
    lines.collect()
}
