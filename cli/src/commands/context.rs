//! `mica context ls`: what a build can see, and which rule dropped the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::exit::Failure;
use super::print;
use crate::engine::context::{BuildContext, Ignore};

/// Lists every path of the context: sent ones with their size, others with the line that left them out.
pub(super) fn list(path: &Path, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut context = BuildContext::directory(path).map_err(|error| Failure::of(&error))?;
    let default = context.root().join("Dockerfile");
    context.read_ignore_file(Some(file.unwrap_or(&default))).map_err(|error| Failure::of(&error))?;
    let mut listing =
        Listing { ignore: context.ignore().cloned(), text: Vec::new(), sent: 0, dropped: BTreeMap::new() };
    listing
        .walk(context.root(), Path::new(""))
        .map_err(|error| Failure::local("cannot list the context", error))?;
    let code = print(&listing.text)?;
    super::say(&listing.summary());
    Ok(code)
}

struct Listing {
    ignore: Option<Ignore>,
    text: Vec<u8>,
    sent: u64,
    dropped: BTreeMap<u32, u64>,
}

impl Listing {
    fn walk(&mut self, root: &Path, below: &Path) -> std::io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(root.join(below))?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            let metadata = entry.metadata()?;
            let bytes = path.as_os_str().as_encoded_bytes();
            match self.dropping_line(bytes) {
                None => self.sent(bytes, &metadata),
                Some(line) => {
                    *self.dropped.entry(line).or_insert(0) += 1;
                    self.line(format!("- {}\t{}", path.display(), self.rule(line)));
                }
            }
            let descend = metadata.is_dir()
                && self.ignore.as_ref().is_none_or(|ignore| {
                    !ignore.patterns.decide(bytes, None).excluded || ignore.patterns.could_match_below(bytes)
                });
            if descend {
                self.walk(root, &path)?;
            }
        }
        Ok(())
    }

    fn dropping_line(&self, path: &[u8]) -> Option<u32> {
        let decision = self.ignore.as_ref()?.patterns.decide(path, None);
        decision.excluded.then_some(decision.line.unwrap_or(0))
    }

    fn rule(&self, line: u32) -> String {
        let Some(ignore) = &self.ignore else { return String::new() };
        let name = ignore.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}:{line}")
    }

    fn sent(&mut self, path: &[u8], metadata: &fs::Metadata) {
        self.sent += 1;
        let slash = if metadata.is_dir() { "/" } else { "" };
        let size = if metadata.is_file() { metadata.len().to_string() } else { String::new() };
        self.line(format!("+ {}{slash}\t{size}", String::from_utf8_lossy(path)));
    }

    fn line(&mut self, line: String) {
        self.text.extend_from_slice(line.trim_end().as_bytes());
        self.text.push(b'\n');
    }

    fn summary(&self) -> String {
        let dropped: u64 = self.dropped.values().sum();
        let mut text = format!("{} sent, {dropped} left out", self.sent);
        for (line, count) in &self.dropped {
            text.push_str(&format!("\n  {}: {count}", self.rule(*line)));
        }
        text
    }
}
