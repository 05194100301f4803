//! Where the bytes of an image are, and which of them nobody needs: files that later layers overwrite or delete, duplicates, and
//! caches that were left behind.

use std::collections::{BTreeMap, HashMap};

use mica_image::FileDigest;
use mica_image::index::{LayerPath, Node, is_below};
use mica_image::tree::FileTree;

use super::history::{HistoryLine, LookError, OpenImage};

/// Duplicates of files smaller than this are not worth a line.
const SMALLEST_DUPLICATE: u64 = 4096;

/// Directories that programs fill for themselves, and what keeps them out of an image.
const CACHES: [(&str, &str); 17] = [
    ("var/lib/apt/lists", "end that RUN with `rm -rf /var/lib/apt/lists/*`"),
    ("var/cache/apt", "add `--mount=type=cache,target=/var/cache/apt`, or `apt-get clean` in the same RUN"),
    ("var/cache/apk", "use `apk add --no-cache`"),
    ("var/cache/dnf", "end that RUN with `dnf clean all`"),
    ("var/cache/yum", "end that RUN with `yum clean all`"),
    ("root/.cache", "add `--mount=type=cache,target=/root/.cache` to that RUN"),
    ("root/.npm", "add `--mount=type=cache,target=/root/.npm` to that RUN"),
    ("root/.cargo/registry", "add `--mount=type=cache,target=/root/.cargo/registry` to that RUN"),
    ("usr/local/cargo/registry", "add `--mount=type=cache,target=/usr/local/cargo/registry` to that RUN"),
    ("go/pkg/mod", "add `--mount=type=cache,target=/go/pkg/mod` to that RUN"),
    ("root/go/pkg/mod", "add `--mount=type=cache,target=/root/go/pkg/mod` to that RUN"),
    ("root/.m2", "add `--mount=type=cache,target=/root/.m2` to that RUN"),
    ("root/.gradle", "add `--mount=type=cache,target=/root/.gradle` to that RUN"),
    ("usr/local/share/.cache", "add `--mount=type=cache,target=/usr/local/share/.cache` to that RUN"),
    ("var/log", "remove it in the same RUN"),
    ("var/tmp", "remove it in the same RUN, or add `--mount=type=tmpfs,target=/var/tmp`"),
    ("tmp", "remove it in the same RUN, or add `--mount=type=tmpfs,target=/tmp`"),
];

/// The bytes of an image.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Sizes {
    /// Bytes of all files in all layers.
    pub total: u64,
    /// Instructions with a layer, from the base up.
    pub layers: Vec<HistoryLine>,
    /// Bytes that could be saved, the most first.
    pub waste: Vec<Waste>,
}

/// Bytes that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Waste {
    /// What kind.
    pub kind: WasteKind,
    /// The path, with its leading slash.
    pub path: String,
    /// How many bytes.
    pub bytes: u64,
    /// The instruction that brought them.
    pub by: String,
    /// What to do.
    pub advice: String,
}

/// Why bytes are not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum WasteKind {
    Overwritten,
    Deleted,
    Duplicate,
    Cache,
}

/// Measures an image.
pub(crate) fn sizes(image: &OpenImage) -> Result<Sizes, LookError> {
    let mut waste = hidden(image);
    waste.extend(shown(image)?);
    waste.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (a.kind, &a.path).cmp(&(b.kind, &b.path))));
    let layers: Vec<_> = image.history.iter().filter(|line| line.layer.is_some()).cloned().collect();
    Ok(Sizes { total: layers.iter().filter_map(|line| line.size).sum(), layers, waste })
}

/// A file as one layer has it.
struct Brought {
    layer: usize,
    bytes: u64,
    digest: FileDigest,
}

/// Files that are in a layer and not in the image.
fn hidden(image: &OpenImage) -> Vec<Waste> {
    let mut files: BTreeMap<LayerPath, Brought> = BTreeMap::new();
    let mut waste = Vec::new();
    for (layer, opened) in image.layers.iter().enumerate() {
        for entry in &opened.index.entries {
            if !matches!(entry.node, Node::Directory { opaque: false }) {
                let keeps_itself = matches!(entry.node, Node::Directory { .. });
                for (path, old) in take_below(&mut files, &entry.path, keeps_itself) {
                    let again = match &entry.node {
                        Node::File { digest, .. } if path == entry.path => Some(*digest == old.digest),
                        _ => None,
                    };
                    waste.extend(lost(image, &path, &old, layer, again));
                }
            }
        }
        for entry in &opened.index.entries {
            if let Node::File { size, digest, .. } = &entry.node {
                files.insert(entry.path.clone(), Brought { layer, bytes: *size, digest: *digest });
            }
        }
    }
    waste
}

/// Takes out what an entry at `path` hides: what is below it, and unless it is a directory what is there.
fn take_below(
    files: &mut BTreeMap<LayerPath, Brought>,
    path: &[u8],
    keeps_itself: bool,
) -> Vec<(LayerPath, Brought)> {
    let from = files.range(path.to_vec()..);
    let prefix = |known: &LayerPath| known.starts_with(path);
    let is_hidden = |known: &LayerPath| is_below(known, path) || (!keeps_itself && known == path);
    let keys: Vec<_> = from
        .map(|(known, _)| known)
        .take_while(|known| prefix(known))
        .filter(|known| is_hidden(known))
        .cloned()
        .collect();
    keys.into_iter().filter_map(|key| files.remove_entry(&key)).collect()
}

/// `again`: whether the layer has the same content at the same path once more; nothing where it has no file there.
fn lost(image: &OpenImage, path: &[u8], old: &Brought, by: usize, again: Option<bool>) -> Option<Waste> {
    if old.bytes == 0 {
        return None;
    }
    let later = image.line(by).place();
    let (kind, advice) = match again {
        None => (WasteKind::Deleted, format!("removed again by {later}: remove it in the RUN that makes it")),
        Some(true) => (
            WasteKind::Overwritten,
            format!("stored again by {later}: set owner and mode where it is made (`COPY --chown --chmod`)"),
        ),
        Some(false) => (WasteKind::Overwritten, format!("overwritten by {later}: bring the final file only")),
    };
    let (path, by) = (shown_path(path), image.line(old.layer).place());
    Some(Waste { kind, path, bytes: old.bytes, by, advice })
}

/// Duplicates and caches among the files the image shows.
fn shown(image: &OpenImage) -> Result<Vec<Waste>, LookError> {
    let mut by_digest: HashMap<FileDigest, Vec<(LayerPath, u64)>> = HashMap::new();
    let mut caches: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let mut seen_links = std::collections::HashSet::new();
    for found in image.tree.subtree(b"")? {
        let Node::File { size, digest, .. } = &found.entry.node else { continue };
        if found.link.is_some_and(|link| !seen_links.insert(link)) {
            continue;
        }
        let path = &found.entry.path;
        if let Some(cache) = CACHES.iter().position(|(directory, _)| is_below(path, directory.as_bytes())) {
            if let Some((layer, _)) = image.last_deed(path) {
                *caches.entry((cache, layer)).or_default() += size;
            }
        } else if *size >= SMALLEST_DUPLICATE {
            by_digest.entry(*digest).or_default().push((path.clone(), *size));
        }
    }
    let mut waste: Vec<Waste> = by_digest.into_values().flat_map(|same| duplicates(image, &same)).collect();
    waste.extend(caches.into_iter().filter(|(_, bytes)| *bytes > 0).map(|((cache, layer), bytes)| Waste {
        kind: WasteKind::Cache,
        path: format!("/{}", CACHES[cache].0),
        bytes,
        by: image.line(layer).place(),
        advice: CACHES[cache].1.to_owned(),
    }));
    Ok(waste)
}

/// All but the first of the paths that have one content; those of the base are its own business.
fn duplicates(image: &OpenImage, same: &[(LayerPath, u64)]) -> Vec<Waste> {
    let Some(((first, _), others)) = same.split_first() else { return Vec::new() };
    let advice = format!("the same as {}: link to it", shown_path(first));
    let others = others.iter().filter_map(|(path, bytes)| {
        let (layer, _) = image.last_deed(path)?;
        let line = image.line(layer);
        line.line?;
        let (path, by) = (shown_path(path), line.place());
        Some(Waste { kind: WasteKind::Duplicate, path, bytes: *bytes, by, advice: advice.clone() })
    });
    others.collect()
}

fn shown_path(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_hides_what_is_below_it() {
        let brought = || Brought { layer: 0, bytes: 1, digest: FileDigest::of(b"x") };
        let paths = ["a", "a-b", "a/x", "a/y/z", "ab", "b"];
        let files = || -> BTreeMap<LayerPath, Brought> {
            paths.iter().map(|path| (path.as_bytes().to_vec(), brought())).collect()
        };
        let taken = |path: &str, keeps_itself| -> Vec<String> {
            let taken = take_below(&mut files(), path.as_bytes(), keeps_itself);
            taken.into_iter().map(|(path, _)| String::from_utf8(path).unwrap()).collect()
        };
        assert_eq!(taken("a", false), ["a", "a/x", "a/y/z"]);
        assert_eq!(taken("a", true), ["a/x", "a/y/z"]);
        assert_eq!(taken("", true).len(), paths.len());
        assert_eq!(taken("c", false).len(), 0);
    }
}
