//! Telemetry: metrics and health on a listener of their own, read-only, from a thread that serves no requests.
//!
//! `pages` decides what each page says, `log` is the process's log. The server is plain hyper with small bounds: it is for
//! scrapers and probes on a private network.
//!
//! Invariant: nothing here changes anything, and no page waits for a dependency.

pub mod log;
pub mod pages;

use std::convert::Infallible;
use std::fs::File;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use portcullis_core::metric::{Declaration, Kind, Label, Registry, Values};

use crate::keeper;
use crate::keys;
use crate::life::{Gate, LAST_RELOAD_SUCCESS};
use crate::permissions;
use crate::proxy::concurrency;
use crate::proxy::targets::metrics as targets;

/// Connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;
/// How long one connection may last. It carries one request, so that nobody can hold the places of the probes.
const LONGEST_CONNECTION: Duration = Duration::from_secs(5);
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// Which build runs; always 1.
pub static BUILD_INFO: Declaration = Declaration {
    name: "build_info",
    kind: Kind::Gauge,
    help: "The build that runs; the value is always 1",
    labels: &[Label { name: "version", values: Values::Configured("the version") }],
};

/// What the gateway counts beside its guards.
pub const ALL: &[&Declaration] = &[
    &BUILD_INFO,
    &LAST_RELOAD_SUCCESS,
    &keeper::OPERATIONS,
    &keeper::DURATION,
    &permissions::CHECK_DURATION,
    &keys::JWKS_AGE,
    &targets::TARGET_UP,
    &targets::EJECTIONS,
    &targets::CHECKS,
    &targets::PANIC,
    &targets::LOOKUPS,
    &targets::ADDRESSES,
    &targets::TLS_FAILURES,
    &concurrency::IN_FLIGHT,
    &concurrency::QUEUE_LENGTH,
];

/// Makes the series that stand from the start.
pub fn declare(metrics: &Registry) {
    metrics.gauge(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")]).set(1);
}

/// Serves until the task is dropped.
pub async fn serve(gate: Arc<Gate>, listener: StdListener) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut reserve = Reserve::default();
    reserve.fill();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((socket, _)) = listener.accept().await else {
            // Nearly always: there is no descriptor left. The next turn has one of ours.
            if !reserve.give() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                reserve.fill();
            }
            continue;
        };
        reserve.fill();
        let gate = Arc::clone(&gate);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let page = pages::page(&gate, request.method(), request.uri().path());
                async move { Ok::<Response<Full>, Infallible>(page.map(Full)) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .header_read_timeout(HEADER_TIMEOUT)
                .max_header_size(8 * 1024)
                .serve_connection(TokioIo::new(socket), service);
            // A scraper that hangs up or is too slow is its own problem.
            let _ = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
            drop(place);
        });
    }
}

/// Descriptors that are kept only to be given up when there is no other for somebody who asks how things are.
#[derive(Default)]
struct Reserve(Vec<File>);

impl Reserve {
    const MOST: usize = 4;

    /// Takes what is missing, as far as there is any.
    fn fill(&mut self) {
        while self.0.len() < Reserve::MOST
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }

    /// Gives one up; whether there was one.
    fn give(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

/// A body that is there at once.
pub struct Full(Bytes);

impl http_body::Body for Full {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.0);
        std::task::Poll::Ready((!bytes.is_empty()).then(|| Ok(http_body::Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.len() as u64)
    }
}
