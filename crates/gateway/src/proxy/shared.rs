//! HTTP/2 connections to one target on one core: each carries many requests at once, up to `keep_alive.streams`.
//!
//! One connection is opened at a time; whoever comes meanwhile waits for it and hears its failure. A connection that is
//! full, leads to an address that is gone, or let a request run out of time, gets no new request and ends with its last.
//!
//! Invariant: the window of a connection holds the windows of all its streams, so that a client that does not read cannot
//! stop the others.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_core::fault::Fault;
use tokio::sync::Notify;

use super::dial::{self, Purpose};
use super::pool::{NoLease, RESPONSE_HEAD_BYTES, Seat};
use super::request_body::RequestBody;

/// Bytes of an answer that may wait for a client, for each stream.
const STREAM_WINDOW: u32 = 64 * 1024;
/// How long a connection with requests on it may say nothing before it is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP/2 connections to one target.
#[derive(Default)]
pub(super) struct Shared {
    connections: RefCell<Vec<Rc<Connection>>>,
    is_opening: Cell<bool>,
    opened: Notify,
    /// Which opening failed last, and why; without a fault, this machine had too little of something.
    failure: Cell<Option<(u64, Option<Fault>)>>,
    openings: Cell<u64>,
}

struct Connection {
    sender: SendRequest<RequestBody>,
    peer: SocketAddr,
    streams: Cell<usize>,
    /// As many streams as the upstream takes; it may change its mind while the connection is open.
    limit: Rc<Cell<usize>>,
    is_spoiled: Cell<bool>,
    /// When it was last seen without a stream; 0 while it has some.
    idle_since_nanos: Cell<u64>,
}

/// One request's place on a connection.
pub struct Stream {
    /// Sends the request.
    pub sender: SendRequest<RequestBody>,
    connection: Rc<Connection>,
}

impl Stream {
    fn on(connection: &Rc<Connection>) -> Stream {
        connection.streams.set(connection.streams.get() + 1);
        connection.idle_since_nanos.set(0);
        Stream { sender: connection.sender.clone(), connection: Rc::clone(connection) }
    }

    /// Nothing new is asked on its connection.
    pub(super) fn spoil(&self) {
        self.connection.is_spoiled.set(true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
    }
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.is_spoiled.get() && !self.sender.is_closed()
    }

    /// Whether a request more would be sent, and not wait for the end of another: its time to the first byte is running.
    fn has_room(&self, most: usize) -> bool {
        self.streams.get() < most.min(self.limit.get())
    }
}

impl Shared {
    /// A place on a connection that has one, or on a new one. Whether the connection had been used before.
    pub(super) async fn stream(seat: &Seat) -> Result<(Stream, SocketAddr, bool), NoLease> {
        let upstream = &seat.pool.upstream;
        loop {
            let shared = seat.shared();
            shared.connections.borrow_mut().retain(|connection| connection.is_usable());
            let least = shared.connections.borrow().iter().min_by_key(|connection| connection.streams.get()).cloned();
            if let Some(connection) = least.filter(|connection| connection.has_room(upstream.streams)) {
                return Ok((Stream::on(&connection), connection.peer, true));
            }
            if !shared.is_opening.get() {
                return shared.open(seat).await;
            }
            let opening = shared.openings.get();
            // Whoever opens it is bound by the connect timeout and tells in any case.
            shared.opened.notified().await;
            if let Some((failed, fault)) = shared.failure.get()
                && failed == opening
            {
                return Err(fault.map_or(NoLease::Full, |fault| NoLease::Fault(fault, seat.index)));
            }
        }
    }

    async fn open(&self, seat: &Seat) -> Result<(Stream, SocketAddr, bool), NoLease> {
        let place = seat.pool.open_one()?;
        let opening = Opening::begin(self);
        let fail = |why: NoLease| {
            let fault = match &why {
                NoLease::Fault(fault, _) => Some(*fault),
                NoLease::Full => None,
            };
            self.failure.set(Some((opening.number, fault)));
            why
        };
        let opened = dial::open(&seat.pool.upstream, seat.target(), Purpose::Requests).await;
        let opened = opened.map_err(|error| fail(seat.fault(&error)))?;
        let builder = http2_client(seat.pool.upstream.streams);
        let handshake =
            tokio::time::timeout(seat.pool.upstream.connect, builder.handshake(TokioIo::new(opened.stream)));
        let Ok(Ok((sender, connection))) = handshake.await else {
            return Err(fail(NoLease::Fault(Fault::Connect, seat.index)));
        };
        let limit = Rc::new(Cell::new(usize::MAX));
        let told = Rc::clone(&limit);
        tokio::task::spawn_local(async move {
            let mut connection = pin!(connection);
            // How it ended is told to the streams on it.
            let _ = poll_fn(|context| {
                let polled = connection.as_mut().poll(context);
                told.set(connection.current_max_send_streams());
                polled
            })
            .await;
            drop(place);
        });
        let connection = Rc::new(Connection {
            sender,
            peer: opened.peer,
            streams: Cell::new(0),
            limit,
            is_spoiled: Cell::new(false),
            idle_since_nanos: Cell::new(0),
        });
        let stream = Stream::on(&connection);
        self.connections.borrow_mut().push(connection);
        drop(opening);
        Ok((stream, opened.peer, false))
    }

    /// Gives up connections that had no request for too long.
    pub(super) fn prune(&self, now_nanos: u64, idle_nanos: u64) {
        self.connections.borrow_mut().retain(|connection| {
            if connection.streams.get() > 0 {
                return connection.is_usable();
            }
            let since = connection.idle_since_nanos.get();
            if since == 0 {
                connection.idle_since_nanos.set(now_nanos.max(1));
            }
            connection.is_usable() && (since == 0 || now_nanos.saturating_sub(since) < idle_nanos)
        });
    }

    /// Gives up connections to addresses that are not among `known`; the requests on them are finished.
    pub(super) fn leave_gone(&self, known: &[SocketAddr]) {
        self.connections.borrow_mut().retain(|connection| known.contains(&connection.peer));
    }
}

/// How HTTP/2 is spoken with an upstream, with so many requests at once on a connection.
pub(super) fn http2_client(streams: usize) -> http2::Builder<OnThisCore> {
    let mut builder = http2::Builder::new(OnThisCore);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX)))
        .initial_max_send_streams(streams)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .max_header_list_size(RESPONSE_HEAD_BYTES as u32)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// One connection is being opened. However that ends, those who wait are told.
struct Opening<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Opening<'a> {
    fn begin(shared: &'a Shared) -> Opening<'a> {
        shared.is_opening.set(true);
        let number = shared.openings.get() + 1;
        shared.openings.set(number);
        Opening { shared, number }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.shared.is_opening.set(false);
        self.shared.opened.notify_waiters();
    }
}

/// Runs what HTTP/2 needs beside the connection on the same core.
#[derive(Clone, Copy)]
pub(super) struct OnThisCore;

impl<F> Executor<F> for OnThisCore
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
