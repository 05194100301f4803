//! What is done with a Dockerfile other than building it, and how it is shown.

use super::build::BuildArguments;
use super::csv;
use super::error::ArgumentError;
use super::values::text_variable;
use crate::environment::Environment;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// `Tty` on a terminal, otherwise `Plain`.
    Auto,
    /// A live view.
    Tty,
    /// Lines.
    Plain,
    /// One event a line.
    Json,
    /// Nothing but the image id.
    Quiet,
    /// Nothing at all.
    None,
}

impl ProgressMode {
    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tty => "tty",
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Quiet => "quiet",
            Self::None => "none",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let modes = [Self::Auto, Self::Tty, Self::Plain, Self::Json, Self::Quiet, Self::None];
        let word = if word == "rawjson" { "json" } else { word };
        modes.into_iter().find(|mode| mode.name() == word)
    }
}

/// What is done with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// It is built.
    Build,
    /// It is checked.
    Check,
    /// Its arguments, secrets and so on are listed.
    Outline,
    /// Its stages are listed.
    Targets,
}

/// How the answer of a [`Call`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CallFormat {
    /// For people.
    #[default]
    Text,
    /// As JSON.
    Json,
    /// As SARIF 2.1.0.
    Sarif,
    /// As annotations of a GitHub workflow.
    Github,
}

/// `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallRequest {
    /// What.
    pub(crate) call: Call,
    /// How.
    pub(crate) format: CallFormat,
}

impl BuildArguments {
    /// Returns whether only the image id is to be printed: `-q` or `--progress=quiet`.
    pub(crate) fn is_quiet(&self) -> bool {
        self.output.quiet || self.display.progress == Some(ProgressMode::Quiet)
    }

    /// Returns how progress is shown: `-q`, `--progress`, then `BUILDKIT_PROGRESS`.
    pub(crate) fn progress(&self, environment: &dyn Environment) -> Result<ProgressMode, ArgumentError> {
        if self.output.quiet {
            return Ok(ProgressMode::Quiet);
        }
        if let Some(mode) = self.display.progress {
            return Ok(mode);
        }
        let name = "BUILDKIT_PROGRESS";
        match text_variable(name, environment)?.filter(|value| !value.is_empty()) {
            None => Ok(ProgressMode::Auto),
            Some(value) => ProgressMode::parse(&value).ok_or_else(|| ArgumentError::Variable {
                name: name.to_owned(),
                value,
                why: "there is no such way to show progress".to_owned(),
            }),
        }
    }

    /// Returns what is to be done: `--check` and `--call`.
    pub(crate) fn call(&self) -> Result<CallRequest, ArgumentError> {
        let asked = self.display.call.as_deref().map(parse_call).transpose()?;
        let call = match (self.display.check, asked) {
            (false, asked) => asked.map_or(Call::Build, |request| request.call),
            (true, None | Some(CallRequest { call: Call::Build | Call::Check, .. })) => Call::Check,
            (true, Some(_)) => {
                let word = self.display.call.clone().unwrap_or_default();
                return Err(ArgumentError::value("--call", word, "it excludes `--check`"));
            }
        };
        Ok(CallRequest { call, format: asked.map_or(CallFormat::Text, |request| request.format) })
    }
}

fn parse_call(word: &str) -> Result<CallRequest, ArgumentError> {
    let invalid = |why: String| ArgumentError::value("--call", word, why);
    let mut request = CallRequest { call: Call::Build, format: CallFormat::Text };
    for field in csv::fields(word).map_err(|error| invalid(error.to_string()))? {
        match csv::key_value(&field) {
            Some((key, value)) if key == "format" => {
                request.format = match value {
                    "" | "text" => CallFormat::Text,
                    "json" => CallFormat::Json,
                    "sarif" => CallFormat::Sarif,
                    "github" => CallFormat::Github,
                    _ => return Err(invalid(format!("there is no format `{value}`"))),
                }
            }
            Some((key, _)) => return Err(invalid(format!("there is no key `{key}`"))),
            None => {
                request.call = match field.as_str() {
                    "" | "build" => Call::Build,
                    "check" | "lint" => Call::Check,
                    "outline" => Call::Outline,
                    "targets" => Call::Targets,
                    _ => {
                        return Err(invalid(format!("there is no method `{field}`"))
                            .with_hint("the methods are build, check, outline and targets"));
                    }
                }
            }
        }
    }
    Ok(request)
}
