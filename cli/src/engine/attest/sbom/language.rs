//! What package managers of languages leave beside the packages.

use serde::Deserialize;

use super::{Manager, Package};

fn package(manager: Manager, name: String, version: String, found_in: &str) -> Package {
    Package { manager, name, version, architecture: None, found_in: found_in.to_owned() }
}

/// Reads `METADATA` of a `.dist-info`, or what eggs have instead: headers as of a mail.
pub(super) fn python(text: &str, found_in: &str) -> Option<Package> {
    let headers = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| {
        let value =
            |line: &'_ str| line.strip_prefix(name)?.strip_prefix(": ").map(|rest| rest.trim().to_owned());
        headers.lines().find_map(value)
    };
    Some(package(Manager::Pypi, field("Name")?, field("Version")?, found_in))
}

/// Reads the `package.json` of a directory in `node_modules`.
pub(super) fn npm(text: &str, found_in: &str) -> Option<Package> {
    #[derive(Deserialize)]
    struct Manifest {
        name: String,
        version: String,
    }
    let Manifest { name, version } = serde_json::from_str(text).ok()?;
    Some(package(Manager::Npm, name, version, found_in))
}

/// Reads a `Cargo.lock`.
pub(super) fn cargo_lock(text: &str, found_in: &str) -> Vec<Package> {
    #[derive(Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
    }
    // A file of that name that is something else lists nothing.
    let packages = toml::from_str::<Lock>(text).map(|lock| lock.package).unwrap_or_default();
    packages.into_iter().map(|it| package(Manager::Cargo, it.name, it.version, found_in)).collect()
}

/// Reads the list that `cargo auditable` puts into a program.
pub(super) fn cargo_program(program: &[u8], found_in: &str) -> Vec<Package> {
    // Most programs have none; one that is damaged lists nothing.
    let limits = auditable_info::Limits::default();
    let Ok(list) = auditable_info::audit_info_from_slice(program, limits.decompressed_json_size) else {
        return Vec::new();
    };
    let packages = list.packages.into_iter();
    packages.map(|it| package(Manager::Cargo, it.name, it.version.to_string(), found_in)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read() {
        let told = |found: &Package| format!("{} {}", found.name, found.version);
        let metadata = "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0.0\nRequires-Dist: x\n\nName: no\n";
        assert_eq!(python(metadata, "/x").as_ref().map(told).as_deref(), Some("Flask 3.0.0"));
        assert_eq!(python("Name: x\n", "/x"), None);
        let manifest = r#"{"name": "@scope/a", "version": "1.0.0", "dependencies": {}}"#;
        assert_eq!(npm(manifest, "/x").as_ref().map(told).as_deref(), Some("@scope/a 1.0.0"));
        assert_eq!(npm("{\"private\": true}", "/x"), None);
        assert_eq!(npm("no json", "/x"), None);
        let lock = "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\nsource = \"x\"\n";
        assert_eq!(cargo_lock(lock, "/x").iter().map(told).collect::<Vec<_>>(), ["serde 1.0.1"]);
        assert_eq!(cargo_lock("yarn", "/x"), []);
        assert_eq!(cargo_program(b"\x7fELF", "/x"), []);
    }
}
