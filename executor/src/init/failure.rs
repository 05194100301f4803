//! Why the init stage cannot go on.

use rustix::io::Errno;

use crate::wire;

/// An attempt that failed, before the stage it belongs to is known.
#[derive(Debug)]
pub(super) struct Failed {
    action: String,
    errno: Option<Errno>,
    detail: String,
}

impl Failed {
    /// An attempt that the kernel refused.
    pub(super) fn new(action: impl Into<String>, error: impl Into<std::io::Error>) -> Failed {
        let errno = Errno::from_io_error(&error.into());
        Failed { action: action.into(), errno, detail: String::new() }
    }

    /// An attempt that cannot work, in words.
    pub(super) fn because(action: impl Into<String>, detail: impl Into<String>) -> Failed {
        Failed { action: action.into(), errno: None, detail: detail.into() }
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Failed {
        self.detail = detail.into();
        self
    }

    pub(super) fn at(self, stage: &str) -> wire::Failure {
        wire::Failure {
            stage: stage.to_owned(),
            action: self.action,
            errno: self.errno.map(Errno::raw_os_error),
            detail: self.detail,
        }
    }
}

/// Says what was attempted when a call fails.
pub(super) trait Attempt<T> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Failed>;
}

impl<T, E: Into<std::io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Failed> {
        self.map_err(|error| Failed::new(action(), error))
    }
}
