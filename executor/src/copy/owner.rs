//! `--chown`: names become ids by the files of the image that is copied into.

use std::io;

use mica_image::index::Node;
use mica_image::tree::{FileTree, TreeEntry, TreeError};

use super::paths::shown;
use super::resolve::{ResolveError, resolve_in};

/// An owner and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// Reads the whole of a file that a tree shows.
pub trait ContentReader {
    /// Returns the bytes of the regular file `entry`.
    fn read(&self, entry: &TreeEntry) -> io::Result<Vec<u8>>;
}

/// An owner could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The links to the file cannot be followed.
    #[error("cannot look up names in `{path}`")]
    Resolve {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: ResolveError,
    },
    /// The file cannot be read.
    #[error("cannot read `{path}` of the image")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is none.
    #[error("`{path}` of the image is not a regular file")]
    NotAFile {
        /// The path.
        path: String,
    },
}

/// Returns the ids that `spec` (`user`, `user:group`, `:group`) means in `tree`.
///
/// A number without a group sets the group too; a name without a group brings the group of its entry in /etc/passwd. A name that
/// is not known is 0, as in the reference; the second part of the result tells these names so that somebody can warn.
pub fn resolve_owner(
    spec: &str,
    tree: &dyn FileTree,
    reader: &dyn ContentReader,
) -> Result<(Owner, Vec<String>), OwnerError> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let mut owner = Owner::default();
    let mut unknown = Vec::new();
    match number(user) {
        // An empty name is 0 and no name that somebody would look for.
        Some(id) => owner = Owner { uid: id, gid: if user.is_empty() { 0 } else { id } },
        None => match user_in(&read(tree, reader, b"etc/passwd")?, user.as_bytes()) {
            Some(found) => owner = found,
            None => unknown.push(user.to_owned()),
        },
    }
    if let Some(group) = group {
        match number(group) {
            Some(id) => owner.gid = id,
            None => match group_in(&read(tree, reader, b"etc/group")?, group.as_bytes()) {
                Some(gid) => owner.gid = gid,
                None => unknown.push(group.to_owned()),
            },
        }
    }
    Ok((owner, unknown))
}

/// Returns the id that needs no file: a number, `root`, or nothing at all.
fn number(text: &str) -> Option<u32> {
    match text {
        "" | "root" => Some(0),
        text => possible_id(text),
    }
}

/// The highest number is nobody: to the kernel it means “leave as it is”.
fn possible_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Returns the file's bytes; nothing where it does not exist.
fn read(tree: &dyn FileTree, reader: &dyn ContentReader, path: &[u8]) -> Result<Vec<u8>, OwnerError> {
    let resolved = match resolve_in(tree, path) {
        Ok(resolved) => resolved,
        Err(ResolveError::NotADirectory { .. }) => return Ok(Vec::new()),
        Err(source) => return Err(OwnerError::Resolve { path: shown(path), source }),
    };
    let Some(entry) = tree.entry(&resolved)? else { return Ok(Vec::new()) };
    if !matches!(entry.entry.node, Node::File { .. }) {
        return Err(OwnerError::NotAFile { path: shown(&resolved) });
    }
    reader.read(&entry).map_err(|source| OwnerError::Read { path: shown(&resolved), source })
}

fn user_in(passwd: &[u8], user: &[u8]) -> Option<Owner> {
    let fields = line_of(passwd, user)?;
    Some(Owner { uid: id(&fields, 2), gid: id(&fields, 3) })
}

fn group_in(file: &[u8], group: &[u8]) -> Option<u32> {
    line_of(file, group).map(|fields| id(&fields, 2))
}

/// Returns the fields of the first line whose first field is `name`.
fn line_of<'a>(file: &'a [u8], name: &[u8]) -> Option<Vec<&'a [u8]>> {
    file.split(|&byte| byte == b'\n')
        .map(|line| line.trim_ascii().split(|&byte| byte == b':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name)
}

/// A field that is missing or no number counts as 0.
fn id(fields: &[&[u8]], at: usize) -> u32 {
    fields.get(at).and_then(|field| std::str::from_utf8(field).ok()).and_then(possible_id).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::tests::tree::TestTree;

    fn image() -> TestTree {
        TestTree::new()
            .file("real/passwd", "root:x:0:0::/root:/bin/sh\n app:x:1000:1001:::\nshort:x:7\n\nbad:x:a:b\n")
            .file("etc/group", "root:x:0:\nstaff:x:50:app\n")
            .link("etc/passwd", "/real/passwd")
    }

    #[test]
    fn names_and_numbers_become_ids() {
        let tree = image();
        let check = |spec: &str, uid, gid, unknown: &[&str]| {
            let (owner, names) = resolve_owner(spec, &tree, &tree).unwrap();
            assert_eq!(owner, Owner { uid, gid }, "{spec}");
            assert_eq!(names, unknown, "{spec}");
        };
        check("app", 1000, 1001, &[]);
        check("app:staff", 1000, 50, &[]);
        check("app:7", 1000, 7, &[]);
        check("5", 5, 5, &[]);
        check("5:6", 5, 6, &[]);
        check("4000000000:1", 4_000_000_000, 1, &[]);
        check(":staff", 0, 50, &[]);
        check("app:", 1000, 0, &[]);
        check("root", 0, 0, &[]);
        check("short", 7, 0, &[]);
        check("bad", 0, 0, &[]);
        check("4294967295:4294967295", 0, 0, &["4294967295", "4294967295"]);
        check("nobody:none", 0, 0, &["nobody", "none"]);
    }

    #[test]
    fn an_image_without_files_knows_nobody() {
        let tree = TestTree::new().file("etc", "not a directory");
        assert_eq!(resolve_owner("app", &tree, &tree).unwrap(), (Owner::default(), vec!["app".to_owned()]));
        let tree = TestTree::new().dir("etc/passwd");
        let error = resolve_owner("app", &tree, &tree).unwrap_err();
        assert_eq!(error.to_string(), "`/etc/passwd` of the image is not a regular file");
    }

    #[test]
    fn numbers_ask_the_image_nothing() {
        let tree = TestTree::unreadable();
        assert_eq!(resolve_owner("8:9", &tree, &tree).unwrap().0, Owner { uid: 8, gid: 9 });
    }
}
