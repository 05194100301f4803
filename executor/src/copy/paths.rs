//! Paths as COPY and ADD read them: lexical, byte for byte, always below the root.

use mica_image::index::{LayerPath, is_below};

pub(super) use mica_image::index::{compare_paths, name, parent};

/// Joins a destination as written to the working directory, keeping the trailing `/` or `/.` that makes it a directory.
///
/// An empty destination is the working directory itself. The result is absolute; everything but its end is cleaned.
#[must_use]
pub fn destination_path(workdir: &[u8], destination: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(workdir.len() + destination.len() + 2);
    if !destination.starts_with(b"/") {
        joined.extend_from_slice(workdir);
    }
    joined.push(b'/');
    joined.extend_from_slice(destination);
    let directory = destination.is_empty() || destination == b"." || names_a_directory(destination);
    let mut path = vec![b'/'];
    path.extend(clean(&joined));
    if directory && path.len() > 1 {
        path.push(b'/');
    }
    path
}

/// Whether a path as written says that it is a directory.
pub(super) fn names_a_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// Resolves `.`, `..` and repeated slashes in the text alone; `..` stops at the root.
pub(super) fn clean(path: &[u8]) -> LayerPath {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in components(path) {
        match component {
            b"." => {}
            b".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    kept.join(&b'/')
}

/// Returns the non-empty components of a path.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
}

/// Whether the cleaned `path` is `directory` or lies below it.
pub(super) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path == directory || is_below(path, directory)
}

/// A path for people: with its leading slash, lossy where it is no text.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_join_to_the_working_directory() {
        let check = |workdir: &str, destination: &str, expect: &str| {
            let joined = destination_path(workdir.as_bytes(), destination.as_bytes());
            assert_eq!(String::from_utf8(joined).unwrap(), expect, "{destination} in {workdir}");
        };
        check("/w/x", "", "/w/x/");
        check("/w/x", ".", "/w/x/");
        check("/w/x", "./", "/w/x/");
        check("/w/x", "..", "/w");
        check("/w/x", "../up", "/w/up");
        check("/w/x", "sub/.", "/w/x/sub/");
        check("/w/x", "./b", "/w/x/b");
        check("/w/x", "/abs//y/", "/abs/y/");
        check("/", "/", "/");
        check("/", "../../a", "/a");
        check("", "a", "/a");
    }

    #[test]
    fn cleaning_stays_below_the_root() {
        let check =
            |path: &str, expect: &str| assert_eq!(clean(path.as_bytes()), expect.as_bytes(), "{path}");
        check("/a/../../b", "b");
        check("./dir/../a", "a");
        check("a//b/./c/", "a/b/c");
        check("..", "");
        check("/", "");
    }

    #[test]
    fn within_is_by_component() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b"));
    }
}
