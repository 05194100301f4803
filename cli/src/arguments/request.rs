//! From the flags of `mica build` to what the engine is asked for.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use mica_image::{Platform, Reference};
use mica_parser::go::parse_bool;
use mica_solver::graph::Resources;

use super::build::BuildArguments;
use super::cache::Export;
use super::error::ArgumentError;
use super::values::{self, text_variable};
use super::{attest, cache, output, packing, secret};
use crate::engine::exchange::options::{CacheExport, CacheImport, CachePlace};
use crate::engine::reproducible::{self, Reproducible};
use crate::engine::request::{
    BuildRequest, ContextInput, DockerfileInput, LockMode, LockUse, NoCache, Output, OutputKind, Push,
    SecretSource,
};
use crate::environment::Environment;

const EPOCH: &str = "SOURCE_DATE_EPOCH";
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";
const URL_STARTS: [&str; 6] = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];

/// What standard input is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandardInput {
    /// Nothing.
    Unused,
    /// The context is `-`: a tar archive or a Dockerfile alone.
    Context,
    /// `-f -`.
    Dockerfile,
}

impl BuildArguments {
    /// Returns what standard input is read for.
    pub(crate) fn standard_input(&self) -> StandardInput {
        let is_dash = |word: &Option<OsString>| word.as_deref() == Some(OsStr::new("-"));
        match (is_dash(&self.context), is_dash(&self.input.file)) {
            (true, _) => StandardInput::Context,
            (false, true) => StandardInput::Dockerfile,
            (false, false) => StandardInput::Unused,
        }
    }

    /// Returns whether images and sources are to be those that are here.
    pub(crate) fn is_offline(&self) -> bool {
        self.cache.offline
    }

    /// Returns where the image id is to be written.
    pub(crate) fn iidfile(&self) -> Option<&Path> {
        self.output.iidfile.as_deref()
    }

    /// Returns where digests and names are to be written.
    pub(crate) fn metadata_file(&self) -> Option<&Path> {
        self.output.metadata_file.as_deref()
    }

    /// Returns where the times of the build are to be written.
    pub(crate) fn timings(&self) -> &[PathBuf] {
        &self.display.timings
    }

    /// Returns whether a shell is to be opened where a RUN failed.
    pub(crate) fn enters_failure(&self) -> bool {
        self.run.on_failure.is_some()
    }

    /// Returns what is to be said about flags that have no effect.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.unsupported.notices().collect()
    }
}

/// Makes the request.
///
/// Where standard input is asked for ([`BuildArguments::standard_input`]) the context is [`ContextInput::Empty`], or the
/// Dockerfile an empty text, and the caller puts in what it read. A path may turn out to be an archive.
pub(crate) fn build_request(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<BuildRequest, ArgumentError> {
    if let Some(refusal) = arguments.unsupported.refusal() {
        return Err(refusal);
    }
    let build_args = build_args(arguments, environment)?;
    let outputs = outputs(arguments)?;
    let (cache_to, inline_cache) = cache_to(arguments, &build_args, environment)?;
    Ok(BuildRequest {
        context: context(arguments)?,
        dockerfile: dockerfile(arguments),
        named_contexts: all(&arguments.input.build_context, named_context)?,
        tags: all(&arguments.image.tag, tag)?,
        target: arguments.input.target.clone().filter(|target| !target.is_empty()),
        reproducible: reproducible(arguments, &build_args)?,
        recorded_clamp: None,
        build_args,
        labels: all(&arguments.image.label, label)?,
        platforms: platforms(arguments, environment)?,
        no_cache: no_cache(arguments),
        pull: arguments.cache.pull,
        offline: arguments.cache.offline,
        lock: lock_use(arguments),
        network: values::network_mode(&arguments.run.network)?,
        extra_hosts: all(&arguments.run.add_host, values::add_host)?.concat(),
        ulimits: all(&arguments.limits.ulimit, values::ulimit)?,
        shm_size: arguments
            .limits
            .shm_size
            .as_deref()
            .map(|size| values::size_flag("--shm-size", size))
            .transpose()?,
        resources: resources(arguments)?,
        cgroup_parent: arguments.limits.cgroup_parent.clone().filter(|path| !path.is_empty()),
        allow: allow(arguments)?,
        secrets: secrets(arguments, environment)?,
        ssh: ssh(arguments, environment)?,
        cache_from: cache_from(arguments, environment)?,
        cache_to,
        inline_cache,
        attest: attest::attest(arguments, &outputs)?,
        outputs,
        jobs: arguments.limits.jobs.map_or_else(default_jobs, std::num::NonZeroUsize::get),
        conditions: None,
        no_new_privileges: arguments.run.no_new_privileges,
    })
}

fn cache_from(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<Vec<CacheImport>, ArgumentError> {
    let imports = all(&arguments.cache.cache_from, |word| cache::import(word, environment))?;
    let remote = |import: &CacheImport| !matches!(import.place, CachePlace::Directory { .. });
    match imports.iter().find(|import| arguments.cache.offline && remote(import)) {
        Some(import) => {
            Err(ArgumentError::value("--cache-from", import.place.shown(), "`--offline` touches no network"))
        }
        None => Ok(imports),
    }
}

/// Where the cache is written, and whether the images carry it; for the latter there is a build argument too, as in the reference.
fn cache_to(
    arguments: &BuildArguments,
    build_args: &BTreeMap<String, String>,
    environment: &dyn Environment,
) -> Result<(Vec<CacheExport>, bool), ArgumentError> {
    const FLAG: &str = "--cache-to";
    let mut is_inline = build_args.get(INLINE_CACHE).and_then(|value| parse_bool(value)).unwrap_or(false);
    let mut exports: Vec<CacheExport> = Vec::new();
    for wanted in all(&arguments.cache.cache_to, |word| cache::export(word, environment))? {
        match wanted {
            Export::To(export) => exports.push(*export),
            Export::Inline => is_inline = true,
        }
    }
    for (number, export) in exports.iter().enumerate() {
        let shown = export.place.shown();
        if exports[..number].iter().any(|other| other.place == export.place) {
            return Err(ArgumentError::value(FLAG, shown, "it is given twice"));
        }
        if arguments.cache.offline && !matches!(export.place, CachePlace::Directory { .. }) {
            return Err(ArgumentError::value(FLAG, shown, "`--offline` touches no network"));
        }
    }
    Ok((exports, is_inline))
}

/// Reads every non-empty value of a flag.
fn all<T>(
    words: &[String],
    parse: impl Fn(&str) -> Result<T, ArgumentError>,
) -> Result<Vec<T>, ArgumentError> {
    words.iter().filter(|word| !word.is_empty()).map(|word| parse(word)).collect()
}

fn context(arguments: &BuildArguments) -> Result<ContextInput, ArgumentError> {
    let word =
        arguments.context.as_deref().filter(|word| !word.is_empty()).ok_or(ArgumentError::NoContext)?;
    if word == "-" {
        let dockerfile_is_too = arguments.input.file.as_deref() == Some(OsStr::new("-"));
        return if dockerfile_is_too {
            Err(ArgumentError::StandardInputTwice)
        } else {
            Ok(ContextInput::Empty)
        };
    }
    Ok(match word.to_str().filter(|text| URL_STARTS.iter().any(|start| text.starts_with(start))) {
        Some(url) => ContextInput::Url(url.to_owned()),
        None => ContextInput::Directory(PathBuf::from(word)),
    })
}

fn lock_use(arguments: &BuildArguments) -> LockUse {
    let mode = if arguments.cache.locked { LockMode::Required } else { LockMode::WhenThere };
    LockUse { given: None, file: arguments.cache.lock_file.clone(), mode }
}

fn dockerfile(arguments: &BuildArguments) -> DockerfileInput {
    match arguments.input.file.as_deref() {
        None => DockerfileInput::Default,
        Some(word) if word.is_empty() => DockerfileInput::Default,
        Some(word) if word == "-" => DockerfileInput::Text(Vec::new()),
        Some(word) => DockerfileInput::Path(PathBuf::from(word)),
    }
}

fn build_args(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<BTreeMap<String, String>, ArgumentError> {
    let mut made = BTreeMap::new();
    for word in &arguments.input.build_arg {
        made.extend(values::assignment("--build-arg", word, environment)?);
    }
    if let (false, Some(epoch)) = (made.contains_key(EPOCH), text_variable(EPOCH, environment)?) {
        made.extend((!epoch.is_empty()).then_some((EPOCH.to_owned(), epoch)));
    }
    Ok(made)
}

/// Who gives a time for the result wants the same result each time; `--reproducible` is more explicit than that.
fn reproducible(
    arguments: &BuildArguments,
    build_args: &BTreeMap<String, String>,
) -> Result<Option<Reproducible>, ArgumentError> {
    const FLAG: &str = "--reproducible";
    let Some(word) = &arguments.image.reproducible else {
        let has_epoch = build_args.get(EPOCH).is_some_and(|epoch| !epoch.is_empty());
        return Ok(has_epoch.then(Reproducible::everything));
    };
    if let Some(switch) = parse_bool(word) {
        return Ok(Some(if switch { Reproducible::everything() } else { Reproducible::default() }));
    }
    let kept = word.strip_prefix("keep:").ok_or_else(|| {
        ArgumentError::value(
            FLAG,
            word,
            "neither true, false, nor `keep:` with names of what is left as it is",
        )
    })?;
    let kept = kept.split(',').map(str::trim).filter(|name| !name.is_empty());
    Reproducible::keeping(kept).map(Some).map_err(|name| {
        let names = reproducible::names().collect::<Vec<_>>().join(", ");
        ArgumentError::value(FLAG, word, format!("there is no item `{name}`"))
            .with_hint(format!("the items are {names}"))
    })
}

/// The name is normalised as FROM's is, so that `ubuntu` and `docker.io/library/ubuntu:latest` replace the same.
fn named_context(word: &str) -> Result<(String, String), ArgumentError> {
    const FLAG: &str = "--build-context";
    let (name, place) = word
        .split_once('=')
        .filter(|(name, place)| !name.is_empty() && !place.is_empty())
        .ok_or_else(|| ArgumentError::value(FLAG, word, "not of the form NAME=PLACE"))?;
    let (bare, platform) = name.split_once("::").map_or((name, ""), |(bare, platform)| (bare, platform));
    let reference = Reference::parse(bare).map_err(|source| ArgumentError::Reference {
        flag: FLAG,
        value: word.to_owned(),
        source,
    })?;
    let familiar = reference.familiar().to_string();
    let mut name = familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned();
    if !platform.is_empty() {
        name = format!("{name}::{platform}");
    }
    Ok((name, place.to_owned()))
}

fn tag(word: &str) -> Result<Reference, ArgumentError> {
    new_name("--tag", word)
}

/// Reads a name that is to be given to an image.
pub(super) fn new_name(flag: &'static str, word: &str) -> Result<Reference, ArgumentError> {
    let reference = Reference::parse(word).map_err(|source| ArgumentError::Reference {
        flag,
        value: word.to_owned(),
        source,
    })?;
    if reference.digest().is_some() {
        return Err(ArgumentError::value(flag, word, "a name with a digest cannot be given to an image"));
    }
    Ok(reference.with_default_tag())
}

fn label(word: &str) -> Result<(String, String), ArgumentError> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    if key.is_empty() {
        return Err(ArgumentError::value("--label", word, "the key is missing"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn platforms(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<Vec<Platform>, ArgumentError> {
    let mut words = arguments.input.platform.clone();
    if words.is_empty() {
        words.extend(text_variable("DOCKER_DEFAULT_PLATFORM", environment)?);
    }
    let mut platforms = Vec::new();
    for word in words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
        let platform = match word {
            "local" => Platform::host(),
            _ => Platform::parse(word)
                .map_err(|error| ArgumentError::value("--platform", word, error.to_string()))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

fn no_cache(arguments: &BuildArguments) -> NoCache {
    let words = arguments.cache.no_cache_filter.iter().flat_map(|word| word.split(','));
    let stages: Vec<String> =
        words.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    match (arguments.cache.no_cache, stages.is_empty()) {
        (true, _) => NoCache::All,
        (false, true) => NoCache::None,
        (false, false) => NoCache::Stages(stages),
    }
}

/// The newer flag wins over the older ones.
fn resources(arguments: &BuildArguments) -> Result<Resources, ArgumentError> {
    let mut resources = Resources::default();
    let legacy = &arguments.limits.legacy;
    let older = [
        ("--memory", &legacy.memory),
        ("--memory-swap", &legacy.memory_swap),
        ("--cpu-shares", &legacy.cpu_shares),
        ("--cpu-period", &legacy.cpu_period),
        ("--cpu-quota", &legacy.cpu_quota),
        ("--cpuset-cpus", &legacy.cpuset_cpus),
        ("--cpuset-mems", &legacy.cpuset_mems),
    ];
    for (flag, value) in older {
        if let Some(value) = value {
            values::set_resource(&mut resources, flag, flag.trim_start_matches('-'), value)?;
        }
    }
    for word in &arguments.limits.resource {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| ArgumentError::value("--resource", word, "not of the form NAME=VALUE"))?;
        values::set_resource(&mut resources, "--resource", name.trim(), value.trim())?;
    }
    Ok(resources)
}

/// `--network host` grants what it asks for.
fn allow(arguments: &BuildArguments) -> Result<Vec<String>, ArgumentError> {
    let mut allow = all(&arguments.run.allow, entitlement)?;
    if arguments.run.network == "host" {
        allow.push("network.host".to_owned());
    }
    allow.dedup();
    Ok(allow)
}

fn entitlement(word: &str) -> Result<String, ArgumentError> {
    match word {
        "network.host" | "security.insecure" => Ok(word.to_owned()),
        _ => Err(ArgumentError::value("--allow", word, "there is no such entitlement")
            .with_hint("the entitlements are `network.host` and `security.insecure`")),
    }
}

fn secrets(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<BTreeMap<String, SecretSource>, ArgumentError> {
    Ok(all(&arguments.run.secret, |word| secret::secret(word, environment))?.into_iter().collect())
}

fn ssh(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<BTreeMap<String, Vec<PathBuf>>, ArgumentError> {
    let mut agents = BTreeMap::new();
    for word in &arguments.run.ssh {
        let (id, paths) = secret::ssh(word, environment)?;
        if agents.insert(id.clone(), paths).is_some() {
            return Err(ArgumentError::value("--ssh", word, format!("the id `{id}` is given twice")));
        }
    }
    Ok(agents)
}

fn outputs(arguments: &BuildArguments) -> Result<Vec<Output>, ArgumentError> {
    let mut outputs = all(&arguments.output.output, output::parse)?;
    if outputs.iter().filter(|output| output.is_stream()).count() > 1 {
        let word = arguments.output.output.last().cloned().unwrap_or_default();
        return Err(ArgumentError::value("--output", word, "only one output can go to standard output"));
    }
    if arguments.output.push {
        add_push(&mut outputs, !arguments.image.tag.is_empty());
    }
    if arguments.output.load && !outputs.iter().any(|output| output.kind == OutputKind::Daemon) {
        outputs.push(Output::new(OutputKind::Daemon, None));
    }
    check_push(arguments, &outputs)?;
    annotate(arguments, &mut outputs)?;
    Ok(outputs)
}

/// `--push` makes `type=image` a push, and pushes the build's own names where no other output does.
fn add_push(outputs: &mut Vec<Output>, has_tags: bool) {
    for output in outputs.iter_mut().filter(|output| output.kind == OutputKind::Image) {
        output.kind = OutputKind::Registry(Push::default());
    }
    let pushes = |output: &&Output| matches!(output.kind, OutputKind::Registry(_));
    let done = match has_tags {
        true => outputs.iter().filter(pushes).any(|output| output.names.is_empty()),
        false => outputs.iter().any(|output| pushes(&output)),
    };
    if !done {
        outputs.push(Output::new(OutputKind::Registry(Push::default()), None));
    }
}

fn check_push(arguments: &BuildArguments, outputs: &[Output]) -> Result<(), ArgumentError> {
    let Some(push) = outputs.iter().find(|output| matches!(output.kind, OutputKind::Registry(_))) else {
        return Ok(());
    };
    let (flag, word) = if arguments.output.push { ("--push", "") } else { ("--output", "type=registry") };
    if arguments.cache.offline {
        return Err(ArgumentError::value(flag, word, "`--offline` touches no network"));
    }
    if push.names.is_empty() && arguments.image.tag.is_empty() {
        return Err(ArgumentError::value(flag, word, "the image has no name, which says where to push it")
            .with_hint("give one with `-t REGISTRY/NAME`"));
    }
    Ok(())
}

/// Annotations are part of a manifest, and an image in the store has none until it leaves.
fn annotate(arguments: &BuildArguments, outputs: &mut [Output]) -> Result<(), ArgumentError> {
    const FLAG: &str = "--annotation";
    for word in arguments.output.annotation.iter().filter(|word| !word.is_empty()) {
        let invalid = |why: String| ArgumentError::value(FLAG, word, why);
        let annotations = packing::annotations(word).map_err(invalid)?;
        let mut images = outputs.iter_mut().filter(|output| output.is_packed()).peekable();
        if images.peek().is_none() {
            return Err(invalid("no image is written that it could be written to".to_owned())
                .with_hint("add `--push`, or `-o type=oci,dest=FILE`"));
        }
        for output in images {
            output.packing.annotations.extend(annotations.iter().cloned());
            packing::check(&output.packing).map_err(invalid)?;
        }
    }
    Ok(())
}

/// Steps wait for networks and disks as much as for processors, so more of them run than there are processors.
fn default_jobs() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    (2 * processors).max(8)
}

#[cfg(test)]
mod tests;
