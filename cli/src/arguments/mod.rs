//! The command line: what may be typed, and what it asks of the engine.
//!
//! Declarations (clap) and conversions are apart. The declarations take words as they come; the conversions (`build_request`,
//! `run_request`) are pure functions of those words and of an [`Environment`](crate::environment::Environment), and make the
//! values the engine takes. Nothing here touches a file, a terminal or the network.

mod attest;
mod build;
mod cache;
mod call;
mod command_line;
mod csv;
mod enter;
mod error;
mod fsck;
mod history;
mod image_index;
mod images;
mod lock;
mod output;
mod packing;
#[cfg(test)]
mod properties;
mod push;
mod repro;
mod request;
mod run;
mod secret;
mod unsupported;
mod values;
mod verify;

pub(crate) use build::BuildArguments;
pub(crate) use call::{Call, CallFormat, CallRequest, ProgressMode};
pub(crate) use command_line::{Command, CommandLine, ContextCommand, DebugCommand, GlobalOptions};
pub(crate) use enter::{EnterArguments, enter_request};
pub(crate) use error::ArgumentError;
pub(crate) use fsck::FsckArguments;
pub(crate) use history::{
    BlameArguments, DiffArguments, HistoryArguments, LogArguments, PlanArguments, PruneArguments,
    RollbackArguments, SizeArguments, UsageArguments, WhyArguments,
};
pub(crate) use image_index::{
    CopyArguments, CreateArguments, ImageCommand, IndexCommand, InspectIndexArguments,
};
pub(crate) use images::{
    ImagesArguments, ImportArguments, InspectArguments, LoadArguments, ParseArguments, PullArguments,
    RemoveArguments, SaveArguments, SaveFormat, TagArguments,
};
pub(crate) use lock::LockArguments;
pub(crate) use push::{LoginArguments, LogoutArguments, PushArguments};
pub(crate) use repro::ReproArguments;
pub(crate) use request::{StandardInput, build_request};
pub(crate) use run::{RunArguments, run_request};
pub(crate) use values::size as size_in_bytes;
#[cfg(test)]
pub(crate) use values::tests::Fake;
pub(crate) use verify::{AttestArguments, VerifyArguments};
