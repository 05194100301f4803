//! What holds for every placement.

use mica_image::LayerIndex;
use mica_image::index::{Node, compare_paths, parent};
use proptest::prelude::*;

use super::support::{copy, place_on};
use super::tree::TestTree;
use crate::copy::{Placement, Shape};

/// Adds an entry; later ones replace earlier ones, files on the way to them included.
fn add(tree: TestTree, path: &str, kind: u8) -> TestTree {
    use mica_image::tree::FileTree;
    let taken = |path: &str| tree.entry(path.as_bytes()).unwrap().is_some();
    let above_is_no_directory = path.match_indices('/').any(|(slash, _)| {
        let above = tree.entry(&path.as_bytes()[..slash]).unwrap();
        above.is_some_and(|found| !matches!(found.entry.node, Node::Directory { .. }))
    });
    if taken(path) || above_is_no_directory {
        return tree;
    }
    match kind {
        0 => tree.dir(path),
        1 => tree.link(path, "../a/b"),
        2 => tree.link(path, "/c"),
        3 => tree.fifo(path),
        _ => tree.file(path, path),
    }
}

fn trees() -> impl Strategy<Value = TestTree> {
    let entry = ("[a-c](/[a-c]){0,3}", 0_u8..8);
    prop::collection::vec(entry, 0..12).prop_map(|entries| {
        entries.into_iter().fold(TestTree::new(), |tree, (path, kind)| add(tree, &path, kind))
    })
}

fn check(placement: &Placement) {
    let entries: Vec<_> = placement.entries.iter().map(|placed| &placed.entry).collect();
    for pair in entries.windows(2) {
        assert!(compare_paths(&pair[0].path, &pair[1].path).is_lt(), "{:?}", pair);
    }
    for entry in &entries {
        assert!(
            !entry.path.is_empty()
                && !entry.path.split(|&byte| byte == b'/').any(|name| matches!(name, b"" | b"." | b".."))
        );
        let above = parent(&entry.path);
        let is_directory = |path: &[u8]| {
            entries.iter().any(|other| other.path == path && matches!(other.node, Node::Directory { .. }))
        };
        assert!(above.is_empty() || is_directory(above), "{entry:?} has no directory");
    }
    for placed in &placement.entries {
        let is_file = matches!(placed.entry.node, Node::File { .. });
        assert_eq!(is_file, placed.origin.is_some(), "{placed:?}");
    }
    LayerIndex::from_entries(entries.into_iter().cloned().collect()).expect("every placement is a layer");
}

proptest! {
    #[test]
    fn every_placement_is_a_layer(
        source in trees(),
        image in trees(),
        sources in prop::collection::vec("([a-c*]/?){1,3}|\\.", 1..3),
        to in "(/[a-c]|/\\.\\.){1,3}/?",
        parents in any::<bool>(),
    ) {
        let names: Vec<&str> = sources.iter().map(String::as_str).collect();
        let request = if parents { copy(&names).parents() } else { copy(&names) };
        if let Ok(placement) = request.place(&source, &image, &to) {
            check(&placement);
            let again = request.place(&source, &image, &to).unwrap();
            prop_assert_eq!(placement, again);
        }
    }

    #[test]
    fn every_extraction_is_a_layer(members in trees(), image in trees(), to in "(/[a-c]|/\\.\\.){0,3}/") {
        let mut selection = copy(&["."]).select(&members).unwrap();
        for item in &mut selection.items {
            item.shape = Shape::Members;
        }
        if let Ok(placement) = place_on(&[&selection], &image, &to, None, None) {
            check(&placement);
        }
    }
}
