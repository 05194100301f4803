//! RUN: a command in a sandbox over the parent's layers; what it changed becomes a layer.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mica_cache::Snapshot;
use mica_executor::{
    Cancel, Launch, MountSpec, NetworkMode, Resources, RunSpec, SandboxError, SecurityMode, Stdio, Stream,
    Ulimit, UserSpec,
};
use mica_solver::graph::{self, RunOp};
use mica_solver::{BuildEvent, Executed, LogStream, Op};

use super::{StepError, Turn, Work, copy, lookup, mounts};
use crate::engine::blocking::blocking;
use crate::engine::chain;
use crate::engine::mask::Masker;
use crate::engine::mounting::Prepared;
use crate::engine::reproducible::NoiseFilter;

/// Lines of output kept for the error message.
const TAIL_LINES: usize = 20;

/// Bytes of a line kept for it: a command may print without end and never break the line.
const LONGEST_LINE: usize = 4096;

/// Runs the command of a RUN step and stores what it changed.
pub(super) async fn execute(work: Work) -> Result<Executed, StepError> {
    let token = work.cx.cancel.clone();
    let cancel = Cancel::new()
        .map_err(|errno| StepError::mount(&work.step, format!("no event descriptor: {errno}")))?;
    let for_run = cancel.clone();
    let mut running = std::pin::pin!(blocking(move || run(&work, &for_run)));
    tokio::select! {
        result = &mut running => return result,
        () = token.cancelled() => cancel.cancel(),
    }
    running.await
}

fn run(work: &Work, cancel: &Cancel) -> Result<Executed, StepError> {
    let Op::Run(op) = &work.step.op else { unreachable!("only RUN steps come here") };
    let lock = match work.lock()? {
        Turn::Shared(executed) => return Ok(executed),
        Turn::Ours(lock) => lock,
    };
    let shared = &work.shared;
    let cancelled = || work.cx.cancel.is_cancelled();
    let prepared = mounts::prepare(shared, &work.step, op, &work.inputs, &cancelled)?;
    let layers = shared.store.layers();
    let snapshot = layers.prepare(&work.inputs.parent)?;
    let begin = Instant::now();
    let started = copy::seconds_now().0;
    let mut spec = spec(op, prepared.specs.clone(), &prepared.env, shared.request.no_new_privileges);
    if let Some(conditions) = &shared.request.conditions {
        conditions.apply_to(&mut spec);
    }
    spec.network = network_in_effect(work, spec.network);
    let mut output = Output::new(work, &prepared)?;
    let launch = Launch {
        lowers: snapshot.lowers().to_vec(),
        upper: snapshot.upper(),
        work: snapshot.work(),
        skeleton: snapshot.skeleton(),
        scratch: snapshot.mount_point(),
        sources: prepared.sources,
        resolv_conf: shared.host.resolv_conf.clone(),
        stdio: Stdio::Captured,
        grace: Launch::GRACE,
    };
    let sandbox = shared.host.sandbox().map_err(|error| StepError::sandbox(&work.step, error))?;
    let ended = sandbox.run(&spec, launch, &mut |stream, bytes| output.take(stream, bytes), cancel);
    output.end();
    if cancel.is_cancelled() {
        return Err(StepError::Canceled);
    }
    let ran = match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let command = op.argv.join(" ");
            Err(StepError::Command { command, status, tail: output.tail.into(), log: output.path })
        }
        // What cannot be executed has a sandbox to be looked into as well.
        Err(error @ SandboxError::Execute { .. }) => Err(StepError::sandbox(&work.step, error)),
        Err(error) => return Err(StepError::sandbox(&work.step, error)),
    };
    if let Err(failure) = ran {
        if let Err(error) = keep(work, snapshot, &prepared.secrets) {
            tracing::warn!(error = chain(&error), "what the step left is not kept");
        }
        return Err(failure);
    }
    let duration = begin.elapsed();
    work.storing();
    shared.diff_ids.flush(&shared.store, work.step.id, snapshot.growth()?);
    let parent = layers.tree(&work.inputs.parent)?;
    let noise = shared.request.reproducible.as_ref().map(NoiseFilter::new).unwrap_or_default();
    let committed =
        layers.commit_upper(snapshot, &parent, &|written| noise.covers(written), copy::seconds_now().0)?;
    let left_out = noise.into_found();
    let result = work.result(committed.layer.id(), committed.index);
    drop((prepared.leases, prepared.sockets));
    let ran = copy::Ran { started, duration, left_out: left_out.clone() };
    copy::record(work, committed.layer.id(), Vec::new(), Some(ran))?;
    drop(lock);
    Ok(Executed {
        result,
        equal_output: committed.existed,
        bytes: committed.layer.own_bytes(),
        shared: false,
        left_out,
    })
}

/// Keeps what a failed command left, for `mica enter`: unless it holds a secret, or the disk is too full for it.
fn keep(work: &Work, snapshot: Snapshot, secrets: &[Vec<u8>]) -> Result<(), StepError> {
    let shared = &work.shared;
    let layers = shared.store.layers();
    // What is too short to be masked is looked for all the same: to keep nothing for a chance hit does no harm.
    let mut wanted = Masker::new(secrets.iter().map(Vec::as_slice)).values().to_vec();
    wanted.extend(secrets.iter().map(|secret| secret.trim_ascii_end().to_vec()));
    if let Some(path) = snapshot.find(&wanted)? {
        let message = format!(
            "what the step left is not kept for `mica enter`: `/{}` holds a secret",
            String::from_utf8_lossy(&path)
        );
        work.cx.events.send_blocking(BuildEvent::Warning { message });
        return Ok(());
    }
    if !snapshot.leaves_room()? {
        let message = "what the step left is not kept for `mica enter`: the disk has too little room left";
        work.cx.events.send_blocking(BuildEvent::Warning { message: message.to_owned() });
        return Ok(());
    }
    let parent = layers.tree(&work.inputs.parent)?;
    let committed = layers.commit_upper(snapshot, &parent, &|_| false, copy::seconds_now().0)?;
    shared.note_tree(work.step.id, &lookup::with_layer(&work.inputs.parent, committed.layer.id()));
    Ok(())
}

/// The portable description of the command.
pub(crate) fn spec(
    op: &RunOp,
    mounts: Vec<MountSpec>,
    secrets: &[(String, String)],
    no_new_privileges: bool,
) -> RunSpec {
    let mut env = op.env.clone();
    env.extend(op.proxy_env.iter().cloned());
    for (name, value) in secrets {
        // The image's own agent variable wins, as in the reference.
        if name != "SSH_AUTH_SOCK" || !env.iter().any(|(known, _)| known == name) {
            env.push((name.clone(), value.clone()));
        }
    }
    RunSpec {
        env,
        cwd: op.cwd.clone(),
        user: UserSpec(op.user.clone()),
        hostname: op.hostname.clone(),
        network: network(op.network),
        security: match op.security {
            graph::SecurityMode::Sandbox => SecurityMode::Sandbox,
            graph::SecurityMode::Insecure => SecurityMode::Insecure,
        },
        no_new_privileges,
        extra_hosts: op.extra_hosts.clone(),
        ulimits: op.ulimits.iter().filter_map(|text| ulimit(text)).collect(),
        shm_size: op.shm_size,
        resources: resources(&op.resources),
        cgroup_parent: op.cgroup_parent.clone(),
        mounts,
        ..RunSpec::new(op.argv.iter().cloned())
    }
}

/// A step that asked for nothing special runs without a network where none can be made for it; that is said once a build.
fn network_in_effect(work: &Work, wanted: NetworkMode) -> NetworkMode {
    let shared = &work.shared;
    let (NetworkMode::Private, Some(problem)) = (wanted, shared.host.network_problem()) else {
        return wanted;
    };
    if !shared.network_told.swap(true, Ordering::Relaxed) {
        let message = without_network(problem);
        work.cx.events.send_blocking(BuildEvent::Warning { message });
    }
    NetworkMode::None
}

/// Says why steps have no network.
pub(crate) fn without_network(problem: &str) -> String {
    format!("steps run without a network: {problem}; or let them use the host's with `--network=host`")
}

pub(crate) const fn network(mode: graph::NetworkMode) -> NetworkMode {
    match mode {
        graph::NetworkMode::Default => NetworkMode::Private,
        graph::NetworkMode::None => NetworkMode::None,
        graph::NetworkMode::Host => NetworkMode::Host,
    }
}

/// `name=soft[:hard]`, checked when the command line was read; `-1` is no limit.
fn ulimit(text: &str) -> Option<Ulimit> {
    let (name, limits) = text.split_once('=')?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let value = |text: &str| text.parse::<u64>().ok();
    Some(Ulimit { name: name.to_owned(), soft: value(soft), hard: value(hard) })
}

fn resources(limits: &graph::Resources) -> Resources {
    Resources {
        memory: limits.memory,
        memory_swap: limits.memory_swap,
        cpu_shares: limits.cpu_shares,
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
    }
}

/// Says once a build that what steps print is not all kept.
fn tell_lost_log(work: &Work, error: &std::io::Error) {
    if !work.shared.lost_log_told.swap(true, Ordering::Relaxed) {
        let directory = work.shared.log.directory().display();
        let message = format!("logs of steps cannot be written below `{directory}`: {error}");
        work.cx.events.send_blocking(BuildEvent::Warning { message });
    }
}

/// Where a command's output goes: masked, to the log file, the event stream and the tail for a failure.
struct Output<'a> {
    work: &'a Work,
    maskers: [Masker; 2],
    file: Option<std::fs::File>,
    path: Option<PathBuf>,
    tail: VecDeque<String>,
    partial: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(work: &'a Work, prepared: &Prepared) -> Result<Self, StepError> {
        let masker = Masker::new(prepared.secrets.iter().map(Vec::as_slice));
        let (file, path) = match work.shared.log.step_file(work.step.id) {
            Ok((file, path)) => (Some(file), Some(path)),
            Err(error) => {
                tell_lost_log(work, &error);
                (None, None)
            }
        };
        Ok(Self {
            work,
            maskers: [masker.clone(), masker],
            file,
            path,
            tail: VecDeque::new(),
            partial: Vec::new(),
        })
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let masker = &mut self.maskers[usize::from(stream == Stream::Stderr)];
        let shown = masker.push(bytes);
        self.show(stream, &shown);
    }

    fn end(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.maskers[usize::from(stream == Stream::Stderr)].finish();
            self.show(stream, &rest);
        }
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.add_to_tail(&line);
        }
    }

    fn show(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(bytes)
        {
            // A log that cannot be written (a full disk) must not end the step; what is shown live is not lost.
            self.file = None;
            tell_lost_log(self.work, &error);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.add_to_tail(&line);
            }
        }
        let stream = match stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.work.cx.events.send_blocking(BuildEvent::StepLog { id: self.work.step.id, stream, text });
    }

    fn add_to_tail(&mut self, line: &[u8]) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
    }
}
