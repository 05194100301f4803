//! Calls that change the calling process.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::{check, last_errno};

/// Takes over a descriptor that this process was started with; `None` if there is none of that number.
///
/// Only for the first moments of a program, before anything else may own the number.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: asking for the flags of any number is harmless.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open and, by the contract above, owned by nobody in this program yet.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has the kernel kill this process when the thread that started it ends.
pub(crate) fn die_with_parent_thread() -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))
}

/// Gives every signal its default action and unblocks all of them.
pub(crate) fn reset_signals() {
    /// Handler, flags, restorer and mask as the kernel lays them out; all zero is the default action.
    const KERNEL_DEFAULT: [u64; 4] = [0; 4];
    const MASK_SIZE: usize = 8;
    // SAFETY: the kernel reads the four words and keeps nothing of them; KILL and STOP refuse a change and are left alone. The
    // C library's own call would not touch the two signals it uses itself, which a parent may have ignored all the same.
    // The empty set lives on this stack.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let action = KERNEL_DEFAULT.as_ptr();
            libc::syscall(libc::SYS_rt_sigaction, signal, action, ptr::null_mut::<u64>(), MASK_SIZE);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Makes this process survive the signals a terminal sends, while the programs it executes get the default again.
pub(crate) fn catch_and_ignore_signals() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGTSTP] {
        // SAFETY: the handler does nothing, so it may run at any point.
        unsafe { libc::signal(signal, nothing as *const () as libc::sighandler_t) };
    }
}

/// Gives a program that is about to be started mounts of its own, of which nothing reaches ours.
///
/// Some programs make themselves a root and take away what was mounted before; where a mount is shared that takes it away
/// from everybody.
pub(crate) fn with_own_mounts(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let separate = || {
        match unshare(UnshareFlags::NEWNS) {
            // What we may not do the program may not do either.
            Err(Errno::PERM) => return Ok(()),
            done => done?,
        }
        let everything = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change(c"/", everything).map_err(std::io::Error::from)
    };
    // SAFETY: between fork and exec only two system calls are made; nothing allocates or locks.
    unsafe { command.pre_exec(separate) };
}

/// Replaces this process; returns only if that failed.
pub(crate) fn execve(program: &CStr, argv: &[&CStr], environment: &[&CStr]) -> Errno {
    let pointers = |strings: &[&CStr]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: both arrays end with a null pointer and all strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    last_errno()
}

/// Ends this process without running destructors or exit handlers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; open descriptors are closed by the kernel.
    unsafe { libc::_exit(code) }
}

/// The two sides of a fork.
pub(crate) enum Forked {
    /// In the new process.
    Child,
    /// In the old one.
    Parent,
}

/// Forks this process. The caller makes sure that it still has one thread only; more is an error.
pub(crate) fn fork_before_threads() -> Result<Forked, Errno> {
    if std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) > 1 {
        return Err(Errno::BUSY);
    }
    // SAFETY: with a single thread no lock can be held by another one, so the child may run ordinary code.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Forked::Child),
        _pid => Ok(Forked::Parent),
    }
}

/// Moves this process into new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: none of our callers unshares the descriptor table, the only case that breaks ownership of descriptors.
    check(unsafe { libc::unshare(namespaces.bits() as libc::c_int) }.into())?;
    Ok(())
}

/// Installs a system call filter on this thread; needs CAP_SYS_ADMIN or no_new_privs.
pub(crate) fn install_filter(program: &[u64]) -> Result<(), Errno> {
    let mut instructions: Vec<libc::sock_filter> = program.iter().map(|word| decode(*word)).collect();
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?;
    let filter = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: the kernel copies the program before the call returns.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) })?;
    Ok(())
}

fn decode(word: u64) -> libc::sock_filter {
    libc::sock_filter {
        code: (word >> 48) as u16,
        jt: (word >> 40) as u8,
        jf: (word >> 32) as u8,
        k: word as u32,
    }
}

/// Replaces the session keyring by an empty one, so that the keys of whoever started us are out of reach.
pub(crate) fn join_new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>())
    })?;
    Ok(())
}

/// Names this machine, in its own UTS namespace.
pub(crate) fn set_hostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe one slice.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}

/// Has every descriptor from `first` on closed by the next exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: the descriptors stay open, so nobody's ownership is touched.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Makes the terminal behind `terminal` the controlling one of this session.
pub(crate) fn set_controlling_terminal(terminal: impl AsFd) -> Result<(), Errno> {
    rustix::process::ioctl_tiocsctty(terminal)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn bring_up_loopback() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero request is valid; its name is then filled in and ends with zeros.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_unpacked_from_words() {
        let instruction = decode(0x0015_0201_c000_003e);
        assert_eq!((instruction.code, instruction.jt, instruction.jf), (0x15, 2, 1));
        assert_eq!(instruction.k, 0xc000_003e);
    }

    #[test]
    fn a_number_nobody_opened_is_not_taken_over() {
        assert!(inherited(987_654).is_none());
    }

    #[test]
    fn a_program_that_is_missing_is_reported() {
        assert_eq!(execve(c"/nowhere/at/all", &[c"x"], &[]), Errno::NOENT);
    }
}
