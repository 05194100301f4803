//! A server that answers each request by a function and remembers what it was asked.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// By lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the decoded values of a query key.
    pub(crate) fn values(&self, key: &str) -> Vec<String> {
        let url = reqwest::Url::parse(&format!("http://x/?{}", self.query)).unwrap();
        url.query_pairs().filter(|(name, _)| name == key).map(|(_, value)| value.into_owned()).collect()
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Says how much of a request's body is read before the connection is closed.
pub(crate) type Appetite = dyn Fn(&Request) -> Option<usize> + Send + Sync;
type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server; it ends with the test's runtime.
pub(crate) struct TestServer {
    /// `127.0.0.1:port`.
    pub(crate) host: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl TestServer {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with_appetite(handler, |_| None).await
    }

    pub(crate) async fn start_with_appetite(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        appetite: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, appetite): (Arc<Handler>, Arc<Appetite>) = (Arc::new(handler), Arc::new(appetite));
        let shared_log = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, appetite, log) =
                    (Arc::clone(&handler), Arc::clone(&appetite), Arc::clone(&shared_log));
                tokio::spawn(async move {
                    // A client may go away at any time, and one that speaks TLS is not understood.
                    let _ = serve(stream, &*handler, &*appetite, &log).await;
                });
            }
        });
        Self { host, log }
    }

    /// Returns the requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Returns `METHOD /path` of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    handler: &Handler,
    appetite: &Appetite,
    log: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    let Some((mut request, mut rest)) = read_head(&mut stream).await? else { return Ok(()) };
    let length: usize = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    let appetite = appetite(&request);
    let wanted = appetite.unwrap_or(length).min(length);
    let rest_of_head = rest.clone();
    while rest.len() < wanted {
        let mut buffer = vec![0; 64 << 10];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        rest.extend_from_slice(&buffer[..count]);
    }
    rest.truncate(wanted);
    request.body = match request.header("transfer-encoding") {
        Some("chunked") => match read_chunks(&mut stream, rest_of_head, appetite).await? {
            Some(body) => body,
            None => return Ok(()),
        },
        _ => rest,
    };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    if appetite.is_some() {
        return Ok(());
    }
    write_reply(&mut stream, &request, &reply).await?;
    // Closing at once might take back what the client has not read yet.
    stream.shutdown().await?;
    while reply.cut.is_none() && stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// Reads a body that comes in chunks; `None` when more than `appetite` of it came.
async fn read_chunks(
    stream: &mut TcpStream,
    mut bytes: Vec<u8>,
    appetite: Option<usize>,
) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
            if bytes.len() < end + length + 4 {
                break;
            }
            body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
            bytes.drain(..end + length + 4);
            if appetite.is_some_and(|appetite| body.len() > appetite) {
                return Ok(None);
            }
            if length == 0 {
                return Ok(Some(body));
            }
        }
        let mut buffer = vec![0; 64 << 10];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Option<(Request, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await?;
        // 0x16 starts a TLS handshake.
        if count == 0 || bytes.first() == Some(&0x16) || buffer[0] == 0x16 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..count]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap().split(' ');
    let mut request = Request { method: words.next().unwrap().to_owned(), ..Request::default() };
    let target = words.next().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (request.path, request.query) = (path.to_owned(), query.to_owned());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some((request, bytes.split_off(end + 4))))
}

async fn write_reply(stream: &mut TcpStream, request: &Request, reply: &Reply) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if reply.status != 204
        && reply.status != 304
        && !reply.headers.iter().any(|(name, _)| name == "content-length")
    {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    if request.method != "HEAD" {
        let length = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(&reply.body[..length]).await?;
    }
    stream.flush().await
}
