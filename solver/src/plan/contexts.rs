//! Named contexts: which one stands in for a stage or an image.

use std::collections::BTreeMap;

use mica_image::{Platform, Reference};

use super::request::NamedContext;

/// A named context that was asked for, with the name it was given under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundContext<'a> {
    pub(super) name: &'a str,
    pub(super) context: &'a NamedContext,
}

/// Finds the context for `name` on `platform`: one for just this platform first, then one for all.
///
/// Names are compared as image references are, so `docker.io/library/alpine:latest` and `alpine` are the same.
pub(super) fn find<'a>(
    contexts: &'a BTreeMap<String, NamedContext>,
    name: &str,
    platform: &Platform,
) -> Option<FoundContext<'a>> {
    if contexts.is_empty() || name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
        return None;
    }
    let name = short_name(name);
    let exact = format!("{name}::{}", platform.normalized());
    [exact, name].iter().find_map(|wanted| {
        let (name, context) = contexts.iter().find(|(key, _)| &normalized_key(key) == wanted)?;
        Some(FoundContext { name, context })
    })
}

fn normalized_key(key: &str) -> String {
    match key.split_once("::") {
        None => short_name(key),
        Some((name, platform)) => {
            let platform =
                Platform::parse(platform).map_or_else(|_| platform.to_owned(), |parsed| parsed.to_string());
            format!("{}::{platform}", short_name(name))
        }
    }
}

/// What is no reference (a stage may be called `a_`) is compared as written.
fn short_name(name: &str) -> String {
    let Ok(reference) = Reference::parse(name) else { return name.to_owned() };
    let familiar = reference.familiar();
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_references_and_the_platform_goes_first() {
        let contexts: BTreeMap<_, _> =
            ["alpine", "tools::linux/arm64", "tools", "docker.io/library/debian:12", "a_"]
                .map(|name| (name.to_owned(), NamedContext::Http(name.to_owned())))
                .into();
        let arm = Platform::new("linux", "aarch64", "");
        let intel = Platform::new("linux", "amd64", "");
        let found = |name: &str, platform: &Platform| find(&contexts, name, platform).map(|found| found.name);
        assert_eq!(found("docker.io/library/alpine:latest", &intel), Some("alpine"));
        assert_eq!(found("alpine:3", &intel), None);
        assert_eq!(found("tools", &arm), Some("tools::linux/arm64"));
        assert_eq!(found("tools", &intel), Some("tools"));
        assert_eq!(found("debian:12", &intel), Some("docker.io/library/debian:12"));
        assert_eq!(found("a_", &intel), Some("a_"));
        assert_eq!(found("context", &intel), None);
    }
}
