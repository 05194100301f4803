//! Starting a process with the memory of its parent, until it executes something else.
//!
//! A plain fork of a builder with a large heap costs tens of milliseconds in page tables, and a forked child of a
//! threaded process may neither allocate nor lock. This child shares the memory, its parent waits, and it does
//! nothing but raw system calls before it executes our own binary again.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::UnshareFlags;

use super::{check, last_errno};

const STACK: usize = 64 * 1024;
/// More than any child is given.
const MAX_DESCRIPTORS: libc::c_int = 16;

/// What to execute, and with which descriptors.
pub(crate) struct Child<'a> {
    /// The program, opened for its path.
    pub(crate) program: BorrowedFd<'a>,
    /// Its arguments.
    pub(crate) argv: &'a [&'a CStr],
    /// The descriptors it gets as 0, 1, 2 and so on; all others are closed.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
}

struct Shared {
    program: libc::c_int,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    descriptors: *const libc::c_int,
    count: libc::c_int,
    errno: AtomicI32,
}

/// Starts `child` in new namespaces and returns it once it has executed its program. The child is killed when the
/// calling thread ends.
pub(crate) fn spawn(child: &Child<'_>, namespaces: UnshareFlags) -> Result<(Pid, OwnedFd), Errno> {
    assert!(child.descriptors.len() < MAX_DESCRIPTORS as usize, "a child is given a handful of descriptors");
    let parked = park_high(child.descriptors)?;
    let [program] = park_high(&[child.program])?.try_into().expect("one descriptor makes one");
    let numbers: Vec<libc::c_int> = parked.iter().map(|fd| fd.as_raw_fd()).collect();
    let mut argv: Vec<*const libc::c_char> = child.argv.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(ptr::null());
    let envp = [ptr::null()];
    let shared = Shared {
        program: program.as_raw_fd(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        descriptors: numbers.as_ptr(),
        count: numbers.len() as libc::c_int,
        errno: AtomicI32::new(0),
    };
    let (pid, pidfd) = with_signals_blocked(|| clone(&shared, namespaces))?;
    match shared.errno.load(Ordering::Relaxed) {
        0 => Ok((pid, pidfd)),
        errno => {
            // The child is a zombie that only has to be collected; its failure is what we report.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            Err(Errno::from_raw_os_error(errno))
        }
    }
}

/// Duplicates descriptors above every number the child will use, so that placing one cannot overwrite another.
fn park_high(descriptors: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Errno> {
    descriptors.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, MAX_DESCRIPTORS)).collect()
}

fn clone(shared: &Shared, namespaces: UnshareFlags) -> Result<(Pid, OwnedFd), Errno> {
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    let flags = libc::CLONE_VM
        | libc::CLONE_VFORK
        | libc::CLONE_PIDFD
        | libc::SIGCHLD
        | namespaces.bits() as libc::c_int;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: the stack is ours, aligned, and outlives the child's use of it, because CLONE_VFORK suspends this
    // thread until the child has executed another program or ended. `child_main` only makes system calls and
    // touches `shared`, which lives as long. CLONE_PIDFD stores one int in `pidfd`.
    let result = unsafe {
        libc::clone(
            child_main,
            stack.as_mut_ptr().add(stack.capacity()).cast(),
            flags,
            ptr::from_ref(shared).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let pid = check(result.into())?;
    let pid = Pid::from_raw(pid as i32).expect("clone returns a positive number in the parent");
    // SAFETY: the call succeeded, so the kernel has opened this descriptor for us and nobody else owns it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

extern "C" fn child_main(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passes a `Shared` and waits while we use it. Everything below is a raw system call on
    // numbers and pointers it prepared; nothing allocates, locks or unwinds. Signals stay blocked, so that no
    // handler of the parent runs on its memory; the executed program unblocks them.
    unsafe {
        let shared = &*argument.cast::<Shared>();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for number in 0..shared.count {
            if libc::dup2(*shared.descriptors.add(number as usize), number) < 0 {
                return fail(shared);
            }
        }
        if libc::dup3(shared.program, shared.count, libc::O_CLOEXEC) < 0 {
            return fail(shared);
        }
        // Refused only by kernels older than 5.9, where we rely on everything being close-on-exec.
        libc::syscall(libc::SYS_close_range, shared.count + 1, u32::MAX, 0);
        libc::syscall(
            libc::SYS_execveat,
            shared.count,
            c"".as_ptr(),
            shared.argv,
            shared.envp,
            libc::AT_EMPTY_PATH,
        );
        fail(shared)
    }
}

fn fail(shared: &Shared) -> libc::c_int {
    shared.errno.store(last_errno().raw_os_error(), Ordering::Relaxed);
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn with_signals_blocked<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: plain calls on signal sets that live on this stack; the old mask is put back.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = run();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pipe::pipe;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn program(path: &str) -> OwnedFd {
        open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn the_child_gets_exactly_its_descriptors() {
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let (read, write) = pipe().unwrap();
        let ls = program("/bin/ls");
        let child = Child {
            program: ls.as_fd(),
            argv: &[c"ls", c"/proc/self/fd"],
            descriptors: &[null.as_fd(), write.as_fd(), null.as_fd()],
        };
        let (pid, _pidfd) = spawn(&child, UnshareFlags::empty()).unwrap();
        drop(write);
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).unwrap();
        // 3 is the directory that `ls` itself is reading.
        assert_eq!(output, "0\n1\n2\n3\n");
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_an_error_of_the_call() {
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let directory = program("/");
        let child = Child { program: directory.as_fd(), argv: &[c"x"], descriptors: &[null.as_fd()] };
        assert_eq!(spawn(&child, UnshareFlags::empty()).unwrap_err(), Errno::ACCESS);
    }
}
