//! Extracting an archive into the destination.
//!
//! Unlike a copy, extraction replaces what is in its way, whatever it is; only directories are merged, and take the member's
//! attributes. The destination directory is the root of everything a member can name: links that are already there do not
//! lead out of it. (Links of the archive itself were followed when it was read.)

use mica_image::index::{Bytes, Entry, LayerPath, Node, name, parent};
use mica_image::tree::join;

use super::paths::clean;
use super::place::{PlaceError, Placer, Source};
use super::resolve::Seen;
use super::selection::Part;
use super::view::{History, Placed};

/// Places the members of an archive, in order.
pub(super) fn place_members(placer: &mut Placer<'_>, source: &Source<'_>) -> Result<(), PlaceError> {
    let root = placer.view.resolve(&clean(placer.options.destination))?;
    // --chmod does not apply to what comes of an archive, nor does it to the directory it is extracted into.
    let new = placer.made_with(0o755, placer.options.owner);
    placer.view.make_directories(&root, &new)?;
    source.item.parts.iter().try_for_each(|part| member(placer, source, &root, part))
}

fn member(placer: &mut Placer<'_>, source: &Source<'_>, root: &[u8], part: &Part) -> Result<(), PlaceError> {
    if part.path.is_empty() {
        // The archive's own entry for its root changes nothing.
        return Ok(());
    }
    let path = locate(placer, root, &part.path)?;
    let is_directory = matches!(part.entry.entry.node, Node::Directory { .. });
    match placer.view.seen(&path)? {
        Seen::Directory if is_directory => return merge(placer, part, path),
        Seen::Absent => {}
        _ => placer.view.remove(&path)?,
    }
    let placed = Placed {
        entry: attributes(placer, part, path),
        origin: part.origin(source.selection),
        history: History::Made,
        link: part.entry.link.map(|link| placer.link_group(source, link)),
    };
    placer.view.put(placed);
    Ok(())
}

/// Returns where a path of the archive is in the image, and makes the directories on the way.
fn locate(placer: &mut Placer<'_>, root: &[u8], inside: &[u8]) -> Result<LayerPath, PlaceError> {
    let directory = placer.view.resolve_below(root, parent(inside))?;
    let new = placer.made_with(0o755, None);
    placer.view.make_directories(&directory, &new)?;
    Ok(join(&directory, name(inside)))
}

fn attributes(placer: &Placer<'_>, part: &Part, path: LayerPath) -> Entry {
    let mut entry = Entry { path, ..Entry::clone(&part.entry.entry) };
    if let Some(owner) = placer.options.owner {
        (entry.uid, entry.gid) = (owner.uid, owner.gid);
    }
    if let Node::File { bytes, .. } = &mut entry.node {
        *bytes = Bytes::Here;
    }
    entry
}

fn merge(placer: &mut Placer<'_>, part: &Part, path: LayerPath) -> Result<(), PlaceError> {
    let new = placer.made_with(0o755, None);
    placer.view.make_directories(&path, &new)?;
    let wanted = attributes(placer, part, path);
    let placed = placer.view.placed_mut(&wanted.path).expect("the directory was just taken over");
    let entry = &mut placed.entry;
    (entry.mode, entry.uid, entry.gid, entry.mtime) = (wanted.mode, wanted.uid, wanted.gid, wanted.mtime);
    entry.xattrs.extend(wanted.xattrs);
    if placed.history == History::Inherited {
        placed.history = History::Changed;
    }
    Ok(())
}
