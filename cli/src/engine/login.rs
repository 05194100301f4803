//! Logging in to registries and out: credentials are checked, then kept in docker's configuration file or by its helpers.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mica_executor::OutsideCommand;
use mica_remote::registry::{
    Credentials, DockerConfig, Keychain, KeychainError, helper_erase_input, helper_store_input,
};
use mica_remote::{RegistryError, Secret};

use super::{Engine, NetworkSetupError};

/// Somebody could not be logged in or out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// There is no place for credentials.
    #[error("there is no home directory to keep credentials in")]
    NoFile,
    /// The file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file makes no sense.
    #[error("`{}`", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeychainError,
    },
    /// A helper did not do it. What it said is not repeated: it may hold the secret.
    #[error("the credential helper `{program}` failed")]
    Helper {
        /// The helper.
        program: String,
    },
    /// The registry did not accept the credentials.
    #[error("cannot log in to `{registry}`")]
    Registry {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkSetupError),
}

impl LoginError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoFile => Some("say where with DOCKER_CONFIG".to_owned()),
            _ => None,
        }
    }

    /// Whether a service that should have answered did not.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry { source: RegistryError::Transport(_), .. })
    }
}

/// Where credentials went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Into this file, as they are.
    File(PathBuf),
    /// To this program.
    Helper(String),
}

impl Engine {
    /// Asks a registry whether it accepts user and password, and keeps them if it does.
    pub(crate) async fn login(
        &self,
        registry: &str,
        username: &str,
        password: &Secret,
        insecure: bool,
    ) -> Result<Kept, LoginError> {
        let credentials = Credentials::Basic { username: username.to_owned(), password: password.clone() };
        let keychain = Keychain::empty().with_credentials(registry, credentials);
        let options = self.host.registry_options(insecure.then_some(registry));
        let client = self.host.registry_with(options, keychain)?;
        client
            .check_login(registry)
            .await
            .map_err(|source| LoginError::Registry { registry: registry.to_owned(), source })?;
        let (path, mut config) = self.docker_config()?;
        let kept = match helper_of(&path, &config, registry)? {
            Some(program) => {
                self.run_helper(&program, "store", helper_store_input(registry, username, password))?;
                config.set_kept_elsewhere(registry);
                Kept::Helper(program)
            }
            None => {
                config.set(registry, username, password);
                Kept::File(path.clone())
            }
        };
        write_private(&path, &config.to_bytes())?;
        Ok(kept)
    }

    /// Forgets the credentials of a registry; returns whether there were any.
    pub(crate) fn logout(&self, registry: &str) -> Result<bool, LoginError> {
        let (path, mut config) = self.docker_config()?;
        if let Some(program) = helper_of(&path, &config, registry)? {
            self.run_helper(&program, "erase", helper_erase_input(registry))?;
        }
        let known = config.remove(registry);
        if known {
            write_private(&path, &config.to_bytes())?;
        }
        Ok(known)
    }

    fn docker_config(&self) -> Result<(PathBuf, DockerConfig), LoginError> {
        let path = self.host.docker_config.clone().ok_or(LoginError::NoFile)?;
        // A link keeps pointing where it does; the file behind it is written.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(LoginError::File { action: "read", path, source }),
        };
        let config = DockerConfig::parse(&bytes)
            .map_err(|source| LoginError::Config { path: path.clone(), source })?;
        Ok((path, config))
    }

    /// Helpers run outside the user namespace, where they find the user's own files and services.
    fn run_helper(&self, program: &str, verb: &str, stdin: Vec<u8>) -> Result<(), LoginError> {
        let argv = vec![program.to_owned(), verb.to_owned()];
        let command = OutsideCommand { argv, stdin, ..OutsideCommand::default() };
        match self.host.outside.run(&command, None) {
            Ok(output) if output.code == 0 => Ok(()),
            _ => Err(LoginError::Helper { program: program.to_owned() }),
        }
    }
}

fn helper_of(path: &Path, config: &DockerConfig, registry: &str) -> Result<Option<String>, LoginError> {
    config.helper(registry).map_err(|source| LoginError::Config { path: path.to_owned(), source })
}

/// Writes a file only its owner can read, all at once.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), LoginError> {
    let failed = |source| LoginError::File { action: "write", path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let part = directory.join(format!(".config.json.{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::options().write(true).create_new(true).open(&part)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    })();
    if written.is_err() {
        // What is reported is why it could not be written.
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(failed)
}
