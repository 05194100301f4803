//! RUN.

use super::Context;
use crate::csv;
use crate::device::Device;
use crate::flags::{FlagKind, Flags};
use crate::syntax::{Instruction, RunInstruction, Spanned};

pub(super) const FLAGS: [(&str, FlagKind); 4] = [
    ("mount", FlagKind::Repeated),
    ("network", FlagKind::Text),
    ("security", FlagKind::Text),
    ("device", FlagKind::Repeated),
];

impl Context<'_> {
    pub(super) fn run(&mut self) -> Option<Instruction> {
        let flags = self.flags(&FLAGS);
        let mounts = flags.all("mount");
        let devices = flags.all("device");
        for mount in &mounts {
            self.check_mount(mount);
        }
        for device in &devices {
            if let Err(error) = Device::parse(&device.value) {
                self.report("bad-device", format!("RUN: invalid --device: {error}"), device, "");
            }
        }
        Some(Instruction::Run(RunInstruction {
            command: self.command_line(),
            heredocs: self.outer.heredocs.clone(),
            mounts,
            network: self.one_of(&flags, "network", "bad-network", &["default", "none", "host"]),
            security: self.one_of(&flags, "security", "bad-security", &["sandbox", "insecure"]),
            devices,
        }))
    }

    /// What can be said of a mount before its variables are known.
    fn check_mount(&mut self, mount: &Spanned<String>) {
        let fields = match csv::fields(&mount.value) {
            Ok(fields) => fields,
            Err(error) => {
                self.report("bad-mount", format!("RUN: invalid --mount: {error}"), mount, "");
                return;
            }
        };
        let from = fields
            .iter()
            .filter_map(|field| field.split_once('='))
            .filter(|(key, _)| key.eq_ignore_ascii_case("from"));
        for (_, value) in from {
            if value.find('$').is_some_and(|dollar| dollar + 1 != value.len()) {
                let message = "RUN: `from` of --mount doesn't support variable expansion".to_owned();
                self.report("bad-mount", message, mount, "define an alias stage instead");
            }
        }
    }

    fn one_of(
        &mut self,
        flags: &Flags<'_>,
        name: &str,
        code: &'static str,
        allowed: &[&'static str],
    ) -> Option<Spanned<String>> {
        let given = flags.given(name)?;
        if !allowed.contains(&given.value.as_str()) {
            let message = format!("RUN: invalid {name} mode `{}`", given.value);
            self.report(code, message, given, &format!("expected {}", allowed.join(", ")));
            if let Some(problem) = self.problems.pop() {
                self.problems.push(problem.with_nearest(given.span, &given.value, allowed.iter().copied()));
            }
        }
        Some(given.clone())
    }
}
