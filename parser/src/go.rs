//! What Go's standard library reads differently from Rust's: booleans, numbers, paths.

/// Reads a boolean: `1`, `t`, `T`, `true`, `True`, `TRUE` and their opposites.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Reads digits of a base as a 32-bit number; unlike Rust's own, a sign is refused.
pub(crate) fn parse_u32(text: &str, base: u32) -> Option<u32> {
    text.chars().all(|c| c.is_digit(base)).then(|| u32::from_str_radix(text, base).ok()).flatten()
}

/// Returns the shortest path that means the same by words alone: no `.`, no `..` after a name, no doubled or trailing slash.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            ("a/b/", "a/b"),
            ("./a//b/./c/..", "a/b"),
            ("../../a", "../../a"),
            ("a/../..", ".."),
            ("/../a", "/a"),
            ("//", "/"),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("../a/..", ".."),
            ("a/..", "."),
            ("/a/../..", "/"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
