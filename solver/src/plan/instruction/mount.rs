//! `RUN --mount`: what each mount shows, and from where.

use std::collections::BTreeSet;

use mica_parser::mount::{Mount, MountError, MountKind, Sharing as SharingWord};
use mica_parser::syntax::Spanned;
use mica_parser::words::{ExpandError, expand};

use crate::graph::{RunMount, RunMountKind, Sharing, StepId};
use crate::plan::dispatch::StageBuilder;
use crate::plan::paths;
use crate::plan::report::{Problem, problem};
use crate::plan::stages::{Command, StageIndex};

/// The mounts of one RUN while they are collected.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<RunMount>,
    /// What the mounts show, by slot.
    pub(super) inputs: Vec<(u32, StepId)>,
    /// Variables that get secrets.
    pub(super) secret_variables: Vec<String>,
    agents: usize,
}

impl Mounts {
    fn add_input(&mut self, step: StepId) -> u32 {
        let slot = u32::try_from(self.inputs.len() + 1).expect("a RUN has fewer than 2^32 mounts");
        self.inputs.push((slot, step));
        slot
    }
}

/// One mount with the stage its files come from.
struct Given<'c> {
    mount: Mount,
    source: Option<StageIndex>,
    command: &'c Command<'c>,
    written: &'c Spanned<String>,
}

impl Given<'_> {
    fn problem(&self, code: &'static str, message: String) -> Problem {
        problem(code, self.command.place(self.written.span), message)
    }

    fn owner(&self) -> (u32, u32) {
        (self.mount.uid.unwrap_or(0), self.mount.gid.unwrap_or(0))
    }
}

impl StageBuilder<'_, '_> {
    /// Reads the mounts of a RUN.
    pub(super) fn mounts(
        &mut self,
        command: &Command<'_>,
        written: &[Spanned<String>],
    ) -> Result<Mounts, Problem> {
        let mut mounts = Mounts::default();
        for (number, written) in written.iter().enumerate() {
            let mount = self.read_mount(command, written)?;
            let source = command.sources.get(number).copied().flatten();
            let given = Given { mount, source, command, written };
            self.check_source(&given)?;
            let (target, kind) = match given.mount.kind {
                MountKind::Bind => self.bind(&given, &mut mounts)?,
                MountKind::Cache => self.cache(&given, &mut mounts)?,
                MountKind::Tmpfs => self.tmpfs(&given)?,
                MountKind::Secret => self.secret(&given, &mut mounts),
                MountKind::Ssh => self.ssh(&given, &mut mounts),
            };
            mounts.mounts.push(RunMount { target, kind });
        }
        Ok(mounts)
    }

    fn read_mount(&mut self, command: &Command<'_>, written: &Spanned<String>) -> Result<Mount, Problem> {
        let (escape, env) = (self.plan.escape, &self.state.env);
        let mut unset = BTreeSet::new();
        let mount = Mount::parse_with(&written.value, |_, value| {
            let expansion = expand(value, escape, env)?;
            unset.extend(expansion.unmatched);
            Ok(expansion.text)
        });
        let mount = mount.map_err(|error: MountError<ExpandError>| {
            problem("bad-mount", command.place(written.span), format!("RUN: invalid --mount: {error}"))
        })?;
        self.warn_unset(command, written.span, &unset);
        Ok(mount)
    }

    /// A stage must have been gone through before anything is mounted from it.
    fn check_source(&self, given: &Given<'_>) -> Result<(), Problem> {
        let Some(index) = given.source.filter(|index| self.states[index.0].is_none()) else { return Ok(()) };
        let name = &self.plan.stages.get(index).label;
        let message =
            format!("cannot mount from stage `{name}`: it must be defined before the stage that mounts it");
        let found = given.problem("forward-reference", message);
        Err(Box::new(
            found.with_secondary(self.place_of(index), "defined here").with_help("move that stage up"),
        ))
    }

    /// Where a mount of files appears.
    fn mount_target(&self, given: &Given<'_>) -> Result<String, Problem> {
        let written = given.mount.target.as_deref().unwrap_or_default();
        let target = self.absolute(written);
        if target == "/" {
            let message =
                format!("RUN: invalid mount target `{written}`: the root itself cannot be a mount point");
            return Err(given.problem("bad-mount", message));
        }
        Ok(target)
    }

    fn absolute(&self, path: &str) -> String {
        paths::clean(&paths::resolve(&self.state.cwd, path))
    }

    fn bind(&mut self, given: &Given<'_>, mounts: &mut Mounts) -> Result<(String, RunMountKind), Problem> {
        let target = self.mount_target(given)?;
        let source = paths::join("/", given.mount.source.as_deref().unwrap_or_default());
        let files = self.files_of(given.source, &source).expect("sources were checked");
        let slot = mounts.add_input(files);
        Ok((target, RunMountKind::Bind { slot, source, read_only: given.mount.read_only }))
    }

    fn cache(&mut self, given: &Given<'_>, mounts: &mut Mounts) -> Result<(String, RunMountKind), Problem> {
        let target = self.mount_target(given)?;
        let mount = &given.mount;
        let id =
            mount.id.clone().unwrap_or_else(|| paths::clean(mount.target.as_deref().unwrap_or_default()));
        let id = match self.plan.behaviour("BUILDKIT_CACHE_MOUNT_NS") {
            Some(namespace) => format!("{namespace}/{id}"),
            None => id,
        };
        let source = paths::join("/", mount.source.as_deref().unwrap_or_default());
        let from = given.source.map(|index| {
            let files = self.files_of(Some(index), &source).expect("sources were checked");
            (mounts.add_input(files), source)
        });
        let (uid, gid) = given.owner();
        let kind = RunMountKind::Cache {
            id,
            sharing: sharing(mount.sharing),
            from,
            read_only: mount.read_only,
            mode: mount.mode.unwrap_or(0o755),
            uid,
            gid,
        };
        Ok((target, kind))
    }

    fn tmpfs(&self, given: &Given<'_>) -> Result<(String, RunMountKind), Problem> {
        let target = self.mount_target(given)?;
        let size = u64::try_from(given.mount.size).ok().filter(|size| *size > 0);
        Ok((target, RunMountKind::Tmpfs { size }))
    }

    /// A secret is a file unless it is only a variable.
    fn secret(&mut self, given: &Given<'_>, mounts: &mut Mounts) -> (String, RunMountKind) {
        let mount = &given.mount;
        let named = mount.source.as_deref().or(mount.id.as_deref());
        let id =
            named.unwrap_or_else(|| paths::base_name(mount.target.as_deref().unwrap_or_default())).to_owned();
        let target = match (&mount.target, &mount.env) {
            (Some(target), _) => self.absolute(target),
            (None, Some(_)) => String::new(),
            (None, None) => format!("/run/secrets/{}", paths::base_name(&id)),
        };
        mounts.secret_variables.extend(mount.env.clone());
        self.state.captured.add_secret(&id, mount.required, given.command.node.start_line);
        let (uid, gid) = given.owner();
        let (env, mode) = (mount.env.clone(), mount.mode.unwrap_or(0o400));
        (target, RunMountKind::Secret { id, env, required: mount.required, mode, uid, gid })
    }

    fn ssh(&mut self, given: &Given<'_>, mounts: &mut Mounts) -> (String, RunMountKind) {
        let mount = &given.mount;
        let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
        let target = match &mount.target {
            Some(target) => self.absolute(target),
            None => format!("/run/buildkit/ssh_agent.{}", mounts.agents),
        };
        mounts.agents += 1;
        self.state.captured.add_agent(&id, mount.required, given.command.node.start_line);
        let (uid, gid) = given.owner();
        (
            target,
            RunMountKind::Ssh { id, required: mount.required, mode: mount.mode.unwrap_or(0o600), uid, gid },
        )
    }
}

fn sharing(word: SharingWord) -> Sharing {
    match word {
        SharingWord::Shared => Sharing::Shared,
        SharingWord::Private => Sharing::Private,
        SharingWord::Locked => Sharing::Locked,
    }
}
