//! `mica why`: what the last build did, and why. `mica plan`: what a build would do.

use std::process::ExitCode;

use mica_solver::EventSender;

use super::build::{explain, take_standard_input};
use super::exit::Failure;
use super::words::age;
use super::{print, print_json, setup};
use crate::arguments::{GlobalOptions, PlanArguments, WhyArguments};
use crate::engine::build_record::{self, BuildRecord, StepOutcome, StepRecord};
use crate::environment::Environment;
use crate::terminal::Paint;

/// `mica why`.
pub(super) fn why(
    arguments: &WhyArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let engine = setup::engine(global, environment)?;
    let Some(record) = build_record::last(engine.host.store.root()) else {
        return Err(Failure::plain("nothing was built in this store yet"));
    };
    let Some(wanted) = &arguments.step else {
        return if arguments.json { print_json(&record) } else { print(whole(&record).as_bytes()) };
    };
    let steps = build_record::select(&record.steps, wanted);
    if steps.is_empty() {
        let hint =
            "a step is `#7`, `stage:line` or a stage; `mica why` lists those of the last build".to_owned();
        return Err(Failure::plain(format!("the last build has no step `{wanted}`")).with_hint(Some(hint)));
    }
    match arguments.json {
        true => print_json(&steps),
        false => print(steps.into_iter().map(step).collect::<String>().as_bytes()),
    }
}

fn whole(record: &BuildRecord) -> String {
    let name = if record.names.is_empty() { record.dockerfile.clone() } else { record.names.join(", ") };
    let end = if record.succeeded { "" } else { ", did not succeed" };
    let steps: String = record.steps.iter().map(step).collect();
    format!("{name}, {}{end}\n{steps}", age(record.started))
}

/// `mica plan`.
pub(super) fn plan(
    arguments: &PlanArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    let mut request = setup::request(&arguments.build, environment)?;
    let engine = setup::engine(global, environment)?;
    take_standard_input(&arguments.build, &mut request, &engine)?;
    let runtime = setup::runtime()?;
    let (events, mut receiver) = EventSender::channel();
    let foreseeing = async {
        let steps = engine.foresee(request, &events).await;
        drop(events);
        steps
    };
    // Nothing is shown of what resolving takes; the events only have to go somewhere.
    let drain = async { while receiver.recv().await.is_some() {} };
    let (steps, ()) = runtime.block_on(async { tokio::join!(foreseeing, drain) });
    runtime.shutdown_background();
    let steps = steps.map_err(|error| explain(&error, Paint::for_stream(std::io::stderr(), environment)))?;
    match arguments.json {
        true => print_json(&steps),
        false => print(steps.iter().map(step).collect::<String>().as_bytes()),
    }
}

fn step(step: &StepRecord) -> String {
    let line = step.line.map_or_else(String::new, |line| format!(" (line {line})"));
    let mut text = format!("#{} {}{line}: {}\n", step.number, step.name, outcome(step.outcome));
    for cause in &step.causes {
        match cause.files.as_slice() {
            [] => text.push_str(&format!("    {}\n", cause.text)),
            files => files.iter().for_each(|file| text.push_str(&format!("    {}\n", file.words()))),
        }
    }
    text
}

const fn outcome(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Resolved => "looked at",
        StepOutcome::Cached => "cached",
        StepOutcome::Ran => "ran",
        StepOutcome::RanEqual => "ran, its output is what it was before: later steps stay cached",
        StepOutcome::Failed => "failed",
        StepOutcome::NotReached => "not reached",
        StepOutcome::WouldRun => "would run",
        StepOutcome::MayRun => "would run, unless what it takes comes out as before",
    }
}
