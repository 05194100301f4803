//! `mica image index`.

use std::fmt::Write as _;
use std::process::ExitCode;

use mica_image::{Document, Reference};
use mica_remote::registry::FetchedManifest;

use super::exit::Failure;
use super::images::reference;
use super::{print, setup};
use crate::arguments::{CopyArguments, CreateArguments, GlobalOptions, IndexCommand, InspectIndexArguments};
use crate::engine::image_index::IndexError;
use crate::environment::Environment;

/// Does what is asked about indexes.
pub(super) fn run(
    command: &IndexCommand,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    match command {
        IndexCommand::Create(arguments) => create(arguments, global, environment),
        IndexCommand::Inspect(arguments) => inspect(arguments, global, environment),
        IndexCommand::Copy(arguments) => copy(arguments, global, environment),
    }
}

fn create(
    arguments: &CreateArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let sources = arguments.sources.iter().map(|word| named(word)).collect::<Result<Vec<_>, _>>()?;
    let targets = arguments.tag.iter().map(|word| target(word)).collect::<Result<Vec<_>, _>>()?;
    let annotations = arguments.annotations()?;
    if targets.is_empty() && !arguments.dry_run {
        return Err(Failure::plain("the index has no name, which says where to push it")
            .with_hint(Some("give one with `-t REGISTRY/NAME`, or `--dry-run`".to_owned())));
    }
    let engine = setup::engine(global, environment)?;
    let runtime = setup::runtime()?;
    let index = runtime.block_on(engine.make_index(&sources, &annotations)).map_err(failure)?;
    if arguments.dry_run {
        return print(&[&index.to_bytes()[..], b"\n"].concat());
    }
    let digest = index.descriptor().digest;
    for target in &targets {
        runtime.block_on(engine.push_index(&sources, &index, target)).map_err(failure)?;
        print(format!("{}@{digest}\n", target.familiar()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(
    arguments: &InspectIndexArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let name = named(&arguments.name)?;
    let engine = setup::engine(global, environment)?;
    let fetched = setup::runtime()?.block_on(engine.remote_document(&name)).map_err(failure)?;
    if arguments.raw {
        return print(&fetched.bytes);
    }
    print(described(&name, &fetched).as_bytes())
}

fn described(name: &Reference, fetched: &FetchedManifest) -> String {
    let mut text = format!(
        "name    {}\ntype    {}\ndigest  {}\n",
        name.familiar(),
        fetched.descriptor.media_type,
        fetched.descriptor.digest
    );
    let entries = match &fetched.document {
        Document::Index(index) => &index.manifests,
        Document::Manifest(manifest) => &manifest.layers,
    };
    for entry in entries {
        let what = entry.platform.as_ref().map_or_else(|| "layer".to_owned(), ToString::to_string);
        // Text cannot fail to be written to.
        let _ = writeln!(text, "  {what}  {}  {}", entry.digest, entry.size);
    }
    text
}

fn copy(
    arguments: &CopyArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let (source, target) = (named(&arguments.source)?, target(&arguments.target)?);
    let engine = setup::engine(global, environment)?;
    let digest = setup::runtime()?.block_on(engine.copy_remote(&source, &target)).map_err(failure)?;
    print(format!("{}@{digest}\n", target.familiar()).as_bytes())
}

fn named(word: &str) -> Result<Reference, Failure> {
    reference(word).map(|reference| reference.with_default_tag())
}

fn target(word: &str) -> Result<Reference, Failure> {
    let target = named(word)?;
    match target.digest() {
        Some(_) => Err(Failure::plain(format!("`{}`: a digest cannot be pushed to", target.familiar()))),
        None => Ok(target),
    }
}

fn failure(error: IndexError) -> Failure {
    let failure = Failure::of(&error).with_hint(error.hint());
    if error.is_unavailable() { failure.unavailable() } else { failure }
}
