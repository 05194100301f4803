//! Build arguments of global scope: the predefined ones, and those before the first FROM.

use std::collections::{BTreeMap, BTreeSet};

use mica_image::Platform;
use mica_parser::syntax::{ArgDeclaration, Escape, Spanned};
use mica_parser::words::expand;

use super::environment::Environment;
use super::report::{OrProblem, Problem};

/// Arguments that steer attestations and never reach a command's environment.
pub(super) const NOT_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What an outline says of one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArgumentInfo {
    pub(super) value: String,
    pub(super) description: Option<String>,
    pub(super) line: u32,
    /// Arguments its default uses.
    pub(super) uses: BTreeSet<String>,
}

/// The arguments FROM may use.
#[derive(Debug, Clone, Default)]
pub(super) struct GlobalArguments {
    pub(super) values: Environment,
    pub(super) declared: BTreeMap<String, ArgumentInfo>,
}

/// A declaration before the first FROM.
#[derive(Debug, Clone, Copy)]
pub(super) struct GlobalDeclaration<'a> {
    pub(super) argument: &'a ArgDeclaration,
    pub(super) comments: &'a [Spanned<String>],
    pub(super) line: u32,
}

impl GlobalArguments {
    /// Returns the arguments that are always there.
    pub(super) fn predefined(
        build: &Platform,
        target: &Platform,
        stage: Option<&str>,
        build_args: &BTreeMap<String, String>,
    ) -> Self {
        let short = Platform { os_version: String::new(), os_features: Vec::new(), ..build.clone() };
        let defaults = [
            ("BUILDPLATFORM", short.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", build.os_version.clone()),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", target.os_version.clone()),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", target.variant.clone()),
            ("TARGETSTAGE", stage.unwrap_or("default").to_owned()),
        ];
        let mut values = Environment::default();
        for (name, default) in defaults {
            values.set(name, build_args.get(name).unwrap_or(&default));
        }
        Self { values, declared: BTreeMap::new() }
    }

    /// Adds one declaration, whose default sees the arguments before it.
    pub(super) fn declare(
        &mut self,
        declaration: GlobalDeclaration<'_>,
        build_args: &BTreeMap<String, String>,
        escape: Escape,
    ) -> Result<(), Problem> {
        let name = &declaration.argument.name.value;
        let mut uses = BTreeSet::new();
        let value = match (build_args.get(name), &declaration.argument.default) {
            (Some(given), _) => Some(given.clone()),
            (None, None) => None,
            (None, Some(default)) => {
                let expansion = expand(&default.value, escape, &self.values).or_problem(
                    "bad-substitution",
                    default.span,
                    format_args!("cannot expand the default of ARG `{name}`"),
                )?;
                uses = self.used(name, expansion.matched);
                Some(expansion.text)
            }
        };
        if let Some(value) = &value {
            self.values.set(name, value);
        }
        let info = ArgumentInfo {
            value: value.unwrap_or_default(),
            description: description(declaration.comments, name),
            line: declaration.line,
            uses,
        };
        self.declared.insert(name.clone(), info);
        Ok(())
    }

    /// An argument that extends its own older value uses what that used.
    fn used(&self, name: &str, mut matched: BTreeSet<String>) -> BTreeSet<String> {
        if matched.remove(name)
            && let Some(older) = self.declared.get(name)
        {
            matched.extend(older.uses.iter().cloned());
        }
        matched
    }

    /// Returns every name a FROM may use.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.values.names().map(str::to_owned).chain(self.declared.keys().cloned()).collect()
    }
}

/// Finds what the comment lines above a definition say about `name`.
pub(super) fn description(comments: &[Spanned<String>], name: &str) -> Option<String> {
    comments.iter().find_map(|line| line.value.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

/// Proxy settings among the build arguments: both spellings of each that is set, in the order a command gets them.
pub(super) fn proxy_environment(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"] {
        // Names are sorted, so of several spellings the lower-case one wins.
        let given = build_args.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name));
        if let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) {
            environment.push((name.to_owned(), value.clone()));
            environment.push((name.to_ascii_lowercase(), value.clone()));
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use mica_parser::syntax::Span;

    use super::*;

    #[test]
    fn proxies_come_in_both_spellings_and_lower_case_wins() {
        let args = [
            ("no_proxy", ""),
            ("Http_Proxy", "mixed"),
            ("http_proxy", "low"),
            ("HTTP_PROXY", "UP"),
            ("other", "x"),
        ];
        let args = args.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let expected = [("HTTP_PROXY", "low"), ("http_proxy", "low")];
        assert_eq!(
            proxy_environment(&args),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn descriptions_are_lines_that_start_with_the_name() {
        let lines = ["something else", "NAME what it is", "NAMES no"];
        let comments: Vec<_> =
            lines.into_iter().map(|line| Spanned { span: Span::default(), value: line.to_owned() }).collect();
        assert_eq!(description(&comments, "NAME").as_deref(), Some("what it is"));
        assert_eq!(description(&comments, "else"), None);
    }
}
