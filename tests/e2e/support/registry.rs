//! A registry on the loopback device: images to pull, in memory. It counts what it is asked and can demand credentials or misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::archive::{Entry, gzip, tar};
use super::image::digest;

/// Who may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Whoever sends `user:secret`.
    Basic,
    /// Whoever got a token from `/token`.
    Token,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is answered but an error.
    Down,
    /// Too much was asked.
    Throttled,
    /// Blobs end in their middle.
    Cut,
    /// Blobs come in many small pieces.
    Slow,
    /// Manifests are said to have another digest.
    Renamed,
}

/// `user:secret` in base 64.
const CREDENTIALS: &str = "dXNlcjpzZWNyZXQ=";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

struct State {
    access: Access,
    address: String,
    /// Content type and bytes by path.
    content: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// `METHOD path` of what was asked and answered with content.
    served: Vec<String>,
    /// What goes wrong, and how often still.
    fault: Option<(Fault, u32)>,
    /// Where blobs are to be had instead.
    blobs_at: Option<String>,
    /// What requests of blobs had to show.
    shown: Vec<String>,
}

/// A registry that ends with the tests.
pub(crate) struct Registry {
    state: Arc<Mutex<State>>,
    address: String,
}

impl Registry {
    /// Starts it on a free port.
    pub(crate) fn start(access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback device is there");
        let address = listener.local_addr().expect("it is bound").to_string();
        let content = BTreeMap::from([("/v2/".to_owned(), ("application/json", b"{}".to_vec()))]);
        let state = State {
            access,
            address: address.clone(),
            content,
            served: Vec::new(),
            fault: None,
            blobs_at: None,
            shown: Vec::new(),
        };
        let registry = Self { state: Arc::new(Mutex::new(state)), address };
        let state = Arc::clone(&registry.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || drop(answer(stream, &state)));
            }
        });
        registry
    }

    /// Returns the name an image has here.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Puts an image of one layer under a name like `team/app:1`; returns the digest of its manifest.
    pub(crate) fn put(&self, image: &str, entries: &[Entry], config: &Value) -> String {
        let (repository, tag) = image.split_once(':').expect("the name has a tag");
        let layer = tar(entries);
        let compressed = gzip(&layer);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            "history": [{"created_by": "the tests"}],
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &compressed)],
        });
        let manifest = manifest.to_string().into_bytes();
        let name = digest(&manifest);
        let mut state = self.state.lock().expect("no holder panics");
        for blob in [config, compressed] {
            let path = format!("/v2/{repository}/blobs/{}", digest(&blob));
            state.content.insert(path, ("application/octet-stream", blob));
        }
        for reference in [tag, &name] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            state.content.insert(path, (MANIFEST, manifest.clone()));
        }
        name
    }

    /// Serves a file, and returns its address.
    pub(crate) fn put_file(&self, path: &str, bytes: &[u8]) -> String {
        let mut state = self.state.lock().expect("no holder panics");
        state.content.insert(format!("/{path}"), ("application/octet-stream", bytes.to_vec()));
        format!("http://{}/{path}", self.address)
    }

    /// Makes every blob hold other bytes than its digest says.
    pub(crate) fn spoil_blobs(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        for (_, (_, bytes)) in state.content.iter_mut().filter(|(path, _)| path.contains("/blobs/")) {
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
        }
    }

    /// Lets something go wrong the next so many times.
    pub(crate) fn fail(&self, fault: Fault, times: u32) {
        self.state.lock().expect("no holder panics").fault = Some((fault, times));
    }

    /// Sends whoever wants a blob to another registry.
    pub(crate) fn redirect_blobs(&self, to: &Self) {
        self.state.lock().expect("no holder panics").blobs_at = Some(to.address.clone());
    }

    /// Returns what requests of blobs had to show, empty for nothing.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.state.lock().expect("no holder panics").shown.clone()
    }

    /// Returns what was served since the last time, without `/v2/`.
    pub(crate) fn served(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no holder panics").served)
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut authorization = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                authorization = value.to_owned()
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let response = state.lock().expect("no holder panics").respond(method, path, &authorization);
    let with_body = method != "HEAD";
    let Response { status, headers, body, manner } = response;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )?;
    let body = if with_body { &body[..] } else { &[] };
    match manner {
        Manner::Plain => stream.write_all(body),
        Manner::Cut => stream.write_all(&body[..body.len() / 2]),
        Manner::Slow => body.chunks(body.len() / 8 + 1).try_for_each(|piece| {
            std::thread::sleep(PAUSE);
            stream.write_all(piece)
        }),
    }
}

/// Between two pieces of a slow answer.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// How a body is sent.
#[derive(Clone, Copy)]
enum Manner {
    Plain,
    Cut,
    Slow,
}

struct Response {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    manner: Manner,
}

impl Response {
    fn of(status: &'static str, headers: String, body: &[u8]) -> Self {
        Self { status, headers, body: body.to_vec(), manner: Manner::Plain }
    }
}

impl State {
    fn respond(&mut self, method: &str, path: &str, authorization: &str) -> Response {
        if path.starts_with("/token?") {
            return self.token(authorization);
        }
        let demand = match self.access {
            Access::Open => None,
            Access::Basic => Some(("Basic realm=\"tests\"".to_owned(), format!("Basic {CREDENTIALS}"))),
            Access::Token => Some((
                format!("Bearer realm=\"http://{}/token\",service=\"tests\"", self.address),
                "Bearer open-sesame".to_owned(),
            )),
        };
        if let Some((challenge, _)) = demand.filter(|(_, expected)| expected != authorization) {
            let headers = format!("WWW-Authenticate: {challenge}\r\n");
            return Response::of("401 Unauthorized", headers, b"{}");
        }
        let is_blob = path.contains("/blobs/");
        if is_blob {
            self.shown.push(authorization.to_owned());
        }
        if let Some(other) = self.blobs_at.as_ref().filter(|_| is_blob) {
            let headers = format!("Location: http://{other}{path}?signature=x\r\n");
            return Response::of("307 Temporary Redirect", headers, b"");
        }
        let (mut manner, mut renamed) = (Manner::Plain, false);
        match self.due(path) {
            Some(Fault::Down) => return Response::of("503 Service Unavailable", String::new(), b""),
            Some(Fault::Throttled) => {
                return Response::of("429 Too Many Requests", "Retry-After: 0\r\n".to_owned(), b"");
            }
            Some(Fault::Cut) => manner = Manner::Cut,
            Some(Fault::Slow) => manner = Manner::Slow,
            Some(Fault::Renamed) => renamed = true,
            None => {}
        }
        let path = path.split('?').next().unwrap_or_default();
        let Some((kind, bytes)) = self.content.get(path) else {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return Response::of("404 Not Found", String::new(), body);
        };
        if path != "/v2/" {
            self.served.push(format!("{method} {path}"));
        }
        let name = digest(if renamed { b"another" } else { bytes });
        let headers = format!("Content-Type: {kind}\r\nDocker-Content-Digest: {name}\r\n");
        Response { manner, ..Response::of("200 OK", headers, bytes) }
    }

    /// Returns what goes wrong with a request, if anything does.
    fn due(&mut self, path: &str) -> Option<Fault> {
        let (fault, times) = self.fault.as_mut().filter(|(_, times)| *times > 0)?;
        let concerns = match fault {
            Fault::Down | Fault::Throttled => path != "/v2/",
            Fault::Cut | Fault::Slow => path.contains("/blobs/"),
            Fault::Renamed => path.contains("/manifests/"),
        };
        *times -= u32::from(concerns);
        concerns.then(|| fault.clone())
    }

    /// Gives a token to whoever has the credentials.
    fn token(&self, authorization: &str) -> Response {
        let headers = "Content-Type: application/json\r\n".to_owned();
        if authorization != format!("Basic {CREDENTIALS}") {
            return Response::of("401 Unauthorized", headers, b"{}");
        }
        Response::of("200 OK", headers, br#"{"token":"open-sesame"}"#)
    }
}
