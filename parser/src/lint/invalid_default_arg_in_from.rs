//! InvalidDefaultArgInFrom: the file builds without any `--build-arg`.

use super::Rule;
use crate::diagnostic::Diagnostic;
use crate::syntax::Spanned;

pub(super) const RULE: Rule = Rule::new(
    "InvalidDefaultArgInFrom",
    "invalid-default-arg-in-from",
    "with the defaults of all global arguments every FROM names an image",
);

/// Reports a FROM whose image is empty or malformed when every argument has its default.
pub fn invalid_default_arg_in_from(image: &Spanned<String>) -> Diagnostic {
    let message =
        format!("Default value for ARG {} results in empty or invalid base image name", image.value);
    RULE.finding(message, image.span, "no image name without `--build-arg`")
        .with_help("give the ARG a default")
}
