//! A registry in memory. It follows the distribution specification as far as the client uses it, and breaks it on request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use mica_image::{
    ContentDigest, Descriptor, Dialect, ImageConfig, Index, Manifest, MediaType, Platform, Reference,
};

use super::{Reply, Request, TestServer};

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Anyone,
    /// User `user` with password `password`.
    Basic,
    /// Whoever has a token; anyone gets one that allows pulling.
    AnonymousToken,
    /// Whoever has a token; only `user` gets one.
    UserToken,
}

/// Something that goes wrong, as many times as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and wants the client to wait no time at all.
    Throttle,
    /// Sends so many bytes of a blob and closes the connection.
    CutBlob(usize),
    /// Sends a blob from the start, whatever range was asked for.
    IgnoreRange,
    /// Changes a byte of a blob or manifest.
    WrongBytes,
    /// Claims another digest for a manifest.
    WrongDigestHeader,
    /// Leaves out the digest header.
    NoDigestHeader,
    /// Reads so many bytes of an upload and closes the connection.
    CutUpload(usize),
    /// Forgets all tokens.
    ForgetTokens,
    /// Starts an upload when asked to mount.
    NoMount,
    /// Does not know the list of referrers.
    NoReferrers,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<(String, String), Vec<u8>>,
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    tokens: Vec<String>,
    tokens_given: usize,
    faults: Vec<(Fault, u32)>,
    /// Where blobs are sent to, if not here.
    redirect_blobs: Option<String>,
    /// Where uploads go, if not here.
    redirect_uploads: String,
}

/// A running registry.
pub(crate) struct TestRegistry {
    pub(crate) server: TestServer,
    state: Arc<Mutex<State>>,
}

impl TestRegistry {
    pub(crate) async fn start(access: Access) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (handler_state, appetite_state) = (Arc::clone(&state), Arc::clone(&state));
        let server = TestServer::start_with_appetite(
            move |request| handle(&mut handler_state.lock().unwrap(), access, request),
            move |request| {
                let uploads =
                    matches!(request.method.as_str(), "PUT" | "PATCH") && request.path.contains("/uploads/");
                let mut state = appetite_state.lock().unwrap();
                uploads.then(|| state.cut_upload()).flatten()
            },
        )
        .await;
        Self { server, state }
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.server.host)).unwrap()
    }

    /// Lets something go wrong the next `times` times it can.
    pub(crate) fn fault(&self, fault: Fault, times: u32) {
        self.state().faults.push((fault, times));
    }

    pub(crate) fn redirect_blobs(&self, base: &str) {
        self.state().redirect_blobs = Some(base.to_owned());
    }

    pub(crate) fn redirect_uploads(&self, base: &str) {
        self.state().redirect_uploads = base.to_owned();
    }

    pub(crate) fn add_blob(&self, repository: &str, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let blob = Descriptor::of(media_type, bytes);
        self.state().blobs.insert((repository.to_owned(), blob.digest.to_string()), bytes.to_vec());
        blob
    }

    pub(crate) fn add_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Descriptor {
        let manifest = Descriptor::of(media_type.clone(), bytes);
        let mut state = self.state();
        for name in [tag, &manifest.digest.to_string()] {
            let key = (repository.to_owned(), name.to_owned());
            state.manifests.insert(key, (media_type.to_string(), bytes.to_vec()));
        }
        manifest
    }

    /// Adds an image with one layer.
    pub(crate) fn add_image(&self, repository: &str, tag: &str, platform: &str, layer: &[u8]) -> Descriptor {
        let mut config = ImageConfig::default();
        let platform = Platform::parse(platform).unwrap();
        config.set_platform(&platform);
        let config = self.add_blob(repository, MediaType::OCI_CONFIG, &config.to_bytes());
        let layer = self.add_blob(repository, MediaType::OCI_LAYER_GZIP, layer);
        let manifest = Manifest::new(Dialect::Oci, config, vec![layer]);
        let added = self.add_manifest(repository, tag, &MediaType::OCI_MANIFEST, &manifest.to_bytes());
        Descriptor { platform: Some(platform), ..added }
    }

    pub(crate) fn add_index(&self, repository: &str, tag: &str, manifests: Vec<Descriptor>) -> Descriptor {
        let index = Index::new(Dialect::Oci, manifests);
        self.add_manifest(repository, tag, &MediaType::OCI_INDEX, &index.to_bytes())
    }

    pub(crate) fn blob(&self, repository: &str, digest: &ContentDigest) -> Option<Vec<u8>> {
        self.state().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.state().manifests.get(&(repository.to_owned(), name.to_owned())).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// Whether this fault is due.
    fn due(&mut self, wanted: &Fault) -> bool {
        self.take(|fault| fault == wanted).is_some()
    }

    fn take(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let (fault, times) = self.faults.iter_mut().find(|(fault, times)| *times > 0 && wanted(fault))?;
        *times -= 1;
        Some(fault.clone())
    }

    fn cut_upload(&mut self) -> Option<usize> {
        match self.take(|fault| matches!(fault, Fault::CutUpload(_)))? {
            Fault::CutUpload(count) => Some(count),
            _ => None,
        }
    }
}

fn handle(state: &mut State, access: Access, request: &Request) -> Reply {
    if request.path == "/token" {
        return token(state, access, request);
    }
    match state.take(|fault| matches!(fault, Fault::Status(_) | Fault::Throttle | Fault::ForgetTokens)) {
        Some(Fault::Status(status)) => return Reply::status(status),
        Some(Fault::Throttle) => return Reply::status(429).header("Retry-After", 0),
        Some(Fault::ForgetTokens) => state.tokens.clear(),
        _ => {}
    }
    // `/v2/<repository>/<kind>/<name>`
    let parts: Vec<&str> = request.path.trim_start_matches("/v2/").split('/').collect();
    let kinds = ["blobs", "manifests", "tags", "referrers"];
    let Some(at) = parts.iter().position(|part| kinds.contains(part)) else { return Reply::status(404) };
    let repository = parts[..at].join("/");
    if let Some(challenge) = refused(state, access, request, &repository) {
        return Reply::status(401).header("WWW-Authenticate", challenge);
    }
    match (parts[at], parts.get(at + 1).copied().unwrap_or_default()) {
        ("blobs", "uploads") => {
            upload(state, request, &repository, parts.get(at + 2).copied().unwrap_or_default())
        }
        ("blobs", digest) => blob(state, request, repository, digest),
        ("manifests", name) => manifest(state, request, repository, name),
        ("tags", _) => tags(state, request, &repository),
        ("referrers", digest) => referrers(state, &repository, digest),
        _ => Reply::status(404),
    }
}

fn refused(state: &State, access: Access, request: &Request, repository: &str) -> Option<String> {
    let shown = request.header("authorization").unwrap_or_default();
    let writes = !matches!(request.method.as_str(), "GET" | "HEAD");
    match access {
        Access::Anyone => None,
        Access::Basic => (shown != basic("user", "password")).then(|| "Basic realm=\"test\"".to_owned()),
        Access::AnonymousToken | Access::UserToken => {
            let action = if writes { "push" } else { "pull" };
            let allows = |token: &&String| {
                let scopes = token.strip_prefix("token ").unwrap_or_default();
                scopes.split(' ').any(|scope| {
                    scope
                        .strip_prefix(&format!("repository:{repository}:"))
                        .is_some_and(|actions| actions.contains(action))
                })
            };
            let known = state.tokens.iter().filter(allows).any(|token| shown == bearer(token));
            let host = request.header("host").unwrap_or_default();
            (!known).then(|| {
                format!(r#"Bearer realm="http://{host}/token",service="test",scope="repository:{repository}:pull""#)
            })
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Tokens hold spaces, so they are encoded.
fn bearer(token: &str) -> String {
    format!("Bearer {}", base64::engine::general_purpose::STANDARD.encode(token))
}

fn token(state: &mut State, access: Access, request: &Request) -> Reply {
    let is_user = request.header("authorization") == Some(&basic("user", "password"))
        || (request.method == "POST"
            && String::from_utf8_lossy(&request.body).contains("refresh_token=identity"));
    if access == Access::UserToken && !is_user {
        return Reply::status(401);
    }
    let mut scopes = request.values("scope");
    if request.method == "POST" {
        let form = Request { query: String::from_utf8(request.body.clone()).unwrap(), ..Request::default() };
        scopes = form.values("scope");
    }
    let token = format!("token {} #{}", scopes.join(" "), state.tokens_given);
    state.tokens_given += 1;
    let body = format!(r#"{{"token":"{}","expires_in":300}}"#, bearer(&token).trim_start_matches("Bearer "));
    state.tokens.push(token);
    Reply::ok(body)
}

fn blob(state: &mut State, request: &Request, repository: String, digest: &str) -> Reply {
    if let Some(base) = state.redirect_blobs.clone() {
        return Reply::status(307).header("Location", format!("{base}{}?X-Signature=abc", request.path));
    }
    let Some(mut bytes) = state.blobs.get(&(repository, digest.to_owned())).cloned() else {
        return Reply::status(404);
    };
    if request.method != "GET" {
        return Reply::ok(bytes);
    }
    if state.due(&Fault::WrongBytes) {
        bytes[0] ^= 1;
    }
    let range = request.header("range").filter(|_| !state.due(&Fault::IgnoreRange));
    let start =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let cut = match state.take(|fault| matches!(fault, Fault::CutBlob(_))) {
        Some(Fault::CutBlob(count)) => Some(count),
        _ => None,
    };
    let reply = match start {
        None => Reply::ok(bytes),
        Some(start) => Reply { status: 206, ..Reply::ok(&bytes[start..]) }
            .header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
    };
    Reply { cut, ..reply }
}

fn manifest(state: &mut State, request: &Request, repository: String, name: &str) -> Reply {
    if request.method == "PUT" {
        let digest = ContentDigest::of(&request.body).to_string();
        let media_type = request.header("content-type").unwrap_or_default().to_owned();
        for name in [name, &digest] {
            let key = (repository.clone(), name.to_owned());
            state.manifests.insert(key, (media_type.clone(), request.body.clone()));
        }
        return Reply::status(201).header("Docker-Content-Digest", digest);
    }
    let Some((media_type, mut bytes)) = state.manifests.get(&(repository, name.to_owned())).cloned() else {
        return Reply { body: br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec(), ..Reply::status(404) };
    };
    let mut digest = ContentDigest::of(&bytes);
    if state.due(&Fault::WrongBytes) {
        let at = bytes.len() - 1;
        bytes.insert(at, b' ');
    }
    if state.due(&Fault::WrongDigestHeader) {
        digest = ContentDigest::of(b"another");
    }
    let reply = Reply::ok(bytes).header("Content-Type", media_type);
    if state.due(&Fault::NoDigestHeader) { reply } else { reply.header("Docker-Content-Digest", digest) }
}

fn upload(state: &mut State, request: &Request, repository: &str, id: &str) -> Reply {
    let base = state.redirect_uploads.clone();
    let accepted = |id: &str, bytes: &[u8], status: u16| {
        Reply::status(status)
            .header("Location", format!("{base}/v2/{repository}/blobs/uploads/{id}?state=x"))
            .header("Range", format!("0-{}", bytes.len().saturating_sub(1)))
    };
    if request.method == "POST" {
        if let ([digest], [from]) = (&request.values("mount")[..], &request.values("from")[..])
            && let Some(bytes) = state.blobs.get(&(from.clone(), digest.clone())).cloned()
            && !state.due(&Fault::NoMount)
        {
            state.blobs.insert((repository.to_owned(), digest.clone()), bytes);
            return Reply::status(201);
        }
        let id = format!("upload-{}", state.uploads.len());
        state.uploads.insert(id.clone(), Vec::new());
        return accepted(&id, &[], 202);
    }
    let Some(bytes) = state.uploads.get_mut(id) else { return Reply::status(404) };
    match request.method.as_str() {
        "GET" => accepted(id, bytes, 204),
        "DELETE" => {
            state.uploads.remove(id);
            Reply::status(204)
        }
        "PATCH" => {
            let start = request
                .header("content-range")
                .and_then(|range| range.split('-').next()?.parse::<usize>().ok());
            // Without a range it is everything there is, in one go.
            if start.unwrap_or(0) != bytes.len() {
                return Reply::status(416);
            }
            bytes.extend_from_slice(&request.body);
            accepted(id, bytes, 202)
        }
        _ => {
            let mut bytes = bytes.clone();
            bytes.extend_from_slice(&request.body);
            let digest = ContentDigest::of(&bytes).to_string();
            if request.values("digest") != [digest.clone()] {
                return Reply {
                    body: br#"{"errors":[{"code":"DIGEST_INVALID"}]}"#.to_vec(),
                    ..Reply::status(400)
                };
            }
            state.uploads.remove(id);
            state.blobs.insert((repository.to_owned(), digest), bytes);
            Reply::status(201)
        }
    }
}

/// Gives two tags a page.
fn tags(state: &State, request: &Request, repository: &str) -> Reply {
    let all: Vec<&String> = state
        .manifests
        .keys()
        .filter(|(owner, name)| owner == repository && !name.starts_with("sha256:"))
        .map(|(_, name)| name)
        .collect();
    let last = request.values("last").pop().unwrap_or_default();
    let page: Vec<&String> = all.iter().copied().filter(|tag| **tag > last).take(2).collect();
    let reply = Reply::ok(serde_json::json!({ "name": repository, "tags": page }).to_string());
    match page.last() {
        Some(end) if Some(end) != all.last() => {
            reply.header("Link", format!("</v2/{repository}/tags/list?last={end}>; rel=\"next\""))
        }
        _ => reply,
    }
}

fn referrers(state: &mut State, repository: &str, digest: &str) -> Reply {
    if state.due(&Fault::NoReferrers) {
        return Reply::status(404);
    }
    let mut found = Vec::new();
    for ((owner, name), (media_type, bytes)) in &state.manifests {
        let manifest = serde_json::from_slice::<Manifest>(bytes);
        let subject = manifest.ok().and_then(|manifest| manifest.subject);
        if owner == repository
            && name.starts_with("sha256:")
            && subject.is_some_and(|subject| subject.digest.to_string() == digest)
        {
            found.push(Descriptor::of(MediaType::parse(media_type), bytes));
        }
    }
    Reply::ok(Index::new(Dialect::Oci, found).to_bytes()).header("Content-Type", MediaType::OCI_INDEX)
}
