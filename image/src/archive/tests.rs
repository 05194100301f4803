//! Writing and reading images as archives and directories, and archives that mean no good.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use super::*;
use crate::layout::{BlobSource, NamedImage, WithDocuments, WriteLayoutError, write_layout_directory};
use crate::{
    ContentDigest, Descriptor, Dialect, DiffId, Document, ImageConfig, Index, LayerCompression, Manifest,
    MediaType, Platform, Reference,
};

const LAYER: &[u8] = b"the bytes of a layer, which need not be a tar here";

#[derive(Default)]
struct Blobs(BTreeMap<ContentDigest, Vec<u8>>);

impl Blobs {
    fn add(&mut self, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let blob = Descriptor::of(media_type, bytes);
        self.0.insert(blob.digest, bytes.to_vec());
        blob
    }

    fn image(&mut self, dialect: Dialect, layer: &[u8]) -> Descriptor {
        let mut config = ImageConfig::default();
        config.set_platform(&Platform::new("linux", "amd64", ""));
        config.rootfs.diff_ids = vec![DiffId::from_bytes(*ContentDigest::of(layer).as_bytes())];
        let config = self.add(MediaType::config(dialect), &config.to_bytes());
        let layer = self.add(MediaType::layer(dialect, LayerCompression::None), layer);
        let manifest = Manifest::new(dialect, config, vec![layer]);
        self.add(MediaType::manifest(dialect), &manifest.to_bytes())
    }
}

impl BlobSource for Blobs {
    fn write_to(&self, blob: &Descriptor, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.0.get(&blob.digest).ok_or(io::ErrorKind::NotFound)?)
    }
}

fn named(target: Descriptor, names: &[&str]) -> NamedImage {
    NamedImage { target, names: names.iter().map(|name| Reference::parse(name).unwrap()).collect() }
}

fn read(archive: &ImageArchive, blob: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive.open_blob(blob).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn manifest_of(archive: &ImageArchive, image: &ArchivedImage) -> Manifest {
    match archive.read_document(&image.target).unwrap().0 {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("it is an index"),
    }
}

/// Checks that the one image in the archive is complete.
fn check_image(path: &Path, names: &[&str]) {
    let spool = tempfile::tempdir().unwrap();
    let archive = ImageArchive::open(path, spool.path()).unwrap();
    let image = archive.find(None).unwrap();
    assert_eq!(image.names, names);
    let manifest = manifest_of(&archive, image);
    let config = archive.read_config(&manifest.config).unwrap().0;
    assert_eq!(config.rootfs.diff_ids.len(), 1);
    assert_eq!(read(&archive, &manifest.layers[0]), LAYER);
}

fn in_temporary_file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn open(bytes: &[u8]) -> Result<ImageArchive, String> {
    let (directory, path) = in_temporary_file(bytes);
    ImageArchive::open(&path, directory.path())
        .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "X"))
}

fn docker_archive(names: &[&str]) -> Vec<u8> {
    let mut blobs = Blobs::default();
    let target = blobs.image(Dialect::Docker, LAYER);
    let mut bytes = Vec::new();
    write_docker_archive(&mut bytes, &[named(target, names)], &blobs).unwrap();
    bytes
}

fn member_names(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

fn member(bytes: &[u8], name: &str) -> String {
    let mut archive = tar::Archive::new(bytes);
    let mut entry = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap() == Path::new(name))
        .unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_layout_directory_is_read_back() {
    let mut blobs = Blobs::default();
    let target = blobs.image(Dialect::Oci, LAYER);
    let directory = tempfile::tempdir().unwrap();
    write_layout_directory(directory.path(), &[named(target, &["app:1"])], &blobs).unwrap();
    check_image(directory.path(), &["docker.io/library/app:1"]);
    let leftovers = fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count();
    assert_eq!(leftovers, 3);
}

#[test]
fn a_layout_directory_keeps_other_images_and_replaces_those_of_the_same_name() {
    let mut blobs = Blobs::default();
    let (first, second) = (blobs.image(Dialect::Oci, b"1"), blobs.image(Dialect::Oci, b"2"));
    let directory = tempfile::tempdir().unwrap();
    let write = |images: &[NamedImage]| write_layout_directory(directory.path(), images, &blobs).unwrap();
    write(&[named(first.clone(), &["app:1", "app:2"])]);
    write(&[named(second.clone(), &["app:2"])]);
    let archive = ImageArchive::open(directory.path(), directory.path()).unwrap();
    assert_eq!(archive.find(Some("1")).unwrap().target.digest, first.digest);
    assert_eq!(archive.find(Some("app:2")).unwrap().target.digest, second.digest);
    assert_eq!(archive.images().len(), 2);
}

#[test]
fn archives_are_read_back_also_when_compressed() {
    let bytes = docker_archive(&["app", "example.com/app:1"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    for bytes in [gzip.finish().unwrap(), zstd::encode_all(bytes.as_slice(), 1).unwrap(), bytes] {
        let (_directory, path) = in_temporary_file(&bytes);
        check_image(&path, &["docker.io/library/app:latest", "example.com/app:1"]);
    }
}

#[test]
fn a_docker_archive_is_laid_out_as_docker_does() {
    let bytes = docker_archive(&["app"]);
    let names = member_names(&bytes);
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[5..], ["index.json", "manifest.json", "oci-layout"]);
    assert!(names.is_sorted());
    assert!(member(&bytes, "manifest.json").contains(r#""RepoTags":["app:latest"]"#));
    let index = member(&bytes, "index.json");
    assert!(index.contains(r#""io.containerd.image.name":"docker.io/library/app:latest""#), "{index}");
    assert!(index.contains(r#""org.opencontainers.image.ref.name":"latest""#), "{index}");
    assert_eq!(member(&bytes, "oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn the_bytes_of_an_archive_are_pinned() {
    let digest = ContentDigest::of(&docker_archive(&["app"]));
    assert_eq!(digest.hex(), "1669400512dba69b2a8d29f60fa7e629dbb63976af21f49941549b6ce7ccdbd3");
}

#[test]
fn an_index_goes_into_a_layout_but_not_into_a_docker_archive() {
    let mut blobs = Blobs::default();
    let entries = [("linux/amd64", b"1"), ("linux/arm64", b"2")].map(|(platform, layer)| Descriptor {
        platform: Some(Platform::parse(platform).unwrap()),
        ..blobs.image(Dialect::Oci, layer)
    });
    let index = Index::new(Dialect::Oci, entries.to_vec());
    let mut source = WithDocuments::new(&blobs);
    source.add(index.to_bytes());
    let images = [named(index.descriptor(), &["app"])];
    let mut bytes = Vec::new();
    write_layout_archive(&mut bytes, &images, &source).unwrap();
    let archive = open(&bytes).unwrap();
    let (document, _) = archive.read_document(&archive.find(None).unwrap().target).unwrap();
    assert_eq!(document, Document::Index(index));
    assert_eq!(member_names(&bytes).len(), 2 + 7 + 2);
    let refused = write_docker_archive(&mut Vec::new(), &images, &source).unwrap_err();
    assert!(matches!(refused, WriteLayoutError::SeveralPlatforms { .. }));
}

#[test]
fn wrong_and_missing_blobs_are_not_written() {
    let mut blobs = Blobs::default();
    let target = blobs.image(Dialect::Oci, LAYER);
    let layer = ContentDigest::of(LAYER);
    let directory = tempfile::tempdir().unwrap();
    let mut check = |change: &dyn Fn(&mut Blobs), expected: &str| {
        change(&mut blobs);
        let images = [named(target.clone(), &[])];
        let error = write_layout_archive(&mut Vec::new(), &images, &blobs).unwrap_err();
        assert!(error.to_string().contains(&layer.hex()), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(expected), "{source}");
        write_layout_directory(directory.path(), &images, &blobs).unwrap_err();
        assert!(!directory.path().join("index.json").exists());
        assert!(!directory.path().join("blobs/sha256").join(layer.hex()).exists());
    };
    check(&|blobs| blobs.0.get_mut(&layer).unwrap()[0] ^= 1, "other content");
    check(&|blobs| blobs.0.get_mut(&layer).unwrap().push(0), "longer");
    check(&|blobs| blobs.0.get_mut(&layer).unwrap().truncate(3), "ended after");
    check(&|blobs| drop(blobs.0.remove(&layer)), "not found");
}

#[test]
fn images_are_found_by_name_tag_and_digest() {
    let mut blobs = Blobs::default();
    let (first, second) = (blobs.image(Dialect::Oci, b"1"), blobs.image(Dialect::Oci, b"2"));
    let mut bytes = Vec::new();
    let images = [named(first.clone(), &["app:1"]), named(second.clone(), &[])];
    write_layout_archive(&mut bytes, &images, &blobs).unwrap();
    let archive = open(&bytes).unwrap();
    let digest_of = |name: &str| archive.find(Some(name)).map(|image| image.target.digest).ok();
    for name in ["1", "app:1", "docker.io/library/app:1", &first.digest.to_string()] {
        assert_eq!(digest_of(name), Some(first.digest), "{name}");
    }
    assert_eq!(digest_of(&second.digest.to_string()), Some(second.digest));
    let error = archive.find(Some("app:2")).unwrap_err().to_string();
    assert!(error.contains("docker.io/library/app:1"), "{error}");
    assert!(matches!(archive.find(None), Err(ReadArchiveError::Ambiguous { .. })));
}

/// Builds an archive from (name, content or link target).
fn tar_of(members: &[(&str, Result<&[u8], &str>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match content {
            Ok(bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, *bytes).unwrap();
            }
            Err(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn old_config(layer: &[u8], count: usize) -> Vec<u8> {
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = vec![DiffId::from_bytes(*ContentDigest::of(layer).as_bytes()); count];
    config.to_bytes()
}

#[test]
fn old_docker_archives_with_linked_and_compressed_layers_are_read() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(LAYER).unwrap();
    let gzip = gzip.finish().unwrap();
    let manifest =
        br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["a/layer.tar","b/layer.tar","c.tar.gz"]}]"#;
    let bytes = tar_of(&[
        ("./a/layer.tar", Ok(LAYER)),
        ("b/layer.tar", Err("../a/layer.tar")),
        ("c.tar.gz", Ok(&gzip)),
        ("c.json", Ok(&old_config(LAYER, 3))),
        ("manifest.json", Ok(manifest)),
    ]);
    let archive = open(&bytes).unwrap();
    let image = archive.find(Some("app:1")).unwrap();
    let manifest = manifest_of(&archive, image);
    assert_eq!(manifest.layers[0], manifest.layers[1]);
    assert_eq!(read(&archive, &manifest.layers[1]), LAYER);
    assert_eq!(manifest.layers[2].media_type, MediaType::DOCKER_LAYER_GZIP);
    assert_eq!(read(&archive, &manifest.layers[2]), gzip);
    assert_eq!(archive.read_config(&manifest.config).unwrap().0.rootfs.diff_ids.len(), 3);
}

#[test]
fn a_layer_that_differs_from_its_diff_id_is_not_read() {
    let manifest = br#"[{"Config":"c.json","Layers":["l.tar"]}]"#;
    let bytes = tar_of(&[
        ("l.tar", Ok(b"other")),
        ("c.json", Ok(&old_config(LAYER, 1))),
        ("manifest.json", Ok(manifest)),
    ]);
    let archive = open(&bytes).unwrap();
    let manifest = manifest_of(&archive, &archive.images()[0]);
    let error = archive.open_blob(&manifest.layers[0]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn bad_archives_are_refused_with_a_reason() {
    let check = |members: &[(&str, Result<&[u8], &str>)], expected: &str| {
        let error = open(&tar_of(members)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    let config = old_config(LAYER, 1);
    let entry = |layers: &str| format!(r#"[{{"Config":"c.json","Layers":{layers}}}]"#).into_bytes();
    let with_layers = |layers: &str, expected: &str| {
        let manifest = entry(layers);
        check(
            &[
                ("c.json", Ok(&config)),
                ("l", Ok(LAYER)),
                ("loop", Err("loop")),
                ("manifest.json", Ok(&manifest)),
            ],
            expected,
        );
    };
    with_layers(r#"["gone.tar"]"#, "`gone.tar` is missing in X");
    with_layers(r#"["loop"]"#, "`loop` is missing in X");
    with_layers(r#"["../../etc/passwd"]"#, "`../../etc/passwd` is missing in X");
    with_layers(r#"["l","l"]"#, "has 2 layers but its config names 1");
    check(&[("manifest.json", Ok(b"{"))], "`manifest.json` in X is not valid");
    check(&[("readme", Ok(b"hello"))], "neither an OCI layout nor a docker archive");
    check(&[("oci-layout", Ok(b"{}"))], "`index.json` is missing in X");
    check(&[("oci-layout", Ok(b"{}")), ("index.json", Ok(b"[]"))], "not a valid manifest");
}

#[test]
fn damaged_archives_are_refused() {
    let bytes = docker_archive(&["app"]);
    assert!(open(&bytes[..1540]).unwrap_err().contains("not a valid archive"));
    let mut flipped = bytes.clone();
    flipped[0] ^= 1;
    assert!(open(&flipped).unwrap_err().contains("not a valid archive"));
    assert!(open(b"hello, this is no archive at all").unwrap_err().contains("not a valid archive"));
    assert!(open(b"").unwrap_err().contains("neither"));
    // One bit of the layer: the archive opens, but the blob does not read.
    let at = bytes.windows(LAYER.len()).position(|window| window == LAYER).unwrap();
    let mut flipped = bytes;
    flipped[at] ^= 1;
    let archive = open(&flipped).unwrap();
    let layer = &manifest_of(&archive, &archive.images()[0]).layers[0];
    let error = archive.open_blob(layer).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("other content"), "{error}");
}

#[test]
fn a_missing_blob_is_named() {
    let mut blobs = Blobs::default();
    let target = blobs.image(Dialect::Oci, LAYER);
    let directory = tempfile::tempdir().unwrap();
    write_layout_directory(directory.path(), &[named(target, &[])], &blobs).unwrap();
    let name = format!("blobs/sha256/{}", ContentDigest::of(LAYER).hex());
    let blob = Descriptor::of(MediaType::OCI_LAYER_TAR, LAYER);
    let open =
        || ImageArchive::open(directory.path(), directory.path()).unwrap().open_blob(&blob).err().unwrap();
    fs::remove_file(directory.path().join(&name)).unwrap();
    assert!(open().to_string().contains(&format!("`{name}` is missing")));
    // A link that stays in the directory is followed, one out of it is not, whatever it leads to.
    let link = directory.path().join(&name);
    fs::write(directory.path().join("elsewhere"), LAYER).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", &link).unwrap();
    let mut content = Vec::new();
    let archive = ImageArchive::open(directory.path(), directory.path()).unwrap();
    archive.open_blob(&blob).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, LAYER);
    fs::remove_file(&link).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), LAYER).unwrap();
    std::os::unix::fs::symlink(outside.path(), directory.path().join(&name)).unwrap();
    // An absolute link begins at the layout, where nothing is.
    assert!(open().to_string().contains("missing"));
    fs::remove_file(&link).unwrap();
    let up = format!("../../..{}", outside.path().display());
    std::os::unix::fs::symlink(up, &link).unwrap();
    assert!(open().to_string().contains("missing"));
}

#[test]
fn oversized_extension_headers_are_not_read() {
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2 << 20);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512 + (2 << 20), b'a');
    let (directory, path) = in_temporary_file(&bytes);
    let error = ImageArchive::open(&path, directory.path()).unwrap_err();
    assert!(matches!(error, ReadArchiveError::Malformed { source: MalformedArchive::Extension { .. }, .. }));
}
