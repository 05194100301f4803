//! Short ways to select, place and look at the result.

use mica_image::index::{Entry, Node, TimeKind};
use mica_image::tree::FileTree;

use super::tree::TestTree;
use crate::copy::{
    BadPattern, Chmod, Layout, Owner, PathMatcher, Patterns, PlaceOptions, Placement, SelectRequest,
    Selection, SourcePattern, place, select,
};

/// Pattern languages that know `*`, `?`, `**` and `!`.
pub(in crate::copy) struct TestPatterns;

impl Patterns for TestPatterns {
    fn glob(&self, pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
        if pattern.contains(&b'[') {
            return Err(BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned() });
        }
        Ok(glob(pattern, name))
    }

    fn compile(&self, patterns: &[Vec<u8>]) -> Result<Box<dyn PathMatcher>, BadPattern> {
        Ok(Box::new(TestMatcher(patterns.to_vec())))
    }
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|taken| glob(rest, &name[taken..])),
        ([b'?', rest @ ..], [_, after @ ..]) => glob(rest, after),
        ([byte, rest @ ..], [first, after @ ..]) => byte == first && glob(rest, after),
        _ => false,
    }
}

struct TestMatcher(Vec<Vec<u8>>);

impl PathMatcher for TestMatcher {
    fn matches(&self, path: &[u8]) -> bool {
        let mut matched = false;
        for pattern in &self.0 {
            let (negated, pattern) = match pattern.strip_prefix(b"!") {
                Some(pattern) => (true, pattern),
                None => (false, pattern.as_slice()),
            };
            let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
            let pattern: Vec<&[u8]> = pattern.split(|&byte| byte == b'/').collect();
            if (1..=names.len()).any(|depth| path_matches(&pattern, &names[..depth])) {
                matched = !negated;
            }
        }
        matched
    }

    fn has_negations(&self) -> bool {
        self.0.iter().any(|pattern| pattern.starts_with(b"!"))
    }
}

fn path_matches(pattern: &[&[u8]], names: &[&[u8]]) -> bool {
    match (pattern, names) {
        ([], []) => true,
        ([b"**", rest @ ..], _) => (0..=names.len()).any(|taken| path_matches(rest, &names[taken..])),
        ([first, rest @ ..], [name, after @ ..]) => glob(first, name) && path_matches(rest, after),
        _ => false,
    }
}

/// A COPY in the making.
#[derive(Clone)]
pub(in crate::copy) struct Copy<'a> {
    pub(in crate::copy) sources: Vec<&'a str>,
    pub(in crate::copy) layout: Layout,
    pub(in crate::copy) exclude: Vec<&'a str>,
    pub(in crate::copy) chown: Option<(u32, u32)>,
    pub(in crate::copy) chmod: Option<&'a str>,
}

/// `COPY sources… destination`, without flags.
pub(in crate::copy) fn copy<'a>(sources: &[&'a str]) -> Copy<'a> {
    Copy { sources: sources.to_vec(), layout: Layout::Flat, exclude: Vec::new(), chown: None, chmod: None }
}

impl<'a> Copy<'a> {
    pub(in crate::copy) fn parents(self) -> Self {
        Self { layout: Layout::Parents, ..self }
    }

    pub(in crate::copy) fn exclude(self, patterns: &[&'a str]) -> Self {
        Self { exclude: patterns.to_vec(), ..self }
    }

    pub(in crate::copy) fn chown(self, uid: u32, gid: u32) -> Self {
        Self { chown: Some((uid, gid)), ..self }
    }

    pub(in crate::copy) fn chmod(self, chmod: &'a str) -> Self {
        Self { chmod: Some(chmod), ..self }
    }

    /// Selects from `source`; a failure is its whole message.
    pub(in crate::copy) fn select(&self, source: &TestTree) -> Result<Selection, String> {
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|path| SourcePattern { path: path.as_bytes().to_vec(), wildcards: true })
            .collect();
        let exclude: Vec<Vec<u8>> = self.exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
        let request = SelectRequest {
            sources: &sources,
            layout: self.layout,
            exclude: &exclude,
            patterns: &TestPatterns,
        };
        select(source, &request).map_err(|error| message(&error))
    }

    /// Copies from `source` to `to`; a failure is its whole message.
    pub(in crate::copy) fn place(
        &self,
        source: &TestTree,
        destination: &dyn FileTree,
        to: &str,
    ) -> Result<Placement, String> {
        place_on(&[&self.select(source)?], destination, to, self.chown, self.chmod)
    }

    /// Copies and describes the result.
    pub(in crate::copy) fn run(
        &self,
        source: &TestTree,
        destination: &dyn FileTree,
        to: &str,
    ) -> Vec<String> {
        match self.place(source, destination, to) {
            Ok(placement) => describe(&placement),
            Err(error) => vec![format!("error: {error}")],
        }
    }
}

pub(in crate::copy) fn place_on(
    selections: &[&Selection],
    destination: &dyn FileTree,
    to: &str,
    chown: Option<(u32, u32)>,
    chmod: Option<&str>,
) -> Result<Placement, String> {
    let chmod = chmod.map(|chmod| Chmod::parse(chmod).unwrap());
    let options = PlaceOptions {
        destination: to.as_bytes(),
        owner: chown.map(|(uid, gid)| Owner { uid, gid }),
        chmod: chmod.as_ref(),
        now: (77, 7),
    };
    place(selections, destination, &options).map_err(|error| message(&error))
}

/// An error with all its causes.
pub(in crate::copy) fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// One line for each entry: `path kind mode owner what`; inherited directories in parentheses.
pub(in crate::copy) fn describe(placement: &Placement) -> Vec<String> {
    placement
        .entries
        .iter()
        .map(|placed| {
            let line = describe_entry(&placed.entry);
            if placed.inherited { format!("({line})") } else { line }
        })
        .collect()
}

fn describe_entry(entry: &Entry) -> String {
    let what = match &entry.node {
        Node::File { size, .. } => format!("file of {size}"),
        Node::Directory { opaque: false } => "dir".to_owned(),
        Node::Directory { opaque: true } => "opaque dir".to_owned(),
        Node::Symlink { target } => format!("link to {}", String::from_utf8_lossy(target)),
        Node::HardLink { target } => format!("same as {}", String::from_utf8_lossy(target)),
        other => format!("{other:?}").to_lowercase(),
    };
    let path = String::from_utf8_lossy(&entry.path);
    let set =
        if entry.mtime.kind == TimeKind::Set { format!(" @{}", entry.mtime.seconds) } else { String::new() };
    format!("{path} {:04o} {}:{} {what}{set}", entry.mode, entry.uid, entry.gid)
}
