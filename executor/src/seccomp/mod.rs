//! System call filters: the default profile of containers, and one that lets package managers work where only one
//! user id exists.
//!
//! The profile is a list of names (`profile`), turned into numbers by one table per architecture (`tables`) and into
//! a search tree of instructions (`assemble`). Three things differ from a plain list:
//!
//! * Numbers that no table knows are answered with ENOSYS, as an old kernel would, so that newer C libraries fall
//!   back to what they know instead of failing.
//! * `clone3` is answered with ENOSYS too: its flags are in memory, where a filter cannot look; `clone` is used
//!   instead, whose flags are checked.
//! * A table for the machine's 32-bit programs is part of the filter; every other architecture is killed.

mod assemble;
mod profile;
mod tables;

use std::sync::OnceLock;

use assemble::{Section, Verdict, assemble};
use profile::{NO_SUCH_CALL, Profile};
use tables::{ARCHITECTURES, Architecture};

/// Returns the filter of ordinary steps.
pub(crate) fn default_filter() -> &'static [u64] {
    static FILTER: OnceLock<Vec<u64>> = OnceLock::new();
    FILTER.get_or_init(|| {
        let profile = Profile::new();
        assemble(&sections(
            |architecture, name| profile.verdict(architecture, name),
            Verdict::Errno(NO_SUCH_CALL),
        ))
    })
}

/// Returns a filter that answers changes of owners and ids with success without doing anything.
///
/// Where a user namespace has a single id, packages that hand files to their own user could not be installed. Most
/// of them never look whether it worked.
pub(crate) fn pretend_owners_filter() -> &'static [u64] {
    static FILTER: OnceLock<Vec<u64>> = OnceLock::new();
    FILTER.get_or_init(|| assemble(&sections(|_, name| profile::pretend(name), Verdict::Allow)))
}

/// Turns a rule about names into one section of intervals for each architecture.
fn sections(rule: impl Fn(&Architecture, &str) -> Verdict, unknown: Verdict) -> Vec<Section> {
    let section = |architecture: &Architecture| {
        let mut section = Section::new(architecture.audit, unknown);
        for (number, name) in architecture.calls() {
            section.add(number, rule(architecture, name));
        }
        section
    };
    ARCHITECTURES.iter().map(section).collect()
}

#[cfg(test)]
mod tests;
