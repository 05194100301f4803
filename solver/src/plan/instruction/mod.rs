//! What each instruction does to a stage; one file for each, or for each pair that does the same.

mod arg;
mod command;
mod copy;
mod copy_source;
mod env;
mod expose;
mod git_url;
mod healthcheck;
mod label;
mod mount;
mod onbuild;
mod run;
mod stopsignal;
mod user;
mod volume;
mod workdir;

pub(super) use copy_source::remote_source;

use mica_parser::syntax::Instruction;

use super::dispatch::StageBuilder;
use super::report::{Problem, problem};
use super::stages::Command;

impl StageBuilder<'_, '_> {
    /// Does what an instruction says.
    pub(super) fn instruction(&mut self, command: &Command<'_>) -> Result<(), Problem> {
        match &command.node.instruction {
            Instruction::Add(add) => self.add(command, add)?,
            Instruction::Arg(arg) => self.arg(command, arg)?,
            Instruction::Cmd(line) => self.cmd(command, line),
            Instruction::Copy(copy) => self.copy(command, copy)?,
            Instruction::Entrypoint(line) => self.entrypoint(command, line),
            Instruction::Env(pairs) => self.env(command, pairs)?,
            Instruction::Expose(ports) => self.expose(command, ports)?,
            Instruction::Healthcheck(check) => self.healthcheck(command, check),
            Instruction::Label(pairs) => self.label(command, pairs)?,
            Instruction::Maintainer(name) => self.maintainer(command, &name.value),
            Instruction::Onbuild(_) => self.onbuild(command),
            Instruction::Run(run) => self.run(command, run)?,
            Instruction::Shell(words) => self.shell(command, words),
            Instruction::Stopsignal(signal) => self.stopsignal(command, signal)?,
            Instruction::User(user) => self.user(command, user)?,
            Instruction::Volume(volumes) => self.volume(command, volumes)?,
            Instruction::Workdir(path) => self.workdir(command, path)?,
            Instruction::Invalid if command.is_trigger => {
                let span = self.plan.stages.get(self.index).span;
                let found =
                    problem("bad-trigger", span, "the base has an ONBUILD trigger that cannot be read");
                return Err(Box::new(found.with_secondary(command.node.span, "this one")));
            }
            // The parser has reported an instruction it could not read; FROM starts a stage and is never inside one.
            Instruction::Invalid | Instruction::From(_) => {}
        }
        Ok(())
    }
}
