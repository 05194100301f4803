//! Planning, from file to graph: survey, resolve, dispatch.
//!
//! Each platform asked for is planned on its own, into one graph; steps that come out the same are shared.

use std::collections::BTreeMap;

use mica_image::Platform;
use mica_parser::diagnostic::Diagnostic;
use mica_parser::go::parse_bool;
use mica_parser::syntax::{Dockerfile, Escape};

use super::arguments::{GlobalArguments, proxy_environment};
use super::draft::Draft;
use super::epoch::{EPOCH, EpochSource};
use super::file::Sections;
use super::outcome::{Plan, Planned};
use super::outline;
use super::report::Report;
use super::request::{BaseImages, PlanRequest};
use super::stages::{StageIndex, StageTable};
use super::unused::unused_arguments;
use crate::graph::{ImageSource, NetworkMode};

/// Plans a build.
///
/// Nothing is read or fetched: where the configuration of a base image is needed and `images` does not have it yet, the outcome is
/// [`Planned::NeedImages`], and where SOURCE_DATE_EPOCH names something whose time is not known, [`Planned::NeedTime`]. With
/// mistakes in the file the outcome is `None`. The diagnostics are all that can be said so far, in
/// the order of the file, build checks of the parser included; what parsing itself reported is not repeated.
pub fn plan(
    file: &Dockerfile,
    request: &PlanRequest,
    images: &dyn BaseImages,
) -> (Option<Planned>, Vec<Diagnostic>) {
    let mut report = Report::new(file, &request.build_args);
    let planned = plan_all(file, request, images, &mut report);
    report.finish(planned)
}

fn plan_all(
    file: &Dockerfile,
    request: &PlanRequest,
    images: &dyn BaseImages,
    report: &mut Report,
) -> Option<Planned> {
    let mut plans = survey_all(file, request, images, report);
    if report.has_errors() {
        return None;
    }
    if let Some(source) = plans.iter_mut().find_map(|(_, plan)| plan.epoch_source.take()) {
        return Some(Planned::NeedTime(source));
    }
    let mut missing: Vec<ImageSource> = Vec::new();
    for (target, plan) in &mut plans {
        for source in plan.resolve(*target, report) {
            if !missing.contains(&source) {
                missing.push(source);
            }
        }
    }
    if report.has_errors() {
        return None;
    }
    if !missing.is_empty() {
        return Some(Planned::NeedImages(missing));
    }
    dispatch_all(file, plans, report).map(|plan| Planned::Ready(Box::new(plan)))
}

/// Surveys the file for each platform; there is nothing to survey without stages, which the parser has reported.
pub(super) fn survey_all<'a>(
    file: &'a Dockerfile,
    request: &'a PlanRequest,
    images: &'a dyn BaseImages,
    report: &mut Report,
) -> Vec<(StageIndex, PlatformPlan<'a>)> {
    let sections = Sections::of(file);
    let mut plans = Vec::new();
    if sections.stages.is_empty() {
        return plans;
    }
    for (number, platform) in target_platforms(request).into_iter().enumerate() {
        report.hear_warnings(number == 0);
        let mut plan = PlatformPlan::new(file, request, images, platform);
        plan.survey(&sections, report);
        let target = plan.find_target();
        plans.extend(report.unless_ok(target).map(|target| (target, plan)));
    }
    plans
}

fn dispatch_all(
    file: &Dockerfile,
    plans: Vec<(StageIndex, PlatformPlan<'_>)>,
    report: &mut Report,
) -> Option<Plan> {
    let mut draft = Draft::default();
    let mut targets = Vec::new();
    let mut outline = None;
    for (number, (target, plan)) in plans.iter().enumerate() {
        report.hear_warnings(number == 0);
        let states = plan.dispatch(*target, &mut draft, report);
        plan.forget_unbuilt(&states, report);
        if report.has_errors() {
            return None;
        }
        targets.push(plan.finish(*target, &states, &mut draft));
        outline.get_or_insert_with(|| outline::outline(plan, *target, &states));
    }
    let (graph, settings) = draft.finish();
    Some(Plan {
        graph,
        settings,
        targets,
        stages: outline::stages(&Sections::of(file)),
        outline: outline?,
        source_date_epoch: plans.first().and_then(|(_, plan)| plan.epoch),
        unused: plans.first().map_or_else(Vec::new, |(_, plan)| unused_arguments(plan)),
    })
}

fn target_platforms(request: &PlanRequest) -> Vec<Platform> {
    match request.platforms.as_slice() {
        [] => vec![request.build_platform.clone()],
        some => some.to_vec(),
    }
}

/// A build for one platform while it is being planned.
pub(super) struct PlatformPlan<'a> {
    pub(super) request: &'a PlanRequest,
    pub(super) images: &'a dyn BaseImages,
    pub(super) escape: Escape,
    /// The platform of the result.
    pub(super) target: Platform,
    /// `--build-arg`, with SOURCE_DATE_EPOCH as a number.
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) globals: GlobalArguments,
    pub(super) epoch: Option<i64>,
    /// What has the time of the result, while that is not known.
    pub(super) epoch_source: Option<EpochSource>,
    pub(super) stages: StageTable<'a>,
    /// Proxy variables of RUN.
    pub(super) proxy: Vec<(String, String)>,
}

impl<'a> PlatformPlan<'a> {
    fn new(
        file: &'a Dockerfile,
        request: &'a PlanRequest,
        images: &'a dyn BaseImages,
        target: Platform,
    ) -> Self {
        Self {
            request,
            images,
            escape: file.directives.escape,
            target,
            proxy: proxy_environment(&request.build_args),
            build_args: request.build_args.clone(),
            globals: GlobalArguments::default(),
            epoch: None,
            epoch_source: None,
            stages: StageTable::default(),
        }
    }

    /// Fixes the time of the result; without one the argument is as if it had not been given.
    pub(super) fn set_epoch(&mut self, seconds: Option<i64>) {
        self.epoch = seconds;
        match seconds {
            Some(seconds) => {
                let text = seconds.to_string();
                if let Some(given) = self.build_args.get_mut(EPOCH) {
                    given.clone_from(&text);
                }
                if self.globals.names().contains(EPOCH) {
                    self.globals.values.set(EPOCH, &text);
                }
            }
            None => {
                self.build_args.remove(EPOCH);
                self.globals.values.remove(EPOCH);
            }
        }
    }

    /// Returns whether step names tell the platform.
    pub(super) fn names_platform(&self) -> bool {
        let asked = self.build_args.get("BUILDKIT_MULTI_PLATFORM");
        self.request.platforms.len() > 1 || asked.is_some_and(|value| parse_bool(value) == Some(true))
    }

    /// Returns whether an entitlement was granted.
    pub(super) fn allows(&self, entitlement: &str) -> bool {
        let by_network = entitlement == "network.host" && self.request.network == NetworkMode::Host;
        by_network || self.request.allow.iter().any(|granted| granted == entitlement)
    }

    /// Returns a behaviour argument that is set and not empty.
    pub(super) fn behaviour(&self, name: &str) -> Option<&str> {
        self.build_args.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}
