//! Dockerfile text to a typed syntax tree; never fails, never does I/O.
//!
//! [`parse`] gives a [`syntax::Dockerfile`] and all [`diagnostic::Diagnostic`]s at once. It works in two stages: `raw` cuts the text
//! into instructions and words as the reference's line parser does, `instruction` gives them meaning. Expansion of variables is
//! [`words`], to be called when the variables are known.
#![forbid(unsafe_code)]

pub mod csv;
pub mod debug;
pub mod device;
pub mod diagnostic;
pub mod dockerignore;
#[cfg(test)]
mod documented_tests;
mod duration;
mod flags;
pub mod glob;
pub mod go;
mod instruction;
pub mod keyword;
mod line_index;
pub mod lint;
pub mod mount;
mod parse;
mod raw;
mod stage;
mod suggest;
pub mod syntax;
#[cfg(test)]
mod tests;
mod text;
pub mod words;

pub use parse::{Parsed, parse, parse_trigger};
pub use stage::Stage;
