//! One run of git: its arguments, its environment, and who runs it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;

use super::url::GitUrl;
use super::{Git, GitError};
use crate::transport::Secret;

/// How much of git's complaint is repeated.
const MESSAGE_LINES: usize = 8;

/// A program to run.
#[derive(Clone)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment; nothing is inherited. Values may be secret.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub directory: PathBuf,
}

/// How a program ended.
#[derive(Debug, Clone, Default)]
pub struct CommandOutput {
    /// Whether it succeeded.
    pub success: bool,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Runs programs: with nothing on standard input, and killed when the future is dropped.
pub trait CommandRunner: Send + Sync {
    /// Runs `command` to its end.
    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, io::Result<CommandOutput>>;
}

/// Runs programs as child processes, with the umask 022.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessRunner;

impl CommandRunner for ProcessRunner {
    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, io::Result<CommandOutput>> {
        Box::pin(async move {
            // Modes of checked-out files are content, and must not depend on the umask of whoever builds.
            let output = tokio::process::Command::new("/bin/sh")
                .args(["-c", "umask 022 && exec \"$0\" \"$@\""])
                .arg(&command.program)
                .args(&command.arguments)
                .env_clear()
                .envs(command.environment.iter().map(|(name, value)| (name, value)))
                .current_dir(&command.directory)
                .stdin(std::process::Stdio::null())
                .kill_on_drop(true)
                .output()
                .await?;
            Ok(CommandOutput {
                success: output.status.success(),
                stdout: output.stdout,
                stderr: output.stderr,
            })
        })
    }
}

/// What git may know of the world.
#[derive(Debug, Clone)]
pub struct GitEnvironment {
    /// The program.
    pub program: PathBuf,
    /// `PATH`, for the programs git runs.
    pub path: OsString,
    /// Proxies and their exceptions: `https_proxy` and the like.
    pub proxies: Vec<(String, Secret)>,
    /// The socket of an SSH agent.
    pub ssh_agent: Option<PathBuf>,
    /// The hosts SSH trusts; without it those of the user who runs this.
    pub known_hosts: Option<PathBuf>,
    /// The `Authorization` header for `http` and `https`; sent to the repository's own host only.
    pub authorization: Option<Secret>,
}

impl GitEnvironment {
    /// Returns an environment with this `PATH` and nothing else.
    #[must_use]
    pub fn new(path: impl Into<OsString>) -> Self {
        Self {
            program: "git".into(),
            path: path.into(),
            proxies: Vec::new(),
            ssh_agent: None,
            known_hosts: None,
            authorization: None,
        }
    }

    /// Returns the header that GitHub and others accept a token in.
    #[must_use]
    pub fn token_authorization(token: &Secret) -> Secret {
        Secret::new(format!("basic {}", STANDARD.encode(format!("x-access-token:{}", token.expose()))))
    }

    fn variables(&self, url: &GitUrl) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ALLOW_PROTOCOL", "http:https:ssh:git"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("HOME", "/dev/null"),
            ("LC_ALL", "C"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        variables.push(("PATH".into(), self.path.clone()));
        variables.push(("GIT_SSH_COMMAND".into(), self.ssh_command()));
        variables.extend(self.proxies.iter().map(|(name, value)| (name.into(), value.expose().into())));
        variables.extend(self.ssh_agent.iter().map(|socket| ("SSH_AUTH_SOCK".into(), socket.into())));
        // By variables and not by `-c`: the arguments of a program can be seen by everyone.
        let settings = self.settings(url);
        variables.push(("GIT_CONFIG_COUNT".into(), settings.len().to_string().into()));
        for (position, (key, value)) in settings.into_iter().enumerate() {
            variables.push((format!("GIT_CONFIG_KEY_{position}").into(), key.into()));
            variables.push((format!("GIT_CONFIG_VALUE_{position}").into(), value.into()));
        }
        variables
    }

    fn settings(&self, url: &GitUrl) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("init.defaultBranch", "master"),
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("advice.detachedHead", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let Some((scheme, host)) = web_host(url.remote()) else { return settings };
        if let Some(authorization) = &self.authorization {
            let header = format!("Authorization: {}", authorization.expose());
            settings.push((format!("http.{scheme}://{host}/.extraheader"), header));
        }
        if let Some(credentials) = url.credentials() {
            // The address itself is written into the repository and its submodules; this is not.
            let full = format!("url.{scheme}://{}@{host}/.insteadOf", credentials.expose());
            settings.push((full, format!("{scheme}://{host}/")));
        }
        settings
    }

    fn ssh_command(&self) -> OsString {
        let mut command = OsString::from("ssh -F /dev/null -o BatchMode=yes");
        if let Some(file) = &self.known_hosts {
            command.push(" -o StrictHostKeyChecking=yes -o UserKnownHostsFile=");
            command.push(quoted(file));
        }
        command
    }
}

/// Quotes a path for the shell that reads the command.
fn quoted(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = vec![b'\''];
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\'' => bytes.extend(b"'\\''"),
            other => bytes.push(other),
        }
    }
    bytes.push(b'\'');
    OsString::from_vec(bytes)
}

/// Returns scheme and host (with port) of an `http` or `https` address.
fn web_host(remote: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = remote.split_once("://")?;
    let host = rest.split('/').next()?;
    matches!(scheme, "http" | "https").then_some((scheme, host))
}

impl Git {
    /// Runs git, and fails if it does.
    pub(super) async fn run<S: AsRef<OsStr>>(
        &self,
        url: &GitUrl,
        directory: &Path,
        action: &'static str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, GitError> {
        let command = Command {
            program: self.environment.program.clone(),
            arguments: arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect(),
            environment: self.environment.variables(url),
            directory: directory.to_owned(),
        };
        tracing::debug!(remote = url.remote(), action, "running git");
        let output = self
            .runner
            .run(&command)
            .await
            .map_err(|source| GitError::Run { program: command.program.clone(), source })?;
        if !output.success {
            let message = self.message(url, &output.stderr);
            return Err(GitError::Failed { action, remote: url.remote().to_owned(), message });
        }
        String::from_utf8(output.stdout).map_err(|_| GitError::Answer { remote: url.remote().to_owned() })
    }

    /// Returns the end of what git said, on one line and without the password it may repeat.
    fn message(&self, url: &GitUrl, stderr: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(stderr).into_owned();
        for secret in url.credentials().into_iter().chain(&self.environment.authorization) {
            text = text.replace(secret.expose(), "<secret>");
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let message = lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("; ");
        message.chars().filter(|character| !character.is_control()).collect()
    }
}
