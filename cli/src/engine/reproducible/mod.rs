//! Reproducible builds: what is made the same in every build of the same input, each item by a name that keeps it as it is.
//!
//! Times are clamped when a layer's tar is made: nothing of that is in the store or in a key. What RUN steps are given, and which
//! of their files are left out, is part of their keys. `docs/reproducible.md` lists the items with their reasons.

mod clamp;
mod noise;

use std::collections::BTreeSet;

use mica_solver::plan::Normalised;

pub(crate) use clamp::{Clamp, ClampSource, commit_time};
pub(crate) use noise::NoiseFilter;

/// Times in layers and in the image's configuration are those of the input, not of the build.
pub(crate) const TIMES: &str = "times";
const LOCALE: &str = "locale";
const TIME_ZONE: &str = "timezone";
const EPOCH: &str = "epoch";

/// What is made the same, by name; nothing in an ordinary build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reproducible(BTreeSet<&'static str>);

impl Reproducible {
    /// Everything there is.
    pub(crate) fn everything() -> Self {
        Self(names().collect())
    }

    /// Returns these items and no others; the name that is none.
    pub(crate) fn only<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let known = |item: &'a str| names().find(|known| *known == item).ok_or_else(|| item.to_owned());
        items.into_iter().map(known).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the names of what is made the same.
    pub(crate) fn items(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }

    /// Makes times the same too.
    pub(crate) fn add_times(&mut self) {
        self.0.insert(TIMES);
    }

    /// Returns everything but `kept`; the name that is none.
    pub(crate) fn keeping<'a>(kept: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut made = Self::everything();
        for name in kept {
            let known = names().find(|known| *known == name);
            made.0.remove(known.ok_or_else(|| name.to_owned())?);
        }
        Ok(made)
    }

    /// Returns whether an item is made the same.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Returns what the plan needs of it.
    pub(super) fn normalised(&self) -> Normalised {
        Normalised {
            locale: self.has(LOCALE),
            time_zone: self.has(TIME_ZONE),
            epoch: self.has(EPOCH),
            left_out: noise::versions(self),
        }
    }
}

/// Returns the names of all items.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    [TIMES, LOCALE, TIME_ZONE, EPOCH].into_iter().chain(noise::names())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_kept_by_name() {
        let made = Reproducible::keeping(["times", "apt-logs"]).unwrap();
        assert!(!made.has("times") && !made.has("apt-logs") && made.has("locale") && made.has("dpkg-logs"));
        assert_eq!(Reproducible::keeping(["time"]), Err("time".to_owned()));
        let only = Reproducible::only(made.items()).unwrap();
        assert_eq!((only, Reproducible::only(["time"])), (made, Err("time".to_owned())));
        let mut times = Reproducible::default();
        times.add_times();
        assert!(times.has("times") && !times.has("locale"));
    }

    #[test]
    fn every_item_is_documented_once() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reproducible.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: Vec<&str> = rows.map(|(name, _)| name).collect();
        assert_eq!(documented, names().collect::<Vec<_>>());
    }
}
