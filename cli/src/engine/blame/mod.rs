//! Which line of the Dockerfile put a file where it is, from what, and what happened to the path before.
//!
//! A file that was copied from another stage is followed there, and one that a package manager installed is told with its package.

mod lineage;
mod packages;
mod sources;

use mica_cache::Store;
use mica_image::index::LayerPath;
use mica_image::tree::FileTree;

use super::diff::{State, state};
use super::history::{Deed, LookError, OpenImage};
use lineage::{Lineage, Lineages};
use packages::Packages;
use sources::Sources;

/// What is known of one path.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Blamed {
    /// The path, with its leading slash.
    pub path: String,
    /// What was done to it, the last first.
    pub deeds: Vec<Told>,
}

/// One thing that was done to a path.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Told {
    /// The line of the Dockerfile; nothing for the base's.
    pub line: Option<u32>,
    /// The instruction.
    pub instruction: String,
    /// The stage, where it is not the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What was put there; nothing for a removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub puts: Option<State>,
    /// The package it came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// The file it was copied from, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What put that file where it was copied from, where that is another stage or image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<Told>>,
}

/// Tells about `path`, and about everything below it where it is a directory of the image.
///
/// Nothing is returned for what no layer ever had.
pub(crate) fn blame(store: &Store, image: &OpenImage, path: &str) -> Result<Vec<Blamed>, LookError> {
    let path = relative(path);
    let mut blame = Blame {
        lineages: Lineages::of(store, image)?,
        sources: Sources::of(store),
        packages: Packages::of(store),
    };
    let own = blame.lineages.own();
    let mut blamed = Vec::new();
    blamed.extend(blame.told(&own, &path)?);
    for found in image.tree.subtree(&path)? {
        if !found.entry.is_directory() {
            blamed.extend(blame.told(&own, &found.entry.path)?);
        }
    }
    Ok(blamed)
}

/// A path as indexes have it, however it was typed.
fn relative(path: &str) -> LayerPath {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/").into_bytes()
}

/// What answers are looked up in.
struct Blame<'a> {
    lineages: Lineages<'a>,
    sources: Sources<'a>,
    packages: Packages<'a>,
}

impl Blame<'_> {
    fn told(&mut self, own: &Lineage, path: &[u8]) -> Result<Option<Blamed>, LookError> {
        let mut deeds = Vec::new();
        let mut is_there = false;
        for (number, layer) in own.layers.iter().enumerate() {
            let Some(deed) = layer.deed(path) else { continue };
            // A layer may remove what was not there: the directory above it is new.
            if deed == Deed::Removes && !is_there {
                continue;
            }
            is_there = deed != Deed::Removes;
            deeds.push(self.deed(own, number, &deed)?);
        }
        deeds.reverse();
        let path = format!("/{}", String::from_utf8_lossy(path));
        Ok(if deeds.is_empty() { None } else { Some(Blamed { path, deeds }) })
    }

    /// Tells what a layer did, and follows what it copied to where that came from.
    fn deed(&mut self, lineage: &Lineage, number: usize, deed: &Deed) -> Result<Told, LookError> {
        let maker = &lineage.makers[number];
        let mut told = Told {
            line: maker.line,
            instruction: maker.instruction.clone(),
            stage: maker.stage.clone(),
            puts: None,
            package: None,
            from: None,
            source: None,
        };
        let Deed::Puts(entry) = deed else { return Ok(told) };
        told.puts = Some(state(entry));
        if !entry.is_directory() {
            told.package = self.packages.of_file(lineage, number, &entry.path)?;
        }
        let Some(from) = self.sources.source(&lineage.layers[number].id, entry)? else { return Ok(told) };
        if let Some(copied) = self.lineages.copied(maker, &from.source)?
            && let Some((number, deed)) = copied.last_deed(from.path.as_bytes())
        {
            told.source = Some(Box::new(self.deed(&copied, number, &deed)?));
        }
        told.from = Some(from.path);
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_be_typed_in_any_form() {
        for text in ["/a/b", "a/b/", "./a//b"] {
            assert_eq!(relative(text), b"a/b");
        }
        assert_eq!(relative("/"), b"");
    }
}
