//! HEALTHCHECK.

use mica_image::config::Healthcheck;
use mica_parser::syntax::{CommandLine, HealthcheckInstruction};

use crate::plan::dispatch::StageBuilder;
use crate::plan::go;
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn healthcheck(&mut self, command: &Command<'_>, instruction: &HealthcheckInstruction) {
        let check = check_of(instruction);
        self.record(command, created_by(&check), None);
        self.state.image.config.healthcheck = Some(check);
    }
}

fn check_of(instruction: &HealthcheckInstruction) -> Healthcheck {
    match instruction {
        HealthcheckInstruction::None => {
            Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
        }
        HealthcheckInstruction::Command {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => Healthcheck {
            test: test_of(command),
            interval: *interval,
            timeout: *timeout,
            start_period: *start_period,
            start_interval: *start_interval,
            retries: *retries,
        },
    }
}

/// The shell of the shell form is found when the check runs, not here.
fn test_of(command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.value.clone()],
        CommandLine::Exec(words) => [&["CMD".to_owned()], words.value.as_slice()].concat(),
    }
}

fn created_by(check: &Healthcheck) -> String {
    let Healthcheck { test, interval, timeout, start_period, start_interval, retries } = check;
    let [interval, timeout, start_period, start_interval] =
        [interval, timeout, start_period, start_interval].map(|time| go::duration(*time));
    format!(
        "HEALTHCHECK {{Test:{} Interval:{interval} Timeout:{timeout} StartPeriod:{start_period} \
         StartInterval:{start_interval} Retries:{retries}}}",
        go::list(test)
    )
}
