//! Who runs `mica`: whoever runs the tests, and, when that is root, ordinary users too.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::requirement::skip;

/// A user of the machine in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Person {
    /// Whoever runs the tests.
    Myself,
    /// An ordinary user whom subordinate ids were given.
    Ordinary,
    /// An ordinary user of one single id.
    SingleId,
}

/// A user id that no machine has given to anybody, so that no subordinate ids belong to it.
const NOBODY_KNOWN: u32 = 54_321;

impl Person {
    /// Returns the user and group ids to change to, if it is not the one of the tests.
    pub(crate) fn ids(self) -> Option<(u32, u32)> {
        match self {
            Self::Myself => None,
            Self::Ordinary => ordinary_user(),
            Self::SingleId => Some((NOBODY_KNOWN, NOBODY_KNOWN)),
        }
    }

    /// Whether tests can be this person, and this person can run steps; said aloud where not.
    #[track_caller]
    pub(crate) fn can_run_steps(self) -> bool {
        if self != Self::Myself && !rustix::process::geteuid().is_root() {
            skip("MICA_REQUIRE_NOTHING", &format!("only root can test as {self:?}"));
            return false;
        }
        if self == Self::Ordinary && ordinary_user().is_none() {
            skip("MICA_REQUIRE_SANDBOX", "no ordinary user has subordinate ids: `useradd mica-test`");
            return false;
        }
        let mut probe = Command::new("unshare");
        // As root a mount namespace is enough; anybody else needs to own a user namespace first.
        let is_root = self == Self::Myself && rustix::process::geteuid().is_root();
        probe.args(if is_root { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
        self.dress(&mut probe);
        let status = probe.arg("true").current_dir("/").stderr(Stdio::null()).status();
        let can = status.is_ok_and(|status| status.success());
        if !can {
            skip("MICA_REQUIRE_SANDBOX", &format!("{self:?} may not make namespaces on this machine"));
        }
        can
    }

    /// Makes a command run as this person.
    pub(crate) fn dress(self, command: &mut Command) {
        if let Some((uid, gid)) = self.ids() {
            command.uid(uid).gid(gid);
        }
    }
}

/// Returns an ordinary user with subordinate ids: `mica-test`, or the first that is found.
fn ordinary_user() -> Option<(u32, u32)> {
    static FOUND: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let ranges = std::fs::read_to_string("/etc/subuid").ok()?;
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let owners: Vec<&str> = ranges.lines().filter_map(|line| line.split(':').next()).collect();
        let mut found: Vec<(bool, u32, u32)> = Vec::new();
        for line in users.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, ..] = fields[..] else { continue };
            if uid != "0" && owners.iter().any(|owner| [name, uid].contains(owner)) {
                found.push((name != "mica-test", uid.parse().ok()?, gid.parse().ok()?));
            }
        }
        found.into_iter().min().map(|(_, uid, gid)| (uid, gid))
    })
}

/// Returns the path of a binary that everybody may run; a target directory that others cannot reach is copied from.
pub(crate) fn reachable_binary(directory: &Path) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_mica"));
    let may_enter = |path: &Path| path.metadata().is_ok_and(|told| told.mode() & 0o001 != 0);
    if built.ancestors().all(may_enter) {
        return built.to_owned();
    }
    let copy = directory.join("mica");
    std::fs::copy(built, &copy).expect("there is room for temporary files");
    copy
}
