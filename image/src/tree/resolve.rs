//! Paths with symbolic links and `..`, resolved inside a tree.

use std::cmp::Ordering;

use super::{FileTree, TreeEntry, TreeError, join};
use crate::index::{LayerPath, Node, parent};

/// More symbolic links than this are a loop.
const MOST_LINKS: u32 = 255;

/// Whether a symbolic link at the very end of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowLast {
    /// Return what the link leads to.
    Yes,
    /// Return the link.
    No,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// How far the path exists, free of symbolic links.
    pub path: LayerPath,
    /// What is there.
    pub entry: TreeEntry,
    /// The components after it that do not exist; empty when all of the path does.
    pub rest: Vec<Vec<u8>>,
}

/// A path could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Symbolic links lead in a circle, or too far.
    #[error("too many symbolic links in `{}`", String::from_utf8_lossy(path))]
    TooManyLinks {
        /// The path as given.
        path: Vec<u8>,
    },
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Resolved {
    /// Returns what is at the path, or `None` when it does not exist.
    #[must_use]
    pub fn existing(&self) -> Option<&TreeEntry> {
        self.rest.is_empty().then_some(&self.entry)
    }

    /// Returns the path with its missing components, free of symbolic links.
    #[must_use]
    pub fn full_path(&self) -> LayerPath {
        self.rest.iter().fold(self.path.clone(), |path, name| join(&path, name))
    }
}

/// Follows `path` from the root of `tree`, and never leaves it: absolute links start again at its root, `..` stops there.
///
/// `path` may be absolute and have `.`, `..` and empty components; one that ends in `/` has its last link followed. After the
/// first component that does not exist, `..` takes back the one before it.
pub fn resolve(tree: &dyn FileTree, path: &[u8], last: FollowLast) -> Result<Resolved, ResolveError> {
    let mut walk = Walk { tree, path: LayerPath::new(), entry: None, rest: Vec::new(), pending: Vec::new() };
    walk.put_before(path);
    let mut links = 0;
    while let Some(component) = walk.pending.pop() {
        let Some(target) = walk.step(component, last)? else { continue };
        links += 1;
        if links.cmp(&MOST_LINKS) == Ordering::Greater {
            return Err(ResolveError::TooManyLinks { path: path.to_vec() });
        }
        walk.put_before(&target);
    }
    walk.finish()
}

struct Walk<'a> {
    tree: &'a dyn FileTree,
    path: LayerPath,
    /// What is at `path`, when it has been looked up.
    entry: Option<TreeEntry>,
    rest: Vec<Vec<u8>>,
    /// Components to come, the next one last.
    pending: Vec<Vec<u8>>,
}

impl Walk<'_> {
    fn put_before(&mut self, path: &[u8]) {
        if path.starts_with(b"/") {
            (self.path, self.entry) = (LayerPath::new(), None);
        }
        self.pending.extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }

    /// Takes one component; returns the target of a link that must be followed instead.
    fn step(&mut self, component: Vec<u8>, last: FollowLast) -> Result<Option<Vec<u8>>, TreeError> {
        match &component[..] {
            b"" | b"." => return Ok(None),
            b".." => {
                if self.rest.pop().is_none() {
                    (self.path, self.entry) = (parent(&self.path).to_vec(), None);
                }
                return Ok(None);
            }
            _ => {}
        }
        if !self.rest.is_empty() {
            self.rest.push(component);
            return Ok(None);
        }
        let path = join(&self.path, &component);
        let Some(found) = self.tree.entry(&path)? else {
            self.rest.push(component);
            return Ok(None);
        };
        if let Node::Symlink { target } = &found.entry.node
            && (last == FollowLast::Yes || !self.pending.is_empty())
        {
            return Ok(Some(target.clone()));
        }
        (self.path, self.entry) = (path, Some(found));
        Ok(None)
    }

    fn finish(self) -> Result<Resolved, ResolveError> {
        let entry = match self.entry {
            Some(entry) => entry,
            None => self.tree.entry(&self.path)?.ok_or_else(|| TreeError::Damaged {
                subject: crate::index::shown(&self.path),
                reason: "it disappeared while a path was resolved".to_owned(),
            })?,
        };
        Ok(Resolved { path: self.path, entry, rest: self.rest })
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::merged;
    use super::*;
    use crate::index::LayerIndex;
    use crate::index::testing::{directory, file, symlink};

    fn shown(path: &str, last: FollowLast) -> String {
        let entries = vec![
            directory("usr/lib"),
            file("usr/lib/so", b""),
            symlink("lib", "usr/lib"),
            symlink("absolute", "/usr/lib"),
            symlink("out", "../../../usr"),
            symlink("usr/lib/up", "../../lib/so"),
            symlink("loop", "loop2"),
            symlink("loop2", "loop"),
            symlink("dangling", "usr/none/deep"),
            symlink("wild", "none/../usr"),
        ];
        let tree = merged(&[LayerIndex::from_entries(entries).unwrap()]);
        match resolve(&tree, path.as_bytes(), last) {
            Ok(found) => {
                let rest: Vec<_> = found.rest.iter().map(|name| String::from_utf8_lossy(name)).collect();
                assert_eq!(found.entry.entry.path, found.path);
                format!("{} + {}", String::from_utf8_lossy(&found.path), rest.join(" "))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn links_stay_inside() {
        let follow = |path| shown(path, FollowLast::Yes);
        assert_eq!(follow("/lib/so"), "usr/lib/so + ");
        assert_eq!(follow("absolute"), "usr/lib + ");
        assert_eq!(follow("out/lib"), "usr/lib + ");
        assert_eq!(follow("lib/up"), "usr/lib/so + ");
        assert_eq!(follow("../../.."), " + ");
        assert_eq!(follow("lib/../x"), "usr + x");
        assert_eq!(follow("loop/x"), "too many symbolic links in `loop/x`");
    }

    #[test]
    fn the_last_link_is_followed_on_demand() {
        assert_eq!(shown("lib", FollowLast::No), "lib + ");
        assert_eq!(shown("lib/", FollowLast::No), "usr/lib + ");
        assert_eq!(shown("lib/up", FollowLast::No), "usr/lib/up + ");
        assert_eq!(shown("loop", FollowLast::No), "loop + ");
    }

    #[test]
    fn what_is_missing_is_told() {
        let follow = |path| shown(path, FollowLast::Yes);
        assert_eq!(follow("a/b//c"), " + a b c");
        assert_eq!(follow("dangling/x"), "usr + none deep x");
        assert_eq!(follow("wild/lib"), "usr/lib + ");
        assert_eq!(follow("lib/so/below"), "usr/lib/so + below");
    }
}
