//! Commands about images: list, inspect, name, remove, pull, load, save, import.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mica_cache::KeepPolicy;
use mica_image::{Platform, Reference};
use mica_solver::EventSender;

use super::build::explain;
use super::exit::Failure;
use super::words::{age, head, size, table};
use super::{print, print_json, prune, setup};
use crate::arguments::{
    GlobalOptions, ImagesArguments, ImportArguments, InspectArguments, LoadArguments, PullArguments,
    RemoveArguments, SaveArguments, SaveFormat, TagArguments,
};
use crate::engine::bases::BaseError;
use crate::engine::images::{self, FindError, Listed, Removed};
use crate::engine::output;
use crate::engine::request::{Output, OutputKind};
use crate::environment::Environment;
use crate::progress::{Progress, View, renderer};
use crate::terminal::{self, Paint};

/// `mica images`.
pub(super) fn list(
    arguments: &ImagesArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let lines = images::list(&engine.host.store).map_err(find_failure)?;
    if arguments.json {
        return print_json(&lines);
    }
    if arguments.quiet {
        let mut ids: Vec<String> = lines.iter().map(|line| line.id.to_string()).collect();
        ids.dedup();
        return print(ids.iter().map(|id| format!("{id}\n")).collect::<String>().as_bytes());
    }
    let mut rows = vec![head(&["NAME", "VERSION", "ID", "CREATED", "SIZE", "PLATFORM"])];
    rows.extend(lines.iter().map(row));
    print(table(&rows).as_bytes())
}

fn row(line: &Listed) -> Vec<String> {
    vec![
        line.name.clone().unwrap_or_else(|| "-".to_owned()),
        line.version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
        line.id.hex()[..12].to_owned(),
        age(line.created),
        size(line.size),
        line.platform.clone(),
    ]
}

/// `mica inspect`.
pub(super) fn inspect(
    arguments: &InspectArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let mut shown = Vec::new();
    for name in &arguments.images {
        shown.push(images::describe(&engine.host.store, name).map_err(find_failure)?);
    }
    print_json(&shown)
}

/// `mica tag`.
pub(super) fn tag(
    arguments: &TagArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let target = reference(&arguments.target)?;
    let engine = setup::engine(global, environment)?;
    let image = images::find(&engine.host.store, &arguments.source).map_err(find_failure)?;
    images::tag(&engine.host.store, image.id, &target).map_err(|error| Failure::of(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// `mica rmi`.
pub(super) fn remove(
    arguments: &RemoveArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    for name in &arguments.images {
        for removed in images::remove(&engine.host.store, name).map_err(find_failure)? {
            let line = match removed {
                Removed::Name(name) => format!("untagged {name}\n"),
                Removed::Image(id) => format!("removed {id}\n"),
            };
            print(line.as_bytes())?;
        }
    }
    engine.host.store.collect(&KeepPolicy::UNREACHABLE, &|| false).map_err(|error| Failure::of(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// `mica pull`.
pub(super) fn pull(
    arguments: &PullArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let name = reference(&arguments.image)?.with_default_tag();
    let platform = match &arguments.platform {
        Some(text) => Platform::parse(text).map_err(|error| Failure::of(&error))?,
        None => Platform::host(),
    };
    let engine = setup::engine(global, environment)?;
    let pulled = watched(environment, async |events| engine.pull(&name, &platform, events).await)?;
    let id = pulled.map_err(base_failure)?;
    if arguments.attestations {
        let remembered = engine.remember_statements(&arguments.image, &platform, id);
        let remembered = setup::runtime()?.block_on(remembered);
        remembered.map_err(|error| {
            let failure = Failure::of(&error).with_hint(error.hint());
            if error.is_unavailable() { failure.unavailable() } else { failure }
        })?;
    }
    engine.host.store.sync().map_err(|error| Failure::of(&error))?;
    prune::keep_to_size(&engine);
    print(format!("{id}\n").as_bytes())
}

/// `mica load`.
pub(super) fn load(
    arguments: &LoadArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let spooled = match &arguments.input {
        Some(_) => None,
        None => Some(
            engine
                .spool(&mut std::io::stdin().lock())
                .map_err(|error| Failure::local("cannot read standard input", error))?,
        ),
    };
    let path = match (&arguments.input, &spooled) {
        (Some(path), _) => path.as_path(),
        (None, Some(spooled)) => spooled.path(),
        (None, None) => Path::new("/dev/stdin"),
    };
    let loaded =
        watched(environment, async |events| engine.load(path, events).await)?.map_err(base_failure)?;
    engine.host.store.sync().map_err(|error| Failure::of(&error))?;
    prune::keep_to_size(&engine);
    for image in loaded {
        let mut names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        if names.is_empty() {
            names.push(image.id.to_string());
        }
        for name in names {
            print(format!("loaded {name}\n").as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the events of something that is not a build while it goes on.
pub(super) fn watched<T>(
    environment: &dyn Environment,
    work: impl AsyncFnOnce(&EventSender) -> T,
) -> Result<T, Failure> {
    let stderr = std::io::stderr();
    let view = if terminal::is_capable(&stderr, environment) {
        View::Tty(terminal::size(&stderr))
    } else {
        View::None
    };
    let mut progress = Progress::new(renderer(view, Paint::for_stream(&stderr, environment)), stderr);
    let runtime = setup::runtime()?;
    let (events, mut receiver) = EventSender::channel();
    let working = async {
        let result = work(&events).await;
        drop(events);
        result
    };
    let size = || terminal::size(std::io::stderr());
    let (result, ()) =
        runtime.block_on(async { tokio::join!(working, progress.follow(&mut receiver, size)) });
    progress.leave();
    Ok(result)
}

/// `mica save`.
pub(super) fn save(
    arguments: &SaveArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    if arguments.output.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Err(Failure::plain("an archive is not written to a terminal")
            .with_hint(Some("give a file with -o, or send standard output somewhere".to_owned())));
    }
    let engine = setup::engine(global, environment)?;
    let image = images::find(&engine.host.store, &arguments.image).map_err(find_failure)?;
    let (kind, all) = match arguments.format {
        // It holds one platform; the others stay behind, as they do with docker.
        SaveFormat::Docker => (OutputKind::DockerArchive, vec![image.clone()]),
        SaveFormat::Oci => {
            let all = images::find_all(&engine.host.store, &arguments.image).map_err(find_failure)?;
            (OutputKind::OciArchive, all)
        }
    };
    let destination: Option<PathBuf> = arguments.output.clone().filter(|path| path != Path::new("-"));
    let names = images::names(&engine.host.store, &arguments.image, &image).map_err(find_failure)?;
    output::write(&engine.host, &all, &Output::new(kind, destination), &names)
        .map_err(|error| Failure::of(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// `mica import`.
pub(super) fn import(
    arguments: &ImportArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let name = reference(&arguments.name)?;
    let engine = setup::engine(global, environment)?;
    let imported = setup::runtime()?.block_on(engine.import(&arguments.file, &name));
    let id = imported.map_err(|error| explain(&error, Paint::for_stream(std::io::stderr(), environment)))?;
    prune::keep_to_size(&engine);
    print(format!("{id}\n").as_bytes())
}

pub(super) fn reference(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text).map_err(|error| {
        let hint = error.hint();
        Failure::of(&error).with_hint(hint)
    })
}

pub(super) fn find_failure(error: FindError) -> Failure {
    let hint = error.hint();
    Failure::of(&error).with_hint(hint)
}

fn base_failure(error: BaseError) -> Failure {
    let failure = Failure::of(&error).with_hint(error.hint());
    if error.is_unavailable() { failure.unavailable() } else { failure }
}
