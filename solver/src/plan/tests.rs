//! Fixtures: each directory of `fixtures/plan/` has a Dockerfile, perhaps a `request.json`, and the plan they give as text.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use mica_image::{ImageConfig, Platform, Reference};
use mica_parser::diagnostic::{Diagnostic, LineIndex, Severity};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::graph::{ImageLocation, ImageSource, NetworkMode, Target};

/// `request.json`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Request {
    target: Option<String>,
    build_args: BTreeMap<String, String>,
    labels: Vec<(String, String)>,
    platforms: Vec<String>,
    no_cache: Value,
    contexts: BTreeMap<String, String>,
    network: Option<String>,
    allow: Vec<String>,
    hostname: Option<String>,
    /// Paths the ignore file leaves out.
    ignored: Vec<String>,
    /// The time of what SOURCE_DATE_EPOCH names; asked for and not known when absent.
    source_time: Option<i64>,
    /// Whether steps are to do the same everywhere.
    normalised: bool,
    all_stages: bool,
    /// Configurations of base images by name as written; others have [`usual_image`].
    images: BTreeMap<String, Value>,
    /// What to show of the plan: all when empty, else `outline`, `stages`.
    show: Vec<String>,
}

impl Request {
    fn plan_request(&self) -> PlanRequest {
        let mut request = PlanRequest::new(Platform::new("linux", "amd64", ""));
        request.target.clone_from(&self.target);
        request.build_args.clone_from(&self.build_args);
        request.labels.clone_from(&self.labels);
        request.platforms = self.platforms.iter().map(|text| Platform::parse(text).unwrap()).collect();
        request.no_cache = match &self.no_cache {
            Value::String(_) => NoCache::All,
            Value::Array(names) => {
                NoCache::Stages(names.iter().map(|name| name.as_str().unwrap().to_owned()).collect())
            }
            _ => NoCache::None,
        };
        request.named_contexts =
            self.contexts.iter().map(|(name, text)| (name.clone(), context(text))).collect();
        request.network = match self.network.as_deref() {
            Some("host") => NetworkMode::Host,
            Some("none") => NetworkMode::None,
            _ => NetworkMode::Default,
        };
        request.allow.clone_from(&self.allow);
        request.hostname.clone_from(&self.hostname);
        let ignored = self.ignored.clone();
        request.ignore = Some(IgnoredPaths::new(move |path| ignored.iter().any(|known| known == path)));
        if self.normalised {
            request.normalised =
                Normalised { locale: true, time_zone: true, epoch: true, left_out: vec!["logs".to_owned()] };
        }
        request.all_stages = self.all_stages;
        request
    }

    fn image(&self, source: &ImageSource) -> ResolvedImage {
        let name = match &source.location {
            ImageLocation::Reference(reference) => reference.familiar(),
            ImageLocation::OciLayout(text) => text.clone(),
        };
        let config = self.images.get(&name).cloned().unwrap_or_else(|| usual_image(&source.platform));
        let config: ImageConfig = serde_json::from_value(config).unwrap();
        ResolvedImage {
            knowledge: Knowledge::Known,
            id: config.digest(),
            platform: config.platform(),
            config,
        }
    }
}

fn usual_image(platform: &Platform) -> Value {
    json!({
        "architecture": platform.architecture, "os": platform.os, "variant": platform.variant,
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin", "FROM_BASE=yes"], "Cmd": ["/bin/sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
        "history": [{"created_by": "base layer"}],
    })
}

fn context(text: &str) -> NamedContext {
    match text.split_once("://") {
        None if text == "local" => NamedContext::Local,
        Some(("docker-image", "scratch")) => NamedContext::Scratch,
        Some(("docker-image", name)) => NamedContext::Image(Reference::parse(name).unwrap()),
        Some(("oci-layout", rest)) => NamedContext::OciLayout(rest.to_owned()),
        Some(("https", rest)) if !rest.contains(".git") => NamedContext::Http(text.to_owned()),
        _ => NamedContext::Git(text.to_owned()),
    }
}

/// Plans until no more images are needed, and prints everything.
fn print_plan(text: &[u8], request: &Request) -> String {
    let parsed = mica_parser::parse(text);
    let lines = LineIndex::new(text);
    let mut out = String::new();
    let mut images: HashMap<ImageSource, ResolvedImage> = HashMap::new();
    let mut plan_request = request.plan_request();
    loop {
        let (planned, diagnostics) = plan(&parsed.dockerfile, &plan_request, &images);
        match planned {
            Some(Planned::NeedImages(sources)) => {
                for source in sources {
                    writeln!(out, "needs {}", image_text(&source)).unwrap();
                    let image = request.image(&source);
                    assert!(images.insert(source, image).is_none(), "an image is asked for once");
                }
                continue;
            }
            Some(Planned::NeedTime(source)) => {
                writeln!(out, "needs the time of {source:?}").unwrap();
                assert_eq!(plan_request.source_time, SourceTime::NotAsked, "a time is asked for once");
                plan_request.source_time =
                    request.source_time.map_or(SourceTime::Unknown, SourceTime::Seconds);
                continue;
            }
            Some(Planned::Ready(plan)) => print_ready(&mut out, &plan, &request.show),
            None => writeln!(out, "no plan").unwrap(),
        }
        let parser_says = parsed.diagnostics.iter().filter(|_| parsed.has_errors());
        parser_says.chain(&diagnostics).for_each(|diagnostic| print_diagnostic(&mut out, diagnostic, &lines));
        return out;
    }
}

fn print_ready(out: &mut String, plan: &Plan, show: &[String]) {
    if show.iter().any(|part| part == "stages") {
        plan.stages.iter().for_each(|stage| writeln!(out, "{stage:?}").unwrap());
    }
    if show.iter().any(|part| part == "outline") {
        writeln!(out, "{:#?}", plan.outline).unwrap();
    }
    if !show.is_empty() {
        return;
    }
    for step in plan.graph.steps() {
        let inputs: Vec<String> =
            plan.graph.inputs(step.id).iter().map(|(slot, id)| format!("{slot}={id}")).collect();
        write!(out, "{} {}", step.id, step.name.replace('\n', "\\n")).unwrap();
        let mut facts = Vec::new();
        facts.extend(step.stage.as_ref().map(|stage| format!("stage {stage}")));
        facts.extend(step.line.map(|line| format!("line {line}")));
        assert_eq!(step.line.is_some(), step.span.is_some());
        assert_eq!(step.has_parent, plan.graph.inputs(step.id).first().is_some_and(|(slot, _)| *slot == 0));
        facts.extend((step.platform.to_string() != "linux/amd64").then(|| step.platform.to_string()));
        facts.extend(step.ignore_cache.then(|| "ignore cache".to_owned()));
        facts.extend((!inputs.is_empty()).then(|| inputs.join(" ")));
        writeln!(out, " ({})", facts.join(", ")).unwrap();
        writeln!(out, "   {}", pruned(serde_json::to_value(&step.op).unwrap())).unwrap();
    }
    plan.targets.iter().for_each(|target| print_target(out, target));
    if let Some(epoch) = plan.source_date_epoch {
        writeln!(out, "epoch {epoch}").unwrap();
    }
    plan.unused
        .iter()
        .for_each(|unused| writeln!(out, "unused {} {:?}", unused.name, unused.nearest).unwrap());
}

fn print_target(out: &mut String, target: &Target) {
    let step = target.step.map_or("nothing".to_owned(), |step| step.to_string());
    writeln!(out, "target {} of stage {}: {step}", target.platform, target.stage).unwrap();
    let mut config = serde_json::to_value(&target.config).unwrap();
    let fields = config.as_object_mut().unwrap();
    let (container, history) = (fields.remove("config").unwrap(), fields.remove("history"));
    fields.remove("rootfs");
    writeln!(out, "   {config}\n   {container}").unwrap();
    for entry in history.iter().flat_map(|history| history.as_array().unwrap()) {
        writeln!(out, "   | {}", entry["created_by"].as_str().unwrap()).unwrap();
    }
    for item in &target.history {
        let step = item.step.map_or(String::new(), |step| format!(" = {step}"));
        writeln!(out, "   > {} @{}{step}", item.created_by.replace('\n', "\\n"), item.line).unwrap();
    }
}

fn print_diagnostic(out: &mut String, diagnostic: &Diagnostic, lines: &LineIndex) {
    let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let place = |offset: u32| {
        let position = lines.position(offset);
        format!("{}:{}", position.line, position.column)
    };
    let span = diagnostic.primary.span;
    let (start, end) = (place(span.start), place(span.end));
    writeln!(out, "{severity}[{}] {start}-{end}: {}", diagnostic.code, diagnostic.message).unwrap();
    for label in &diagnostic.secondary {
        writeln!(out, "   at {}: {}", place(label.span.start), label.text).unwrap();
    }
    diagnostic.notes.iter().for_each(|note| writeln!(out, "   note: {note}").unwrap());
    diagnostic.help.iter().for_each(|help| writeln!(out, "   help: {help}").unwrap());
}

fn image_text(source: &ImageSource) -> String {
    let location = serde_json::to_value(&source.location).unwrap();
    let name = location.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
    format!("{name} for {}", source.platform)
}

/// Leaves out what is as usual, so that what is special stands out.
fn pruned(value: Value) -> Value {
    let is_usual = |name: &str, value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => {
            text.is_empty()
                || matches!(
                    (name, text.as_str()),
                    ("hostname", "buildkitsandbox")
                        | ("network", "default")
                        | ("security", "sandbox")
                        | ("unpack", "no")
                )
        }
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, pruned(value)));
            Value::Object(fields.filter(|(name, value)| !is_usual(name, value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        other => other,
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/plan")
}

/// Whether goldens are written instead of compared.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own switch, set by the person who changes a golden on purpose"
)]
fn updates() -> bool {
    std::env::var_os("MICA_UPDATE_FIXTURES").is_some()
}

#[test]
fn every_fixture_gives_its_plan() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 40, "the fixtures are there");
    let mut wrong = Vec::new();
    for case in &cases {
        let text = fs::read(case.join("Dockerfile")).unwrap();
        let request = match fs::read(case.join("request.json")) {
            Ok(json) => {
                serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
            }
            Err(_) => Request::default(),
        };
        let printed = print_plan(&text, &request);
        let golden = case.join("expected.txt");
        if updates() {
            fs::write(&golden, &printed).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != printed {
            wrong.push(format!("{}:\n{printed}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} plans differ:\n\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
