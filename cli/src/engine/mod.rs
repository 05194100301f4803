//! Wires parser, solver, cache, executor and remote together; the library behind the command line.
//!
//! ```text
//! build ─ context   what was asked for → directory, Dockerfile, ignore file
//!       ├ bases     image names → images (store, layout, registry)      ─ import  blob → layer
//!       ├ runner    the solver's `StepRunner`: source · lookup · copy · run · workdir
//!       ├ assemble  tree + plan → image config
//!       └ output    archives, layouts, trees, registries
//! exchange         caches that travel to other machines
//! build_record     what became of each step, and its causes      foresee  what would become of it
//! repro              two builds under other conditions, and why they differ
//! reproducible     what is made the same in every build of the same input
//! attest           what is said of images: provenance, packages
//! lock             what names stood for: `mica.lock`
//! materials        what a build took from elsewhere
//! run              a command in an image      enter  a command where a step was, over build_steps and mounting
//! images           finding, listing, naming, removing
//! image_index      indexes in registries
//! login            credentials for registries
//! history          which line made which layer ─ versions · diff · blame · size      prune  making room
//! ```
//!
//! Never here: clap, terminals, environment variables, printing. It becomes a crate of its own with the second front end.

mod agent_socket;
mod archive_tree;
mod assemble;
pub(crate) mod attest;
pub(crate) mod bases;
pub(crate) mod blame;
mod blocking;
pub(crate) mod build;
pub(crate) mod build_error;
mod build_log;
pub(crate) mod build_record;
pub(crate) mod build_steps;
pub(crate) mod cause;
mod commit;
pub(crate) mod context;
pub(crate) mod diff;
pub(crate) mod enter;
pub(crate) mod exchange;
mod fetch;
mod foresee;
pub(crate) mod history;
pub(crate) mod image_index;
pub(crate) mod images;
mod import;
mod listing;
pub(crate) mod load;
pub(crate) mod lock;
pub(crate) mod login;
mod mask;
mod materials;
mod mounting;
pub(crate) mod output;
mod patterns;
pub(crate) mod planned;
pub(crate) mod prune;
pub(crate) mod repro;
pub(crate) mod reproducible;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod runner;
mod secret;
pub(crate) mod size;
mod source_time;
pub(crate) mod spool;
mod ssh;
mod stored;
mod terminal_pair;
pub(crate) mod versions;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mica_cache::{OpenError, Ownership, Store};
use mica_executor::{Entered, IdMode, Outside, OutsideCommand, Sandbox, SandboxError, SandboxOptions};
use mica_remote::registry::{HelperAnswer, Keychain, KeychainError};
use mica_remote::transport::{Proxies, TransportSetupError};
use mica_remote::{RegistryClient, RegistryOptions, Secret, Transport, TransportOptions};

/// What the engine is started with.
#[derive(Debug)]
pub(crate) struct EngineOptions {
    /// The store's directory.
    pub root: PathBuf,
    /// Where this process is.
    pub entered: Entered,
    /// Docker's configuration file, for credentials.
    pub docker_config: Option<PathBuf>,
    /// Where docker's daemon is.
    pub daemon: DaemonSettings,
    /// Proxy variables by lower-case name.
    pub proxy: Vec<(String, String)>,
    /// Where programs are looked for.
    pub path: OsString,
    /// What is known of registries.
    pub registries: RegistrySettings,
    /// What the store may take.
    pub room: prune::Room,
}

/// What docker's variables say of its daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct DaemonSettings {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
}

/// What is known of registries on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistrySettings {
    /// Files with certificates that are trusted beside the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// Registries that may use plain HTTP or certificates nobody vouches for.
    pub insecure: Vec<String>,
    /// Servers to pull from before a registry.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// The engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) host: Arc<Host>,
}

/// What this machine and process give to every build.
pub(crate) struct Host {
    /// The store.
    pub store: Store,
    /// The host's `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// Threads for compression.
    pub threads: usize,
    ids: IdMode,
    outside: Outside,
    sandbox: OnceLock<Arc<Sandbox>>,
    registry: OnceLock<RegistryClient>,
    transport: OnceLock<Transport>,
    docker_config: Option<PathBuf>,
    daemon: DaemonSettings,
    proxy: Vec<(String, String)>,
    path: OsString,
    registries: RegistrySettings,
    /// What the store may take.
    pub room: prune::Room,
    network_problem: OnceLock<Option<String>>,
}

/// A connection to the network could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkSetupError {
    /// Certificates or proxies.
    #[error(transparent)]
    Transport(#[from] TransportSetupError),
    /// A file with certificates could not be read.
    #[error("cannot read the certificates in `{}`", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Docker's configuration file.
    #[error("`{}`", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeychainError,
    },
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the store.
    pub(crate) fn open(options: EngineOptions) -> Result<Self, OpenError> {
        let ownership = match options.entered.mode {
            IdMode::Root => Ownership::Root,
            IdMode::Range => Ownership::Range,
            IdMode::Single => Ownership::Single,
        };
        let host = Host {
            store: Store::open(&options.root, ownership)?,
            // Without one the step has none either, which its own resolver reports.
            resolv_conf: std::fs::read("/etc/resolv.conf").unwrap_or_default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ids: options.entered.mode,
            outside: options.entered.outside,
            sandbox: OnceLock::new(),
            registry: OnceLock::new(),
            transport: OnceLock::new(),
            docker_config: options.docker_config,
            daemon: options.daemon,
            proxy: options.proxy,
            path: options.path,
            registries: options.registries,
            room: options.room,
            network_problem: OnceLock::new(),
        };
        Ok(Self { host: Arc::new(host) })
    }
}

impl Host {
    /// Returns the sandbox; its thread is started with the first step.
    pub(crate) fn sandbox(&self) -> Result<Arc<Sandbox>, SandboxError> {
        if let Some(sandbox) = self.sandbox.get() {
            return Ok(sandbox.clone());
        }
        let options = SandboxOptions { ids: self.ids, outside: self.outside.clone() };
        let made = Arc::new(Sandbox::new(options)?);
        Ok(self.sandbox.get_or_init(|| made).clone())
    }

    /// Returns why no step can have a network of its own here; `None` where one can.
    pub(crate) fn network_problem(&self) -> Option<&str> {
        self.network_problem.get_or_init(mica_executor::private_network_problem).as_deref()
    }

    /// Returns whether files of layers get their owners on disk.
    pub(crate) fn file_ownership(&self) -> mica_executor::copy::Ownership {
        match self.ids {
            IdMode::Root | IdMode::Range => mica_executor::copy::Ownership::Real,
            IdMode::Single => mica_executor::copy::Ownership::Ignore,
        }
    }

    /// Returns the way to http servers.
    pub(crate) fn transport(&self) -> Result<&Transport, NetworkSetupError> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport);
        }
        let mut options = TransportOptions { proxies: self.proxies(), ..TransportOptions::default() };
        for path in &self.registries.ca_certificates {
            let failed = |source| NetworkSetupError::Certificates { path: path.clone(), source };
            options.ca_certificates.push(std::fs::read(path).map_err(failed)?);
        }
        let made = Transport::new(&options)?;
        Ok(self.transport.get_or_init(|| made))
    }

    /// Returns the way to registries; credentials are read with the first use.
    pub(crate) fn registry(&self) -> Result<&RegistryClient, NetworkSetupError> {
        if let Some(registry) = self.registry.get() {
            return Ok(registry);
        }
        let made = self.registry_with(self.registry_options(None), self.keychain()?)?;
        Ok(self.registry.get_or_init(|| made))
    }

    /// Returns the way to a registry that may speak plain HTTP or have a certificate nobody vouches for.
    pub(crate) fn insecure_registry(&self, registry: &str) -> Result<RegistryClient, NetworkSetupError> {
        self.registry_with(self.registry_options(Some(registry)), self.keychain()?)
    }

    /// Returns how registries are found and used, with one more of them insecure.
    pub(crate) fn registry_options(&self, insecure: Option<&str>) -> RegistryOptions {
        let mut all = self.registries.insecure.clone();
        all.extend(insecure.map(str::to_owned));
        let mirrors = self.registries.mirrors.clone();
        RegistryOptions { insecure: all, mirrors, ..RegistryOptions::default() }
    }

    pub(crate) fn registry_with(
        &self,
        options: RegistryOptions,
        keychain: Keychain,
    ) -> Result<RegistryClient, NetworkSetupError> {
        Ok(RegistryClient::new(self.transport()?.clone(), options, keychain))
    }

    fn proxies(&self) -> Proxies {
        let value =
            |name: &str| self.proxy.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let all = value("all_proxy");
        Proxies {
            http: value("http_proxy").or_else(|| all.clone()).map(Secret::new),
            https: value("https_proxy").or(all).map(Secret::new),
            no_proxy: value("no_proxy"),
        }
    }

    /// Helpers run outside the user namespace, where they find the user's own files and services.
    fn keychain(&self) -> Result<Keychain, NetworkSetupError> {
        let Some(path) = &self.docker_config else { return Ok(Keychain::empty()) };
        let Ok(json) = std::fs::read(path) else { return Ok(Keychain::empty()) };
        let outside = self.outside.clone();
        let run = move |program: &str, input: &str| {
            let command = OutsideCommand {
                argv: vec![program.to_owned(), "get".to_owned()],
                stdin: input.as_bytes().to_vec(),
                ..OutsideCommand::default()
            };
            let output = outside.run(&command, None).map_err(std::io::Error::other)?;
            Ok(HelperAnswer { success: output.code == 0, stdout: output.stdout })
        };
        Keychain::from_docker_config(&json, Arc::new(run))
            .map_err(|source| NetworkSetupError::Config { path: path.clone(), source })
    }
}

/// An error and its causes in one line, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
