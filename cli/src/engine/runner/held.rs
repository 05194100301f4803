//! Bytes that layers hold already: a COPY names them instead of storing them again.

use mica_cache::layer::Wanted;
use mica_executor::copy::{Origin, PlacedEntry, Placement};
use mica_image::index::{Bytes, Node};

use super::{StepError, Work};

/// Makes files of `placement` name the layers that hold their bytes: those they are copied from, or those that this step's place
/// made when it ran last.
pub(super) fn name_held(work: &Work, placement: &mut Placement) -> Result<(), StepError> {
    placement.entries.iter_mut().for_each(name_source);
    let earlier = work.shared.made_before(work.step.id)?;
    let missing: Vec<usize> =
        (0..placement.entries.len()).filter(|&at| wanted(&placement.entries[at]).is_some()).collect();
    if earlier.is_empty() || missing.is_empty() {
        return Ok(());
    }
    let mut files: Vec<Wanted<'_>> = Vec::with_capacity(missing.len());
    files.extend(missing.iter().filter_map(|&at| wanted(&placement.entries[at])));
    let places = work.shared.store.layers().held(&earlier, &files)?;
    for (at, place) in missing.into_iter().zip(places) {
        if let (Some((layer, path)), Node::File { bytes, .. }) =
            (place, &mut placement.entries[at].entry.node)
        {
            *bytes = Bytes::In { layer, path };
        }
    }
    Ok(())
}

/// A file that is copied from a layer stays there.
fn name_source(placed: &mut PlacedEntry) {
    if let Some(Origin::Tree { entry, .. }) = &placed.origin
        && let Node::File { bytes: there @ Bytes::In { .. }, .. } = &entry.node
        && let Node::File { bytes, .. } = &mut placed.entry.node
    {
        *bytes = there.clone();
    }
}

/// Returns what to look for, if the file's bytes are not held yet.
fn wanted(placed: &PlacedEntry) -> Option<Wanted<'_>> {
    match &placed.entry.node {
        Node::File { size, digest, bytes: Bytes::Here } => {
            Some(Wanted { path: &placed.entry.path, size: *size, digest: *digest })
        }
        _ => None,
    }
}
