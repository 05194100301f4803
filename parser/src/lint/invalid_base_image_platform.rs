//! InvalidBaseImagePlatform: the base is for another platform than the build.

use super::Rule;
use crate::diagnostic::Diagnostic;
use crate::syntax::Span;

pub(super) const RULE: Rule =
    Rule::without_page("InvalidBaseImagePlatform", "the base image is for the platform that is built for");

/// Reports a base image that turned out to be for `actual` where `expected` was asked for.
pub fn invalid_base_image_platform(image: &str, span: Span, expected: &str, actual: &str) -> Diagnostic {
    let message = format!(
        "Base image {image} was pulled with platform \"{actual}\", expected \"{expected}\" for current build"
    );
    RULE.finding(message, span, "")
}
