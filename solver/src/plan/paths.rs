//! Paths inside an image, as text: always with forward slashes, never touching a disk.

pub(super) use mica_parser::go::clean;

/// Joins `path` to `base` and cleans the result, whether or not `path` is absolute.
pub(super) fn join(base: &str, path: &str) -> String {
    clean(&format!("{base}/{path}"))
}

/// Returns `path` seen from the directory `base`: cleaned when it was relative, untouched when absolute.
pub(super) fn resolve(base: &str, path: &str) -> String {
    match path {
        "" => resolve("/", base),
        _ if path.starts_with('/') => path.to_owned(),
        _ => join(&join("/", base), path),
    }
}

/// Like [`resolve`] for a destination, where a trailing `/` or `/.` has a meaning and stays.
pub(super) fn resolve_destination(base: &str, path: &str) -> String {
    // An empty or `.` destination is the directory itself, never a file of that name.
    let path = if matches!(path, "" | ".") { "./" } else { path };
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut resolved = resolve(base, path);
    if path.ends_with('/') && !resolved.ends_with('/') {
        resolved.push('/');
    } else if path.ends_with("/.") {
        if resolved != "/" {
            resolved.push('/');
        }
        resolved.push('.');
    }
    resolved
}

/// Returns the last component: `.` of an empty path, `/` of the root.
pub(super) fn base_name(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_keep_what_a_trailing_slash_says() {
        let cases = [
            ("/w", "d", "/w/d"),
            ("/w", "d/", "/w/d/"),
            ("/w", ".", "/w/"),
            ("/w", "", "/w/"),
            ("/", ".", "/"),
            ("/w", "d/.", "/w/d/."),
            ("/w", "/abs/", "/abs/"),
            ("/w", "../x", "/x"),
            ("/", "/.", "/."),
            ("/w", "./", "/w/"),
        ];
        for (base, path, expected) in cases {
            assert_eq!(resolve_destination(base, path), expected, "{path:?} in {base}");
        }
    }

    #[test]
    fn base_names() {
        let cases = [("", "."), ("/", "/"), ("/a/b", "b"), ("a/", "a"), ("x", "x")];
        for (path, expected) in cases {
            assert_eq!(base_name(path), expected, "{path:?}");
        }
    }
}
