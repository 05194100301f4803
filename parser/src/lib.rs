//! Dockerfile text to a typed syntax tree; never fails, never does I/O.
#![forbid(unsafe_code)]

pub mod syntax;
