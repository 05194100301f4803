//! Which entries of a source tree one COPY or ADD takes.
//!
//! Sources are lexical paths below the tree's root. A wildcard matches within one component, dot files included, and does not
//! look through symbolic links; without a match it selects nothing. A source named literally must exist. Whatever a source or a
//! match names is followed through symbolic links, inside the root; links met below it are kept.

use std::sync::Arc;

use mica_image::index::{Entry, LayerPath, Node, Time, TimeKind};
use mica_image::tree::{FileTree, TreeEntry, TreeError, join};

use super::paths::{clean, components, is_within, name};
use super::resolve::{ResolveError, resolve_in};
use super::selection::{Content, Item, Part, Reason, Selection, Shape, counts};

/// What to take from a source tree.
#[derive(Clone, Copy)]
pub struct SelectRequest<'a> {
    /// The sources, in order.
    pub sources: &'a [SourcePattern],
    /// Whether the sources' directories are kept.
    pub layout: Layout,
    /// Patterns of what is left out (`--exclude`), relative to each source.
    pub exclude: &'a [Vec<u8>],
    /// The pattern languages.
    pub patterns: &'a dyn Patterns,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePattern {
    /// The path as written, after expansion of variables.
    pub path: Vec<u8>,
    /// Whether `*`, `?` and `[` in it are wildcards.
    pub wildcards: bool,
}

/// Whether the sources' directories are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Files land in the destination, whatever directory they come from.
    Flat,
    /// The directories of a source, after its `/./` if it has one, are kept (`--parents`).
    Parents,
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid pattern")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
}

/// The two pattern languages of Dockerfiles, lent by the caller.
pub trait Patterns {
    /// Returns whether `name` matches `pattern`, which describes one component (Go's `filepath.Match`).
    fn glob(&self, pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern>;

    /// Compiles patterns as `.dockerignore` has them.
    fn compile(&self, patterns: &[Vec<u8>]) -> Result<Box<dyn PathMatcher>, BadPattern>;
}

/// Compiled `.dockerignore` patterns.
pub trait PathMatcher {
    /// Returns whether the last pattern that matches `path` or a parent of it is not negated.
    fn matches(&self, path: &[u8]) -> bool;

    /// Returns whether a pattern is negated, so that something in a matching directory may not match.
    fn has_negations(&self) -> bool;
}

/// A selection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// A source does not exist.
    #[error("`{source_name}` not found{}", through(source_name, resolved))]
    Missing {
        /// The source as written.
        source_name: String,
        /// Where its links lead.
        resolved: String,
    },
    /// A source cannot be followed.
    #[error("cannot follow `{source_name}`")]
    Resolve {
        /// The source as written.
        source_name: String,
        /// Why.
        #[source]
        source: ResolveError,
    },
    /// A pattern is malformed.
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn through(source: &str, resolved: &str) -> String {
    if clean(source.as_bytes()) == clean(resolved.as_bytes()) {
        return String::new();
    }
    format!(": it leads to `{resolved}`, which does not exist")
}

/// Returns what `request` takes from `tree`.
pub fn select(tree: &dyn FileTree, request: &SelectRequest<'_>) -> Result<Selection, SelectError> {
    let exclude = match request.exclude {
        [] => None,
        patterns => Some(request.patterns.compile(patterns)?),
    };
    let selector = Selector { tree, patterns: request.patterns, exclude };
    let mut items = Vec::new();
    for source in request.sources {
        match request.layout {
            Layout::Flat => selector.flat(source, &mut items)?,
            Layout::Parents => selector.with_parents(source, &mut items)?,
        }
    }
    Ok(Selection { items })
}

struct Selector<'a> {
    tree: &'a dyn FileTree,
    patterns: &'a dyn Patterns,
    exclude: Option<Box<dyn PathMatcher>>,
}

impl Selector<'_> {
    fn flat(&self, source: &SourcePattern, items: &mut Vec<Item>) -> Result<(), SelectError> {
        for matched in self.expand(source, &clean(&source.path))? {
            items.push(self.item(source, &matched, None)?);
        }
        Ok(())
    }

    /// The part of a source before its first `/./` says where to look, the rest is one pattern for everything below.
    fn with_parents(&self, source: &SourcePattern, items: &mut Vec<Item>) -> Result<(), SelectError> {
        let path = &source.path;
        let (start, pattern) = match path.windows(3).position(|window| window == b"/./") {
            Some(pivot) => (clean(&path[..pivot]), clean(&path[pivot + 3..])),
            None => (LayerPath::new(), clean(path)),
        };
        let matcher = match pattern.as_slice() {
            b"" => None,
            pattern => Some(self.patterns.compile(&[pattern.to_vec()])?),
        };
        let found = items.len();
        for matched in self.expand(source, &start)? {
            items.push(self.item(source, &matched, matcher.as_deref())?);
        }
        let literal = !(source.wildcards && has_wildcards(path));
        if literal && items[found..].iter().all(|item| item.parts.is_empty()) && matcher.is_some() {
            return Err(missing(source, &join(&start, &pattern)));
        }
        Ok(())
    }

    /// Returns the paths that a source names, in the order of a walk; the last component is not followed yet.
    fn expand(&self, source: &SourcePattern, path: &[u8]) -> Result<Vec<LayerPath>, SelectError> {
        let all: Vec<&[u8]> = components(path).collect();
        let first = all.iter().position(|component| source.wildcards && has_wildcards(component));
        let Some(first) = first else { return Ok(vec![path.to_vec()]) };
        let (start, _) = self.follow(source, &all[..first].join(&b'/'))?;
        let mut level = vec![start];
        for (depth, component) in all.iter().enumerate().skip(first) {
            let mut next = Vec::new();
            for directory in level {
                self.matches(&directory, component, depth + 1 == all.len(), &mut next)?;
            }
            level = next;
        }
        Ok(level)
    }

    /// Adds what matches one component in `directory`; on the way only real directories are entered.
    fn matches(
        &self,
        directory: &[u8],
        component: &[u8],
        last: bool,
        found: &mut Vec<LayerPath>,
    ) -> Result<(), SelectError> {
        for child in self.tree.children(directory)? {
            if !self.patterns.glob(component, &child)? {
                continue;
            }
            let path = join(directory, &child);
            if last || self.is_directory(&path)? {
                found.push(path);
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &[u8]) -> Result<bool, TreeError> {
        Ok(self.tree.entry(path)?.is_some_and(|found| matches!(found.entry.node, Node::Directory { .. })))
    }

    /// Follows `path`, which must exist.
    fn follow(&self, source: &SourcePattern, path: &[u8]) -> Result<(LayerPath, TreeEntry), SelectError> {
        let resolved = match resolve_in(self.tree, path) {
            Ok(resolved) => resolved,
            // What would have to be a directory on the way is none: for the person the source just does not exist.
            Err(ResolveError::NotADirectory { .. }) => return Err(missing(source, path)),
            Err(error) => {
                let source_name = String::from_utf8_lossy(&source.path).into_owned();
                return Err(SelectError::Resolve { source_name, source: error });
            }
        };
        match self.tree.entry(&resolved)? {
            Some(entry) => Ok((resolved, entry)),
            None => Err(missing(source, &resolved)),
        }
    }

    fn item(
        &self,
        source: &SourcePattern,
        matched: &[u8],
        include: Option<&dyn PathMatcher>,
    ) -> Result<Item, SelectError> {
        let (root, top) = self.follow(source, matched)?;
        let (shape, parts) = if matches!(top.entry.node, Node::Directory { .. }) {
            let shape = Shape::Contents { mtime: uncounted(top.entry.mtime) };
            (shape, self.contents(&root, include)?)
        } else if include.is_some() {
            // The pivot of `--parents` is no directory, so nothing lies below it.
            (Shape::Contents { mtime: uncounted(top.entry.mtime) }, Vec::new())
        } else {
            (Shape::Named(name(matched).to_vec()), vec![part(LayerPath::new(), top, Reason::Chosen)])
        };
        Ok(Item { source: matched.to_vec(), shape, parts })
    }

    /// Returns what is below `root`, as far as it is included and not excluded, with the directories that lead there.
    fn contents(&self, root: &[u8], include: Option<&dyn PathMatcher>) -> Result<Vec<Part>, TreeError> {
        let below = root.len() + usize::from(!root.is_empty());
        let all = self.tree.subtree(root)?;
        // Without patterns they are all taken.
        let count = if include.is_none() && self.exclude.is_none() { all.len() } else { 0 };
        let mut parts = Vec::with_capacity(count);
        let mut leading: Vec<Part> = Vec::new();
        let mut skipped: Option<LayerPath> = None;
        for found in all {
            let path = found.entry.path[below..].to_vec();
            if skipped.as_ref().is_some_and(|directory| is_within(&path, directory)) {
                continue;
            }
            leading.retain(|directory| is_within(&path, &directory.path));
            let excluded = self.exclude.as_ref().is_some_and(|exclude| exclude.matches(&path));
            let chosen = !excluded && include.is_none_or(|include| include.matches(&path));
            if chosen {
                parts.append(&mut leading);
                parts.push(part(path, found, Reason::Chosen));
            } else if matches!(found.entry.node, Node::Directory { .. }) {
                if excluded && !self.exclude.as_ref().is_some_and(|exclude| exclude.has_negations()) {
                    skipped = Some(path);
                } else {
                    leading.push(part(path, found, Reason::Leading));
                }
            }
        }
        Ok(parts)
    }
}

fn part(path: LayerPath, found: TreeEntry, reason: Reason) -> Part {
    let entry = TreeEntry { entry: as_taken(found.entry), ..found };
    Part { path, entry, reason, content: Content::Tree }
}

/// Takes what does not count out of an entry, which stays the tree's own where nothing is to be taken out.
fn as_taken(mut entry: Arc<Entry>) -> Arc<Entry> {
    // Linux has no modes of links; archives and other systems write anything there.
    let mode = if matches!(entry.node, Node::Symlink { .. }) { 0o777 } else { entry.mode };
    // Whether a source's layer hid something below it means nothing where the copy lands.
    let is_opaque = matches!(entry.node, Node::Directory { opaque: true });
    let all_count = entry.xattrs.keys().all(|key| counts(key));
    if entry.mtime.kind == TimeKind::Now && mode == entry.mode && all_count && !is_opaque {
        return entry;
    }
    let taken = Arc::make_mut(&mut entry);
    taken.mtime = uncounted(taken.mtime);
    taken.mode = mode;
    taken.xattrs.retain(|key, _| counts(key));
    if is_opaque {
        taken.node = Node::Directory { opaque: false };
    }
    entry
}

/// A copy keeps a time but does not count it.
fn uncounted(time: Time) -> Time {
    Time { kind: TimeKind::Now, ..time }
}

fn missing(source: &SourcePattern, resolved: &[u8]) -> SelectError {
    SelectError::Missing {
        source_name: String::from_utf8_lossy(&source.path).into_owned(),
        resolved: super::paths::shown(resolved),
    }
}

/// Whether a path has a wildcard that no backslash escapes.
fn has_wildcards(path: &[u8]) -> bool {
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    false
}
