//! `mica build`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use mica_image::compress::is_archive;
use mica_solver::EventSender;
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, USAGE};
use super::{check, enter, metadata, print, prune, say, setup};
use crate::arguments::{BuildArguments, Call, GlobalOptions, ProgressMode, StandardInput};
use crate::diagnostics::{self, Style};
use crate::engine::build::BuildReport;
use crate::engine::build_error::BuildError;
use crate::engine::build_steps::End;
use crate::engine::context::DockerfileText;
use crate::engine::enter::{self as entering, EnterRequest};
use crate::engine::request::{BuildRequest, ContextInput, DockerfileInput, Output, SecretSource};
use crate::engine::runner::StepError;
use crate::engine::spool::Spooled;
use crate::engine::{Engine, chain};
use crate::environment::Environment;
use crate::progress::{self, BuildResult, Progress, Summary, Timeline, View, renderer};
use crate::terminal::{self, Paint};

/// Builds, checks or describes.
pub(super) fn run(
    arguments: &BuildArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let mut request = setup::request(arguments, environment)?;
    let call = arguments.call()?;
    let mode = arguments.progress(environment)?;
    if arguments.enters_failure() && !enter::has_terminal() {
        let hint = "build without it: afterwards `mica enter` opens a shell where a step failed".to_owned();
        return Err(Failure::plain("`--on-failure=shell` needs a terminal")
            .with_hint(Some(hint))
            .with_code(USAGE));
    }
    for notice in arguments.notices() {
        say(&notice);
    }
    let engine = setup::engine_for_steps(global, environment)?;
    // A context from standard input lies in a file that lasts as long as this.
    let _spooled = take_standard_input(arguments, &mut request, &engine)?;
    let runtime = setup::runtime()?;
    if call.call != Call::Build {
        return runtime.block_on(check::run(&engine, request, call, environment));
    }
    let given = arguments.enters_failure().then(|| (request.secrets.clone(), request.ssh.clone()));
    let outcome = runtime.block_on(build(&engine, request, mode, arguments.timings(), environment));
    let outcome = match (outcome, given) {
        (Err(failed), Some(given)) if failed.is_kept => {
            Ok(enter_failure(&engine, &runtime, failed.failure, given, environment))
        }
        (Err(failed), _) => Err(failed.failure),
        (Ok((report, quiet)), _) => finish(arguments, &report, quiet),
    };
    // Threads that are stuck in a system call must not keep an interrupted build from ending.
    runtime.shutdown_background();
    prune::keep_to_size(&engine);
    outcome
}

/// A build that failed.
pub(super) struct Failed {
    failure: Failure,
    /// Whether what the step left can be entered.
    is_kept: bool,
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        failed.failure
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, is_kept: false }
    }
}

/// Tells of a failure and opens a shell there; the build has failed all the same.
fn enter_failure(
    engine: &Engine,
    runtime: &tokio::runtime::Runtime,
    failure: Failure,
    (secrets, ssh): (BTreeMap<String, SecretSource>, BTreeMap<String, Vec<PathBuf>>),
    environment: &dyn Environment,
) -> ExitCode {
    let code = failure.tell(environment);
    let request = EnterRequest { command: Vec::new(), secrets, ssh, tty: true, save: None };
    let entered = entering::find(&engine.host.store, None, End::After)
        .map_err(enter::failure)
        .and_then(|entry| enter::enter(engine, runtime, entry, request));
    if let Err(failure) = entered {
        failure.tell(environment);
    }
    code
}

/// Reads the context or the Dockerfile from standard input where `-` was given.
pub(super) fn take_standard_input(
    arguments: &BuildArguments,
    request: &mut BuildRequest,
    engine: &Engine,
) -> Result<Option<Spooled>, Failure> {
    let failed = |error| Failure::local("cannot read standard input", error);
    match arguments.standard_input() {
        StandardInput::Unused => {}
        StandardInput::Dockerfile => {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).map_err(failed)?;
            request.dockerfile = DockerfileInput::Text(text);
        }
        StandardInput::Context => {
            let spooled = engine.spool(&mut std::io::stdin().lock()).map_err(failed)?;
            if spooled.looks_like(is_archive).map_err(failed)? {
                request.context = ContextInput::Archive(spooled.path().to_owned());
                return Ok(Some(spooled));
            }
            let text = std::fs::read(spooled.path()).map_err(failed)?;
            if text.is_empty() {
                return Err(Failure::plain("standard input is empty: neither a Dockerfile nor a context"));
            }
            request.dockerfile = DockerfileInput::Text(text);
        }
    }
    Ok(None)
}

/// Builds, and shows how it goes.
pub(super) async fn build(
    engine: &Engine,
    request: BuildRequest,
    mode: ProgressMode,
    timings: &[PathBuf],
    environment: &dyn Environment,
) -> Result<(BuildReport, bool), Failed> {
    let stderr = std::io::stderr();
    let paint = Paint::for_stream(&stderr, environment);
    let (view, quiet) = view(mode, environment);
    let tags: Vec<String> = request.tags.iter().map(|tag| tag.to_string()).collect();
    let outputs: Vec<_> = request.outputs.iter().filter_map(|output| output.destination.clone()).collect();
    let to_stdout = request.outputs.iter().any(Output::is_stream);
    let mut progress = Progress::new(renderer(view, paint), stderr);
    if !timings.is_empty() {
        progress = progress.timed();
    }
    let (events, mut receiver) = EventSender::channel();
    let cancel = CancellationToken::new();
    let size = || terminal::size(std::io::stderr());
    let building = async {
        let result = interruptible(engine.build(request, &events, &cancel), &cancel).await;
        drop(events);
        result
    };
    let (result, ()) = tokio::join!(building, progress.follow(&mut receiver, size));
    let mut summary = Summary {
        result: BuildResult::Succeeded,
        images: vec![],
        tags: vec![],
        outputs,
        clamp: None,
        log: None,
    };
    let ended = match result {
        Ok(report) => {
            summary.images = report.images.iter().map(|image| image.id.to_string()).collect();
            summary.tags = tags;
            summary.clamp = report.clamp.clone();
            progress.finish(&summary);
            show_diagnostics(&report.warnings, &report.dockerfile, paint);
            Ok((report, quiet || to_stdout))
        }
        Err(Interrupted::By(signal)) => {
            summary.result = BuildResult::Canceled;
            progress.finish(&summary);
            Err(Failure::plain("").with_code(signal).into())
        }
        Err(Interrupted::Failed(error)) => {
            summary.result = BuildResult::Failed;
            summary.log = log_of(&error);
            progress.finish(&summary);
            let is_kept = matches!(error, BuildError::Step { kept: true, .. });
            Err(Failed { failure: explain(&error, paint), is_kept })
        }
    };
    let written = progress.timeline().map_or(Ok(()), |timeline| write_timings(timeline, timings));
    // A build that failed is told before a file that cannot be written.
    ended.and_then(|report| Ok(written.map(|()| report)?))
}

fn write_timings(timeline: &Timeline, paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        progress::write_timings(timeline, path)
            .map_err(|error| Failure::local(format!("cannot write `{}`", path.display()), error))?;
    }
    Ok(())
}

/// How a build did not end well.
enum Interrupted {
    /// The exit code of the signal that ended it.
    By(u8),
    /// It failed by itself.
    Failed(BuildError),
}

/// Runs a build; the first interrupt cancels it, the second does not wait for it any longer.
async fn interruptible(
    build: impl Future<Output = Result<BuildReport, BuildError>>,
    cancel: &CancellationToken,
) -> Result<BuildReport, Interrupted> {
    let mut signals = setup::Signals::new();
    let mut build = std::pin::pin!(build);
    let code = tokio::select! {
        result = &mut build => return result.map_err(Interrupted::Failed),
        code = signals.next() => code,
    };
    cancel.cancel();
    tokio::select! {
        _ = &mut build => {}
        _ = signals.next() => {}
    }
    Err(Interrupted::By(code))
}

fn view(mode: ProgressMode, environment: &dyn Environment) -> (View, bool) {
    let stderr = std::io::stderr();
    match mode {
        ProgressMode::Auto if terminal::is_capable(&stderr, environment) => {
            (View::Tty(terminal::size(&stderr)), false)
        }
        ProgressMode::Tty => (View::Tty(terminal::size(&stderr)), false),
        ProgressMode::Auto | ProgressMode::Plain => (View::Plain, false),
        ProgressMode::Json => (View::Json, false),
        ProgressMode::Quiet => (View::Quiet, true),
        ProgressMode::None => (View::None, false),
    }
}

fn log_of(error: &BuildError) -> Option<std::path::PathBuf> {
    match error {
        BuildError::Step { error: StepError::Command { log, .. }, .. } => log.clone(),
        _ => None,
    }
}

fn show_diagnostics(all: &[mica_parser::diagnostic::Diagnostic], file: &DockerfileText, paint: Paint) {
    let style = Style { paint, name: &file.name };
    say_block(&diagnostics::render_all(all, &file.text, &style));
}

fn say_block(text: &str) {
    if !text.is_empty() {
        say(text.trim_end());
    }
}

/// Tells a failed build with its place in the Dockerfile.
pub(super) fn explain(error: &BuildError, paint: Paint) -> Failure {
    match error {
        BuildError::Diagnostics { diagnostics, dockerfile } => {
            show_diagnostics(diagnostics, dockerfile, paint);
            let errors = diagnostics
                .iter()
                .filter(|found| found.severity == mica_parser::diagnostic::Severity::Error)
                .count();
            let mistakes = if errors == 1 { "a mistake".to_owned() } else { format!("{errors} mistakes") };
            Failure::plain(format!("`{}` has {mistakes}: nothing was built", dockerfile.name))
        }
        BuildError::Step { step, dockerfile, error: cause, .. } => {
            let message = chain(cause);
            if let Some(span) = step.span {
                let place = diagnostics::excerpt(&dockerfile.name, &dockerfile.text, span, &message, paint);
                say_block(&place);
            }
            let line = step.line.map_or_else(String::new, |line| format!("{}:{line}: ", dockerfile.name));
            let failure = Failure::plain(format!("failed to solve: {line}{message}"));
            let failure = failure.because_of(error).with_hint(error.hint());
            if matches!(cause, StepError::Base(base) if base.is_unavailable()) {
                failure.unavailable()
            } else {
                failure
            }
        }
        BuildError::Base { diagnostic, dockerfile, error } => {
            show_diagnostics(std::slice::from_ref(diagnostic), dockerfile, paint);
            let failure = Failure::plain(format!("failed to solve: {}", chain(error)));
            let failure = failure.because_of(error).with_hint(error.hint());
            if error.is_unavailable() { failure.unavailable() } else { failure }
        }
        BuildError::Panicked(_) => Failure::bug(error.to_string()),
        BuildError::Output(output) if output.is_unavailable() => {
            Failure::of(error).with_hint(error.hint()).unavailable()
        }
        BuildError::Cache { source, .. } if source.is_unavailable() => {
            Failure::of(error).with_hint(error.hint()).unavailable()
        }
        other => Failure::of(other).with_hint(other.hint()),
    }
}

fn finish(arguments: &BuildArguments, report: &BuildReport, quiet: bool) -> Result<ExitCode, Failure> {
    let Some(image) = report.images.first() else { return Ok(ExitCode::SUCCESS) };
    if let Some(path) = arguments.iidfile() {
        std::fs::write(path, image.id.to_string())
            .map_err(|error| Failure::local(format!("cannot write `{}`", path.display()), error))?;
    }
    if let Some(path) = arguments.metadata_file() {
        metadata::write(path, report)?;
    }
    if quiet && arguments.is_quiet() {
        return print(format!("{}\n", image.id).as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}
