//! `mica push`.

use std::process::ExitCode;

use mica_image::Reference;

use super::exit::Failure;
use super::images::{find_failure, reference, watched};
use super::{print, setup};
use crate::arguments::{GlobalOptions, PushArguments};
use crate::engine::images;
use crate::environment::Environment;

/// Sends an image, with all its platforms, and prints its name with the digest it has there.
pub(super) fn push(
    arguments: &PushArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let packing = arguments.packing()?;
    let name = target(arguments)?;
    let engine = setup::engine(global, environment)?;
    let images = images::find_all(&engine.host.store, &arguments.image).map_err(find_failure)?;
    let pushed = watched(environment, async |events| {
        engine.push(&images, std::slice::from_ref(&name), arguments.push(), &packing, events).await
    })?;
    let exported = pushed.map_err(|error| {
        let failure = Failure::of(&error).with_hint(error.hint());
        if error.is_unavailable() { failure.unavailable() } else { failure }
    })?;
    print(format!("{}@{}\n", name.familiar(), exported.target.digest).as_bytes())
}

/// The name in the registry: the one given, or the image's own.
fn target(arguments: &PushArguments) -> Result<Reference, Failure> {
    let name = match &arguments.name {
        Some(name) => reference(name)?,
        None => Reference::parse(&arguments.image).map_err(|error| {
            Failure::of(&error).with_hint(Some("say where to push it: `mica push IMAGE NAME`".to_owned()))
        })?,
    };
    match name.digest() {
        Some(_) => Err(Failure::plain(format!("`{}`: a digest cannot be pushed to", name.familiar()))),
        None => Ok(name.with_default_tag()),
    }
}
