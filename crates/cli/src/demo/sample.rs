//! The sample service behind the demo: normal, slow, failing and flaky paths, as a real HTTP server of its own.
//!
//! It knows nothing of the gateway. Each path behaves as a real service does on a bad day.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::Interval;

/// Events of `/events`, one every half second.
const EVENTS: u32 = 20;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Starts the service on a thread of its own, on a port that is free.
///
/// # Errors
/// When no port or no thread can be had.
pub(crate) fn start() -> std::io::Result<SocketAddr> {
    let listener = StdListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("sample".to_owned()).spawn(move || {
        LocalSet::new().block_on(&runtime, accept(listener));
    })?;
    Ok(address)
}

async fn accept(listener: StdListener) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::task::spawn_local(async move {
            // The service breaks connections on purpose; how one ends is what the demo shows.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer)).await;
        });
    }
}

/// A connection that is dropped in the middle.
#[derive(Debug)]
struct Crashed;

impl std::fmt::Display for Crashed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the sample service crashed, as it was asked to")
    }
}

impl std::error::Error for Crashed {}

async fn answer(request: Request<Incoming>) -> Result<Response<Reply>, Crashed> {
    let turn = REQUESTS.fetch_add(1, Ordering::Relaxed);
    match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(text(StatusCode::OK, "at last\n".to_owned()))
        }
        "/failing" => Ok(text(StatusCode::INTERNAL_SERVER_ERROR, "the sample service has a bug here\n".to_owned())),
        "/flaky" if turn.is_multiple_of(2) => Err(Crashed),
        "/events" => Ok(events()),
        "/upload" => {
            let mut bytes = 0;
            let mut body = request.into_body();
            while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => bytes += data.len(),
                    Ok(Err(_trailers)) => {}
                    Err(_) => return Err(Crashed),
                }
            }
            Ok(text(StatusCode::CREATED, format!("stored {bytes} bytes\n")))
        }
        path => Ok(text(StatusCode::OK, format!("hello from the sample service at {path}\n{}", seen(&request)))),
    }
}

/// The header fields the service was sent, so that one sees what the gateway added and took away.
fn seen(request: &Request<Incoming>) -> String {
    request.headers().iter().fold(String::new(), |mut seen, (name, value)| {
        seen.push_str(&format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        seen
    })
}

fn text(status: StatusCode, text: String) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

fn events() -> Response<Reply> {
    let ticks = tokio::time::interval(Duration::from_millis(500));
    let mut response = Response::new(Reply::Events { ticks, left: EVENTS });
    let stream = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, stream);
    response
}

/// What the service answers with.
enum Reply {
    Whole(Bytes),
    Events { ticks: Interval, left: u32 },
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Reply::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Reply::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Reply::Events { left: 0, .. } => Poll::Ready(None),
            Reply::Events { ticks, left } => ticks.poll_tick(context).map(|_| {
                *left -= 1;
                Some(Ok(Frame::data(Bytes::from(format!("data: {} more\n\n", *left)))))
            }),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Reply::Whole(bytes) => http_body::SizeHint::with_exact(bytes.len() as u64),
            Reply::Events { .. } => http_body::SizeHint::default(),
        }
    }
}
