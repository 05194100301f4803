//! RUN.

use mica_image::Timestamp;
use mica_parser::syntax::{CommandLine, Heredoc, RunInstruction, Spanned};
use mica_parser::words::{Variables, expand_for_display};

use super::mount::Mounts;
use crate::graph::{NetworkMode, Op, RunMount, RunMountKind, RunOp, SecurityMode};
use crate::plan::dispatch::StageBuilder;
use crate::plan::environment::Environment;
use crate::plan::epoch::EPOCH;
use crate::plan::report::{Problem, problem};
use crate::plan::stages::Command;
use crate::plan::title::{summary, with_capitals};

/// The host name a command sees when nobody asked for another.
const HOSTNAME: &str = "buildkitsandbox";

/// What a step that is to do the same everywhere gets where its image says nothing.
const LOCALE: &str = "C.UTF-8";
const TIME_ZONE: &str = "UTC";

/// Where a heredoc with an interpreter line is put.
const SCRIPTS: &str = "/dev/pipes";

/// The command of a RUN, with the file it needs when it is a script.
struct Invocation {
    argv: Vec<String>,
    script: Option<RunMount>,
    /// What the step's name says of the heredoc.
    summary: Option<String>,
}

impl StageBuilder<'_, '_> {
    pub(super) fn run(&mut self, command: &Command<'_>, run: &RunInstruction) -> Result<(), Problem> {
        refuse_devices(command, &run.devices)?;
        let invocation = self.invocation(run);
        let mut mounts = self.mounts(command, &run.mounts)?;
        let network = self.network(command, run.network.as_ref())?;
        let security = self.security(command, run.security.as_ref())?;
        let title = self.run_title(command, &invocation, &mounts);
        let created_by = self.run_history(&invocation.argv);
        mounts.mounts.extend(invocation.script);
        let request = self.plan.request;
        let hostname = self.plan.behaviour("BUILDKIT_SANDBOX_HOSTNAME").or(request.hostname.as_deref());
        let op = RunOp {
            argv: invocation.argv,
            env: self.run_environment(),
            proxy_env: self.plan.proxy.clone(),
            cwd: self.state.cwd.clone(),
            user: self.state.user.clone(),
            hostname: hostname.unwrap_or(HOSTNAME).to_owned(),
            network,
            security,
            extra_hosts: request.extra_hosts.clone(),
            ulimits: request.ulimits.clone(),
            shm_size: request.shm_size,
            resources: request.resources.clone(),
            cgroup_parent: request.cgroup_parent.clone(),
            mounts: mounts.mounts,
            left_out: request.normalised.left_out.clone(),
        };
        let step = self.add_step(command, title, Op::Run(op), mounts.inputs);
        self.record(command, created_by, Some(step));
        Ok(())
    }

    /// The stage's variables, and those that make a step do the same everywhere.
    fn run_environment(&self) -> Vec<(String, String)> {
        let mut env = self.state.env.pairs().to_vec();
        let normalised = &self.plan.request.normalised;
        let has_locale = env.iter().any(|(name, _)| name == "LANG" || name.starts_with("LC_"));
        let mut give = |wanted: bool, name: &str, value: &dyn Fn() -> String| {
            if wanted && !env.iter().any(|(known, _)| known == name) {
                env.push((name.to_owned(), value()));
            }
        };
        give(normalised.locale && !has_locale, "LC_ALL", &|| LOCALE.to_owned());
        give(normalised.time_zone, "TZ", &|| TIME_ZONE.to_owned());
        give(normalised.epoch, EPOCH, &|| self.epoch_of_steps().to_string());
        env
    }

    /// A step sees the time that was asked for; else one that stays the same until the base changes, so that it stays cached.
    fn epoch_of_steps(&self) -> i64 {
        let base = || self.state.image.created.as_ref().and_then(Timestamp::unix).map(|(seconds, _)| seconds);
        self.plan.epoch.or_else(base).unwrap_or(0).max(0)
    }

    fn invocation(&self, run: &RunInstruction) -> Invocation {
        let text = match &run.command {
            CommandLine::Exec(words) => {
                return Invocation { argv: words.value.clone(), script: None, summary: None };
            }
            CommandLine::Shell(text) => text,
        };
        let plain = |text: String| Invocation { argv: self.with_shell(text), script: None, summary: None };
        match run.heredocs.as_slice() {
            [] => plain(text.value.clone()),
            // The opener is all there is.
            [only] if only.span == text.span => self.heredoc(only),
            several => plain(reassembled(&text.value, several)),
        }
    }

    /// A heredoc that is the whole command is a script: run by its own interpreter if it names one, else given to the shell as is,
    /// so that shells without heredocs can be used too.
    fn heredoc(&self, heredoc: &Heredoc) -> Invocation {
        let body = &heredoc.body.value;
        let summary = Some(summary(&heredoc.raw_body));
        if self.state.image.os == "windows" || !body.starts_with("#!") {
            return Invocation { argv: self.with_shell(body.clone()), script: None, summary };
        }
        let target = format!("{SCRIPTS}/{}", heredoc.name);
        let kind = RunMountKind::Script { content: body.clone() };
        Invocation { argv: self.with_shell(target.clone()), script: Some(RunMount { target, kind }), summary }
    }

    fn network(&self, command: &Command<'_>, word: Option<&Spanned<String>>) -> Result<NetworkMode, Problem> {
        let asked = match word.map(|word| word.value.as_str()) {
            Some("none") => return Ok(NetworkMode::None),
            Some("host") => NetworkMode::Host,
            _ => self.plan.request.network,
        };
        if asked == NetworkMode::Host {
            self.require(command, word, "network.host", "--network=host")?;
        }
        Ok(asked)
    }

    fn security(
        &self,
        command: &Command<'_>,
        word: Option<&Spanned<String>>,
    ) -> Result<SecurityMode, Problem> {
        if word.is_none_or(|word| word.value != "insecure") {
            return Ok(SecurityMode::Sandbox);
        }
        self.require(command, word, "security.insecure", "--security=insecure")?;
        Ok(SecurityMode::Insecure)
    }

    fn require(
        &self,
        command: &Command<'_>,
        word: Option<&Spanned<String>>,
        entitlement: &str,
        flag: &str,
    ) -> Result<(), Problem> {
        if self.plan.allows(entitlement) {
            return Ok(());
        }
        let span = command.place(word.map_or(command.node.span, |word| word.span));
        let message = format!("entitlement `{entitlement}` is not granted, and `RUN {flag}` needs it");
        Err(Box::new(
            problem("entitlement", span, message).with_help(format!("build with `--allow {entitlement}`")),
        ))
    }

    fn run_title(&mut self, command: &Command<'_>, invocation: &Invocation, mounts: &Mounts) -> String {
        let mut text = command.node.line.trim().to_owned();
        if let Some(summary) = &invocation.summary {
            text.push_str(&format!(" ({summary})"));
        }
        let variables = WithSecrets { env: &self.state.env, secrets: &mounts.secret_variables };
        let expanded = expand_for_display(&text, self.plan.escape, &variables);
        let text = with_capitals(expanded.as_ref().map_or(&text, |expansion| &expansion.text));
        self.title(command, &text)
    }

    /// Returns what the history says of a command: `|N` and the build arguments in effect come first.
    fn run_history(&self, argv: &[String]) -> String {
        let mut arguments: Vec<(&str, String)> = Vec::new();
        for (name, declared) in &self.state.build_args {
            let value = self.state.env.get(name).or(declared.as_deref()).unwrap_or_default().to_owned();
            match arguments.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = value,
                None => arguments.push((name, value)),
            }
        }
        let mut words = vec!["RUN".to_owned()];
        if !arguments.is_empty() {
            words.push(format!("|{}", arguments.len()));
        }
        words.extend(arguments.into_iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(argv.iter().cloned());
        words.join(" ") + " # buildkit"
    }
}

/// Variables as a step's name shows them: those that hold secrets are hidden.
struct WithSecrets<'e> {
    env: &'e Environment,
    secrets: &'e [String],
}

impl Variables for WithSecrets<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if self.secrets.iter().any(|secret| secret == name) { Some("****") } else { self.env.get(name) }
    }
}

/// Puts a command and its heredocs together again as they were written, for the shell to read.
fn reassembled(text: &str, heredocs: &[Heredoc]) -> String {
    let mut whole = text.to_owned();
    for heredoc in heredocs {
        whole.extend(["\n", &heredoc.raw_body, &heredoc.name]);
    }
    whole
}

fn refuse_devices(command: &Command<'_>, devices: &[Spanned<String>]) -> Result<(), Problem> {
    let Some(device) = devices.first() else { return Ok(()) };
    let message =
        format!("`RUN --device={}` is not supported: steps get no devices of the host", device.value);
    Err(problem("unsupported-device", command.place(device.span), message))
}
