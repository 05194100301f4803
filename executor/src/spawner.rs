//! The thread that starts every step.
//!
//! The kernel ends a step together with the *thread* that started it, not with the process. Threads of pools come and
//! go; this one lives as long as the [`Sandbox`](crate::Sandbox).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, readlinkat, stat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::sys::{self, Child, MountAttributes};
use crate::wire;

const SELF: &str = "/proc/self/exe";

type Started = Result<(Pid, OwnedFd), Errno>;

/// An init stage to be started.
pub(crate) struct Job {
    pub(crate) namespaces: UnshareFlags,
    /// Its descriptors from 0 on.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// A handle to the thread.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// `None` only while dropping.
    jobs: Option<Sender<(Job, SyncSender<Started>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn new() -> Result<Spawner, Errno> {
        let program = open_own_program()?;
        let (jobs, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || serve(&program, &inbox))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        Ok(Spawner { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Starts an init stage.
    pub(crate) fn spawn(&self, job: Job) -> Started {
        let (answer, answered) = sync_channel(1);
        let jobs = self.jobs.as_ref().expect("the channel is only taken when dropped");
        jobs.send((job, answer)).map_err(|_| Errno::SRCH)?;
        answered.recv().map_err(|_| Errno::SRCH)?
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It ends when the channel does; a panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

/// Opens this program so that no step can write to it: one whose interpreter is `/proc/self/exe` gets a handle on our
/// binary, which becomes writable once we have ended.
///
/// A read-only mount of the file costs nothing. Its path need not lead to it any more, though, when it was replaced
/// while we run; then a sealed copy in memory serves.
fn open_own_program() -> Result<OwnedFd, Errno> {
    let itself = stat(SELF)?;
    let path = readlinkat(CWD, SELF, Vec::new())?;
    // Not `/proc/self/exe`: after a change of namespaces that still leads to the mount in the old one.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = match open_tree(CWD, path, flags) {
        Err(Errno::NOENT) => return copy_own_program(),
        program => program?,
    };
    let found = fstat(&program)?;
    if (found.st_dev, found.st_ino) != (itself.st_dev, itself.st_ino) {
        return copy_own_program();
    }
    let read_only = MountAttributes { set: MountAttributes::READ_ONLY, ..MountAttributes::default() };
    sys::mount_setattr(&program, read_only)?;
    Ok(program)
}

fn copy_own_program() -> Result<OwnedFd, Errno> {
    let copy = memfd_create("mica", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(copy);
    std::fs::File::open(SELF)
        .and_then(|mut program| std::io::copy(&mut program, &mut file))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

fn serve(program: &OwnedFd, inbox: &Receiver<(Job, SyncSender<Started>)>) {
    let argument = std::ffi::CString::new(wire::INIT_ARGUMENT).expect("the argument holds no zero byte");
    for (job, answer) in inbox {
        let descriptors: Vec<BorrowedFd<'_>> = job.descriptors.iter().map(AsFd::as_fd).collect();
        let child =
            Child { program: program.as_fd(), argv: &[c"mica", &argument], descriptors: &descriptors };
        // Who asked may have gone; the step then ends by its pidfd being dropped unanswered.
        let _ = answer.send(sys::spawn(&child, job.namespaces));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_copy_of_the_program_is_whole_and_cannot_be_changed() {
        let copy = std::fs::File::from(copy_own_program().unwrap());
        assert_eq!(copy.metadata().unwrap().len(), std::fs::metadata(SELF).unwrap().len());
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut again = std::fs::File::options().write(true).open(path).unwrap();
        assert!(again.write_all(b"x").is_err());
    }
}
