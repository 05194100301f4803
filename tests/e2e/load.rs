//! `--load`: what goes over the line to docker's daemon, here a few lines of our own; `tests/acceptance/docker` has the real one.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{Bench, Image};

/// A daemon that has images of some layers, and keeps what it is sent.
struct Daemon {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    layers: Vec<String>,
    is_podman: bool,
    error: Option<&'static str>,
    received: Vec<Vec<u8>>,
}

impl Daemon {
    fn start(directory: &Path) -> Self {
        let path = directory.join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        // It ends with the process: nobody else connects.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { path, state }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    fn received(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.lock().unwrap().received)
    }
}

fn serve(mut stream: UnixStream, state: &Mutex<State>) {
    let mut held = Vec::new();
    while let Some(head) = read_until(&mut stream, &mut held, b"\r\n\r\n") {
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            read_chunks(&mut stream, &mut held)
        } else {
            Vec::new()
        };
        let answer = answer(&path, body, &mut state.lock().unwrap());
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    }
}

fn answer(path: &str, body: Vec<u8>, state: &mut State) -> String {
    if path.starts_with("/images/load") {
        state.received.push(body);
        let line = state.error.map_or_else(|| json!({"stream": "Loaded"}), |error| json!({"error": error}));
        return format!("{line}\n");
    }
    let name = if state.is_podman { "Podman Engine" } else { "Engine" };
    match path {
        "/version" => json!({ "Components": [{ "Name": name }] }),
        "/info" => json!({ "DriverStatus": null }),
        "/images/json" => json!([{ "Id": "sha256:1" }]),
        _ => json!({ "RootFS": { "Layers": state.layers } }),
    }
    .to_string()
}

fn read_until(stream: &mut UnixStream, held: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = held.windows(end.len()).position(|window| window == end) {
            let rest = held.split_off(at + end.len());
            let mut head = std::mem::replace(held, rest);
            head.truncate(at);
            return Some(head);
        }
        let mut buffer = [0; 1 << 16];
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => held.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

fn read_chunks(stream: &mut UnixStream, held: &mut Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = read_until(stream, held, b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        while held.len() < size + 2 {
            let mut buffer = [0; 1 << 16];
            let count = stream.read(&mut buffer).unwrap();
            held.extend_from_slice(&buffer[..count]);
        }
        body.extend(held.drain(..size));
        held.drain(..2);
        if size == 0 {
            return body;
        }
    }
}

/// Returns the names of the archive's members.
fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.path().unwrap().display().to_string()).collect()
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\n").write("a", "a\n").write("b", "b\n");
    bench
}

#[test]
fn only_layers_the_daemon_lacks_are_sent() {
    let bench = bench();
    let daemon = Daemon::start(&bench.path(""));
    let host = daemon.host();
    let load = || bench.mica_with(&["build", "--load", "-t", "app:1", "."], &[("DOCKER_HOST", &host)], b"");
    load().succeeds().says(&["loading into the docker daemon"]);
    let whole = daemon.received().pop().unwrap();
    let image = Image::read(&whole);
    let layers: Vec<String> = image.config["rootfs"]["diff_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(layers.len(), 2);
    let blob = |layer: &String| format!("blobs/sha256/{}", layer.strip_prefix("sha256:").unwrap());
    assert!(layers.iter().all(|layer| members(&whole).contains(&blob(layer))));

    daemon.state.lock().unwrap().layers = vec![layers[0].clone(), format!("sha256:{}", "0".repeat(64))];
    load().succeeds();
    let rest = members(&daemon.received().pop().unwrap());
    assert!(!rest.contains(&blob(&layers[0])) && rest.contains(&blob(&layers[1])), "{rest:?}");
    assert!(rest.contains(&"manifest.json".to_owned()));

    daemon.state.lock().unwrap().is_podman = true;
    load().succeeds();
    assert_eq!(members(&daemon.received().pop().unwrap()), members(&whole), "podman wants everything");
}

#[test]
fn a_daemon_that_refuses_or_is_not_there_is_told() {
    let bench = bench();
    let daemon = Daemon::start(&bench.path(""));
    daemon.state.lock().unwrap().error = Some("no space left on device");
    let host = daemon.host();
    let with =
        |host: &str| bench.mica_with(&["build", "-o", "type=docker", "."], &[("DOCKER_HOST", host)], b"");
    with(&host).exits(1).says(&["no space left on device"]);
    with("unix:///nowhere/docker.sock").exits(69).says(&["does not answer", "DOCKER_HOST"]);
    with("ssh://me@host").exits(1).says(&["mica cannot speak to the docker daemon at `ssh://me@host`"]);
}
