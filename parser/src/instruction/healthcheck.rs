//! HEALTHCHECK.

use super::Context;
use super::command::command_line;
use crate::duration;
use crate::flags::{FlagKind, Flags};
use crate::raw::Arguments;
use crate::syntax::{CommandLine, HealthcheckInstruction, Instruction, Spanned};

pub(super) const FLAGS: [(&str, FlagKind); 5] = [
    ("interval", FlagKind::Text),
    ("timeout", FlagKind::Text),
    ("start-period", FlagKind::Text),
    ("start-interval", FlagKind::Text),
    ("retries", FlagKind::Text),
];

/// Shorter than this is refused, unless it is 0.
const SHORTEST: i64 = 1_000_000;

impl Context<'_> {
    pub(super) fn healthcheck(&mut self) -> Option<Instruction> {
        let Arguments::Health(kind, rest) = &self.node.arguments else {
            self.missing_arguments();
            return None;
        };
        let healthcheck = if kind.value.eq_ignore_ascii_case("none") {
            self.health_none(rest)
        } else {
            self.health_command(kind, rest)?
        };
        Some(Instruction::Healthcheck(healthcheck))
    }

    /// `HEALTHCHECK NONE`, whose flags are ignored as the reference ignores them.
    fn health_none(&mut self, rest: &Arguments) -> HealthcheckInstruction {
        let is_empty = match rest {
            Arguments::None => true,
            Arguments::Json(array) => array.value.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.report_here("too-many-arguments", "HEALTHCHECK NONE takes no arguments".to_owned());
        }
        HealthcheckInstruction::None
    }

    fn health_command(&mut self, kind: &Spanned<String>, rest: &Arguments) -> Option<HealthcheckInstruction> {
        let flags = self.flags(&FLAGS);
        if !kind.value.eq_ignore_ascii_case("cmd") {
            let message = format!("unknown type `{}` in HEALTHCHECK", kind.value);
            self.report("bad-healthcheck", message, kind, "try CMD or NONE");
            return None;
        }
        let command = command_line(rest)
            .filter(|command| !matches!(command, CommandLine::Exec(words) if words.value.is_empty()));
        if command.is_none() {
            self.report("missing-arguments", "missing command after HEALTHCHECK CMD".to_owned(), kind, "");
        }
        Some(HealthcheckInstruction::Command {
            interval: self.interval(&flags, "interval"),
            timeout: self.interval(&flags, "timeout"),
            start_period: self.interval(&flags, "start-period"),
            start_interval: self.interval(&flags, "start-interval"),
            retries: self.retries(&flags),
            command: command?,
        })
    }

    fn interval(&mut self, flags: &Flags<'_>, name: &str) -> i64 {
        let Some(text) = flags.text(name) else {
            return 0;
        };
        match duration::parse(&text.value) {
            Ok(0) => 0,
            Ok(nanoseconds) if nanoseconds >= SHORTEST => nanoseconds,
            Ok(_) => {
                self.report(
                    "bad-duration",
                    format!("HEALTHCHECK: --{name} cannot be less than 1ms"),
                    &text,
                    "",
                );
                0
            }
            Err(error) => {
                let message = format!("HEALTHCHECK: invalid --{name}: {error}");
                self.report("bad-duration", message, &text, "expected a duration like `1m30s`");
                0
            }
        }
    }

    fn retries(&mut self, flags: &Flags<'_>) -> i64 {
        let Some(text) = flags.text("retries") else {
            return 0;
        };
        match text.value.parse::<i32>() {
            Ok(retries) if retries >= 0 => i64::from(retries),
            Ok(retries) => {
                let message = format!("HEALTHCHECK: --retries cannot be negative ({retries})");
                self.report("bad-flag-value", message, &text, "");
                0
            }
            Err(_) => {
                let message = format!("HEALTHCHECK: invalid --retries: `{}`", text.value);
                self.report("bad-flag-value", message, &text, "expected a whole number");
                0
            }
        }
    }
}
