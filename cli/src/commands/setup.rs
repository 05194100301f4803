//! What commands start with: user namespace, store, runtime, signals.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use mica_executor::{IdMapping, enter_user_namespace};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;
use super::say;
use crate::arguments::{BuildArguments, GlobalOptions, build_request};
use crate::configuration::Configuration;
use crate::engine::prune::Room;
use crate::engine::request::BuildRequest;
use crate::engine::{DaemonSettings, Engine, EngineOptions, RegistrySettings};
use crate::environment::Environment;

/// Sends what the crates trace to stderr, more with each `-v`.
pub(super) fn tracing(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
}

/// Makes a fault happen where the environment asks for one; a release build knows nothing of it.
#[cfg(debug_assertions)]
pub(super) fn arm(environment: &dyn Environment) -> Result<(), mica_image::fault::InvalidFault> {
    let asked = environment.var("MICA_FAULT");
    asked.map_or(Ok(()), |text| mica_image::fault::arm(&text.to_string_lossy()))
}

/// Enters the namespaces an ordinary user needs and opens the store.
///
/// Must be called before any thread is started.
pub(super) fn engine(global: &GlobalOptions, environment: &dyn Environment) -> Result<Engine, Failure> {
    open(global, environment).map(|(engine, _)| engine)
}

/// Does what [`engine`] does for a command that runs steps, which must know whose their files are.
pub(super) fn engine_for_steps(
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<Engine, Failure> {
    let (engine, why_single) = open(global, environment)?;
    if let Some(why) = why_single {
        say(&format!("warning: all files belong to one user in this build: {why}"));
    }
    Ok(engine)
}

fn open(global: &GlobalOptions, environment: &dyn Environment) -> Result<(Engine, Option<String>), Failure> {
    let root = store_root(global, environment)?;
    let configuration = Configuration::find(environment).map_err(|error| Failure::of(&error))?;
    let entered = enter_user_namespace(IdMapping::Auto).map_err(|error| {
        Failure::of(&error)
            .with_hint(Some("`mica doctor` tells what is missing and how to mend it".to_owned()))
    })?;
    let why_single = entered.why_single.clone();
    let options = EngineOptions {
        root,
        entered,
        docker_config: docker_config(environment),
        daemon: daemon(environment),
        proxy: proxies(environment),
        path: environment.var("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
        registries: RegistrySettings {
            ca_certificates: configuration.ca_certificates,
            insecure: configuration.insecure_registries,
            mirrors: configuration.mirrors,
        },
        room: Room {
            max_bytes: configuration.store.max_size,
            versions: configuration.store.keep_versions.map(NonZeroUsize::get),
        },
    };
    let engine = Engine::open(options).map_err(|error| {
        let hint = error.hint().map(str::to_owned);
        Failure::of(&error).with_hint(hint)
    })?;
    Ok((engine, why_single))
}

/// Makes the request of a build, with what the configuration says where the command line does not.
pub(super) fn request(
    arguments: &BuildArguments,
    environment: &dyn Environment,
) -> Result<BuildRequest, Failure> {
    let mut request = build_request(arguments, environment)?;
    let configuration = Configuration::find(environment).map_err(|error| Failure::of(&error))?;
    request.settle_reproducible(configuration.build.reproducible);
    Ok(request)
}

/// Returns where the store is.
pub(super) fn store_root(global: &GlobalOptions, environment: &dyn Environment) -> Result<PathBuf, Failure> {
    if let Some(root) = global.root(environment) {
        return Ok(environment.current_dir().join(root));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/mica"));
    }
    let variable = |name| environment.var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("mica"))
        .ok_or_else(|| {
            Failure::plain("there is no home directory to keep the store in")
                .with_hint(Some("name a directory with --root or MICA_ROOT".to_owned()))
        })
}

fn docker_config(environment: &dyn Environment) -> Option<PathBuf> {
    let directory = environment.var("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || environment.var("HOME").map(|home| PathBuf::from(home).join(".docker"));
    directory.or_else(home).map(|directory| directory.join("config.json"))
}

fn daemon(environment: &dyn Environment) -> DaemonSettings {
    let text = |name| {
        environment.var(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    };
    DaemonSettings { host: text("DOCKER_HOST"), context: text("DOCKER_CONTEXT") }
}

/// Proxy variables by their lower-case names; the lower-case one wins.
fn proxies(environment: &dyn Environment) -> Vec<(String, String)> {
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy"]
        .into_iter()
        .filter_map(|name| {
            let value = environment.var(name).or_else(|| environment.var(&name.to_uppercase()))?;
            Some((name.to_owned(), value.into_string().ok().filter(|value| !value.is_empty())?))
        })
        .collect()
}

/// Starts the async runtime; its one thread waits, blocking work goes to threads of its own.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start the async runtime", error))
}

/// The signals that ask mica to end.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Starts to listen. A signal that cannot be listened to keeps its usual effect.
    pub(super) fn new() -> Self {
        let listen = |kind| signal(kind).ok();
        Self {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            hangup: listen(SignalKind::hangup()),
        }
    }

    /// Waits for one of them and returns the exit code it stands for.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            () = arrived(&mut self.interrupt) => 130,
            () = arrived(&mut self.terminate) => 143,
            () = arrived(&mut self.hangup) => 129,
        }
    }
}

/// Waits for a signal that asks a command in the foreground to end.
pub(super) async fn any_of(signals: &mut Signals) {
    signals.next().await;
}

async fn arrived(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
