//! Paths inside a layer: their order, their form, their parts; and which extended attributes an image may carry.

use std::cmp::Ordering;

/// Orders paths component by component: a directory, then what is in it, then its next sibling.
#[must_use]
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    // A path never holds NUL, so the separator may take its place as the lowest byte.
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((&a, &b)) => rank(a).cmp(&rank(b)),
        None => a.len().cmp(&b.len()),
    }
}

/// Tells whether `path` lies in the directory `directory`, at any depth.
#[must_use]
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.len() > directory.len() && path[directory.len()] == b'/' && path.starts_with(directory)
}

/// Returns the directory that holds `path`; that of a top-level name, and of the root itself, is the root.
#[must_use]
pub fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(&[], |slash| &path[..slash])
}

/// Returns the last component of `path`; that of the root is empty.
#[must_use]
pub fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// Tells whether an extended attribute is part of an image.
///
/// Left out are the bookkeeping of overlayfs and of mica, which would change what a directory shows, and attributes that
/// only mean something on the machine that set them.
#[must_use]
pub fn belongs_to_image(attribute: &[u8]) -> bool {
    const FOREIGN: [&[u8]; 5] =
        [b"trusted.", b"user.overlay.", b"user.mica.", b"security.selinux", b"security.ima"];
    !FOREIGN.iter().any(|prefix| attribute.starts_with(prefix))
}

/// Tells whether `path` has the form every index relies on.
pub(crate) fn is_valid_path(path: &[u8]) -> bool {
    path.is_empty()
        || (!path.contains(&0)
            && path.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")))
}

/// Writes a path for people: with its leading slash, and whatever is not UTF-8 replaced.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_precedes_its_contents_and_these_its_siblings() {
        let ordered: [&[u8]; 7] = [b"", b"a", b"a/b", b"a/b/c", b"a\x01", b"a-b", b"ab"];
        for pair in ordered.windows(2) {
            assert_eq!(compare_paths(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_paths(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_paths(b"a/b", b"a/b"), Ordering::Equal);
    }

    #[test]
    fn below_means_a_whole_component() {
        assert!(is_below(b"a/b", b"a") && is_below(b"a", b"") && is_below(b"a/b/c", b"a/b"));
        assert!(
            !is_below(b"ab", b"a") && !is_below(b"a", b"a") && !is_below(b"", b"") && !is_below(b"a", b"a/b")
        );
    }

    #[test]
    fn parents_and_names() {
        assert_eq!((parent(b"a/b/c"), name(b"a/b/c")), (&b"a/b"[..], &b"c"[..]));
        assert_eq!((parent(b"a"), name(b"a")), (&b""[..], &b"a"[..]));
        assert_eq!((parent(b""), name(b"")), (&b""[..], &b""[..]));
    }

    #[test]
    fn forms_that_are_no_path() {
        for path in [&b"/a"[..], b"a/", b"a//b", b".", b"a/..", b"../a", b"a/./b", b"a\0b"] {
            assert!(!is_valid_path(path), "{}", shown(path));
        }
        assert!(is_valid_path(b"") && is_valid_path(b"a/.b/..c/d e"));
    }

    #[test]
    fn foreign_attributes() {
        assert!(belongs_to_image(b"user.note") && belongs_to_image(b"security.capability"));
        for attribute in
            [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque", b"security.selinux", b"user.mica.owner"]
        {
            assert!(!belongs_to_image(attribute));
        }
    }
}
