//! Into docker's daemon: an archive without the layers it has.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use mica_image::archive::write_docker_archive_without;
use mica_image::layout::{NamedImage, WithDocuments, WriteLayoutError};
use mica_image::{ContentDigest, DiffId, LayerCompression, Manifest, Reference};
use mica_remote::{Daemon, DaemonAddress};
use mica_solver::{BuildEvent, EventSender, TaskState};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::blobs::StoreBlobs;
use super::documents;
use super::push::Pieces;
use super::{Exported, OutputError, StoredImage};
use crate::engine::blocking::blocking;
use crate::engine::request::Packing;
use crate::engine::{DaemonSettings, Engine, Host};

const USUAL_SOCKET: &str = "/var/run/docker.sock";
const PIECES: usize = 8;

impl Engine {
    /// Loads an image into docker's daemon.
    pub(super) async fn load_into_daemon(
        &self,
        images: &[StoredImage],
        names: &[Reference],
        packing: &Packing,
        events: &EventSender,
    ) -> Result<Exported, OutputError> {
        let [image] = images else { return Err(OutputError::SeveralPlatforms) };
        let address = address(&self.host.daemon, self.host.docker_config.as_deref())?;
        let what = format!("loading into the docker daemon at {address}");
        events.send(BuildEvent::Task { what: what.clone(), state: TaskState::Started }).await;
        let daemon = Daemon::open(&address)?;
        let known = daemon.known_layers().await?;
        let (host, wanted, packing) = (self.host.clone(), image.clone(), packing.clone());
        let prepared = Arc::new(blocking(move || Prepared::new(&host, &wanted, &packing)).await?);
        let shared = shared_with(&image.config.rootfs.diff_ids, &known);
        let loaded = prepared.send(&daemon, names, shared).await;
        if loaded.is_err() && shared > 0 {
            tracing::debug!("the daemon did not take the image without the layers it has");
            prepared.send(&daemon, names, 0).await?;
        } else {
            loaded?;
        }
        events.send(BuildEvent::Task { what, state: TaskState::Done }).await;
        let names = names.iter().map(Reference::to_string).collect();
        Ok(Exported { target: prepared.packed.descriptor.clone(), names })
    }
}

/// An image that is ready to be sent.
struct Prepared {
    blobs: StoreBlobs,
    packed: documents::Packed,
    layers: Vec<ContentDigest>,
}

impl Prepared {
    fn new(host: &Host, image: &StoredImage, packing: &Packing) -> Result<Self, OutputError> {
        let blobs = StoreBlobs::new(&host.store, host.threads);
        let images = std::slice::from_ref(image);
        let mut manifests =
            documents::manifests(&host.store, &blobs, images, packing, LayerCompression::None)?;
        let packed = manifests.pop().expect("one image has one manifest");
        let manifest: Manifest = serde_json::from_slice(&packed.bytes).expect("it was just written");
        Ok(Self { blobs, packed, layers: manifest.layers.iter().map(|layer| layer.digest).collect() })
    }

    /// Sends all but the lowest layers, so many of which the daemon has.
    async fn send(
        self: &Arc<Self>,
        daemon: &Daemon,
        names: &[Reference],
        shared: usize,
    ) -> Result<(), OutputError> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let (prepared, names) = (self.clone(), names.to_vec());
        let writing = blocking(move || prepared.write(&names, shared, sender));
        let next = |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
        let sending = daemon.load(stream::unfold(receiver, next).boxed());
        let is_told = |error: &OutputError| {
            // That the stream broke is what the sending tells better.
            matches!(error, OutputError::Layout { source: WriteLayoutError::Stream(_), .. })
        };
        match futures_util::future::join(writing, sending).await {
            (Err(error), _) if !is_told(&error) => Err(error),
            (_, sent) => Ok(sent?),
        }
    }

    fn write(
        &self,
        names: &[Reference],
        shared: usize,
        sender: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), OutputError> {
        let (known, sent) = self.layers.split_at(shared.min(self.layers.len()));
        // A layer that comes twice has another chain the second time.
        let left_out: BTreeSet<ContentDigest> =
            known.iter().filter(|layer| !sent.contains(layer)).copied().collect();
        let mut source = WithDocuments::new(&self.blobs);
        source.add(self.packed.bytes.clone());
        let named = [NamedImage { target: self.packed.descriptor.clone(), names: names.to_vec() }];
        let mut pieces = Pieces::new(&sender);
        let written = write_docker_archive_without(&mut pieces, &named, &source, &left_out)
            .and_then(|()| pieces.send().map_err(WriteLayoutError::Stream));
        if let Err(error) = &written {
            // A receiver that is gone has no use for the reason.
            let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
        written.map_err(|source| OutputError::Layout { target: "the docker daemon".to_owned(), source })
    }
}

/// Returns how many of the lowest layers some image has as well.
fn shared_with(layers: &[DiffId], known: &[Vec<DiffId>]) -> usize {
    let common = |other: &Vec<DiffId>| layers.iter().zip(other).take_while(|(a, b)| a == b).count();
    known.iter().map(common).max().unwrap_or(0)
}

/// Finds the daemon as docker's own tools do: `DOCKER_HOST`, then the context in use, then the usual socket.
fn address(settings: &DaemonSettings, docker_config: Option<&Path>) -> Result<DaemonAddress, OutputError> {
    let parse = |text: &str| {
        DaemonAddress::parse(text).ok_or_else(|| OutputError::DaemonAddress { address: text.to_owned() })
    };
    if let Some(host) = &settings.host {
        return parse(host);
    }
    let context = settings.context.clone().or_else(|| current_context(docker_config?));
    match context.filter(|context| context != "default") {
        None => Ok(DaemonAddress::Socket(USUAL_SOCKET.into())),
        Some(context) => match host_of(&context, docker_config) {
            Some(host) => parse(&host),
            None => Err(OutputError::DaemonContext { context }),
        },
    }
}

fn current_context(docker_config: &Path) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        current_context: Option<String>,
    }
    let text = std::fs::read(docker_config).ok()?;
    serde_json::from_slice::<Config>(&text).ok()?.current_context.filter(|context| !context.is_empty())
}

fn host_of(context: &str, docker_config: Option<&Path>) -> Option<String> {
    let name = ContentDigest::of(context.as_bytes()).hex();
    let path = docker_config?.parent()?.join("contexts/meta").join(name).join("meta.json");
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(meta.get("Endpoints")?.get("docker")?.get("Host")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shared_from_the_lowest_on() {
        let layers: Vec<DiffId> = (0..3).map(|number| DiffId::from_bytes([number; 32])).collect();
        let other = |numbers: &[usize]| numbers.iter().map(|number| layers[*number]).collect::<Vec<_>>();
        assert_eq!(shared_with(&layers, &[]), 0);
        assert_eq!(shared_with(&layers, &[other(&[1, 2]), other(&[0, 2])]), 1);
        assert_eq!(shared_with(&layers, &[other(&[0, 1, 2, 0]), other(&[0])]), 3);
    }

    #[test]
    fn the_daemon_is_where_docker_says() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.json");
        let found =
            |settings: DaemonSettings| address(&settings, Some(&config)).map(|found| found.to_string());
        let usual = "unix:///var/run/docker.sock";
        assert_eq!(found(DaemonSettings::default()).unwrap(), usual);
        std::fs::write(&config, r#"{"currentContext":"lab"}"#).unwrap();
        let error = found(DaemonSettings::default()).unwrap_err().to_string();
        assert_eq!(error, "docker's context `lab` names no daemon");
        let meta = home.path().join("contexts/meta").join(ContentDigest::of(b"lab").hex());
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"tcp://lab:2375"}}}"#)
            .unwrap();
        assert_eq!(found(DaemonSettings::default()).unwrap(), "tcp://lab:2375");
        let with = |host: &str| DaemonSettings { host: Some(host.into()), context: None };
        assert_eq!(found(with("unix:///x")).unwrap(), "unix:///x");
        assert!(found(with("ssh://me@lab")).is_err());
        let usual_context = DaemonSettings { host: None, context: Some("default".into()) };
        assert_eq!(found(usual_context).unwrap(), usual);
    }
}
