//! ARG.

use std::collections::BTreeSet;

use mica_parser::syntax::{ArgDeclaration, ArgInstruction};
use mica_parser::words::Variables;

use crate::plan::arguments::{ArgumentInfo, NOT_ENVIRONMENT, description};
use crate::plan::dispatch::StageBuilder;
use crate::plan::report::Problem;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn arg(&mut self, command: &Command<'_>, arg: &ArgInstruction) -> Result<(), Problem> {
        let mut created_by = "ARG".to_owned();
        for argument in &arg.arguments {
            let value = self.declare(command, argument)?;
            created_by.push(' ');
            created_by.push_str(&argument.name.value);
            if let Some(value) = value {
                created_by.push('=');
                created_by.push_str(&value);
            }
        }
        self.record(command, created_by, None);
        Ok(())
    }

    /// Declares one argument. Its value is the one given for the build, else its default, else the one of global scope.
    fn declare(
        &mut self,
        command: &Command<'_>,
        argument: &ArgDeclaration,
    ) -> Result<Option<String>, Problem> {
        let name = &argument.name.value;
        let given = self.plan.build_args.get(name).cloned();
        let is_global = given.is_none() && argument.default.is_none();
        let value = match (given, &argument.default) {
            (Some(given), _) => Some(given),
            (None, Some(default)) => Some(self.expand(command, default)?),
            (None, None) => self.plan.globals.values.get(name).map(str::to_owned),
        };
        if let Some(value) = &value
            && !NOT_ENVIRONMENT.contains(&name.as_str())
        {
            self.state.env.set(name, value);
        }
        let is_inherited = is_global && value.is_some();
        self.capture(command, name, value.as_deref(), is_inherited);
        self.state.build_args.push((name.clone(), value.clone()));
        Ok(value)
    }

    fn capture(&mut self, command: &Command<'_>, name: &str, value: Option<&str>, is_inherited: bool) {
        let captured = &mut self.state.captured;
        captured.used_args.insert(name.to_owned());
        if !is_inherited {
            let info = ArgumentInfo {
                value: value.unwrap_or_default().to_owned(),
                description: description(&command.node.comments, name),
                line: command.node.start_line,
                uses: BTreeSet::new(),
            };
            captured.args.insert(name.to_owned(), info);
        }
    }
}
