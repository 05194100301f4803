//! Lends the parser's pattern languages to COPY.

use mica_executor::copy::{BadPattern, PathMatcher, Patterns};
use mica_parser::dockerignore;
use mica_parser::glob;

/// The languages of Dockerfiles: Go's `filepath.Match` for sources, `.dockerignore` patterns for `--exclude` and `--parents`.
pub(crate) struct DockerfilePatterns;

impl Patterns for DockerfilePatterns {
    fn glob(&self, pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
        // Names that are no UTF-8 are matched by their readable form, as Go does byte by byte for all but `?`.
        let (pattern_text, name) = (String::from_utf8_lossy(pattern), String::from_utf8_lossy(name));
        glob::matches(&pattern_text, &name).map_err(|_| bad(pattern))
    }

    fn compile(&self, patterns: &[Vec<u8>]) -> Result<Box<dyn PathMatcher>, BadPattern> {
        let texts: Vec<_> = patterns.iter().map(|pattern| String::from_utf8_lossy(pattern)).collect();
        match dockerignore::Patterns::from_patterns(texts.iter().map(AsRef::as_ref)) {
            Ok(patterns) => Ok(Box::new(Compiled(patterns))),
            Err(_) => Err(bad(&patterns.join(&b' '))),
        }
    }
}

struct Compiled(dockerignore::Patterns);

impl PathMatcher for Compiled {
    fn matches(&self, path: &[u8]) -> bool {
        self.0.decide(path, None).excluded
    }

    fn has_negations(&self) -> bool {
        self.0.has_negations()
    }
}

fn bad(pattern: &[u8]) -> BadPattern {
    BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned() }
}
