//! The databases of distributions: blocks of fields with empty lines between.

use super::{Manager, Package};

/// Reads dpkg's `status`, or a file of `status.d`, which images without dpkg have instead.
pub(super) fn dpkg(text: &str, found_in: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| {
            let value =
                |line: &'_ str| line.strip_prefix(name)?.strip_prefix(':').map(|rest| rest.trim().to_owned());
            block.lines().find_map(value)
        };
        // `deinstall ok config-files` and the like are no packages any more; files of `status.d` have no such line.
        let installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
        if let (Some(name), Some(version), true) = (field("Package"), field("Version"), installed) {
            let (manager, architecture) = (Manager::Deb, field("Architecture"));
            packages.push(Package { manager, name, version, architecture, found_in: found_in.to_owned() });
        }
    }
    packages
}

/// Reads apk's `installed`.
pub(super) fn apk(text: &str, found_in: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
        };
        if let (Some(name), Some(version)) = (field("P:"), field("V:")) {
            let (manager, architecture) = (Manager::Apk, field("A:"));
            packages.push(Package { manager, name, version, architecture, found_in: found_in.to_owned() });
        }
    }
    packages
}

/// Reads the id of `/etc/os-release`.
pub(super) fn distribution(text: &str) -> Option<String> {
    let id = text.lines().find_map(|line| line.strip_prefix("ID="))?;
    Some(id.trim().trim_matches(['"', '\'']).to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(packages: &[Package]) -> Vec<String> {
        packages.iter().map(|found| format!("{} {}", found.name, found.version)).collect()
    }

    #[test]
    fn only_what_is_installed_is_in_dpkgs_list() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-1\n\
                      Description: x\n Package: no\n Version: 9\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: c\nStatus: hold ok installed\nVersion: 3\n";
        let found = dpkg(status, "/var/lib/dpkg/status");
        assert_eq!(names(&found), ["a 1:2.0-1", "c 3"]);
        assert_eq!(found[0].architecture.as_deref(), Some("amd64"));
        assert_eq!(names(&dpkg("Package: base-files\nVersion: 12\n", "/x")), ["base-files 12"]);
        assert_eq!(dpkg("", "/x"), []);
    }

    #[test]
    fn apk_and_os_release() {
        let installed = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:x\n\nP:busybox\nV:1.36\n";
        assert_eq!(names(&apk(installed, "/lib/apk/db/installed")), ["musl 1.2.5-r0", "busybox 1.36"]);
        assert_eq!(distribution("NAME=\"x\"\nID=\"debian\"\n").as_deref(), Some("debian"));
        assert_eq!(distribution("VERSION_ID=1\n"), None);
    }
}
