//! Running a command in an image, in the foreground.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mica_cache::Snapshot;
use mica_executor::{Cancel, Launch, RunSpec, SandboxError, Source, SourceId, Stdio, UserSpec};
use mica_image::ImageConfig;

use super::blocking::blocking;
use super::images::FindError;
use super::request::RunRequest;
use super::runner::network;
use super::terminal_pair::{Attached, attach};
use super::{Engine, Host};
use crate::environment::now;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Where what it changed is kept, if it is.
    pub kept: Option<PathBuf>,
}

/// A command could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The image is not there.
    #[error(transparent)]
    Image(#[from] FindError),
    /// The image says nothing to run, and neither did the caller.
    #[error("image `{0}` has no command: name one")]
    NoCommand(String),
    /// Its layers could not be prepared.
    #[error(transparent)]
    Layer(#[from] mica_cache::LayerError),
    /// A descriptor could not be passed on.
    #[error("cannot pass standard streams on")]
    Streams(#[source] std::io::Error),
    /// The command could not be started.
    #[error("{error}")]
    Start {
        /// What a shell would return.
        code: u8,
        /// Why.
        #[source]
        error: SandboxError,
    },
}

impl RunError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            _ => None,
        }
    }
}

impl Engine {
    /// Runs `request`; when `interrupted` resolves, the command is asked to end.
    pub(crate) async fn run(
        &self,
        request: RunRequest,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Ran, RunError> {
        let cancel = Cancel::new().map_err(|errno| RunError::Streams(errno.into()))?;
        let (host, for_run) = (self.host.clone(), cancel.clone());
        let mut running = std::pin::pin!(blocking(move || run(&host, &request, &for_run)));
        tokio::select! {
            result = &mut running => return result,
            () = interrupted => cancel.cancel(),
        }
        running.await
    }
}

fn run(host: &Host, request: &RunRequest, cancel: &Cancel) -> Result<Ran, RunError> {
    let image = super::images::find(&host.store, &request.image)?;
    let argv = argv(&image.config, request).ok_or_else(|| RunError::NoCommand(request.image.clone()))?;
    let layers = host.store.layers();
    let snapshot = layers.prepare(&image.tree)?;
    let spec = RunSpec {
        env: env(&image.config, request),
        cwd: workdir(&image.config, request),
        user: UserSpec(request.user.clone().unwrap_or_else(|| image.config.config.user.clone())),
        hostname: image.id.hex()[..12].to_owned(),
        network: network(request.network),
        ..RunSpec::new(argv)
    };
    let streams = Streams { tty: request.tty, input: request.interactive };
    let code = in_foreground(host, &snapshot, (&spec, BTreeMap::new()), streams, cancel)?;
    let kept = if request.keep { keep(host, &snapshot.upper()) } else { None };
    Ok(Ran { code, kept })
}

/// What a command in the foreground has to do with the caller's own streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    /// It gets a terminal that is passed through to the caller's.
    pub tty: bool,
    /// It reads the caller's input.
    pub input: bool,
}

/// Runs a command over a snapshot with the caller's streams, and returns its exit code.
pub(super) fn in_foreground(
    host: &Host,
    snapshot: &Snapshot,
    (spec, sources): (&RunSpec, BTreeMap<SourceId, Source>),
    streams: Streams,
    cancel: &Cancel,
) -> Result<i32, RunError> {
    let (stdio, attached) = stdio(streams).map_err(RunError::Streams)?;
    let launch = Launch {
        lowers: snapshot.lowers().to_vec(),
        upper: snapshot.upper(),
        work: snapshot.work(),
        skeleton: snapshot.skeleton(),
        scratch: snapshot.mount_point(),
        sources,
        resolv_conf: host.resolv_conf.clone(),
        stdio,
        grace: Launch::GRACE,
    };
    let sandbox = host.sandbox().map_err(|error| RunError::Start { code: 125, error })?;
    let ended = sandbox.run(spec, launch, &mut |_, _| {}, cancel);
    drop(attached);
    match ended {
        Ok(status) => Ok(status.code()),
        Err(SandboxError::Cancelled) => Ok(143),
        Err(error) => {
            let code = match &error {
                SandboxError::Execute { code, .. } => u8::try_from(*code).unwrap_or(126),
                _ => 125,
            };
            Err(RunError::Start { code, error })
        }
    }
}

/// Moves what a command changed to where it can be looked at, and forgets what was kept longest ago.
fn keep(host: &Host, upper: &std::path::Path) -> Option<PathBuf> {
    const KEPT: usize = 20;
    let changed = std::fs::read_dir(upper).ok()?.next().is_some();
    let directory = host.store.root().join("containers");
    let seconds = now().unix().map_or(0, |(seconds, _)| seconds);
    let path = directory.join(format!("{seconds}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).ok()?;
    if !changed || std::fs::rename(upper, &path).is_err() {
        return None;
    }
    let mut kept: Vec<_> =
        std::fs::read_dir(&directory).ok()?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    kept.sort();
    for old in &kept[..kept.len().saturating_sub(KEPT)] {
        // What cannot be removed now is tried again next time.
        let _ = std::fs::remove_dir_all(old);
    }
    Some(path)
}

/// The entry point and the command; a command that is given replaces the image's, an entry point drops it.
fn argv(config: &ImageConfig, request: &RunRequest) -> Option<Vec<String>> {
    let (entrypoint, own_command) = match request.entrypoint.as_deref() {
        None => (config.config.entrypoint.clone(), config.config.cmd.clone()),
        Some("") => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.to_owned()], Vec::new()),
    };
    let command = if request.command.is_empty() { own_command } else { request.command.clone() };
    let argv: Vec<String> = entrypoint.into_iter().chain(command).collect();
    (!argv.is_empty()).then_some(argv)
}

fn env(config: &ImageConfig, request: &RunRequest) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = config
        .config
        .env
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .map_or((pair.clone(), String::new()), |(name, value)| (name.into(), value.into()))
        })
        .collect();
    if request.tty {
        name_terminal(&mut env);
    }
    for (name, value) in &request.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    env
}

/// Gives a command with a terminal a name for it.
pub(super) fn name_terminal(env: &mut Vec<(String, String)>) {
    if !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
}

fn workdir(config: &ImageConfig, request: &RunRequest) -> String {
    let wanted = request.workdir.clone().unwrap_or_else(|| config.config.working_dir.clone());
    if wanted.starts_with('/') { wanted } else { format!("/{wanted}") }
}

/// The caller's own streams, or a terminal; without `-i` nothing is read.
fn stdio(streams: Streams) -> std::io::Result<(Stdio, Option<Attached>)> {
    use std::os::fd::AsFd as _;
    if streams.tty {
        let (stdio, attached) = attach(streams.input)?;
        return Ok((stdio, Some(attached)));
    }
    let stdin = if streams.input {
        std::io::stdin().as_fd().try_clone_to_owned()?
    } else {
        std::fs::File::open("/dev/null")?.into()
    };
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
    Ok((Stdio::Passed { stdin, stdout, stderr }, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mica_solver::graph::NetworkMode;

    fn request(entrypoint: Option<&str>, command: &[&str]) -> RunRequest {
        RunRequest {
            image: "app".into(),
            command: command.iter().map(|word| (*word).into()).collect(),
            entrypoint: entrypoint.map(str::to_owned),
            env: vec![("B".into(), "2".into())],
            user: None,
            workdir: None,
            network: NetworkMode::None,
            tty: false,
            interactive: false,
            keep: false,
        }
    }

    #[test]
    fn what_is_given_replaces_what_the_image_says() {
        let mut config = ImageConfig::default();
        config.config.entrypoint = vec!["/e".into()];
        config.config.cmd = vec!["c".into()];
        let words =
            |entrypoint, command: &[&str]| argv(&config, &request(entrypoint, command)).unwrap_or_default();
        assert_eq!(words(None, &[]), ["/e", "c"]);
        assert_eq!(words(None, &["x"]), ["/e", "x"]);
        assert_eq!(words(Some("/f"), &[]), ["/f"]);
        assert_eq!(words(Some(""), &["x"]), ["x"]);
        assert!(words(Some(""), &[]).is_empty());
    }

    #[test]
    fn variables_given_replace_those_of_the_image() {
        let mut config = ImageConfig::default();
        config.config.env = vec!["A=1".into(), "B=1".into()];
        assert_eq!(env(&config, &request(None, &[])), [("A".into(), "1".into()), ("B".into(), "2".into())]);
    }
}
