//! Where a lock file lies: beside the Dockerfile, at the top of the context, or where `--lock-file` says.

use std::io;
use std::path::{Path, PathBuf};

use super::file::{InvalidLock, LockFile};
use crate::engine::context::{BuildContext, DockerfileText};
use crate::engine::request::{LockMode, LockUse};

/// A file larger than this is no lock.
const SIZE_MAX: u64 = 16 << 20;
/// What messages call a lock that is no file.
const GIVEN: &str = "the provenance";
/// The usual name.
const NAME: &str = "mica.lock";

/// A lock file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says.
    pub file: LockFile,
    /// Whether what it does not cover is refused.
    pub strict: bool,
}

/// A lock file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// It could not be read.
    #[error("cannot read the lock file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has a mistake.
    #[error("the lock file `{}` cannot be used", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which.
        #[source]
        source: InvalidLock,
    },
    /// There is none.
    #[error("`--locked` needs a lock file, and there is no `{}`", .0.display())]
    Missing(PathBuf),
    /// The context itself comes from a place that no lock covers.
    #[error("`--locked` does not allow the context `{0}`, which no lock file covers")]
    Context(String),
}

impl LockError {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => Some("`mica lock` with the same arguments makes one".to_owned()),
            Self::Invalid { source: InvalidLock::Version(_), .. } => None,
            Self::Invalid { .. } => Some("mend it, or remove it and run `mica lock`".to_owned()),
            Self::Context(_) => Some("name a whole commit id: `URL#COMMIT`".to_owned()),
            Self::Read { .. } => None,
        }
    }
}

/// Finds and reads the lock file of a build.
pub(crate) fn find(
    wanted: &LockUse,
    context: &BuildContext,
    dockerfile: &DockerfileText,
) -> Result<Option<Lock>, LockError> {
    if let Some(given) = &wanted.given {
        return Ok(Some(Lock { path: GIVEN.into(), file: given.clone(), strict: true }));
    }
    let strict = match wanted.mode {
        LockMode::Ignored => return Ok(None),
        LockMode::WhenThere => false,
        LockMode::Required => true,
    };
    let places = places(wanted, context, dockerfile);
    for path in &places {
        if let Some(file) = read(path, context)? {
            return Ok(Some(Lock { path: path.clone(), file, strict }));
        }
    }
    match (strict, &wanted.file) {
        (true, _) => Err(LockError::Missing(places.into_iter().next().unwrap_or_default())),
        (false, Some(path)) => {
            Err(LockError::Read { path: path.clone(), source: io::ErrorKind::NotFound.into() })
        }
        (false, None) => Ok(None),
    }
}

/// Where a lock file may lie, the first that is there counting.
pub(super) fn places(wanted: &LockUse, context: &BuildContext, dockerfile: &DockerfileText) -> Vec<PathBuf> {
    if let Some(path) = &wanted.file {
        return vec![path.clone()];
    }
    let beside = dockerfile.path.as_deref().and_then(Path::parent).map(|directory| directory.join(NAME));
    let mut places: Vec<PathBuf> = beside.into_iter().collect();
    let top = context.root().join(NAME);
    if !places.contains(&top) {
        places.push(top);
    }
    places
}

/// Reads a lock file; none where there is no file.
///
/// Of a context that was fetched nothing outside it is read, whatever its links say.
pub(super) fn read(path: &Path, context: &BuildContext) -> Result<Option<LockFile>, LockError> {
    let failed = |source| LockError::Read { path: path.to_owned(), source };
    let inside = path.strip_prefix(context.root()).ok().filter(|_| !context.in_place());
    let found = match inside {
        Some(inside) => context.read(inside),
        None => read_file(path),
    };
    let bytes = match found {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let text = String::from_utf8(bytes).map_err(|_| failed(io::Error::other("it is no text")))?;
    let invalid = |source| LockError::Invalid { path: path.to_owned(), source };
    LockFile::parse(&text).map(Some).map_err(invalid)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let told = std::fs::metadata(path)?;
    match told.is_file() && told.len() <= SIZE_MAX {
        true => std::fs::read(path),
        false => Err(io::Error::other("it is no file, or larger than any lock")),
    }
}
