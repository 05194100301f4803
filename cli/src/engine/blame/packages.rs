//! The package a file came with, by the databases of dpkg and apk that the same layer wrote.
//!
//! What a package's scripts made is not the package's: only the files it lists are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use mica_cache::Store;
use mica_image::index::{LayerPath, Node, name, parent};
use mica_image::tree::{FileTree, FollowLast, join, resolve};

use super::lineage::Lineage;
use crate::engine::history::{Deed, LookError, merged};

const DPKG_LISTS: &[u8] = b"var/lib/dpkg/info";
const DPKG_STATUS: &[u8] = b"var/lib/dpkg/status";
const APK_INSTALLED: [&[u8]; 2] = [b"lib/apk/db/installed", b"usr/lib/apk/db/installed"];

/// What layers installed, looked up once each.
pub(super) struct Packages<'a> {
    store: &'a Store,
    installed: HashMap<(u32, usize), HashMap<LayerPath, String>>,
}

impl<'a> Packages<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, installed: HashMap::new() }
    }

    /// Returns name and version of the package that a layer installed `path` with.
    pub(super) fn of_file(
        &mut self,
        lineage: &Lineage,
        layer: usize,
        path: &[u8],
    ) -> Result<Option<String>, LookError> {
        let key = (lineage.key, layer);
        if !self.installed.contains_key(&key) {
            let installed = Reading { store: self.store, lineage, layer }.installed()?;
            self.installed.insert(key, installed);
        }
        Ok(self.installed[&key].get(path).cloned())
    }
}

/// Reading the databases as one layer left them.
struct Reading<'a> {
    store: &'a Store,
    lineage: &'a Lineage,
    layer: usize,
}

impl Reading<'_> {
    fn installed(&self) -> Result<HashMap<LayerPath, String>, LookError> {
        let mut files: Vec<(Vec<u8>, String)> = self.by_dpkg()?;
        files.extend(self.by_apk()?);
        if files.is_empty() {
            return Ok(HashMap::new());
        }
        // Packages may list paths through links, as `/bin/ls` where `/bin` is `usr/bin`.
        let tree = merged(&self.lineage.layers[..=self.layer]);
        let mut directories: HashMap<Vec<u8>, LayerPath> = HashMap::new();
        let mut real: HashMap<LayerPath, Option<String>> = HashMap::with_capacity(files.len());
        for (path, package) in files {
            let directory = parent(&path).to_vec();
            let found = match directories.get(&directory) {
                Some(found) => found,
                None => {
                    let found = real_directory(&tree, &directory);
                    directories.entry(directory).or_insert(found)
                }
            };
            // Packages share directories, and links that stand for them; a file is one's own.
            let path = join(found, name(&path));
            real.entry(path).and_modify(|owner| *owner = None).or_insert(Some(package));
        }
        Ok(real.into_iter().filter_map(|(path, owner)| Some((path, owner?))).collect())
    }

    /// Each package's list that the layer put there.
    fn by_dpkg(&self) -> Result<Vec<(Vec<u8>, String)>, LookError> {
        let index = &self.lineage.layers[self.layer].index;
        let list_of = |path: &[u8]| {
            let file = name(path).strip_suffix(b".list")?;
            (parent(path) == DPKG_LISTS).then(|| String::from_utf8_lossy(file).into_owned())
        };
        let lists: Vec<(String, LayerPath)> = index
            .entries
            .iter()
            .filter(|entry| matches!(entry.node, Node::File { .. }))
            .filter_map(|entry| Some((list_of(&entry.path)?, entry.path.clone())))
            .collect();
        if lists.is_empty() {
            return Ok(Vec::new());
        }
        let status = self.text(self.layer, DPKG_STATUS)?;
        let versions = dpkg_versions(&status);
        let mut files = Vec::new();
        for (package, path) in lists {
            let plain = package.split(':').next().unwrap_or_default();
            let told = match versions.get(plain) {
                Some(version) => format!("{plain} {version}"),
                None => plain.to_owned(),
            };
            let text = self.text(self.layer, &path)?;
            let paths = text.lines().filter_map(|line| line.strip_prefix('/')).filter(|path| *path != ".");
            files.extend(paths.map(|path| (path.as_bytes().to_vec(), told.clone())));
        }
        Ok(files)
    }

    /// The packages that were not installed so below the layer.
    fn by_apk(&self) -> Result<Vec<(Vec<u8>, String)>, LookError> {
        let mut files = Vec::new();
        for path in APK_INSTALLED {
            if self.lineage.layers[self.layer].index.find(path).is_none() {
                continue;
            }
            let below = match self.layer.checked_sub(1) {
                Some(below) => apk_packages(&self.text(below, path)?),
                None => Vec::new(),
            };
            let known: HashSet<&String> = below.iter().map(|(package, _)| package).collect();
            for (package, paths) in apk_packages(&self.text(self.layer, path)?) {
                if !known.contains(&package) {
                    files.extend(paths.into_iter().map(|path| (path, package.clone())));
                }
            }
        }
        Ok(files)
    }

    /// Returns a file as it is with this layer on top; an empty text where it is none.
    fn text(&self, top: usize, path: &[u8]) -> Result<String, LookError> {
        let put = (0..=top).rev().find_map(|layer| Some((layer, self.lineage.layers[layer].deed(path)?)));
        let Some((layer, Deed::Puts(entry))) = put else { return Ok(String::new()) };
        let Node::File { bytes, .. } = &entry.node else { return Ok(String::new()) };
        let id = self.lineage.layers[layer].id;
        let mut text = Vec::new();
        let mut file = self.store.layers().open_bytes(&id, path, bytes)?;
        file.read_to_end(&mut text).map_err(|source| LookError::Read {
            path: format!("/{}", String::from_utf8_lossy(path)),
            source,
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Returns where a directory really is; where that cannot be told it is where it says.
fn real_directory(tree: &dyn FileTree, path: &[u8]) -> LayerPath {
    resolve(tree, path, FollowLast::Yes).map_or_else(|_| path.to_vec(), |found| found.full_path())
}

fn dpkg_versions(status: &str) -> BTreeMap<&str, &str> {
    let package = |paragraph| Some((field(paragraph, "Package: ")?, field(paragraph, "Version: ")?));
    status.split("\n\n").filter_map(package).collect()
}

fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name))
}

/// Returns each package's name and version, with its files.
fn apk_packages(installed: &str) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut packages = Vec::new();
    for paragraph in installed.split("\n\n") {
        let (mut package, mut version, mut directory, mut files) = ("", "", "", Vec::new());
        for line in paragraph.lines() {
            match line.split_once(':') {
                Some(("P", value)) => package = value,
                Some(("V", value)) => version = value,
                Some(("F", value)) => directory = value,
                Some(("R", value)) => files.push(join(directory.as_bytes(), value.as_bytes())),
                _ => {}
            }
        }
        if !package.is_empty() {
            packages.push((format!("{package} {version}"), files));
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_read() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\n\nPackage: b\nConffiles:\n /etc/b x\nVersion: 4\n";
        assert_eq!(dpkg_versions(status), BTreeMap::from([("a", "1:2-3"), ("b", "4")]));
        let installed = "C:Q1x\nP:musl\nV:1.2\nF:lib\nR:ld.so\na:0:0:755\nR:libc.so\nF:etc\n\nP:none\nV:1\n";
        assert_eq!(
            apk_packages(installed),
            [
                ("musl 1.2".to_owned(), vec![b"lib/ld.so".to_vec(), b"lib/libc.so".to_vec()]),
                ("none 1".to_owned(), vec![])
            ]
        );
    }
}
