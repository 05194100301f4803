//! What the stages share, and the stages that concern the process as a whole.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Rlimit, setrlimit};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_getaffinity, sched_setaffinity,
};

use super::command::Command;
use super::failure::{Attempt, Failed};
use super::mounts::Opened;
use super::place::{self, Stub};
use super::tell;
use super::trees;
use super::user::Identity;
use crate::spec::{NetworkMode, SecurityMode};
use crate::sys;
use crate::ulimit;
use crate::wire::{self, Created, Orders, Report, StdioKind};

/// What has been established so far. The descriptors are `None` until their stage has run.
pub(super) struct Setup<'a> {
    pub(super) orders: Orders,
    pub(super) report: &'a mut File,
    network: Option<OwnedFd>,
    pub(super) root: Option<OwnedFd>,
    pub(super) dev: Option<OwnedFd>,
    pub(super) proc: Option<OwnedFd>,
    pub(super) sys: Option<OwnedFd>,
    pub(super) sources: Vec<Opened>,
    pub(super) identity: Identity,
    pub(super) created: Vec<Created>,
    pub(super) command: Option<Command>,
}

impl<'a> Setup<'a> {
    pub(super) fn new(orders: Orders, report: &'a mut File) -> Result<Setup<'a>, Failed> {
        rustix::io::fcntl_setfd(&*report, rustix::io::FdFlags::CLOEXEC)
            .attempt(|| "keep the report pipe".into())?;
        let joins = orders.spec.network == NetworkMode::Private;
        Ok(Setup {
            network: if joins { sys::inherited(wire::NETWORK_FD) } else { None },
            orders,
            report,
            root: None,
            dev: None,
            proc: None,
            sys: None,
            sources: Vec::new(),
            identity: Identity::default(),
            created: Vec::new(),
            command: None,
        })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        self.root.as_ref().expect("the root stage has run")
    }

    pub(super) fn dev(&self) -> &OwnedFd {
        self.dev.as_ref().expect("the /dev stage has run")
    }

    /// Returns what every mount is restricted by. A step may make device nodes, as packages do, but opening one would
    /// give root of a step the disks of the host: only those in `/dev`, which are mounts of their own, can be opened.
    pub(super) fn usual_restrictions(&self) -> u64 {
        match self.orders.spec.security {
            SecurityMode::Sandbox => trees::NO_DEVICES,
            SecurityMode::Insecure => 0,
        }
    }

    /// Opens a mount point inside the root. The skeleton has it, unless the image hides it behind a link that leads
    /// nowhere or a deletion: then it is made in the upper directory and noted for removal.
    pub(super) fn mount_point(&mut self, target: &str, stub: Stub) -> Result<OwnedFd, Failed> {
        let root = self.root.as_ref().expect("the root stage has run");
        place::find_or_make(root, target, stub, &mut self.created)
            .attempt(|| format!("open the mount point `{target}`"))
    }
}

pub(super) fn clean_process(setup: &mut Setup) -> Result<(), Failed> {
    sys::reset_signals();
    rustix::process::umask(Mode::empty());
    let _ = rustix::process::setsid();
    if setup.orders.stdio == StdioKind::Terminal {
        sys::set_controlling_terminal(std::io::stdin()).attempt(|| "take over the terminal".into())?;
    }
    raise_oom_score();
    let keyring = sys::join_new_session_keyring();
    match keyring {
        // Without key support there are no keys to inherit; a user whose quota is used up is protected by the
        // filter, which refuses the calls on keys.
        Err(Errno::NOSYS | Errno::DQUOT | Errno::PERM | Errno::NOMEM) | Ok(()) => Ok(()),
        Err(error) => Err(Failed::new("make a session keyring", error)),
    }
}

/// A step must not inherit the protection from the out-of-memory killer that a service may have.
fn raise_oom_score() {
    let path = "/proc/self/oom_score_adj";
    let protected = std::fs::read_to_string(path).is_ok_and(|score| score.trim_end().starts_with('-'));
    if protected {
        // Raising the score is always allowed; where the file is missing there is no such killer.
        let _ = std::fs::write(path, "0");
    }
}

pub(super) fn join_cgroups(setup: &mut Setup) -> Result<(), Failed> {
    for path in &setup.orders.cgroups {
        // 0 stands for the writer, whatever its number outside.
        std::fs::write(path.as_path(), "0").attempt(|| format!("join `{}`", path.as_path().display()))?;
    }
    sys::unshare(UnshareFlags::NEWCGROUP).attempt(|| "make a control group namespace".into())
}

pub(super) fn report_created(setup: &mut Setup) -> Result<(), Failed> {
    if !setup.created.is_empty() {
        let created = std::mem::take(&mut setup.created);
        tell(setup.report, &Report::Created(created));
    }
    Ok(())
}

/// Gives the step a `/dev/null` of its own, and its user the right to open pipes or the terminal again by name.
pub(super) fn take_over_streams(setup: &mut Setup) -> Result<(), Failed> {
    let owner = setup.identity.mapped_uid();
    let hand_over = |stream: BorrowedFd<'_>| {
        rustix::fs::fchown(stream, Some(owner), None).attempt(|| "hand over a standard stream".into())
    };
    match setup.orders.stdio {
        StdioKind::Passed => Ok(()),
        StdioKind::Terminal => hand_over(std::io::stdin().as_fd()),
        StdioKind::Captured => {
            let null = openat(setup.dev(), "null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .attempt(|| "open `/dev/null`".into())?;
            rustix::stdio::dup2_stdin(&null).attempt(|| "replace standard input".into())?;
            hand_over(std::io::stdout().as_fd())?;
            hand_over(std::io::stderr().as_fd())
        }
    }
}

/// Enters the network namespace that was made for this step.
pub(super) fn join_network(setup: &mut Setup) -> Result<(), Failed> {
    let Some(namespace) = setup.network.take() else { return Ok(()) };
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .attempt(|| "join the network namespace".into())
}

pub(super) fn configure_network(setup: &mut Setup) -> Result<(), Failed> {
    sys::set_hostname(setup.orders.spec.hostname.as_bytes()).attempt(|| "set the host name".into())?;
    if setup.orders.spec.network == NetworkMode::Host {
        return Ok(());
    }
    sys::bring_up_loopback().attempt(|| "bring up the loopback interface".into())
}

pub(super) fn set_limits(setup: &mut Setup) -> Result<(), Failed> {
    for limit in &setup.orders.spec.ulimits {
        let resource = ulimit::resource(&limit.name)
            .ok_or_else(|| Failed::because("set a limit", format!("`{}` is no known limit", limit.name)))?;
        setrlimit(resource, Rlimit { current: limit.soft, maximum: limit.hard })
            .attempt(|| format!("set the limit `{}`", limit.name))?;
    }
    if let Some(count) = setup.orders.spec.processors {
        use_processors(count).attempt(|| format!("use {count} processors"))?;
    }
    rustix::process::umask(Mode::from_raw_mode(setup.orders.spec.umask));
    Ok(())
}

/// Keeps the first of the processors that may be used.
fn use_processors(count: u32) -> rustix::io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut kept = CpuSet::new();
    let usable = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    usable.take(count as usize).for_each(|processor| kept.set(processor));
    sched_setaffinity(None, &kept)
}

pub(super) fn close_descriptors(_setup: &mut Setup) -> Result<(), Failed> {
    sys::close_on_exec_from(3).attempt(|| "close descriptors".into())
}
