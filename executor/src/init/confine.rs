//! Giving up every privilege the step is not to have.
//!
//! The order is fixed by what each call needs from those before it, and asserted by a test on a recording fake.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failure::{Attempt, Failed};
use super::setup::Setup;
use crate::capabilities;
use crate::spec::SecurityMode;
use crate::sys;

/// The calls that give up privileges.
trait Syscalls {
    fn no_new_privileges(&mut self) -> Result<(), Errno>;
    fn install_filter(&mut self, program: &[u64]) -> Result<(), Errno>;
    fn drop_from_bounding_set(&mut self, capability: CapabilitySet) -> Result<(), Errno>;
    fn set_groups(&mut self, groups: &[Gid]) -> Result<(), Errno>;
    fn set_group(&mut self, gid: Gid) -> Result<(), Errno>;
    fn set_user(&mut self, uid: Uid) -> Result<(), Errno>;
    fn clear_ambient_set(&mut self) -> Result<(), Errno>;
    fn set_capabilities(&mut self, sets: CapabilitySets) -> Result<(), Errno>;
    fn die_with_parent(&mut self) -> Result<(), Errno>;
}

/// What is to be given up.
struct Confinement<'a> {
    filters: &'a [Vec<u64>],
    /// What a step may keep.
    capabilities: CapabilitySet,
    no_new_privileges: bool,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// Ids cannot be changed where only one exists.
    only_root: bool,
}

pub(super) fn drop_privileges(setup: &mut Setup) -> Result<(), Failed> {
    let spec = &setup.orders.spec;
    let account = &setup.identity.account;
    // Root in a container may itself hold less than everything.
    let held = rustix::thread::capabilities(None).attempt(|| "read the capabilities".into())?.permitted;
    let kept = match spec.security {
        SecurityMode::Sandbox => capabilities::DEFAULT & held,
        SecurityMode::Insecure => held,
    };
    let confinement = Confinement {
        filters: &setup.orders.filters,
        capabilities: kept,
        no_new_privileges: spec.no_new_privileges,
        uid: Uid::from_raw(account.uid),
        gid: Gid::from_raw(account.gid),
        groups: account.groups.iter().copied().map(Gid::from_raw).collect(),
        only_root: setup.identity.only_root,
    };
    confine(&confinement, &mut Kernel)?;
    verify_parent(&*setup.report)
}

fn confine(wanted: &Confinement<'_>, kernel: &mut impl Syscalls) -> Result<(), Failed> {
    if wanted.no_new_privileges {
        kernel.no_new_privileges().attempt(|| "set no_new_privs".into())?;
    }
    // While CAP_SYS_ADMIN is held a filter needs no no_new_privs, which would break sudo in the step.
    for filter in wanted.filters {
        kernel.install_filter(filter).attempt(|| "install the system call filter".into())?;
    }
    // Needs CAP_SETPCAP, which a change of user may take away.
    for capability in capabilities::all() - wanted.capabilities {
        kernel.drop_from_bounding_set(capability).attempt(|| "drop a capability for good".into())?;
    }
    if !wanted.only_root {
        // Groups first: CAP_SETGID goes with the user.
        kernel.set_groups(&wanted.groups).attempt(|| "set the groups".into())?;
        kernel.set_group(wanted.gid).attempt(|| format!("become group {}", wanted.gid.as_raw()))?;
        kernel.set_user(wanted.uid).attempt(|| format!("become user {}", wanted.uid.as_raw()))?;
    }
    kernel.clear_ambient_set().attempt(|| "clear the ambient capabilities".into())?;
    kernel.set_capabilities(wanted.sets()).attempt(|| "set the capabilities".into())?;
    // A change of user or capabilities makes the kernel forget this.
    kernel.die_with_parent().attempt(|| "ask to end with mica".into())
}

impl Confinement<'_> {
    fn sets(&self) -> CapabilitySets {
        let root = self.only_root || self.uid.is_root();
        let held = if root { self.capabilities } else { CapabilitySet::empty() };
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() }
    }
}

/// Checks that mica still lives: had it ended before it was to take us with it, nobody would end this step.
fn verify_parent(report: impl AsFd) -> Result<(), Failed> {
    let mut fds = [PollFd::from_borrowed_fd(report.as_fd(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).attempt(|| "look for the parent".into())?;
    if fds[0].revents().contains(PollFlags::ERR) {
        return Err(Failed::because("start the step", "mica has ended"));
    }
    Ok(())
}

struct Kernel;

impl Syscalls for Kernel {
    fn no_new_privileges(&mut self) -> Result<(), Errno> {
        rustix::thread::set_no_new_privs(true)
    }
    fn install_filter(&mut self, program: &[u64]) -> Result<(), Errno> {
        sys::install_filter(program)
    }
    fn drop_from_bounding_set(&mut self, capability: CapabilitySet) -> Result<(), Errno> {
        rustix::thread::remove_capability_from_bounding_set(capability)
    }
    fn set_groups(&mut self, groups: &[Gid]) -> Result<(), Errno> {
        rustix::thread::set_thread_groups(groups)
    }
    fn set_group(&mut self, gid: Gid) -> Result<(), Errno> {
        rustix::thread::set_thread_res_gid(gid, gid, gid)
    }
    fn set_user(&mut self, uid: Uid) -> Result<(), Errno> {
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }
    fn clear_ambient_set(&mut self) -> Result<(), Errno> {
        rustix::thread::clear_ambient_capability_set()
    }
    fn set_capabilities(&mut self, sets: CapabilitySets) -> Result<(), Errno> {
        rustix::thread::set_capabilities(None, sets)
    }
    fn die_with_parent(&mut self) -> Result<(), Errno> {
        sys::die_with_parent_thread()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recording {
        calls: Vec<String>,
        refuse: Option<&'static str>,
    }

    impl Recording {
        fn note(&mut self, call: &str) -> Result<(), Errno> {
            if self.calls.last().map(String::as_str) != Some(call) {
                self.calls.push(call.to_owned());
            }
            if self.refuse == Some(call) { Err(Errno::PERM) } else { Ok(()) }
        }
    }

    impl Syscalls for Recording {
        fn no_new_privileges(&mut self) -> Result<(), Errno> {
            self.note("no_new_privs")
        }
        fn install_filter(&mut self, _program: &[u64]) -> Result<(), Errno> {
            self.note("filter")
        }
        fn drop_from_bounding_set(&mut self, _capability: CapabilitySet) -> Result<(), Errno> {
            self.note("bounding")
        }
        fn set_groups(&mut self, groups: &[Gid]) -> Result<(), Errno> {
            self.note(&format!("groups {}", groups.len()))
        }
        fn set_group(&mut self, gid: Gid) -> Result<(), Errno> {
            self.note(&format!("gid {}", gid.as_raw()))
        }
        fn set_user(&mut self, uid: Uid) -> Result<(), Errno> {
            self.note(&format!("uid {}", uid.as_raw()))
        }
        fn clear_ambient_set(&mut self) -> Result<(), Errno> {
            self.note("ambient")
        }
        fn set_capabilities(&mut self, sets: CapabilitySets) -> Result<(), Errno> {
            self.note(&format!("capabilities {:x}", sets.permitted.bits()))
        }
        fn die_with_parent(&mut self) -> Result<(), Errno> {
            self.note("pdeathsig")
        }
    }

    fn confinement(uid: u32, filters: &[Vec<u64>]) -> Confinement<'_> {
        Confinement {
            filters,
            capabilities: capabilities::DEFAULT,
            no_new_privileges: false,
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(uid),
            groups: vec![Gid::from_raw(uid), Gid::from_raw(9)],
            only_root: false,
        }
    }

    fn calls(wanted: &Confinement<'_>) -> Vec<String> {
        let mut kernel = Recording::default();
        confine(wanted, &mut kernel).unwrap();
        kernel.calls
    }

    #[test]
    fn privileges_go_in_the_order_that_needs_them() {
        let filters = [vec![]];
        let root = [
            "filter",
            "bounding",
            "groups 2",
            "gid 0",
            "uid 0",
            "ambient",
            "capabilities a80425fb",
            "pdeathsig",
        ];
        assert_eq!(calls(&confinement(0, &filters)), root);
        let user =
            ["filter", "bounding", "groups 2", "gid 33", "uid 33", "ambient", "capabilities 0", "pdeathsig"];
        assert_eq!(calls(&confinement(33, &filters)), user);
    }

    #[test]
    fn with_a_single_id_nobody_is_become() {
        let wanted = Confinement { only_root: true, no_new_privileges: true, ..confinement(33, &[]) };
        assert_eq!(
            calls(&wanted),
            ["no_new_privs", "bounding", "ambient", "capabilities a80425fb", "pdeathsig"]
        );
    }

    #[test]
    fn nothing_follows_a_refusal() {
        let mut kernel = Recording { refuse: Some("gid 33"), ..Default::default() };
        let failed = confine(&confinement(33, &[]), &mut kernel).unwrap_err();
        assert_eq!(failed.at("x").action, "become group 33");
        assert_eq!(kernel.calls.last().unwrap(), "gid 33");
    }
}
