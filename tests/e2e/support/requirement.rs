//! What a test needs of the machine. What is not there is skipped aloud; where it is required that is a failure.
//!
//! `MICA_REQUIRE_SANDBOX` requires all that running steps needs, `MICA_REQUIRE_PEERS` the other tools.

use std::process::Command;
use std::sync::OnceLock;

#[expect(clippy::disallowed_methods, reason = "whether a skip is a failure is for whoever starts the tests")]
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value != "0")
}

/// Says that a test is skipped, or fails where it must not be.
#[track_caller]
pub(crate) fn skip(variable: &str, reason: &str) {
    assert!(!is_set(variable), "{variable} is set, but {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Returns a statically linked busybox; said aloud where there is none.
#[track_caller]
pub(crate) fn busybox() -> Option<&'static [u8]> {
    static FOUND: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let find = || ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let found = FOUND.get_or_init(find).as_deref();
    if found.is_none() {
        skip("MICA_REQUIRE_SANDBOX", "there is no /bin/busybox (package busybox-static)");
    }
    found
}

/// Whether a tool that is not ours is there; said aloud where it is not.
#[track_caller]
pub(crate) fn has_peer(name: &str) -> bool {
    let found = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"]
        .iter()
        .any(|directory| std::path::Path::new(directory).join(name).exists());
    if !found {
        skip("MICA_REQUIRE_PEERS", &format!("{name} is not installed"));
    }
    found
}

/// Runs a peer and returns what it wrote; it must succeed.
#[track_caller]
pub(crate) fn run_peer(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output().expect("it was looked for before");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {}:\n{told}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
