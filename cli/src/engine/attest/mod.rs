//! What is said of images: provenance, lists of packages, and signatures under both.
//!
//! ```text
//! statement    an in-toto statement: a subject and a predicate
//! provenance   the predicate that tells what an image was made from
//! sbom         the predicate that lists the packages in it
//! say          says of the images of a build what was asked for
//! manifest     statements as an image beside the image, the way the reference attaches them
//! ```

pub(crate) mod manifest;
pub(crate) mod provenance;
pub(crate) mod say;
pub(crate) mod sbom;
pub(crate) mod statement;
