//! Running steps: from a [`RunSpec`] and a [`Launch`] to an [`ExitStatus`].

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use mica_image::fault::{Point, reach};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::UnshareFlags;
use thiserror::Error;

use crate::cancel::Cancel;
use crate::cgroup::{CgroupError, Group};
use crate::cleanup::remove_created;
use crate::launch::{Launch, Source, Stdio, Stream};
use crate::network::{self, Network, NetworkError};
use crate::outside::Outside;
use crate::seccomp;
use crate::spawner::{Job, Spawner};
use crate::spec::{NetworkMode, RunSpec, SecurityMode};
use crate::status::ExitStatus;
use crate::watch::{Ended, Pipes, Running};
use crate::wire::{self, Failure, IdMode, Orders, StdioKind, WireSource};

/// What a sandbox has to know of the process it is in.
#[derive(Debug)]
pub struct SandboxOptions {
    /// How ids inside steps relate to those outside.
    pub ids: IdMode,
    /// Where network helpers are started.
    pub outside: Outside,
}

/// Runs steps, any number at once.
#[derive(Debug)]
pub struct Sandbox {
    ids: IdMode,
    network: Network,
    spawner: Spawner,
}

/// Why a step could not be run to its end.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// This process may not mount anything.
    #[error("cannot make a sandbox: neither root nor in a user namespace of its own")]
    Unprivileged(#[source] Errno),
    /// Something failed before the step's process existed.
    #[error("cannot {action}")]
    Prepare {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        source: Errno,
    },
    /// The step's surroundings could not be made.
    #[error("cannot start the step: cannot {0}")]
    Start(StartFailure),
    /// The program itself could not be executed.
    #[error("cannot execute `{program}`: {reason}")]
    Execute {
        /// The program as written.
        program: String,
        /// Why not.
        reason: String,
        /// What a shell would return: 127 for a missing program, else 126.
        code: i32,
        /// Whether its format is none that this machine executes.
        is_foreign: bool,
    },
    /// The step was asked to end, and has.
    #[error("the step was cancelled")]
    Cancelled,
    /// There is no network of the kind asked for.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Limits could not be applied.
    #[error(transparent)]
    Limits(#[from] CgroupError),
}

/// What could not be done inside the step's namespaces, and why.
#[derive(Debug)]
pub struct StartFailure {
    /// The part of the start-up that failed.
    pub stage: String,
    /// What was attempted.
    pub action: String,
    /// The reasons.
    pub reasons: Vec<String>,
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.action)?;
        self.reasons.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

impl Sandbox {
    /// Returns a sandbox; starts the thread that will start steps.
    pub fn new(options: SandboxOptions) -> Result<Sandbox, SandboxError> {
        let spawner = Spawner::new().map_err(|error| match error {
            Errno::PERM => SandboxError::Unprivileged(error),
            source => SandboxError::Prepare { action: "start the spawner", source },
        })?;
        Ok(Sandbox { ids: options.ids, network: Network::new(options.outside), spawner })
    }

    /// Returns how ids inside steps relate to those outside.
    pub fn ids(&self) -> IdMode {
        self.ids
    }

    /// Runs one step to its end and returns how it ended. When this returns, nothing of the step runs any more.
    pub fn run(
        &self,
        spec: &RunSpec,
        launch: Launch,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, SandboxError> {
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let group = Group::create(&spec.resources, spec.cgroup_parent.as_deref())?;
        let (upper, grace) = (launch.upper.clone(), launch.grace);
        let (launch, streams) = Streams::open(launch)?;
        let orders = self.orders(spec, launch, streams.kind, &group);
        let (report, report_end) = open_pipe()?;
        let connection = match spec.network {
            NetworkMode::Private => Some(self.network.connect(cancel).map_err(network_error)?),
            NetworkMode::None | NetworkMode::Host => None,
        };
        let [stdin, stdout, stderr] = streams.child;
        let mut descriptors = vec![stdin, stdout, stderr, write_orders(&orders)?, report_end];
        if let Some(connection) = &connection {
            let namespace = connection.namespace().try_clone_to_owned();
            descriptors.push(namespace.map_err(|error| preparing("share the network")(errno_of(&error)))?);
        }
        let job = Job { namespaces: namespaces(spec), descriptors };
        faulty(Point::StepStart)?;
        let (pid, pidfd) = self.spawner.spawn(job).map_err(preparing("start the init stage"))?;
        let running = Running::new(pid, pidfd);
        let pipes = Pipes { stdout: streams.stdout, stderr: streams.stderr, report };
        let ended = running.watch(pipes, grace, cancel, output).map_err(preparing("follow the step"))?;
        faulty(Point::StepEnd)?;
        remove_created(&upper, &ended.created).map_err(preparing("remove mount points"))?;
        drop((group, connection));
        conclude(ended, spec)
    }

    fn orders(&self, spec: &RunSpec, launch: Launch, stdio: StdioKind, group: &Group) -> Orders {
        let sources = launch.sources.into_iter().map(|(id, source)| (id, wire_source(source))).collect();
        Orders {
            ids: self.ids,
            lowers: launch.lowers.into_iter().map(Into::into).collect(),
            upper: launch.upper.into(),
            work: launch.work.into(),
            skeleton: launch.skeleton.into(),
            scratch: launch.scratch.into(),
            sources,
            resolv_conf: network::resolv_conf(spec.network, &launch.resolv_conf).into(),
            hosts: network::hosts(&spec.hostname, &spec.extra_hosts).into_bytes().into(),
            stdio,
            cgroups: group.join_files().into_iter().map(Into::into).collect(),
            filters: filters(spec.security, self.ids),
            spec: spec.clone(),
        }
    }
}

fn wire_source(source: Source) -> WireSource {
    match source {
        Source::Path(path) => WireSource::Path(path.into()),
        Source::Content(content) => WireSource::Content(content.into()),
    }
}

fn filters(security: SecurityMode, ids: IdMode) -> Vec<Vec<u64>> {
    let mut filters = Vec::new();
    if security == SecurityMode::Sandbox {
        filters.push(seccomp::default_filter().to_vec());
    }
    if ids == IdMode::Single {
        filters.push(seccomp::pretend_owners_filter().to_vec());
    }
    filters
}

fn namespaces(spec: &RunSpec) -> UnshareFlags {
    // The control group namespace is made by the init stage, once it is in its group.
    let own = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if spec.network == NetworkMode::None { own | UnshareFlags::NEWNET } else { own }
}

/// The descriptors a step gets and our ends of them.
struct Streams {
    child: [OwnedFd; 3],
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    kind: StdioKind,
}

impl Streams {
    /// Takes the streams out of a launch.
    fn open(mut launch: Launch) -> Result<(Launch, Streams), SandboxError> {
        let streams = match std::mem::replace(&mut launch.stdio, Stdio::Captured) {
            Stdio::Captured => {
                let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(preparing("open `/dev/null`"))?;
                let (stdout, out) = open_pipe()?;
                let (stderr, err) = open_pipe()?;
                let kind = StdioKind::Captured;
                Streams { child: [null, out, err], stdout: Some(stdout), stderr: Some(stderr), kind }
            }
            Stdio::Passed { stdin, stdout, stderr } => Streams {
                child: [stdin, stdout, stderr],
                stdout: None,
                stderr: None,
                kind: StdioKind::Passed,
            },
            Stdio::Terminal(terminal) => {
                let copy = || {
                    terminal.try_clone().map_err(|error| preparing("share the terminal")(errno_of(&error)))
                };
                let child = [copy()?, copy()?, copy()?];
                Streams { child, stdout: None, stderr: None, kind: StdioKind::Terminal }
            }
        };
        Ok((launch, streams))
    }
}

/// Comes to a place where a fault may be asked for.
fn faulty(point: Point) -> Result<(), SandboxError> {
    reach(point).map_err(|error| preparing("run the step")(errno_of(&error)))
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn open_pipe() -> Result<(OwnedFd, OwnedFd), SandboxError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(preparing("open a pipe"))
}

fn preparing(action: &'static str) -> impl Fn(Errno) -> SandboxError {
    move |source| SandboxError::Prepare { action, source }
}

fn write_orders(orders: &Orders) -> Result<OwnedFd, SandboxError> {
    let fd = memfd_create("orders", MemfdFlags::CLOEXEC).map_err(preparing("make a memory file"))?;
    let text = serde_json::to_vec(orders).expect("orders have no map with odd keys");
    let mut file = File::from(fd);
    file.write_all(&text).map_err(|error| preparing("write the orders")(errno_of(&error)))?;
    Ok(file.into())
}

fn network_error(error: NetworkError) -> SandboxError {
    match error {
        NetworkError::Cancelled => SandboxError::Cancelled,
        error => error.into(),
    }
}

fn conclude(ended: Ended, spec: &RunSpec) -> Result<ExitStatus, SandboxError> {
    match ended.failure {
        _ if ended.cancelled => Err(SandboxError::Cancelled),
        None => Ok(ended.status),
        Some(failure) if failure.stage == wire::EXEC_STAGE => Err(execute_error(failure, spec)),
        Some(failure) => {
            let errno = failure.errno.map(|errno| describe(Errno::from_raw_os_error(errno)));
            let detail = Some(failure.detail).filter(|detail| !detail.is_empty());
            let reasons = errno.into_iter().chain(detail).collect();
            Err(SandboxError::Start(StartFailure { stage: failure.stage, action: failure.action, reasons }))
        }
    }
}

fn execute_error(failure: Failure, spec: &RunSpec) -> SandboxError {
    let program = spec.argv.first().cloned().unwrap_or_default();
    let errno = failure.errno.map_or(Errno::NOENT, Errno::from_raw_os_error);
    let code = if errno == Errno::NOENT { 127 } else { 126 };
    let reason = match errno {
        _ if !failure.detail.is_empty() => failure.detail,
        Errno::NOENT if !program.contains('/') => "not found in PATH".to_owned(),
        Errno::NOEXEC => {
            "not in a format this machine can execute (another architecture, or no `#!` line)".to_owned()
        }
        errno => describe(errno),
    };
    SandboxError::Execute { program, reason, code, is_foreign: errno == Errno::NOEXEC }
}

/// Returns the usual words for an error number, in lower case as all our messages.
fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_exec_say_what_a_shell_would() {
        let spec = RunSpec::new(["nope"]);
        let failure = |errno: Errno| Failure {
            stage: wire::EXEC_STAGE.into(),
            action: "nope".into(),
            errno: Some(errno.raw_os_error()),
            detail: String::new(),
        };
        let text = |errno| execute_error(failure(errno), &spec).to_string();
        assert_eq!(text(Errno::NOENT), "cannot execute `nope`: not found in PATH");
        assert_eq!(text(Errno::ACCESS), "cannot execute `nope`: permission denied");
        assert!(matches!(
            execute_error(failure(Errno::ACCESS), &spec),
            SandboxError::Execute { code: 126, is_foreign: false, .. }
        ));
        assert!(matches!(
            execute_error(failure(Errno::NOEXEC), &spec),
            SandboxError::Execute { code: 126, is_foreign: true, .. }
        ));
    }
}
