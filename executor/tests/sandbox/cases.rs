//! The cases.

mod isolation;

use crate::support::World;

/// A case and its name.
pub type Case = (&'static str, fn(&World));

/// All cases, in the order they run in.
pub const ALL: &[Case] = &[("says_hello", isolation::says_hello)];
