//! The git commit a context is at, read from its repository without running git.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the commit that is checked out in the repository around `directory`, if there is one.
///
/// Only told to people: what cannot be read is not known.
pub(crate) fn commit_of(directory: &Path) -> Option<String> {
    let git = directory.ancestors().map(|above| above.join(".git")).find(|git| git.exists())?;
    let git = if git.is_file() { linked(&git)? } else { git };
    let head = read(&git.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else { return commit(&head) };
    let common = read(&git.join("commondir")).map_or_else(|| git.clone(), |path| git.join(path));
    [&git, &common]
        .iter()
        .find_map(|home| read(&home.join(name)))
        .or_else(|| packed(&read(&common.join("packed-refs"))?, name))
        .and_then(|text| commit(&text))
}

/// A working tree of its own has a file that says where its repository is.
fn linked(file: &Path) -> Option<PathBuf> {
    let text = read(file)?;
    Some(file.parent()?.join(text.strip_prefix("gitdir: ")?))
}

fn packed(refs: &str, name: &str) -> Option<String> {
    refs.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, known)| *known == name)
        .map(|(id, _)| id.to_owned())
}

fn commit(text: &str) -> Option<String> {
    let is_id = text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.to_owned())
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_packed_names_and_bare_commits_are_found() {
        let home = tempfile::tempdir().unwrap();
        let git = home.path().join(".git");
        let below = home.path().join("sub/dir");
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        fs::create_dir_all(&below).unwrap();
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(commit_of(&below), None);
        fs::write(git.join("packed-refs"), format!("# pack-refs\n{one} refs/heads/main\n")).unwrap();
        assert_eq!(commit_of(&below), Some(one.clone()));
        fs::write(git.join("refs/heads/main"), format!("{two}\n")).unwrap();
        assert_eq!(commit_of(&below), Some(two));
        fs::write(git.join("HEAD"), format!("{one}\n")).unwrap();
        assert_eq!(commit_of(&below), Some(one));
    }
}
