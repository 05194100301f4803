//! The parts of `mica repro` that are processes of their own: each enters the namespaces it needs, and they differ in that.
//!
//! A task comes as JSON in the hidden flag `--task`, beside the flags of the build; its store is the one of the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use mica_cache::{Ownership, Store};
use mica_executor::enter_nested_namespace;
use mica_image::Reference;
use mica_solver::EventSender;
use serde::{Deserialize, Serialize};

use crate::arguments::{GlobalOptions, ReproArguments};
use crate::commands::exit::Failure;
use crate::commands::{build, setup};
use crate::engine::build_record::{self, BuildRecord};
use crate::engine::planned::Purpose;
use crate::engine::repro::{self, Conditions, Side, Trial};
use crate::engine::request::{Attest, Output, OutputKind};
use crate::engine::{Engine, images, output};
use crate::environment::Environment;
use crate::terminal::Paint;

/// A part of the work.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Writes the base images that are in the store as archives into a directory.
    SaveBases(PathBuf),
    /// Builds.
    Build(Building),
    /// Compares two builds, or one step of them.
    Compare { before: Box<Trial>, after: Box<Trial>, only: Option<u32>, to: PathBuf },
    /// Removes what only a namespace of the user can remove.
    Remove(Vec<PathBuf>),
}

/// How one of the builds is made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Building {
    /// What steps find.
    pub(super) conditions: Conditions,
    /// Whether root builds in a user namespace.
    pub(super) is_nested: bool,
    /// A directory of archives that are loaded first.
    pub(super) bases: Option<PathBuf>,
    /// Where the image is written.
    pub(super) layout: Option<PathBuf>,
    /// Where it is told what the build did.
    pub(super) report: PathBuf,
    /// How many steps run at once.
    pub(super) jobs: Option<usize>,
}

/// Does a part of the work.
pub(super) fn run(
    task: Task,
    arguments: &ReproArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    match task {
        Task::SaveBases(to) => save_bases(&to, arguments, global, environment),
        Task::Build(building) => build(building, arguments, global, environment),
        Task::Compare { before, after, only, to } => {
            let engine = setup::engine(global, environment)?;
            write_json(&to, &compare(&engine.host.store, &before, &after, only)?)
        }
        Task::Remove(paths) => remove(&paths),
    }
}

fn build(
    building: Building,
    arguments: &ReproArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let Building { conditions, is_nested, bases, layout, report, jobs } = building;
    if is_nested {
        enter_nested_namespace().map_err(|error| Failure::of(&error))?;
    }
    let mut request = setup::request(&arguments.build, environment)?;
    request.reproducible.get_or_insert_default().add_times();
    request.conditions = Some(conditions);
    request.outputs = layout.into_iter().map(|path| Output::new(OutputKind::OciLayout, Some(path))).collect();
    request.jobs = jobs.unwrap_or(request.jobs);
    request.tags.clear();
    request.cache_from.clear();
    request.cache_to.clear();
    // Provenance says when it was made.
    request.attest = Attest::default();
    let mode = arguments.build.progress(environment)?;
    let engine = setup::engine(global, environment)?;
    let runtime = setup::runtime()?;
    let built = runtime.block_on(async {
        load_bases(&engine, bases.as_deref()).await?;
        build::build(&engine, request, mode, &[], environment).await
    });
    runtime.shutdown_background();
    built?;
    let record = build_record::last(engine.host.store.root());
    write_json(&report, &record.ok_or_else(|| Failure::bug("a build left no report"))?)
}

fn compare(
    first: &Store,
    before: &Trial,
    after: &Trial,
    only: Option<u32>,
) -> Result<repro::Comparison, Failure> {
    let second = second_store(first, before, after)?;
    let records: [BuildRecord; 2] = [read_json(&before.report)?, read_json(&after.report)?];
    let before = Side { store: first, record: &records[0], trial: before };
    let after = Side { store: &second, record: &records[1], trial: after };
    repro::compare(&before, &after, only).map_err(|error| Failure::local("cannot compare the builds", error))
}

fn remove(paths: &[PathBuf]) -> Result<ExitCode, Failure> {
    if !rustix::process::geteuid().is_root() {
        mica_executor::enter_user_namespace(mica_executor::IdMapping::Auto)
            .map_err(|error| Failure::of(&error))?;
    }
    for path in paths.iter().filter(|path| path.exists()) {
        let failed = |error| Failure::local(format!("cannot remove `{}`", path.display()), error);
        fs::remove_dir_all(path).map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn second_store(first: &Store, before: &Trial, after: &Trial) -> Result<Store, Failure> {
    if before.store == after.store {
        return Ok(first.clone());
    }
    let ownership = if after.is_nested { Ownership::Range } else { first.ownership() };
    Store::open(&after.store, ownership).map_err(|error| Failure::of(&error))
}

fn save_bases(
    to: &Path,
    arguments: &ReproArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let request = Arc::new(setup::request(&arguments.build, environment)?);
    let engine = setup::engine(global, environment)?;
    let runtime = setup::runtime()?;
    let (events, mut receiver) = EventSender::channel();
    let planning = async {
        let planned = engine.plan(&request, &events, Purpose::Target).await;
        drop(events);
        planned
    };
    let drain = async { while receiver.recv().await.is_some() {} };
    let (planned, ()) = runtime.block_on(async { tokio::join!(planning, drain) });
    runtime.shutdown_background();
    let paint = Paint::for_stream(std::io::stderr(), environment);
    let planned = planned.map_err(|error| build::explain(&error, paint))?;
    for (number, (name, id)) in planned.bases.ids().enumerate() {
        let image = images::open(&engine.host.store, &id).map_err(|error| Failure::of(&error))?;
        let (Some(image), Ok(name)) = (image, Reference::parse(name)) else { continue };
        let archive = Output::new(OutputKind::OciArchive, Some(to.join(format!("{number}.tar"))));
        output::write(&engine.host, &[image], &archive, &[name]).map_err(|error| Failure::of(&error))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn load_bases(engine: &Engine, directory: Option<&Path>) -> Result<(), Failure> {
    let (events, mut receiver) = EventSender::channel();
    let loading = async {
        for entry in directory.into_iter().flat_map(fs::read_dir).flatten().filter_map(Result::ok) {
            engine.load(&entry.path(), &events).await.map_err(|error| Failure::of(&error))?;
        }
        drop(events);
        Ok(())
    };
    let drain = async { while receiver.recv().await.is_some() {} };
    tokio::join!(loading, drain).0
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<ExitCode, Failure> {
    let bytes = serde_json::to_vec(value).expect("what is written has text keys");
    fs::write(path, bytes)
        .map_err(|error| Failure::local(format!("cannot write `{}`", path.display()), error))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads what a task wrote.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bytes =
        fs::read(path).map_err(|error| Failure::local(format!("cannot read `{}`", path.display()), error))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::local(format!("`{}`", path.display()), error))
}
