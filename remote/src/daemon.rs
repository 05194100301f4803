//! Docker's daemon, as far as images are loaded into it.
//!
//! Its load skips a layer whose chain of layers it has before it looks for the layer's bytes, so those need not be sent. That is so for
//! its own store of layers; containerd's and podman want an archive with everything.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;
use mica_image::DiffId;
use reqwest::{Body, Client, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The most that is read of an answer that is not asked for in full.
const ANSWER_MAX: usize = 16 << 20;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// At a socket.
    Socket(PathBuf),
    /// At `host:port`, without encryption.
    Tcp(String),
}

/// A daemon could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody answers there.
    #[error("the docker daemon at {address} does not answer")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It answered with an error.
    #[error("the docker daemon answered {what}: {answer}")]
    Refused {
        /// What was asked, or its status.
        what: String,
        /// What it said.
        answer: String,
    },
}

impl std::fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl DaemonAddress {
    /// Reads `unix:///run/docker.sock` or `tcp://127.0.0.1:2375`; `None` for what mica does not speak.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once("://")? {
            ("unix", path) if path.starts_with('/') => Some(Self::Socket(PathBuf::from(path))),
            ("tcp" | "http", host) if !host.is_empty() => {
                Some(Self::Tcp(host.trim_end_matches('/').to_owned()))
            }
            _ => None,
        }
    }
}

/// A daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    client: Client,
    base: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "RootFS")]
    root: Layers,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Layers {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// One line of the answer to a load.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    error: Option<String>,
}

impl Daemon {
    /// Returns a way to a daemon; nothing is asked yet.
    pub fn open(address: &DaemonAddress) -> Result<Self, DaemonError> {
        let shown = address.to_string();
        let builder = Client::builder().no_proxy();
        let (builder, base) = match address {
            DaemonAddress::Socket(path) => (builder.unix_socket(path.as_path()), "http://docker".to_owned()),
            DaemonAddress::Tcp(host) => (builder, format!("http://{host}")),
        };
        let client =
            builder.build().map_err(|source| DaemonError::Unreachable { address: shown.clone(), source })?;
        Ok(Self { client, base, address: shown })
    }

    /// Returns the layers of each of its images, the lowest first; none where it wants everything sent.
    pub async fn known_layers(&self) -> Result<Vec<Vec<DiffId>>, DaemonError> {
        let version: Version = self.get("/version").await?;
        let info: Info = self.get("/info").await?;
        let is_other = version.components.iter().any(|component| component.name.contains("Podman"));
        let status = info.driver_status.unwrap_or_default();
        if is_other
            || status.iter().any(|(key, value)| key == "driver-type" && value.starts_with("io.containerd"))
        {
            return Ok(Vec::new());
        }
        let images: Vec<Listed> = self.get("/images/json").await?;
        let layers = try_join_all(images.iter().map(|image| self.layers_of(&image.id))).await?;
        Ok(layers.into_iter().flatten().collect())
    }

    /// Loads an archive.
    pub async fn load(&self, archive: BoxStream<'static, io::Result<Bytes>>) -> Result<(), DaemonError> {
        let request = self.client.post(format!("{}/images/load?quiet=1", self.base));
        let request = request.header("content-type", "application/x-tar").body(Body::wrap_stream(archive));
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let text = self.text(response, "the archive").await?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        match lines.filter_map(|line| line.error).next() {
            Some(answer) => Err(DaemonError::Refused { what: "an error".to_owned(), answer }),
            None => Ok(()),
        }
    }

    /// Returns an image's layers; `None` for one that was removed meanwhile.
    async fn layers_of(&self, id: &str) -> Result<Option<Vec<DiffId>>, DaemonError> {
        let inspected: Inspected = match self.get(&format!("/images/{id}/json")).await {
            Ok(inspected) => inspected,
            Err(DaemonError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let layers = inspected.root.layers.unwrap_or_default();
        Ok(layers.iter().map(|layer| layer.parse().ok()).collect())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, DaemonError> {
        let sent = self.client.get(format!("{}{path}", self.base)).send().await;
        let text = self.text(sent.map_err(|source| self.unreachable(source))?, path).await?;
        serde_json::from_str(&text)
            .map_err(|error| DaemonError::Refused { what: format!("to {path}"), answer: error.to_string() })
    }

    async fn text(&self, mut response: Response, what: &str) -> Result<String, DaemonError> {
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|source| self.unreachable(source))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > ANSWER_MAX {
                let answer = "more than any real answer has".to_owned();
                return Err(DaemonError::Refused { what: format!("to {what}"), answer });
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match status {
            StatusCode::OK => Ok(text),
            _ => Err(DaemonError::Refused {
                what: format!("{status} to {what}"),
                answer: text.trim().to_owned(),
            }),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> DaemonError {
        DaemonError::Unreachable { address: self.address.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text| DaemonAddress::parse(text).map(|address| address.to_string());
        assert_eq!(parse("unix:///run/docker.sock").as_deref(), Some("unix:///run/docker.sock"));
        assert_eq!(parse("tcp://127.0.0.1:2375/").as_deref(), Some("tcp://127.0.0.1:2375"));
        for text in ["ssh://me@host", "npipe:////./pipe/docker", "unix://relative", "", "tcp://"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
