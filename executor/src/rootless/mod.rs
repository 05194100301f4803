//! Entering a user namespace, in which an ordinary user is root.
//!
//! Afterwards everything is as it is for root. No second exec is needed: a process with a single thread may move
//! itself, and from then on holds all capabilities over the namespace and the mounts made in it.

mod enter;
mod subids;

pub use enter::{EnterError, Entered, IdMapping, enter_nested_namespace, enter_user_namespace, id_mode};
pub(crate) use enter::{granted_ranges, refusal_hint};
pub(crate) use subids::Range;
