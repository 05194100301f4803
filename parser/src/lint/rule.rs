//! The list of rules.

use crate::diagnostic::{Diagnostic, RuleCode};
use crate::syntax::Span;

/// A build check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, also in `check=skip=…`.
    pub code: RuleCode,
    /// What it stands for, in one sentence.
    pub description: &'static str,
    /// The last part of its page's address, if it has a page.
    slug: Option<&'static str>,
    /// Whether it runs only when asked for.
    pub experimental: bool,
}

impl Rule {
    pub(super) const fn new(name: &'static str, slug: &'static str, description: &'static str) -> Self {
        Rule { code: RuleCode::new(name), description, slug: Some(slug), experimental: false }
    }

    pub(super) const fn without_page(name: &'static str, description: &'static str) -> Self {
        Rule { code: RuleCode::new(name), description, slug: None, experimental: false }
    }

    pub(super) const fn experimental(self) -> Self {
        Rule { experimental: true, ..self }
    }

    /// Returns the address of the rule's page.
    pub fn url(&self) -> Option<String> {
        self.slug.map(|slug| format!("https://docs.docker.com/go/dockerfile/rule/{slug}/"))
    }

    /// Creates a finding of this rule.
    pub(super) fn finding(
        &self,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { url: self.url(), ..Diagnostic::warning(self.code, message, span, label) }
    }

    /// Finds a rule by name.
    pub fn by_name(name: &str) -> Option<&'static Rule> {
        RULES.iter().chain(&MORE_RULES).copied().find(|rule| rule.code.as_str() == name)
    }
}

/// The reference's rules.
pub const RULES: [&Rule; 22] = [
    &super::consistent_instruction_casing::RULE,
    &super::copy_ignored_file::RULE,
    &super::duplicate_stage_name::RULE,
    &super::expose_invalid_format::RULE,
    &super::expose_proto_casing::RULE,
    &super::from_as_casing::RULE,
    &super::from_platform_flag_const_disallowed::RULE,
    &super::invalid_base_image_platform::RULE,
    &super::invalid_default_arg_in_from::RULE,
    &super::invalid_definition_description::RULE,
    &super::json_args_recommended::RULE,
    &super::legacy_key_value_format::RULE,
    &super::maintainer_deprecated::RULE,
    &super::multiple_instructions_disallowed::RULE,
    &super::no_empty_continuation::RULE,
    &super::redundant_target_platform::RULE,
    &super::reserved_stage_name::RULE,
    &super::secrets_used_in_arg_or_env::RULE,
    &super::stage_name_casing::RULE,
    &super::undefined_arg_in_from::RULE,
    &super::undefined_var::RULE,
    &super::workdir_relative_path::RULE,
];

/// The rules the reference does not have.
pub const MORE_RULES: [&Rule; 4] = [
    &super::cache_busting_order::RULE,
    &super::root_user::RULE,
    &super::secret_in_copy::RULE,
    &super::unpinned_base::RULE,
];
