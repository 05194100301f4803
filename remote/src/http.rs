//! Fetching files over HTTP, for ADD and for contexts given by address.
//!
//! The body is a stream and is not checked: a digest that was asked for is the caller's to verify. Whether a copy already had
//! is still good is asked with [`Validators`].

use std::pin::Pin;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use reqwest::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Method, StatusCode, Url};

use crate::disposition;
use crate::transport::{Incoming, Outgoing, Secret, Transport, TransportError, display_url, receive};

/// The name of a file whose address says nothing better.
const DEFAULT_NAME: &str = "download";

/// What to fetch.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The address; it may hold a user and password.
    pub url: Secret,
    /// The `Authorization` header. It does not follow redirects to another host.
    pub authorization: Option<Secret>,
    /// Further headers; these follow redirects and must not be secret.
    pub headers: Vec<(String, String)>,
    /// What is known of a copy already had.
    pub validators: Validators,
    /// The largest body that is accepted.
    pub size_limit: Option<u64>,
}

/// What a server said about a copy, to be said back to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    pub last_modified: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub enum HttpResponse {
    /// The copy already had is still good.
    NotModified,
    /// Here is the file.
    Fetched(HttpFile),
}

/// A file that is being fetched.
pub struct HttpFile {
    /// Where it came from after redirects, without user, password and query.
    pub final_url: String,
    /// When it was changed last, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// What to say the next time.
    pub validators: Validators,
    /// Its name: the server's word for it, or the last part of the address that was asked for.
    pub file_name: String,
    /// Its size, if the server says so.
    pub size: Option<u64>,
    /// Its bytes.
    pub body: HttpBody,
}

/// The bytes of a file. It ends in an error if the connection breaks or there are too many.
pub type HttpBody = Pin<Box<dyn Stream<Item = Result<Bytes, HttpError>> + Send>>;

/// A file that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The address is not one.
    #[error("`{text}` is not a valid http or https address")]
    Url {
        /// The address up to its query, without user and password.
        text: String,
    },
    /// A header cannot be sent.
    #[error("the header `{name}` cannot be sent")]
    Header {
        /// Its name.
        name: String,
    },
    /// The server answered with an error.
    #[error("cannot fetch {url}: the server answered {status}")]
    Status {
        /// The address, without its query.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The file is too large.
    #[error("{url} is larger than {limit} bytes")]
    TooLarge {
        /// The address, without its query.
        url: String,
        /// What it may have.
        limit: u64,
    },
}

impl HttpRequest {
    /// Returns a request for `url` and nothing else.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            authorization: None,
            headers: Vec::new(),
            validators: Validators::default(),
            size_limit: None,
        }
    }
}

impl std::fmt::Debug for HttpFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpFile")
            .field("final_url", &self.final_url)
            .field("file_name", &self.file_name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Fetches a file.
pub async fn fetch(transport: &Transport, request: &HttpRequest) -> Result<HttpResponse, HttpError> {
    let outgoing = outgoing(request)?;
    let incoming = transport.send(&outgoing).await?;
    let status = incoming.response.status();
    let headers = incoming.response.headers();
    let validators = Validators { etag: text(headers, &ETAG), last_modified: text(headers, &LAST_MODIFIED) };
    let asked = &request.validators;
    let had_copy = asked.etag.is_some() || asked.last_modified.is_some();
    let says_same = status == StatusCode::NOT_MODIFIED || status.is_success() && is_same(asked, &validators);
    if had_copy && says_same {
        return Ok(HttpResponse::NotModified);
    }
    if !status.is_success() {
        return Err(HttpError::Status { url: display_url(&outgoing.url), status });
    }
    let size =
        incoming.response.headers().get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
    if let Some(limit) = request.size_limit.filter(|limit| size.is_some_and(|size: u64| size > *limit)) {
        return Err(HttpError::TooLarge { url: display_url(&outgoing.url), limit });
    }
    let suggested = text(incoming.response.headers(), &CONTENT_DISPOSITION);
    Ok(HttpResponse::Fetched(HttpFile {
        final_url: display_url(&incoming.url),
        last_modified: validators.last_modified.as_deref().and_then(seconds),
        file_name: suggested
            .and_then(|header| disposition::file_name(&header))
            .or_else(|| path_name(&outgoing.url))
            .map_or_else(|| DEFAULT_NAME.to_owned(), |name| safe_name(&name)),
        validators,
        size,
        body: body(incoming, request.size_limit),
    }))
}

/// Returns the last part of an address's path, which names the file where no server is asked; `None` if there is no such part.
#[must_use]
pub fn url_file_name(url: &str) -> Option<String> {
    path_name(&Url::parse(url).ok()?)
}

fn outgoing(request: &HttpRequest) -> Result<Outgoing, HttpError> {
    let text = request.url.expose();
    let bad = || {
        let bare = text.split(['?', '#']).next().unwrap_or_default();
        let shown = bare.rsplit_once('@').map_or(bare, |(_, rest)| rest);
        HttpError::Url { text: shown.to_owned() }
    };
    let mut url = Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    url.set_fragment(None);
    if request.authorization.is_some() {
        // The header counts, and two of them would be an error.
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| bad())?;
    }
    let mut outgoing = Outgoing::new(Method::GET, url);
    let validators = [
        ("if-none-match", &request.validators.etag),
        ("if-modified-since", &request.validators.last_modified),
    ];
    let conditions = validators.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let given = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in given.chain(conditions) {
        let unsendable = || HttpError::Header { name: name.to_owned() };
        let header = HeaderName::try_from(name).map_err(|_| unsendable())?;
        outgoing.headers.insert(header, HeaderValue::from_str(value).map_err(|_| unsendable())?);
    }
    // An ETag says more than a time; with both, servers may look at the time only.
    if outgoing.headers.contains_key(IF_NONE_MATCH) {
        outgoing.headers.remove(IF_MODIFIED_SINCE);
    }
    if let Some(authorization) = &request.authorization {
        let sendable = HeaderValue::from_str(authorization.expose()).is_ok();
        sendable.then_some(()).ok_or_else(|| HttpError::Header { name: "authorization".to_owned() })?;
        outgoing.authorization = Some(authorization.clone());
    }
    Ok(outgoing)
}

/// Some servers send the whole file although its tag is the one they were told.
fn is_same(asked: &Validators, answered: &Validators) -> bool {
    let bare = |tag: &Option<String>| tag.as_deref().map(|tag| tag.trim_start_matches("W/").to_owned());
    asked.etag.is_some() && bare(&asked.etag) == bare(&answered.etag)
}

fn body(incoming: Incoming, limit: Option<u64>) -> HttpBody {
    let shown = display_url(&incoming.url);
    Box::pin(stream::try_unfold((incoming, 0_u64), move |(mut incoming, seen)| {
        let shown = shown.clone();
        async move {
            let chunk = receive(&mut incoming).await?;
            let Some(chunk) = chunk else { return Ok(None) };
            let seen = seen + chunk.len() as u64;
            match limit.filter(|limit| seen > *limit) {
                Some(limit) => Err(HttpError::TooLarge { url: shown, limit }),
                None => Ok(Some((chunk, (incoming, seen)))),
            }
        }
    }))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned).filter(|text| !text.is_empty())
}

fn seconds(date: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(date).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

fn path_name(url: &Url) -> Option<String> {
    let path = url.path().trim_end_matches('/');
    let name = disposition::percent_decoded(path.rsplit('/').next()?)?;
    // A decoded slash separates again.
    let name = name.trim_end_matches('/').rsplit('/').next()?.to_owned();
    (!matches!(name.as_str(), "" | ".")).then_some(name)
}

/// Reduces a name to one that can stand in a directory.
fn safe_name(name: &str) -> String {
    let name = name.trim().trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.chars().any(char::is_control) {
        return DEFAULT_NAME.to_owned();
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::testsuite::{Reply, TestServer, hasty_transport};

    async fn get(request: &HttpRequest) -> Result<HttpResponse, HttpError> {
        fetch(&hasty_transport(), request).await
    }

    async fn get_file(request: &HttpRequest) -> (HttpFile, Vec<u8>) {
        let HttpResponse::Fetched(mut file) = get(request).await.unwrap() else {
            panic!("it is not modified")
        };
        let body = std::mem::replace(&mut file.body, Box::pin(stream::empty()));
        let bytes: Vec<Bytes> = body.try_collect().await.unwrap();
        (file, bytes.concat())
    }

    async fn server(reply: Reply) -> (TestServer, String) {
        let server = TestServer::start(move |_| reply.clone()).await;
        let url = format!("http://{}/dir/file.txt?x=y#z", server.host);
        (server, url)
    }

    #[tokio::test]
    async fn a_file_comes_with_what_is_known_of_it() {
        let reply = Reply::ok("hello")
            .header("Last-Modified", "Thu, 01 Jan 1970 00:01:40 GMT")
            .header("ETag", "\"tag\"");
        let (server, url) = server(reply).await;
        let (file, bytes) = get_file(&HttpRequest::new(&url)).await;
        assert_eq!(bytes, b"hello");
        assert_eq!(file.last_modified, Some(100));
        assert_eq!(file.validators.etag.as_deref(), Some("\"tag\""));
        assert_eq!((file.file_name.as_str(), file.size), ("file.txt", Some(5)));
        assert_eq!(file.final_url, format!("http://{}/dir/file.txt", server.host));
        assert_eq!(server.requests()[0].query, "x=y");
    }

    #[tokio::test]
    async fn a_good_copy_is_not_fetched_again() {
        let known = Validators { etag: Some("\"tag\"".to_owned()), last_modified: Some("x".to_owned()) };
        for reply in [Reply::status(304), Reply::ok("hello").header("ETag", "W/\"tag\"")] {
            let (server, url) = server(reply).await;
            let request = HttpRequest { validators: known.clone(), ..HttpRequest::new(&url) };
            assert!(matches!(get(&request).await.unwrap(), HttpResponse::NotModified));
            let asked = &server.requests()[0];
            assert_eq!(
                (asked.header("if-none-match"), asked.header("if-modified-since")),
                (Some("\"tag\""), None)
            );
        }
        let (_server, url) = server(Reply::status(404).header("ETag", "\"tag\"")).await;
        let request = HttpRequest { validators: known.clone(), ..HttpRequest::new(&url) };
        assert!(matches!(get(&request).await, Err(HttpError::Status { .. })), "an error is no copy");
        let (_server, url) = server(Reply::ok("new").header("ETag", "\"other\"")).await;
        let (_, bytes) = get_file(&HttpRequest { validators: known, ..HttpRequest::new(&url) }).await;
        assert_eq!(bytes, b"new");
    }

    #[tokio::test]
    async fn credentials_stay_with_their_host() {
        let other = TestServer::start(|_| Reply::ok("hello")).await;
        let location = format!("http://{}/moved", other.host);
        let (first, url) = server(Reply::status(302).header("Location", location)).await;
        let request = HttpRequest { authorization: Some("Bearer s3cret".into()), ..HttpRequest::new(&url) };
        let (file, bytes) = get_file(&request).await;
        assert_eq!((bytes.as_slice(), file.file_name.as_str()), (&b"hello"[..], "file.txt"));
        assert_eq!(first.requests()[0].header("authorization"), Some("Bearer s3cret"));
        assert_eq!(other.requests()[0].header("authorization"), None);
        assert!(!format!("{request:?}").contains("s3cret"));
        let with_user = format!("http://user:s3cret@{}/moved", other.host);
        get_file(&HttpRequest::new(&with_user)).await;
        assert!(other.requests()[1].header("authorization").unwrap().starts_with("Basic "));
    }

    #[tokio::test]
    async fn failures_name_the_address_and_the_status() {
        let (server, url) = server(Reply::status(404)).await;
        let error = get(&HttpRequest::new(&url)).await.unwrap_err();
        let expected =
            format!("cannot fetch http://{}/dir/file.txt: the server answered 404 Not Found", server.host);
        assert_eq!(error.to_string(), expected);
        for bad in ["ftp://x/y", "http://", "nonsense", "http://u:s3cret@:bad/"] {
            let error = get(&HttpRequest::new(bad)).await.unwrap_err();
            assert!(matches!(error, HttpError::Url { .. }), "{bad}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn large_and_broken_files_are_errors() {
        let (_server, url) = server(Reply::ok("hello")).await;
        let request = HttpRequest { size_limit: Some(4), ..HttpRequest::new(&url) };
        assert!(matches!(get(&request).await, Err(HttpError::TooLarge { limit: 4, .. })));
        let (_server, url) = server(Reply { cut: Some(3), ..Reply::ok("hello") }).await;
        let HttpResponse::Fetched(file) = get(&HttpRequest::new(&url)).await.unwrap() else {
            panic!("fetched")
        };
        let error = file.body.try_collect::<Vec<Bytes>>().await.unwrap_err();
        assert!(error.to_string().contains("broke"), "{error}");
    }

    #[tokio::test]
    async fn the_server_may_name_the_file() {
        for (header, expected) in [
            ("attachment; filename=\"a b.txt\"", "a b.txt"),
            ("attachment; filename=../../etc/passwd", "passwd"),
            ("attachment; filename=x/", "file.txt"),
            ("attachment; filename=\"..\"", "download"),
            ("attachment", "file.txt"),
        ] {
            let (_server, url) = server(Reply::ok("").header("Content-Disposition", header)).await;
            assert_eq!(get_file(&HttpRequest::new(&url)).await.0.file_name, expected, "{header}");
        }
    }

    #[test]
    fn addresses_name_files() {
        for (url, expected) in [
            ("http://x/a/b.tar.gz?c=d", Some("b.tar.gz")),
            ("http://x/a/", Some("a")),
            ("http://x/a%20b", Some("a b")),
            ("http://x/a%2Fb", Some("b")),
            ("http://x/", None),
            ("http://x", None),
            ("nonsense", None),
        ] {
            assert_eq!(url_file_name(url).as_deref(), expected, "{url}");
        }
    }
}
