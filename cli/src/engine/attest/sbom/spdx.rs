//! The list of packages as an SPDX 2.3 document in JSON.
//!
//! Nothing in it depends on when or where it was made: its time is the image's, its namespace the image's id.

use std::collections::BTreeMap;

use mica_cache::Store;
use serde_json::{Value, json};

use super::find::{SbomError, inventory};
use super::{Inventory, Manager, Package};
use crate::engine::attest::statement::{Predicate, SPDX, percent};
use crate::engine::output::StoredImage;

const NONE: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";

/// Lists the packages of an image; what of it could not be read is returned too.
pub(crate) fn sbom(
    store: &Store,
    image: &StoredImage,
    name: &str,
) -> Result<(Predicate, Vec<String>), SbomError> {
    let layers = store.layers();
    let found = inventory(&layers.tree(&image.tree)?, &layers.reader())?;
    let created = image.config.created.as_ref().and_then(mica_image::Timestamp::unix);
    let created = mica_image::Timestamp::from_unix(created.map_or(0, |(seconds, _)| seconds), 0);
    let value = document(&found, name, &image.id.hex(), created.as_str());
    Ok((Predicate { kind: SPDX, value }, found.unread))
}

fn document(found: &Inventory, name: &str, id: &str, created: &str) -> Value {
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": name,
        "versionInfo": format!("sha256:{id}"),
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "primaryPackagePurpose": "CONTAINER",
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    let mut ids = Ids::default();
    for package in &found.packages {
        let id = ids.next(package);
        relations.push(relation(IMAGE, "CONTAINS", &id));
        packages.push(entry(package, &id, found.distribution.as_deref()));
    }
    let mut creation = json!({
        "created": created,
        "creators": [format!("Tool: mica-{}", env!("CARGO_PKG_VERSION"))],
    });
    if !found.unread.is_empty() {
        let unread = found.unread.join(", ");
        creation["comment"] = format!("not read, so packages are missing: {unread}").into();
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://github.com/mica-build/mica/spdx/sha256-{id}"),
        "creationInfo": creation,
        "packages": packages,
        "relationships": relations,
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn entry(package: &Package, id: &str, distribution: Option<&str>) -> Value {
    json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "sourceInfo": format!("found in {}", package.found_in),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl(package, distribution),
        }],
    })
}

fn purl(package: &Package, distribution: Option<&str>) -> String {
    let kind = package.manager.purl_type();
    let version = percent(&package.version);
    let name = match package.manager {
        // Names of Python are the same whatever their case, and with `-` or `_`.
        Manager::Pypi => percent(&package.name.to_lowercase().replace('_', "-")),
        Manager::Npm => package.name.split('/').map(percent).collect::<Vec<_>>().join("/"),
        _ => percent(&package.name),
    };
    let namespace = match package.manager {
        Manager::Deb => format!("{}/", percent(distribution.unwrap_or("debian"))),
        Manager::Apk => format!("{}/", percent(distribution.unwrap_or("alpine"))),
        _ => String::new(),
    };
    let architecture = package.architecture.as_deref().map(|arch| format!("?arch={}", percent(arch)));
    format!("pkg:{kind}/{namespace}{name}@{version}{}", architecture.unwrap_or_default())
}

/// Gives out ids, which have letters, digits, `.` and `-` only, and each to one package.
#[derive(Default)]
struct Ids(BTreeMap<String, usize>);

impl Ids {
    fn next(&mut self, package: &Package) -> String {
        let plain = |text: &str| -> String {
            let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
            text.chars().map(fit).collect()
        };
        let kind = package.manager.purl_type();
        let id = format!("SPDXRef-Package-{kind}-{}-{}", plain(&package.name), plain(&package.version));
        let uses = self.0.entry(id.clone()).or_default();
        *uses += 1;
        if *uses == 1 { id } else { format!("{id}-again-{uses}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(manager: Manager, name: &str, version: &str) -> Package {
        let architecture = (manager == Manager::Deb).then(|| "amd64".to_owned());
        let (name, version) = (name.to_owned(), version.to_owned());
        Package { manager, name, version, architecture, found_in: "/x".to_owned() }
    }

    #[test]
    fn packages_have_urls() {
        let url = |manager, name, version| purl(&package(manager, name, version), Some("debian"));
        assert_eq!(url(Manager::Deb, "libc6", "1:2+b1"), "pkg:deb/debian/libc6@1%3A2%2Bb1?arch=amd64");
        assert_eq!(url(Manager::Pypi, "Typing_Extensions", "4"), "pkg:pypi/typing-extensions@4");
        assert_eq!(url(Manager::Npm, "@a/b", "1"), "pkg:npm/%40a/b@1");
    }

    #[test]
    fn every_id_is_used_once_and_everything_is_related() {
        let same = package(Manager::Npm, "a/b", "1");
        let packages = vec![same.clone(), same, package(Manager::Npm, "a-b", "1")];
        let found =
            Inventory { packages, distribution: None, unread: vec!["/var/lib/rpm/Packages".to_owned()] };
        let made = document(&found, "app", "00", "2000-01-01T00:00:00Z");
        let ids: std::collections::BTreeSet<&str> =
            made["packages"].as_array().unwrap().iter().map(|it| it["SPDXID"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 4);
        assert!(made["relationships"].as_array().unwrap().iter().all(|relation| {
            relation["relationshipType"] == "DESCRIBES"
                || ids.contains(relation["relatedSpdxElement"].as_str().unwrap())
        }));
        assert!(made["creationInfo"]["comment"].as_str().unwrap().contains("/var/lib/rpm/Packages"));
    }
}
