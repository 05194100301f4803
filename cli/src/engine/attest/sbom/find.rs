//! Which files tell of packages.

use std::io::Read as _;

use mica_cache::LayerError;
use mica_cache::layer::LayerReader;
use mica_image::index::{Bytes, Node, name};
use mica_image::tree::{FileTree, TreeEntry, TreeError};

use super::{Inventory, Package, language, system};

/// A list of packages larger than this is none.
const LIST_MAX: u64 = 64 << 20;
/// A program larger than this is not looked into.
const PROGRAM_MAX: u64 = 256 << 20;
/// The databases of rpm.
const RPM: [&str; 6] = [
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
];

/// The packages of a tree could not be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SbomError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file could not be read.
    #[error("cannot read `{path}` of the image")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Lists the packages of a tree.
pub(super) fn inventory(tree: &dyn FileTree, reader: &LayerReader) -> Result<Inventory, SbomError> {
    let mut found = Inventory::default();
    for entry in tree.subtree(b"")? {
        let Node::File { size, bytes, .. } = &entry.entry.node else { continue };
        let path = String::from_utf8_lossy(&entry.entry.path).into_owned();
        let Some(kind) = kind(&path, &entry, *size) else { continue };
        let file = FoundFile { reader, path: &path, bytes };
        match kind {
            Kind::Rpm => found.unread.push(format!("/{path}")),
            Kind::Distribution => found.distribution = system::distribution(&file.text()?),
            _ => found.packages.extend(packages(kind, &file)?),
        }
    }
    found.packages.sort();
    found.packages.dedup();
    // `/etc/os-release` mostly is a link to this file, which is read in its place.
    Ok(found)
}

/// What a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dpkg,
    Apk,
    Rpm,
    Distribution,
    Python,
    Npm,
    CargoLock,
    Program,
}

fn kind(path: &str, entry: &TreeEntry, size: u64) -> Option<Kind> {
    let named = by_name(path).filter(|_| size <= LIST_MAX);
    let is_program = entry.entry.mode & 0o111 != 0 && (64..=PROGRAM_MAX).contains(&size);
    named.or_else(|| is_program.then_some(Kind::Program))
}

fn by_name(path: &str) -> Option<Kind> {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    let above = |directory: &str| directory.rsplit('/').next().unwrap_or_default().to_owned();
    match path {
        "var/lib/dpkg/status" => return Some(Kind::Dpkg),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => return Some(Kind::Apk),
        "etc/os-release" | "usr/lib/os-release" => return Some(Kind::Distribution),
        _ if RPM.contains(&path) => return Some(Kind::Rpm),
        _ => {}
    }
    match file {
        _ if directory == "var/lib/dpkg/status.d" => (!file.ends_with(".md5sums")).then_some(Kind::Dpkg),
        "METADATA" if directory.ends_with(".dist-info") => is_installed(directory).then_some(Kind::Python),
        "PKG-INFO" if directory.ends_with(".egg-info") => is_installed(directory).then_some(Kind::Python),
        _ if file.ends_with(".egg-info") => is_installed(path).then_some(Kind::Python),
        "package.json" => {
            let parent = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
            let scope = above(parent);
            let holder = if scope.starts_with('@') {
                parent.rsplit_once('/').map_or("", |(holder, _)| holder)
            } else {
                parent
            };
            (above(holder) == "node_modules").then_some(Kind::Npm)
        }
        // What cargo keeps of other packages is not what was built from them.
        "Cargo.lock" => {
            (!path.contains("cargo/registry/") && !path.contains("cargo/git/")).then_some(Kind::CargoLock)
        }
        _ => None,
    }
}

/// Whether what describes a Python package lies where python looks for packages; some bring others inside themselves.
fn is_installed(path: &str) -> bool {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    matches!(name(parent.as_bytes()), b"site-packages" | b"dist-packages")
}

fn packages(kind: Kind, file: &FoundFile<'_>) -> Result<Vec<Package>, SbomError> {
    let path = format!("/{}", file.path);
    Ok(match kind {
        Kind::Dpkg => system::dpkg(&file.text()?, &path),
        Kind::Apk => system::apk(&file.text()?, &path),
        Kind::Python => language::python(&file.text()?, &path).into_iter().collect(),
        Kind::Npm => language::npm(&file.text()?, &path).into_iter().collect(),
        Kind::CargoLock => language::cargo_lock(&file.text()?, &path),
        Kind::Program => match file.program()? {
            Some(program) => language::cargo_program(&program, &path),
            None => Vec::new(),
        },
        Kind::Rpm | Kind::Distribution => Vec::new(),
    })
}

/// A file of a merged tree.
struct FoundFile<'a> {
    reader: &'a LayerReader,
    path: &'a str,
    bytes: &'a Bytes,
}

impl FoundFile<'_> {
    fn open(&self) -> Result<std::fs::File, SbomError> {
        match self.bytes {
            Bytes::In { layer, path } => Ok(self.reader.open(layer, path, &Bytes::Here)?),
            Bytes::Here => Err(self.failed(std::io::Error::other("not a file of a layer"))),
        }
    }

    fn text(&self) -> Result<String, SbomError> {
        let mut bytes = Vec::new();
        self.open()?.take(LIST_MAX).read_to_end(&mut bytes).map_err(|source| self.failed(source))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a program; none where the file is another thing that may be executed.
    fn program(&self) -> Result<Option<Vec<u8>>, SbomError> {
        let (mut file, mut bytes) = (self.open()?.take(PROGRAM_MAX), vec![0; 4]);
        let read = file.read_exact(&mut bytes).and_then(|()| match bytes.as_slice() {
            b"\x7fELF" => file.read_to_end(&mut bytes).map(|_| true),
            _ => Ok(false),
        });
        match read {
            Ok(is_program) => Ok(is_program.then_some(bytes)),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: std::io::Error) -> SbomError {
        SbomError::File { path: self.path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_known_by_their_place() {
        let python = "usr/lib/python3/dist-packages";
        for (path, expected) in [
            ("var/lib/dpkg/status", Some(Kind::Dpkg)),
            ("var/lib/dpkg/status.d/base", Some(Kind::Dpkg)),
            ("var/lib/dpkg/status.d/base.md5sums", None),
            ("lib/apk/db/installed", Some(Kind::Apk)),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", Some(Kind::Rpm)),
            (&format!("{python}/pip-23.0.dist-info/METADATA"), Some(Kind::Python)),
            (&format!("{python}/wheel-0.38.egg-info"), Some(Kind::Python)),
            (&format!("{python}/six.egg-info/PKG-INFO"), Some(Kind::Python)),
            (&format!("{python}/setuptools/_vendor/zipp-3.dist-info/METADATA"), None),
            ("app/node_modules/left-pad/package.json", Some(Kind::Npm)),
            ("app/node_modules/@types/node/package.json", Some(Kind::Npm)),
            ("app/node_modules/a/lib/package.json", None),
            ("app/package.json", None),
            ("src/Cargo.lock", Some(Kind::CargoLock)),
            ("root/.cargo/registry/src/x/Cargo.lock", None),
            ("Cargo.lock", Some(Kind::CargoLock)),
        ] {
            assert_eq!(by_name(path), expected, "{path}");
        }
    }
}
