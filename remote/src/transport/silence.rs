//! How long a connection may be silent: a request that gets on may take as long as it needs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

/// After the last byte of an upload a server may have a lot to verify and to move.
const LAST_ANSWER: u32 = 5;

/// The bytes of a request's body.
pub(crate) type BodyStream = BoxStream<'static, std::io::Result<Bytes>>;

/// When a request must have got on.
#[derive(Clone)]
pub(super) struct Patience {
    idle: Duration,
    end: Arc<Mutex<Instant>>,
}

impl Patience {
    /// Begins to wait for `idle` at most.
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, end: Arc::new(Mutex::new(Instant::now() + idle)) }
    }

    /// Returns the stream, of which each piece that is taken shows that the other side takes them.
    pub(super) fn watch(&self, body: BodyStream) -> BodyStream {
        let (each, last) = (self.clone(), self.clone());
        let end = futures_util::stream::poll_fn(move |_| {
            last.renew(LAST_ANSWER);
            std::task::Poll::Ready(None)
        });
        body.inspect(move |_| each.renew(1)).chain(end).boxed()
    }

    fn renew(&self, times: u32) {
        *self.end() = Instant::now() + self.idle * times;
    }

    /// Waits until nothing has moved for too long.
    pub(super) async fn ends(&self) {
        loop {
            let end = *self.end();
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn end(&self) -> std::sync::MutexGuard<'_, Instant> {
        // Nothing panics while it is held, and every time is a good one.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::stream::{self, StreamExt as _};
    use reqwest::{Method, Url};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{Outgoing, Transport, TransportOptions, read_body};
    use super::*;

    const IDLE: Duration = Duration::from_millis(300);

    fn transport() -> Transport {
        Transport::new(&TransportOptions { idle_timeout: IDLE, ..TransportOptions::default() }).unwrap()
    }

    /// Serves one connection.
    async fn serve<F: Future<Output = ()> + Send + 'static>(
        handler: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> Outgoing {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { handler(listener.accept().await.unwrap().0).await });
        Outgoing::new(Method::PUT, url)
    }

    /// Pieces that are much larger than what a connection holds by itself.
    fn body(pieces: usize) -> BodyStream {
        let pieces = (0..pieces).map(|_| Ok(Bytes::from(vec![7; 4 << 20])));
        stream::iter(pieces.collect::<Vec<_>>()).boxed()
    }

    #[tokio::test]
    async fn an_upload_may_take_long_as_long_as_it_gets_on() {
        let outgoing = serve(|mut stream| async move {
            let (mut seen, mut buffer) = (0, vec![0; 1 << 20]);
            while seen < 40 << 20 {
                seen += stream.read(&mut buffer).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Verifying takes its time too.
            tokio::time::sleep(IDLE * 2).await;
            stream.write_all(b"HTTP/1.1 201 X\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        })
        .await;
        let begun = Instant::now();
        let answer = transport().send_stream(&outgoing, None, body(10)).await.unwrap();
        assert_eq!(answer.response.status(), 201);
        assert!(begun.elapsed() > IDLE * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn silence_is_a_broken_connection() {
        let said = |error: super::super::TransportError| {
            format!("{error}: {}", std::error::Error::source(&error).unwrap())
        };
        let forever = || {
            serve(|stream| async move {
                std::future::pending::<()>().await;
                drop(stream);
            })
        };
        let stuck = transport().send_stream(&forever().await, None, body(20)).await.unwrap_err();
        assert!(said(stuck).contains("broke: nothing came for 0 seconds"));
        let unanswered = transport().send_once(&forever().await).await.unwrap_err();
        assert!(said(unanswered).contains("nothing came"));
        let half = serve(|mut stream| async move {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
            std::future::pending().await
        });
        let mut answer = transport().send_once(&half.await).await.unwrap();
        assert!(said(read_body(&mut answer, 100).await.unwrap_err()).contains("nothing came"));
    }
}
