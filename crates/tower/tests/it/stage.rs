//! What the tests stand on: a log that is read line by line, a clock that is moved by hand, a server on the loopback.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::extract::ConnectInfo;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_tower::{Builder, Clock, Now, Peer, Standing};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::{Service, ServiceExt};

/// Where every pretend clock begins: 2026-01-01T10:00:00.000Z.
const UNIX_MILLIS: u64 = 1_767_261_600_000;

/// A clock that stands still unless it is moved.
#[derive(Default)]
pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn forward_seconds(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Now {
        let passed = self.0.load(Ordering::Relaxed);
        Now { monotonic_nanos: 1_000_000_000 + passed, unix_millis: UNIX_MILLIS + passed / 1_000_000 }
    }
}

/// The lines of the log, as they are written.
pub(crate) struct Log(UnboundedReceiver<Value>);

impl Log {
    /// Waits for the next line.
    pub(crate) async fn line(&mut self) -> Value {
        self.0.recv().await.expect("the standing keeps the log open")
    }

    /// Whether nothing more has been written.
    pub(crate) fn is_read(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// What a test stands on.
pub(crate) struct Stage {
    pub(crate) standing: Standing,
    pub(crate) clock: Arc<Hand>,
    pub(crate) log: Log,
}

/// Counters and metrics of its own, and a clock that stands still.
pub(crate) fn stage() -> Stage {
    staged(|builder| builder)
}

/// The same, with a word from the test.
pub(crate) fn staged(change: impl FnOnce(Builder) -> Builder) -> Stage {
    let (write, lines) = unbounded_channel();
    let clock = Arc::new(Hand::default());
    let builder = Standing::builder()
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .peer_from(|known| known.get::<ConnectInfo<SocketAddr>>().map(|info| Peer::plain(info.0)))
        .log(move |line| {
            let line = serde_json::from_slice(line).expect("a line is one JSON object");
            let _ = write.send(line);
        });
    let standing = change(builder).build().expect("16 MiB and a seed are there");
    Stage { standing, clock, log: Log(lines) }
}

impl Stage {
    /// The value of a series, without the prefix, with its labels.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.standing.metrics();
        let wanted = format!("portcullis_{series} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
    }
}

/// A request as a client's, with `Host` and a peer, for services that are called without a socket.
pub(crate) fn ask<B>(method: &str, target: &str, body: B) -> Request<B> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "shop.test")
        .extension(ConnectInfo(SocketAddr::from(([203, 0, 113, 9], 50_000))))
        .body(body)
        .expect("a valid request")
}

pub(crate) fn get(target: &str) -> Request<Full<Bytes>> {
    ask("GET", target, Full::default())
}

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().expect("ASCII")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The code of a refusal in the house's form.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no code in {self:?}")).to_owned()
    }
}

pub(crate) async fn read<B>(response: Response<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

/// Calls a service that never fails.
pub(crate) async fn call<S, Q, R>(service: &S, request: Request<Q>) -> Response<R>
where
    S: Service<Request<Q>, Response = Response<R>, Error = Infallible> + Clone,
{
    match service.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Serves `app` as axum does, with the peer known, until the test's runtime ends.
pub(crate) async fn serve<S, R>(app: S) -> SocketAddr
where
    S: Service<Request<axum::body::Body>, Response = Response<R>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<axum::BoxError>,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let app = axum::Router::new().fallback_service(app).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A client that keeps its connections, as real ones do.
pub(crate) fn client<B>() -> Client<HttpConnector, B>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    Client::builder(TokioExecutor::new()).build_http()
}

/// A body of these pieces that does not say how long it is, so that it is sent in chunks.
pub(crate) struct Pieces(pub(crate) VecDeque<Bytes>);

impl Pieces {
    pub(crate) fn of(pieces: usize, bytes: usize) -> Pieces {
        Pieces((0..pieces).map(|_| Bytes::from(vec![b'x'; bytes])).collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body of which nothing more ever comes.
pub(crate) struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
