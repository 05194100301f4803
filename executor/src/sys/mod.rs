//! The system calls that rustix lacks, each in a safe wrapper: the crate's only `unsafe` code.
//!
//! One call to a function, descriptors owned or borrowed and never raw numbers, and above each block the reason why
//! it is sound.

mod child;
mod memory;
mod mount;
mod process;

pub(crate) use child::{Child, spawn};
pub use memory::share_one_heap;
pub(crate) use mount::{MountAttributes, mount_setattr};
pub(crate) use process::{
    Forked, bring_up_loopback, catch_and_ignore_signals, close_on_exec_from, die_with_parent_thread, execve,
    exit_now, fork_before_threads, inherited, install_filter, join_new_session_keyring, reset_signals,
    set_controlling_terminal, set_hostname, unshare, with_own_mounts,
};

use std::io;

use rustix::io::Errno;

/// Turns the result of a raw call into the usual form.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 { Ok(result) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
