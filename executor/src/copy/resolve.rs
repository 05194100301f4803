//! Following symbolic links inside a root: no link and no `..` leads out of it.

use mica_image::index::{LayerPath, Node};
use mica_image::tree::{FileTree, TreeEntry, TreeError};

use super::paths::{clean, components, is_within, parent, shown};

/// As many links as the reference follows before it gives up.
const MOST_LINKS: usize = 255;

/// A path could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Links lead to links without end.
    #[error("`{path}`: too many levels of symbolic links")]
    TooManyLinks {
        /// The path as asked for.
        path: String,
    },
    /// Something that is no directory is used as one.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// The thing.
        path: String,
    },
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What lies at a path, as far as following links needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Absent,
    Directory,
    Link(Vec<u8>),
    Other,
}

impl Seen {
    pub(super) fn of(entry: Option<&TreeEntry>) -> Self {
        match entry.map(|found| &found.entry.node) {
            None => Self::Absent,
            Some(Node::Directory { .. }) => Self::Directory,
            Some(Node::Symlink { target }) => Self::Link(target.clone()),
            Some(_) => Self::Other,
        }
    }
}

/// Resolves `path` in `tree`; components that do not exist are kept as they are.
pub(super) fn resolve_in(tree: &dyn FileTree, path: &[u8]) -> Result<LayerPath, ResolveError> {
    resolve(path, &mut |path| Ok(Seen::of(tree.entry(path)?.as_ref())))
}

/// Resolves `path` below a root that is only known through `look`.
///
/// Below something absent nothing is looked up: every look is a condition of a cache record.
pub(super) fn resolve(
    path: &[u8],
    look: &mut dyn FnMut(&[u8]) -> Result<Seen, TreeError>,
) -> Result<LayerPath, ResolveError> {
    let mut resolved = LayerPath::new();
    let mut todo: Vec<Vec<u8>> = Vec::new();
    push(&mut todo, &clean(path));
    let mut links = 0;
    while let Some(component) = todo.pop() {
        let here = mica_image::tree::join(&resolved, &component);
        match look(&here)? {
            Seen::Absent => return Ok(append(here, &todo)),
            Seen::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(ResolveError::TooManyLinks { path: shown(&clean(path)) });
                }
                resolved = follow(resolved, &target, &mut todo);
            }
            Seen::Other if !todo.is_empty() => {
                return Err(ResolveError::NotADirectory { path: shown(&here) });
            }
            Seen::Directory | Seen::Other => resolved = here,
        }
    }
    Ok(resolved)
}

/// Steps from `directory` towards a link's target: returns what needs no second look and queues the rest.
fn follow(directory: LayerPath, target: &[u8], todo: &mut Vec<Vec<u8>>) -> LayerPath {
    let aim = if target.starts_with(b"/") {
        clean(target)
    } else {
        clean(&[directory.as_slice(), b"/", target].concat())
    };
    let mut kept = directory.as_slice();
    while !is_within(&aim, kept) {
        kept = parent(kept);
    }
    push(todo, &aim[kept.len()..]);
    kept.to_vec()
}

/// Queues the components of `path` so that the first is on top.
fn push(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    todo.extend(components(path).rev().map(<[u8]>::to_vec));
}

fn append(mut path: LayerPath, todo: &[Vec<u8>]) -> LayerPath {
    for component in todo.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::tests::tree::TestTree;

    #[test]
    fn links_and_dots_stay_inside_the_root() {
        let tree = TestTree::new()
            .dir("srv")
            .file("srv/f", "f")
            .link("abs", "/srv")
            .link("up", "../../../srv")
            .dir("a/b")
            .link("a/b/rel", "../../srv/f")
            .link("a/home", "/nope/x")
            .link("loop", "loop2")
            .link("loop2", "/loop");
        let check = |path: &str, expect: &str| {
            let found = resolve_in(&tree, path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
            assert_eq!(found.unwrap_or_else(|error| error.to_string()), expect, "{path}");
        };
        check("abs/f", "srv/f");
        check("up/f", "srv/f");
        check("a/b/rel", "srv/f");
        check("a/home/y/z", "nope/x/y/z");
        check("abs/../srv", "srv");
        check("missing/../../x/y", "x/y");
        check("srv/f/g", "`/srv/f` is not a directory");
        check("loop", "`/loop`: too many levels of symbolic links");
        check("", "");
    }

    #[test]
    fn nothing_is_looked_up_below_what_is_absent() {
        let tree = TestTree::new().dir("a");
        let mut asked = Vec::new();
        let found = resolve(b"a/b/c/d", &mut |path| {
            asked.push(path.to_vec());
            Ok(Seen::of(tree.entry(path)?.as_ref()))
        });
        assert_eq!(found.unwrap(), b"a/b/c/d");
        assert_eq!(asked, [b"a".to_vec(), b"a/b".to_vec()]);
    }
}
