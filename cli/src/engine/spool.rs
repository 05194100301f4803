//! Standard input, kept in a file of the store's scratch space so that it can be read twice.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use mica_cache::Scratch;
use mica_image::fault::{Point, reach};

use super::Engine;

/// Input that was read to its end.
#[derive(Debug)]
pub(crate) struct Spooled {
    path: PathBuf,
    _scratch: Scratch,
}

impl Spooled {
    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks something of the bytes.
    pub(crate) fn looks_like(&self, question: impl FnOnce(File) -> bool) -> io::Result<bool> {
        Ok(question(File::open(&self.path)?))
    }
}

impl Engine {
    /// Reads `input` to its end.
    pub(crate) fn spool(&self, input: &mut dyn Read) -> io::Result<Spooled> {
        let scratch = self.host.store.layers().begin().map_err(io::Error::other)?;
        let path = scratch.files().join("input");
        reach(Point::ScratchCreate)?;
        let mut file = File::create(&path)?;
        io::copy(input, &mut file)?;
        file.flush()?;
        Ok(Spooled { path, _scratch: scratch })
    }
}
