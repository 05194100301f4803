//! Extracting an archive into the destination.
//!
//! Unlike a copy, extraction replaces what is in its way, whatever it is; only directories are merged, and take the member's
//! attributes. The destination directory is the root of everything a member can name: links, of the archive or already there,
//! do not lead out of it.

use std::collections::HashMap;

use mica_image::index::{Bytes, Entry, LayerPath, Node};
use mica_image::tree::join;

use super::paths::{clean, components, name, parent, shown};
use super::place::{PlaceError, Placer, Source, origin};
use super::resolve::Seen;
use super::selection::Part;
use super::view::{History, Placed};

/// Places the members of an archive, in order.
pub(super) fn place_members(placer: &mut Placer<'_>, source: &Source<'_>) -> Result<(), PlaceError> {
    let root = placer.view.resolve(&clean(placer.options.destination))?;
    // Neither --chmod nor an archive's own entry for its root changes the directory that it is extracted into.
    let new = placer.made_with(0o755, placer.options.owner);
    placer.view.make_directories(&root, &new)?;
    let mut extraction = Extraction { placer, source, root, groups: HashMap::new() };
    source.item.parts.iter().try_for_each(|part| extraction.member(part))
}

struct Extraction<'a, 'p, 'v> {
    placer: &'a mut Placer<'v>,
    source: &'a Source<'p>,
    root: LayerPath,
    /// The names of each group of hard links, by its number.
    groups: HashMap<u64, Vec<LayerPath>>,
}

impl Extraction<'_, '_, '_> {
    fn member(&mut self, part: &Part) -> Result<(), PlaceError> {
        let inside = self.inside(part, &part.path)?;
        if inside.is_empty() || part.entry.entry.node == Node::Whiteout {
            return Ok(());
        }
        let path = self.locate(&inside)?;
        let is_directory = matches!(part.entry.entry.node, Node::Directory { .. });
        match self.placer.view.seen(&path)? {
            Seen::Directory if is_directory => return self.merge(part, path),
            Seen::Absent => {}
            _ => self.placer.view.remove(&path)?,
        }
        let placed = match &part.entry.entry.node {
            Node::HardLink { target } => self.linked(part, path, target)?,
            _ => Placed {
                entry: self.attributes(part, path),
                origin: origin(self.source, part),
                history: History::Made,
                link: None,
            },
        };
        self.placer.view.put(placed);
        Ok(())
    }

    /// Cleans a path of the archive; one that leaves the archive is refused.
    fn inside(&self, part: &Part, path: &[u8]) -> Result<LayerPath, PlaceError> {
        let mut depth = 0_usize;
        for component in components(path) {
            depth = match component {
                b"." => Some(depth),
                b".." => depth.checked_sub(1),
                _ => Some(depth + 1),
            }
            .ok_or_else(|| PlaceError::MemberPath {
                archive: self.archive(),
                path: String::from_utf8_lossy(&part.path).into_owned(),
            })?;
        }
        Ok(clean(path))
    }

    /// Returns where a path of the archive is in the image, and makes the directories on the way.
    fn locate(&mut self, inside: &[u8]) -> Result<LayerPath, PlaceError> {
        let directory = self.placer.view.resolve_below(&self.root, parent(inside))?;
        let new = self.placer.made_with(0o755, None);
        self.placer.view.make_directories(&directory, &new)?;
        Ok(join(&directory, name(inside)))
    }

    fn attributes(&self, part: &Part, path: LayerPath) -> Entry {
        let mut entry = Entry { path, ..part.entry.entry.clone() };
        if let Some(owner) = self.placer.options.owner {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        if let Node::File { bytes, .. } = &mut entry.node {
            *bytes = Bytes::Here;
        }
        entry
    }

    fn merge(&mut self, part: &Part, path: LayerPath) -> Result<(), PlaceError> {
        let new = self.placer.made_with(0o755, None);
        self.placer.view.make_directories(&path, &new)?;
        let wanted = self.attributes(part, path);
        let placed = self.placer.view.placed_mut(&wanted.path).expect("the directory was just taken over");
        take_attributes(&mut placed.entry, &wanted);
        if placed.history == History::Inherited {
            placed.history = History::Changed;
        }
        Ok(())
    }

    /// Returns another name of what is at `target` already: a member, or a file of the image.
    fn linked(&mut self, part: &Part, path: LayerPath, target: &[u8]) -> Result<Placed, PlaceError> {
        let wanted = self.attributes(part, path.clone());
        let inside = self.inside(part, target)?;
        let directory = self.placer.view.resolve_below(&self.root, parent(&inside))?;
        let target = join(&directory, name(&inside));
        let mut linked = match self.placer.view.placed(&target) {
            Some(placed) => placed.clone(),
            None => match self.placer.view.below(&target)? {
                Some(found) => {
                    Placed { entry: found.entry, origin: None, history: History::Made, link: None }
                }
                None => return Err(self.no_target(part, &target)),
            },
        };
        if matches!(linked.entry.node, Node::Directory { .. }) {
            return Err(self.no_target(part, &target));
        }
        take_attributes(&mut linked.entry, &wanted);
        linked.entry.path = path;
        if self.placer.view.placed(&target).is_some() {
            linked.link = Some(self.join_group(&target, &linked.entry));
        }
        Ok(linked)
    }

    /// Makes `name` a further name of the inode at `target`; what a header says about one name holds for all.
    fn join_group(&mut self, target: &[u8], further: &Entry) -> u64 {
        let known = self.placer.view.placed(target).and_then(|placed| placed.link);
        let group = known.unwrap_or_else(|| {
            let number = self.groups.len() as u64;
            self.placer.link_group(self.source, number)
        });
        let names = self.groups.entry(group).or_insert_with(|| vec![target.to_vec()]);
        names.push(further.path.clone());
        for name in names {
            if let Some(placed) = self.placer.view.placed_mut(name)
                && (placed.link == Some(group) || name == target)
            {
                placed.link = Some(group);
                take_attributes(&mut placed.entry, further);
            }
        }
        group
    }

    fn no_target(&self, part: &Part, target: &[u8]) -> PlaceError {
        PlaceError::LinkTarget {
            archive: self.archive(),
            path: String::from_utf8_lossy(&part.path).into_owned(),
            target: shown(target),
        }
    }

    fn archive(&self) -> String {
        String::from_utf8_lossy(&self.source.item.source).into_owned()
    }
}

fn take_attributes(entry: &mut Entry, from: &Entry) {
    (entry.mode, entry.uid, entry.gid, entry.mtime) = (from.mode, from.uid, from.gid, from.mtime);
    entry.xattrs.extend(from.xattrs.iter().map(|(key, value)| (key.clone(), value.clone())));
}
