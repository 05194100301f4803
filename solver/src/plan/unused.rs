//! Build arguments that nothing asks for, which are mostly misspelt.

use std::collections::BTreeSet;

use mica_parser::diagnostic::did_you_mean_exact;
use mica_parser::syntax::Instruction;

use super::outcome::UnusedArgument;
use super::planner::PlatformPlan;

/// Arguments that steer the build and need no ARG.
const STEERING: [&str; 3] = ["BUILDKIT_", "SOURCE_DATE_EPOCH", "DOCKER_BUILDKIT"];

/// Lists the build arguments that no ARG of any stage declares, triggers of base images included.
pub(super) fn unused_arguments(plan: &PlatformPlan<'_>) -> Vec<UnusedArgument> {
    let mut declared: BTreeSet<&str> = plan.globals.declared.keys().map(String::as_str).collect();
    for (_, stage) in plan.stages.iter() {
        for command in &stage.commands {
            if let Instruction::Arg(arg) = &command.node.instruction {
                declared.extend(arg.arguments.iter().map(|argument| argument.name.value.as_str()));
            }
        }
    }
    let is_proxy = |name: &str| name.to_ascii_lowercase().ends_with("_proxy");
    let predefined: BTreeSet<&str> = plan.globals.values.names().collect();
    let needs_none = |name: &str| {
        declared.contains(name)
            || predefined.contains(name)
            || is_proxy(name)
            || STEERING.iter().any(|start| name.starts_with(start))
    };
    let given = plan.request.build_args.keys().filter(|name| !needs_none(name));
    given
        .map(|name| UnusedArgument {
            name: name.clone(),
            nearest: did_you_mean_exact(name, declared.iter().copied()).map(str::to_owned),
        })
        .collect()
}
