//! The one place that reads the environment, the current directory and the clock.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use mica_image::Timestamp;

/// What a command may learn of the process it runs in; tests give their own.
pub(crate) trait Environment {
    /// Returns a variable.
    fn var(&self, name: &str) -> Option<OsString>;
    /// Returns the directory relative paths start from.
    fn current_dir(&self) -> PathBuf;
}

/// The real process.
pub(crate) struct Process;

impl Environment for Process {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the current directory")]
    fn current_dir(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }
}

/// Returns the program this process is, and the words it was started with.
pub(crate) fn own_command() -> std::io::Result<(PathBuf, Vec<OsString>)> {
    Ok((std::env::current_exe()?, std::env::args_os().skip(1).collect()))
}

/// Returns the time now.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
