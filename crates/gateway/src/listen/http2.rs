//! HTTP/2 on one connection (RFC 9113): several visits at once, each with its own deadline.
//!
//! The protocol is hyper's and h2's. Here stand the bounds, the deadlines, and the end: a client is told to leave by GOAWAY,
//! an answer that a client does not take is reset alone, an idle connection is closed.
//!
//! Invariant: no stream outlives its visit's deadline, and no connection its idle time.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::connection::Connection;
use super::heard::Heard;
use super::socket::Socket;
use super::watch::Listed;
use crate::visit;

/// Requests at once on one connection. Browsers use about 100.
const MOST_STREAMS: u32 = 128;
/// Streams that a client may open and reset before they were looked at; more is an attack (CVE-2023-44487).
const MOST_PENDING_RESETS: usize = 20;
/// Streams that the gateway itself had to reset for the client's errors; more is an attack (CVE-2025-8671).
const MOST_OWN_RESETS: usize = 128;
/// Bytes of an answer that wait for the client, for each stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a request that may be on their way, for each stream and for all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Serves a connection until it closes.
pub(super) async fn serve(connection: Rc<Connection>, socket: Socket) {
    let latest = Rc::new(RefCell::new(None));
    let service = {
        let (visitor, latest) = (Rc::clone(&connection), Rc::clone(&latest));
        service_fn(move |request| {
            let watch = Rc::new(visitor.core.sweep.list());
            *latest.borrow_mut() = Some(Rc::clone(&watch));
            visit::receive(Rc::clone(&visitor), watch, request)
        })
    };
    let header_bytes = u32::try_from(connection.core.running().listener.header_bytes).unwrap_or(u32::MAX);
    let http = http2::Builder::new(Streams { latest })
        .max_concurrent_streams(MOST_STREAMS)
        .max_pending_accept_reset_streams(MOST_PENDING_RESETS)
        .max_local_error_reset_streams(MOST_OWN_RESETS)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(header_bytes)
        .serve_connection(TokioIo::new(Heard::new(socket)), service);
    let mut http = pin!(http);
    let mut is_leaving = false;
    poll_fn(|context| {
        connection.watch.wake_me(context);
        if connection.core.gate.stage().tells_clients_to_leave() && !is_leaving {
            is_leaving = true;
            http.as_mut().graceful_shutdown();
            if !connection.has_visits() {
                connection.rest_or_leave();
            }
        }
        if http.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if !connection.watch.has_passed() {
            return Poll::Pending;
        }
        if is_leaving {
            return Poll::Ready(());
        }
        // Idle for too long: GOAWAY, and a moment for it to be read.
        is_leaving = true;
        http.as_mut().graceful_shutdown();
        connection.say_goodbye();
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs the streams of one connection as tasks of its core.
#[derive(Clone)]
struct Streams {
    /// The deadline of the visit that began last: hyper calls the service and starts the stream in one go.
    latest: Rc<RefCell<Option<Rc<Listed>>>>,
}

impl<F: Future + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let watch = self.latest.take();
        tokio::task::spawn_local(Stream { future: Box::pin(future), watch });
    }
}

/// One stream. Dropping hyper's part resets it.
struct Stream<F> {
    future: Pin<Box<F>>,
    watch: Option<Rc<Listed>>,
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(watch) = &self.watch {
            watch.wake_me(context);
        }
        if self.future.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        // A visit that is late answers by itself and gets new time for it. What is late after that is not being read.
        if self.watch.as_ref().is_some_and(|watch| watch.has_passed()) { Poll::Ready(()) } else { Poll::Pending }
    }
}
