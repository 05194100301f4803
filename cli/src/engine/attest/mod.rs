//! What is said of images: provenance, lists of packages, and signatures under both.
//!
//! ```text
//! statement    an in-toto statement: a subject and a predicate
//! provenance   the predicate that tells what an image was made from
//! sbom         the predicate that lists the packages in it
//! say          says of the images of a build what was asked for
//! key · envelope · seat    signatures, and where what is signed is kept; remembered  what the store knows of that place
//! sign · verify · rebuild    the commands over them; altered  a layer that is not what it should be; recorded  provenance, read
//! manifest     statements as an image beside the image, the way the reference attaches them
//! ```

mod altered;
mod envelope;
mod key;
pub(crate) mod manifest;
pub(crate) mod provenance;
pub(crate) mod rebuild;
mod recorded;
mod remembered;
pub(crate) mod say;
pub(crate) mod sbom;
mod seat;
pub(crate) mod sign;
pub(crate) mod statement;
pub(crate) mod verify;
