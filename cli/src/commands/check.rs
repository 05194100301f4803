//! `mica build --check` and `--call`: what a Dockerfile says, without building it.

use std::process::ExitCode;
use std::sync::Arc;

use mica_parser::diagnostic::{Diagnostic, Severity};
use mica_parser::lint::{self, CheckConfig};
use mica_solver::EventSender;

use super::build::explain;
use super::exit::Failure;
use super::{print, print_json, say};
use crate::arguments::{Call, CallFormat, CallRequest};
use crate::diagnostics::{self, Style};
use crate::engine::context::DockerfileText;
use crate::engine::planned::{PlannedBuild, Purpose};
use crate::engine::request::BuildRequest;
use crate::engine::{Engine, chain};
use crate::environment::Environment;
use crate::terminal::Paint;

/// Checks or describes.
pub(super) async fn run(
    engine: &Engine,
    request: BuildRequest,
    call: CallRequest,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let paint = Paint::for_stream(std::io::stderr(), environment);
    let (events, mut receiver) = EventSender::channel();
    let request = Arc::new(request);
    let planning = async {
        let purpose = match call.call {
            Call::Check => Purpose::Check,
            Call::Outline => Purpose::Outline,
            Call::Targets => Purpose::Stages,
            Call::Build => Purpose::Target,
        };
        let planned = engine.plan(&request, &events, purpose).await;
        drop(events);
        planned
    };
    // Nothing is shown of what resolving bases takes; the events only have to go somewhere.
    let drain = async { while receiver.recv().await.is_some() {} };
    let (planned, ()) = tokio::join!(planning, drain);
    let planned = planned.map_err(|error| explain(&error, paint))?;
    match call.call {
        Call::Check => {
            say_unchecked(&planned);
            check(&planned, &request, call.format, environment)
        }
        Call::Build | Call::Targets | Call::Outline => describe(&planned, call, paint),
    }
}

/// Says what a check without all base images could not find out.
fn say_unchecked(planned: &PlannedBuild) {
    for error in &planned.out_of_reach {
        say(&format!("note: {}", chain(error)));
    }
    if !planned.out_of_reach.is_empty() {
        say(
            "note: what such an image sets is not known: on top of it UndefinedVar and InvalidBaseImagePlatform were not checked",
        );
    }
}

/// Shows what is wrong, and then what only we find, which leaves the exit code as the reference has it.
fn check(
    planned: &PlannedBuild,
    request: &BuildRequest,
    format: CallFormat,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let file = &planned.dockerfile;
    let mut all = planned.diagnostics.clone();
    let code = if all.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // Where there are mistakes, they come first.
    if all.iter().all(|found| found.severity != Severity::Error) {
        all.extend(more(file, request));
    }
    mica_parser::diagnostic::sort(&mut all);
    let all = &all;
    let in_github = environment.var("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    match format {
        CallFormat::Json => {
            print(diagnostics::json(all, &file.text, &file.name).as_bytes())?;
        }
        CallFormat::Sarif => {
            print(diagnostics::sarif(all, &file.text, &file.name).as_bytes())?;
        }
        CallFormat::Text if !in_github => {
            let style = Style { paint: Paint::for_stream(std::io::stdout(), environment), name: &file.name };
            let mut text = diagnostics::render_all(all, &file.text, &style);
            if all.is_empty() {
                text.push_str("check complete, no warnings found\n");
            }
            print(text.as_bytes())?;
        }
        CallFormat::Text | CallFormat::Github => {
            print(diagnostics::github(all, &file.text, &file.name).as_bytes())?;
        }
    }
    Ok(code)
}

/// Findings of the rules the reference does not have. Settings that cannot be read are an error of the plan already.
fn more(file: &DockerfileText, request: &BuildRequest) -> Vec<Diagnostic> {
    let dockerfile = mica_parser::parse(&file.text).dockerfile;
    let config = match request.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        Some(text) => CheckConfig::parse(text),
        None => CheckConfig::of(&dockerfile),
    };
    lint::check_more(&dockerfile, &config.unwrap_or_default())
}

fn describe(planned: &PlannedBuild, call: CallRequest, paint: Paint) -> Result<ExitCode, Failure> {
    let Some(plan) = &planned.plan else {
        let error = crate::engine::build_error::BuildError::Diagnostics {
            diagnostics: planned.diagnostics.clone(),
            dockerfile: planned.dockerfile.copy(),
        };
        return Err(explain(&error, paint));
    };
    let json = call.format == CallFormat::Json;
    match call.call {
        Call::Targets if json => print_json(&plan.stages),
        Call::Targets => {
            let mut text = String::new();
            for stage in &plan.stages {
                let name = stage.name.clone().unwrap_or_else(|| "-".to_owned());
                let default = if stage.default { " (default)" } else { "" };
                let description = stage.description.as_deref().unwrap_or_default();
                text.push_str(format!("{name}{default}\t{}\t{description}", stage.base).trim_end());
                text.push('\n');
            }
            print(text.as_bytes())
        }
        _ if json => print_json(&plan.outline),
        _ => {
            let outline = &plan.outline;
            let mut text = String::new();
            if let Some(name) = &outline.name {
                text.push_str(&format!(
                    "TARGET\t{name}\t{}\n",
                    outline.description.as_deref().unwrap_or_default()
                ));
            }
            for arg in &outline.args {
                text.push_str(&format!(
                    "ARG\t{}={}\t{}\n",
                    arg.name,
                    arg.value,
                    arg.description.as_deref().unwrap_or_default()
                ));
            }
            for (kind, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
                for mount in mounts {
                    let required = if mount.required { "required" } else { "" };
                    text.push_str(&format!("{kind}\t{}\t{required}\n", mount.name));
                }
            }
            print(text.replace("\t\n", "\n").as_bytes())
        }
    }
}
