//! Collection: removing what no image, no recent record and no living process needs.
//!
//! What is needed is found without stopping anybody. Each victim is then looked at once more while nobody can look anything up
//! (the gate is held exclusively) and only renamed away in that moment. It is spared when a living lease pins it now, or when
//! it was used since the collection began: whoever looks something up pins it and marks it as used in one critical section, so
//! nothing that came into use after the first look is lost.
//!
//! Where there is to be no more than so many bytes, what is not needed stands in one row by its last use (`room`), and all from the
//! first that is too much goes.

mod policy;
mod room;
#[cfg(test)]
mod room_tests;
mod run;
mod sizes;
#[cfg(test)]
mod tests;

pub use policy::{Forecast, KeepImages, KeepPolicy, Report};

use std::io;

use crate::files::FileError;
use crate::locks::{Hold, LockError, LockFile};
use crate::reserve;
use crate::store::Store;
use run::{Collection, Intent};
use sizes::Sizes;

pub(crate) use sizes::is_sizes;

impl Store {
    /// Removes what `policy` does not keep and nothing uses; waits while another process collects.
    pub fn collect(&self, policy: &KeepPolicy, cancelled: &dyn Fn() -> bool) -> Result<Report, LockError> {
        let lock = self.shared.root.join("locks/collect");
        let _lock = LockFile::acquire(&lock, Hold::Exclusive, cancelled)?;
        Ok(self.collect_now(policy)?.report)
    }

    /// Does what [`Store::collect`] does, or nothing (`None`) if another process is at it.
    pub fn try_collect(&self, policy: &KeepPolicy) -> Result<Option<Forecast>, FileError> {
        let lock = self.shared.root.join("locks/collect");
        let Some(_lock) = LockFile::try_acquire(&lock, Hold::Exclusive)? else { return Ok(None) };
        self.collect_now(policy).map(Some)
    }

    /// Even to remove something takes a little room, for a lease and what is renamed away.
    fn collect_now(&self, policy: &KeepPolicy) -> Result<Forecast, FileError> {
        let root = &self.shared.root;
        match self.shared.lease() {
            Err(error) if error.io().kind() == io::ErrorKind::StorageFull && reserve::give_up(root)? => {}
            lease => drop(lease?),
        }
        let done = Collection::run(self, policy, Intent::Remove)?;
        reserve::keep(root);
        Ok(done)
    }

    /// Tells what [`Store::collect`] would do now, and removes nothing.
    pub fn would_collect(&self, policy: &KeepPolicy) -> Result<Forecast, FileError> {
        Collection::run(self, policy, Intent::Count)
    }

    /// Returns how many bytes the store takes on the disk; what was measured before is not measured again.
    pub fn room_taken(&self) -> Result<u64, FileError> {
        let mut sizes = Sizes::load(&self.shared)?;
        let taken = sizes.everything()?;
        sizes.save()?;
        Ok(taken)
    }
}
