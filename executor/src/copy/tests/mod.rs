//! What COPY and ADD promise, one behaviour each, on trees in memory.

mod archives;
mod copying;
mod extracting;
mod laws;
mod selecting;
pub(in crate::copy) mod support;
pub(in crate::copy) mod tree;
mod writing;
