//! The init stage: our own program, started again in new namespaces, that becomes the step.
//!
//! It runs alone in its process with one thread. Everything that can fail with a good message happens here, told
//! to the engine's process over a pipe that a successful exec closes. The order of the stages is the heart of the
//! sandbox and is kept in [`STAGES`], each with the reason for its position.

mod command;
mod confine;
mod devices;
mod failure;
mod files;
mod kernel;
mod mounts;
mod overlay;
mod place;
mod root;
mod setup;
mod trees;
mod user;

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use failure::Failed;
use setup::Setup;

use crate::sys;
use crate::wire::{self, Orders, Report};

type Stage = (&'static str, fn(&mut Setup) -> Result<(), Failed>);

/// What happens between the start of this process and the exec of the step, in order.
const STAGES: &[Stage] = &[
    // Inherited state first, while nothing depends on it: signals, umask 0 so that modes below are what they say.
    ("process", setup::clean_process),
    // Before the cgroup namespace is made, so that its root is the step's own group.
    ("control groups", setup::join_cgroups),
    // Nothing mounted below may show up in the host's mount namespace.
    // Before anything of the kernel's is mounted: /sys shows the network namespace it was mounted in.
    ("network", setup::join_network),
    ("private mounts", root::make_private),
    // Sources of mounts need the host's paths and decide what kind of mount point they need.
    ("mount sources", mounts::open_sources),
    // Mount points exist before the root is put together, as its bottommost layer.
    ("mount points", root::prepare_skeleton),
    ("root", root::mount_overlay),
    // The image's own passwd and group are read before anything is mounted over them or beside them.
    ("user", user::resolve),
    ("/proc", kernel::mount_proc),
    // Devices are cloned from the host's /dev, which disappears with the old root.
    ("/dev", devices::mount_dev),
    ("/sys", kernel::mount_sys),
    ("network files", files::mount_network_files),
    // In order of depth, over the above where someone asks for it.
    ("mounts", mounts::attach),
    // After the requested mounts: none of them may uncover what is hidden here.
    ("masks", kernel::mask),
    // A working directory that is missing is made by root, as the reference does.
    ("working directory", root::make_working_directory),
    ("created mount points", setup::report_created),
    // From here on no path of the host can be named any more.
    ("pivot", root::pivot),
    ("standard streams", setup::take_over_streams),
    ("names", setup::configure_network),
    ("limits", setup::set_limits),
    // No descriptor of the host survives the exec.
    ("descriptors", setup::close_descriptors),
    // Before privileges are dropped, as in the reference: a directory that only root may enter works for any user.
    ("enter working directory", root::enter_working_directory),
    ("environment", command::prepare),
    // Last, when nothing needs a privilege any more.
    ("confinement", confine::drop_privileges),
];

/// Becomes the init stage, and never returns, if this process was started as one; call it first thing in `main`.
pub fn init_stage_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == wire::INIT_ARGUMENT) {
        run();
    }
}

fn run() -> ! {
    let (Some(orders), Some(report)) = (sys::inherited(wire::ORDERS_FD), sys::inherited(wire::REPORT_FD))
    else {
        // Someone typed the argument by hand: there is nobody to tell.
        sys::exit_now(125);
    };
    let mut report = File::from(report);
    let failed = match read_orders(orders) {
        Ok(orders) => become_step(orders, &mut report),
        Err(failed) => failed.at("orders"),
    };
    tell(&mut report, &Report::Failed(failed));
    sys::exit_now(125)
}

fn read_orders(fd: OwnedFd) -> Result<Orders, Failed> {
    let mut file = File::from(fd);
    let mut text = Vec::new();
    file.rewind()
        .and_then(|()| std::io::Read::read_to_end(&mut file, &mut text))
        .map_err(|error| Failed::new("read the orders", error))?;
    serde_json::from_slice(&text).map_err(|error| Failed::because("read the orders", error.to_string()))
}

fn become_step(orders: Orders, report: &mut File) -> wire::Failure {
    let mut setup = match Setup::new(orders, report) {
        Ok(setup) => setup,
        Err(failed) => return failed.at("start"),
    };
    for (name, stage) in STAGES {
        if let Err(failed) = stage(&mut setup) {
            return failed.at(name);
        }
    }
    command::execute(&setup).at(wire::EXEC_STAGE)
}

fn tell(report: &mut File, message: &Report) {
    let mut line = serde_json::to_vec(message).expect("a report has no map with odd keys");
    line.push(b'\n');
    // If nobody listens any more there is nobody to tell, and the exit code says the rest.
    let _ = report.write_all(&line);
}
