//! What can be wrong with a command line beyond what clap sees.

use mica_image::InvalidReference;

/// Why words of the command line make no request; always exit code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgumentError {
    /// No context was given.
    #[error("`mica build` needs a context: the directory whose files the Dockerfile may copy")]
    NoContext,
    /// Both the context and the Dockerfile are to be read from standard input.
    #[error("standard input cannot be both the context and the Dockerfile")]
    StandardInputTwice,
    /// A flag's value cannot be read.
    #[error("`{flag} {value}`: {why}")]
    Value {
        /// The flag with its dashes.
        flag: &'static str,
        /// The value as typed.
        value: String,
        /// What is wrong with it.
        why: String,
        /// What to do, when that is known.
        hint: Option<String>,
    },
    /// A name is not an image reference.
    #[error("`{flag} {value}`")]
    Reference {
        /// The flag with its dashes.
        flag: &'static str,
        /// The value as typed.
        value: String,
        /// Why.
        #[source]
        source: InvalidReference,
    },
    /// A flag of the reference that mica does not have.
    #[error("`--{flag}` is not supported: {why}")]
    Unsupported {
        /// The flag without its dashes.
        flag: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// An environment variable holds something unusable.
    #[error("the environment variable `{name}` is `{value}`: {why}")]
    Variable {
        /// Its name.
        name: String,
        /// Its value, as far as it is text.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ArgumentError {
    pub(crate) fn value(flag: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Value { flag, value: value.into(), why: why.into(), hint: None }
    }

    pub(crate) fn with_hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Value { flag, value, why, .. } => Self::Value { flag, value, why, hint: Some(text.into()) },
            other => other,
        }
    }

    /// Returns what the person could do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoContext => Some("`mica build .` builds the current directory".to_owned()),
            Self::StandardInputTwice => Some("give one of them as a path".to_owned()),
            Self::Value { hint, .. } => hint.clone(),
            Self::Reference { source, .. } => source.hint(),
            Self::Unsupported { .. } | Self::Variable { .. } => None,
        }
    }
}
