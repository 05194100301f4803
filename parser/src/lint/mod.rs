//! Build checks: what is allowed and yet unwise.
//!
//! [`check`] runs the reference's rules as far as the text alone can tell; those that need a plan have a constructor here, which the
//! planner calls and passes through [`CheckConfig::allows_at`]. [`check_more`] runs rules of our own, for those who ask.

mod config;
mod rule;

mod cache_busting_order;
mod consistent_instruction_casing;
mod copy_ignored_file;
mod duplicate_stage_name;
mod expose_invalid_format;
mod expose_proto_casing;
mod from_as_casing;
mod from_platform_flag_const_disallowed;
mod invalid_base_image_platform;
mod invalid_default_arg_in_from;
mod invalid_definition_description;
mod json_args_recommended;
mod legacy_key_value_format;
mod maintainer_deprecated;
mod multiple_instructions_disallowed;
mod no_empty_continuation;
mod redundant_target_platform;
mod reserved_stage_name;
mod root_user;
mod secret_in_copy;
mod secrets_used_in_arg_or_env;
mod stage_name_casing;
#[cfg(test)]
mod tests;
mod undefined_arg_in_from;
mod undefined_var;
mod unpinned_base;
mod workdir_relative_path;

pub use config::{CheckConfig, CheckConfigError};
pub use copy_ignored_file::copy_ignored_file;
pub use expose_invalid_format::expose_invalid_format;
pub use expose_proto_casing::expose_proto_casing;
pub use invalid_base_image_platform::invalid_base_image_platform;
pub use invalid_default_arg_in_from::invalid_default_arg_in_from;
pub use rule::{MORE_RULES, RULES, Rule};
pub use undefined_arg_in_from::undefined_arg_in_from;
pub use undefined_var::undefined_var;
pub use workdir_relative_path::workdir_relative_path;

use crate::diagnostic::{self, Diagnostic};
use crate::stage::Stage;
use crate::syntax::{Dockerfile, InstructionNode};

/// Runs the reference's rules over a file.
pub fn check(dockerfile: &Dockerfile, config: &CheckConfig) -> Vec<Diagnostic> {
    let mut linter = Linter::new(dockerfile, config);
    stage_name_casing::check(&mut linter);
    from_as_casing::check(&mut linter);
    no_empty_continuation::check(&mut linter);
    consistent_instruction_casing::check(&mut linter);
    duplicate_stage_name::check(&mut linter);
    reserved_stage_name::check(&mut linter);
    json_args_recommended::check(&mut linter);
    maintainer_deprecated::check(&mut linter);
    multiple_instructions_disallowed::check(&mut linter);
    legacy_key_value_format::check(&mut linter);
    redundant_target_platform::check(&mut linter);
    secrets_used_in_arg_or_env::check(&mut linter);
    from_platform_flag_const_disallowed::check(&mut linter);
    invalid_definition_description::check(&mut linter);
    expose_proto_casing::check(&mut linter);
    expose_invalid_format::check(&mut linter);
    linter.finish()
}

/// Runs the rules the reference does not have.
pub fn check_more(dockerfile: &Dockerfile, config: &CheckConfig) -> Vec<Diagnostic> {
    let mut linter = Linter::new(dockerfile, config);
    secret_in_copy::check(&mut linter);
    unpinned_base::check(&mut linter);
    cache_busting_order::check(&mut linter);
    root_user::check(&mut linter);
    linter.finish()
}

/// A file being checked.
struct Linter<'a> {
    dockerfile: &'a Dockerfile,
    stages: Vec<Stage<'a>>,
    config: &'a CheckConfig,
    found: Vec<Diagnostic>,
}

impl<'a> Linter<'a> {
    fn new(dockerfile: &'a Dockerfile, config: &'a CheckConfig) -> Self {
        Linter { dockerfile, stages: dockerfile.stages(), config, found: Vec::new() }
    }

    /// Adds a finding about an instruction, unless its comments or the file's settings skip the rule.
    fn report(&mut self, node: &InstructionNode, finding: Diagnostic) {
        if self.config.allows_at(finding.code, node) {
            self.found.push(finding);
        }
    }

    fn nodes(&self) -> &'a [InstructionNode] {
        &self.dockerfile.instructions
    }

    /// Returns every instruction inside a stage, FROM left out.
    fn stage_nodes(&self) -> Vec<&'a InstructionNode> {
        self.stages.iter().flat_map(|stage| stage.instructions).collect()
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        diagnostic::sort(&mut self.found);
        self.found
    }
}
