//! The packages in an image, read from what package managers leave behind. Nothing is run, and no network is asked.
//!
//! ```text
//! find      which files of the tree tell of packages, and reading them
//! system    dpkg (status, status.d) and apk
//! language  pip, npm and cargo
//! spdx      the list as an SPDX 2.3 document
//! ```
//!
//! The databases of rpm are not read; a tree that has one gets a document that says so.

mod find;
mod language;
mod spdx;
mod system;

pub(crate) use find::SbomError;
pub(crate) use spdx::sbom;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manager {
    /// dpkg.
    Deb,
    /// apk.
    Apk,
    /// pip and its like.
    Pypi,
    /// npm and its like.
    Npm,
    /// cargo.
    Cargo,
}

impl Manager {
    /// Returns the type of its package URLs.
    pub(crate) const fn purl_type(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Pypi => "pypi",
            Self::Npm => "npm",
            Self::Cargo => "cargo",
        }
    }
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Who put it there.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// Its version, as the manager writes it.
    pub version: String,
    /// What it runs on, where that is said.
    pub architecture: Option<String>,
    /// The file it was found in, with its leading slash.
    pub found_in: String,
}

/// What a tree has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Its packages, sorted.
    pub packages: Vec<Package>,
    /// The distribution's id, of `/etc/os-release`.
    pub distribution: Option<String>,
    /// Databases that are there and were not read.
    pub unread: Vec<String>,
}
