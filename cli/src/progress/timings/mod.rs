//! `--timings`: where the time of one build went, as a page to look at or as data.
//!
//! A [`Timeline`] takes in the events that the views show; [`write`] makes a file of it. The page needs nothing but itself: no
//! script, no font, no picture from elsewhere.

mod page;
mod timeline;

use std::io;
use std::path::Path;

pub(crate) use timeline::Timeline;

/// Writes a timeline: as JSON where the file's name ends so, as a page otherwise.
pub(crate) fn write(timeline: &Timeline, path: &Path) -> io::Result<()> {
    let text = match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        true => serde_json::to_string_pretty(timeline)? + "\n",
        false => page::page(timeline),
    };
    std::fs::write(path, text)
}
