//! STOPSIGNAL.

use mica_parser::diagnostic::did_you_mean;
use mica_parser::syntax::Spanned;

use crate::plan::dispatch::StageBuilder;
use crate::plan::report::{Problem, problem};
use crate::plan::stages::Command;

const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

impl StageBuilder<'_, '_> {
    pub(super) fn stopsignal(
        &mut self,
        command: &Command<'_>,
        word: &Spanned<String>,
    ) -> Result<(), Problem> {
        let signal = self.expand(command, word)?;
        if !is_signal(&signal) {
            return Err(unknown(&signal, command, word));
        }
        self.record(command, format!("STOPSIGNAL {signal}"), None);
        self.state.image.config.stop_signal = signal;
        Ok(())
    }
}

fn unknown(signal: &str, command: &Command<'_>, word: &Spanned<String>) -> Problem {
    let found = problem("bad-signal", command.place(word.span), format!("invalid STOPSIGNAL: `{signal}`"));
    match did_you_mean(short_name(&signal.to_ascii_uppercase()), SIGNALS) {
        Some(nearest) => Box::new(found.with_help(format!("did you mean `SIG{nearest}`?"))),
        None => Box::new(found.with_help("give a name like `SIGTERM` or a number")),
    }
}

fn short_name(name: &str) -> &str {
    name.strip_prefix("SIG").unwrap_or(name)
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = short_name(&upper);
    SIGNALS.contains(&name) || is_real_time(name, "RTMIN+", 15) || is_real_time(name, "RTMAX-", 14)
}

fn is_real_time(name: &str, prefix: &str, last: u32) -> bool {
    let number = name.strip_prefix(prefix).filter(|digits| !digits.starts_with(['0', '+']));
    number.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|number| number <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_names_or_numbers() {
        for good in ["SIGTERM", "term", "sigkill", "9", "-1", "64", "RTMIN", "SIGRTMIN+15", "RTMAX-14", "+3"]
        {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "TREM", "SIG", "RTMIN+0", "RTMIN+16", "RTMAX-15", "RTMAX-", "SIGSIGTERM", "9x"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
