//! Runs one process or file operation in a sandbox.
//!
//! Knows nothing of Dockerfiles, graphs or stores: it is handed a [`RunSpec`], which is portable, and a [`Launch`],
//! which says where on this host its parts are. There is no helper binary and no container runtime: the program
//! itself is started again as the init stage (see `init`), which must be given control first thing in `main` with
//! [`init_stage_if_asked`].
#![deny(unsafe_code)]

mod cancel;
mod capabilities;
mod cgroup;
mod cleanup;
pub mod copy;
mod init;
mod launch;
mod network;
mod outside;
mod probe;
mod rootless;
mod sandbox;
mod seccomp;
mod spawner;
mod spec;
mod status;
#[allow(unsafe_code, reason = "the one place for system calls that rustix lacks")]
mod sys;
mod ulimit;
mod user;
mod watch;
mod wire;

pub use cancel::Cancel;
pub use cgroup::CgroupError;
pub use init::init_stage_if_asked;
pub use launch::{Launch, Source, Stdio, Stream};
pub use network::NetworkError;
pub use outside::{Outside, OutsideCommand, OutsideError, OutsideOutput};
pub use probe::{Finding, private_network_problem, probe};
pub use rootless::{EnterError, Entered, IdMapping, enter_nested_namespace, enter_user_namespace, id_mode};
pub use sandbox::{Sandbox, SandboxError, SandboxOptions, StartFailure};
pub use spec::{
    DEFAULT_PATH, MountKind, MountSpec, NetworkMode, Resources, RunSpec, SecurityMode, SourceId, Ulimit,
    UserSpec, Writes,
};
pub use status::ExitStatus;
pub use sys::share_one_heap;
pub use wire::IdMode;
