//! Build contexts: from what was asked for to a directory that can be scanned, and the Dockerfile in or beside it.
//!
//! A directory is read in place. Archives and checkouts are unpacked into the store's scratch space first, and their own
//! `.dockerignore` does not apply, as in the reference.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mica_cache::{ContextTree, Decision, ScanError, ScanOptions, Scratch, Store};
use mica_image::index::LayerPath;
use mica_image::root_dir::{Links, RootDir};
use mica_parser::dockerignore::{PatternError, Patterns};

use super::request::DockerfileInput;

/// A context on disk.
#[derive(Debug)]
pub(crate) struct BuildContext {
    root: PathBuf,
    ignore: Option<Ignore>,
    /// When it was made, in seconds since 1970, where it says so.
    made: Option<i64>,
    /// Keeps what was unpacked for this build.
    _unpacked: Option<Scratch>,
}

/// An ignore file.
#[derive(Debug, Clone)]
pub(crate) struct Ignore {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub patterns: Arc<Patterns>,
}

/// A Dockerfile, read.
#[derive(Debug)]
pub(crate) struct DockerfileText {
    /// Its name for messages.
    pub name: String,
    /// Where it is on disk, if it is.
    pub path: Option<PathBuf>,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// A context or its Dockerfile could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// The path is not there or cannot be read.
    #[error("cannot read the build context `{}`", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is a file that is no archive.
    #[error("the build context `{}` is neither a directory nor an archive", .0.display())]
    NotAContext(PathBuf),
    /// There is no Dockerfile.
    #[error("failed to read dockerfile: `{}` does not exist", .0.display())]
    NoDockerfile(PathBuf),
    /// The Dockerfile cannot be read.
    #[error("failed to read dockerfile `{}`", path.display())]
    Dockerfile {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ignore file has a pattern that is none.
    #[error("`{}`", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// The line.
        #[source]
        source: PatternError,
    },
    /// The context could not be scanned.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// An archive could not be unpacked.
    #[error("cannot unpack the archive `{name}`")]
    Unpack {
        /// The archive.
        name: String,
        /// Why.
        #[source]
        source: super::archive_tree::UnpackArchiveError,
    },
    /// The store has no room for what was to be unpacked.
    #[error(transparent)]
    Store(#[from] mica_cache::FileError),
    /// Something from the network could not be had.
    #[error(transparent)]
    Fetch(#[from] super::fetch::FetchError),
    /// A named context is of no known form.
    #[error("build context `{name}`: `{value}` {reason}")]
    Named {
        /// Its name.
        name: String,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
}

impl DockerfileText {
    /// Returns another one like it.
    pub(crate) fn copy(&self) -> Self {
        Self { name: self.name.clone(), path: self.path.clone(), text: self.text.clone() }
    }
}

impl BuildContext {
    /// Opens a directory in place.
    pub(crate) fn directory(path: &Path) -> Result<Self, ContextError> {
        let failed = |source| ContextError::Open { path: path.to_owned(), source };
        let root = fs::canonicalize(path).map_err(failed)?;
        if !fs::metadata(&root).map_err(failed)?.is_dir() {
            return Err(ContextError::NotAContext(path.to_owned()));
        }
        Ok(Self { root, ignore: None, made: None, _unpacked: None })
    }

    /// Unpacks an archive.
    pub(crate) fn archive(store: &Store, path: &Path) -> Result<Self, ContextError> {
        let file =
            fs::File::open(path).map_err(|source| ContextError::Open { path: path.to_owned(), source })?;
        let scratch = store.layers().begin()?;
        let name = path.display().to_string();
        let made = super::archive_tree::unpack(io::BufReader::new(file), &scratch.files())
            .map_err(|source| ContextError::Unpack { name, source })?;
        Ok(Self { root: scratch.files(), ignore: None, made, _unpacked: Some(scratch) })
    }

    /// Scratch space that was filled from elsewhere, with what was made at `made`.
    pub(crate) fn fetched(scratch: Scratch, made: Option<i64>) -> Self {
        Self { root: scratch.files(), ignore: None, made, _unpacked: Some(scratch) }
    }

    /// The same, made at another time than its files say.
    pub(crate) fn made_at(self, seconds: i64) -> Self {
        Self { made: Some(seconds), ..self }
    }

    /// A context with nothing in it.
    pub(crate) fn empty(store: &Store) -> Result<Self, ContextError> {
        let scratch = store.layers().begin()?;
        Ok(Self { root: scratch.files(), ignore: None, made: None, _unpacked: Some(scratch) })
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// When it was made, in seconds since 1970, where it says so: a commit, or the files of an archive.
    pub(crate) fn made(&self) -> Option<i64> {
        self.made
    }

    /// Its ignore file, if one applies.
    pub(crate) fn ignore(&self) -> Option<&Ignore> {
        self.ignore.as_ref()
    }

    /// Whether the directory is the user's own, read in place.
    /// Returns whether it is a directory of this machine.
    pub(crate) fn in_place(&self) -> bool {
        self._unpacked.is_none()
    }

    /// Reads a file by its path in the context. What was unpacked or fetched may hold links to anywhere, which end at its top.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if self.in_place() {
            return fs::read(self.root.join(path));
        }
        let root = RootDir::open(&self.root, Links::Inside)?;
        let mut text = Vec::new();
        root.open_linked_file(path.as_os_str().as_bytes())?.read_to_end(&mut text)?;
        Ok(text)
    }

    /// Reads the ignore file that applies: `<Dockerfile>.dockerignore` if there is one, otherwise the root's own.
    pub(crate) fn read_ignore_file(&mut self, dockerfile: Option<&Path>) -> Result<(), ContextError> {
        if !self.in_place() {
            return Ok(());
        }
        let beside = dockerfile.map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        for path in beside.into_iter().chain([self.root.join(".dockerignore")]) {
            match fs::read(&path) {
                Ok(text) => {
                    let patterns = Arc::new(parse_ignore(&path, &text)?);
                    self.ignore = Some(Ignore { path, patterns });
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ContextError::Open { path, source }),
            }
        }
        Ok(())
    }

    /// Scans what steps may take; `wanted` are source words as written, wildcards included.
    pub(crate) fn scan(&self, store: &Store, wanted: &[String]) -> Result<ContextTree, ContextError> {
        let prefixes = prefixes(wanted);
        let patterns = self.ignore.as_ref().map(|ignore| ignore.patterns.clone());
        let ignored = move |path: &[u8], directory: bool| match &patterns {
            None => Decision::Keep,
            Some(patterns) => decide(patterns, path, directory),
        };
        let options = ScanOptions {
            ignored: &ignored,
            wanted: prefixes.as_deref(),
            store: self.in_place().then_some(store),
        };
        Ok(ContextTree::scan(&self.root, &options)?)
    }
}

/// Decides about one path by an ignore file.
pub(crate) fn decide(patterns: &Patterns, path: &[u8], directory: bool) -> Decision {
    if !patterns.decide(path, None).excluded {
        Decision::Keep
    } else if directory && patterns.could_match_below(path) {
        Decision::SkipButDescend
    } else {
        Decision::Skip
    }
}

fn parse_ignore(path: &Path, text: &[u8]) -> Result<Patterns, ContextError> {
    Patterns::parse(text).map_err(|source| ContextError::Ignore { path: path.to_owned(), source })
}

/// The parts of source words before their first wildcard; `None` when everything may be wanted.
fn prefixes(wanted: &[String]) -> Option<Vec<LayerPath>> {
    let mut prefixes = Vec::with_capacity(wanted.len());
    for word in wanted {
        let mut prefix: Vec<&[u8]> = Vec::new();
        for component in word.as_bytes().split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    prefix.pop();
                }
                other if other.iter().any(|byte| b"*?[\\".contains(byte)) => break,
                other => prefix.push(other),
            }
        }
        if prefix.is_empty() {
            return None;
        }
        prefixes.push(prefix.join(&b'/'));
    }
    Some(prefixes)
}

/// Finds and reads the Dockerfile. In a context that was unpacked or fetched no link leads out of it.
pub(crate) fn read_dockerfile(
    input: &DockerfileInput,
    context: &BuildContext,
) -> Result<DockerfileText, ContextError> {
    let (names, given) = match input {
        DockerfileInput::Text(text) => {
            return Ok(DockerfileText { name: "Dockerfile".to_owned(), path: None, text: text.clone() });
        }
        DockerfileInput::Default => (vec![Path::new("Dockerfile"), Path::new("dockerfile")], None),
        DockerfileInput::Path(given) => (vec![given.as_path()], Some(given)),
    };
    let beside = given.map(|given| (given.clone(), fs::read(given)));
    let inside = names.iter().map(|name| (context.root.join(name), context.read(name)));
    let mut candidates: Vec<_> = inside.collect();
    match context.in_place() {
        true => candidates.splice(0..0, beside).for_each(drop),
        false => candidates.extend(beside),
    }
    read_first(candidates)?.ok_or_else(|| {
        ContextError::NoDockerfile(given.cloned().unwrap_or_else(|| context.root.join("Dockerfile")))
    })
}

fn read_first(
    candidates: Vec<(PathBuf, io::Result<Vec<u8>>)>,
) -> Result<Option<DockerfileText>, ContextError> {
    for (path, read) in candidates {
        match read {
            Ok(text) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                return Ok(Some(DockerfileText { name, path: Some(path), text }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ContextError::Dockerfile { path, source }),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_before_a_wildcard_is_a_prefix() {
        let words =
            |words: &[&str]| prefixes(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            words(&["src/", "./a/b*/c", "/x/../y"]),
            Some(vec![b"src".to_vec(), b"a".to_vec(), b"y".to_vec()])
        );
        assert_eq!(words(&["src", "."]), None);
        assert_eq!(words(&["*.txt"]), None);
        assert_eq!(words(&[]), Some(vec![]));
    }
}
