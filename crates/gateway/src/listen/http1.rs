//! HTTP/1.1 on one connection: drives hyper, puts it away while the connection rests, goes on as a tunnel where a request
//! switched protocols.
//!
//! hyper keeps some 23 KB a connection. One that has rested for a moment keeps only its socket and its deadline; at its next
//! byte it gets a new hyper. A connection that is closed with unread bytes lingers for a moment, so that the client can read
//! the answer.
//!
//! Invariant: what is put away has nothing to say and nothing half heard; half a head that was heard is handed on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use portcullis_core::refusal::{Code, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{Connection, LINGER};
use super::socket::Socket;
use super::wire::{Phase, Wire};
use crate::proxy::tunnel;
use crate::running::Running;
use crate::visit;

const LINGER_BYTES: usize = 256 * 1024;

/// How far a head may pass its bound and still be read, so that a URL of 100 KiB hears 414 and not 431 (ATTACKS row 28).
const OVERSIZE_BYTES: usize = 128 * 1024;
/// The same for the number of fields.
const OVERSIZE_FIELDS: usize = 32;

enum Ended {
    /// hyper is done with it.
    Finished,
    /// It has rested for a while.
    Rests,
    /// The head did not arrive in time.
    HeadOverdue,
    /// Anything else was overdue.
    Overdue,
}

/// Serves a connection until it closes.
pub(super) async fn serve(connection: Rc<Connection>, mut socket: Socket) {
    // After a TLS handshake the first request may have been read already, and the kernel would not tell of it.
    let mut may_hold_bytes = true;
    loop {
        if !may_hold_bytes && !wakes(&connection, &socket).await {
            return;
        }
        let (ended, left, unread) = Box::pin(drive(&connection, socket)).await;
        socket = left;
        if let Some(visit) = connection.switched.take() {
            socket.unread(unread);
            return Box::pin(tunnel::run(visit, socket)).await;
        }
        match ended {
            Ended::Rests => {
                may_hold_bytes = !unread.is_empty();
                socket.unread(unread);
                connection.go_on_resting();
            }
            ended => return Box::pin(close(&connection, socket, ended)).await,
        }
    }
}

/// Waits for the connection's next byte. `false` when its rest is over first.
async fn wakes(connection: &Connection, socket: &Socket) -> bool {
    let mut is_leaving = false;
    poll_fn(|context| {
        connection.watch.wake_me(context);
        if connection.core.gate.stage().closes_idle_connections() && !is_leaving {
            is_leaving = true;
            connection.leave();
        }
        if socket.tcp().poll_read_ready(context).is_ready() {
            return Poll::Ready(true);
        }
        if connection.watch.has_passed() { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// Lets hyper serve until something ends that, and takes the socket back with the bytes that hyper read too far.
async fn drive(connection: &Rc<Connection>, socket: Socket) -> (Ended, Socket, Bytes) {
    let mut http = {
        let visitor = Rc::clone(connection);
        let service =
            service_fn(move |request| visit::receive(Rc::clone(&visitor), Rc::clone(&visitor.watch), request));
        builder(&connection.core.running()).serve_connection(Wire::new(socket, Rc::clone(connection)), service)
    };
    let mut is_leaving = false;
    let ended = poll_fn(|context| {
        connection.watch.wake_me(context);
        if connection.core.gate.stage().closes_idle_connections() && !is_leaving {
            is_leaving = true;
            connection.leave();
        }
        if Pin::new(&mut http).poll(context).is_ready() {
            return Poll::Ready(Ended::Finished);
        }
        if !connection.watch.has_passed() {
            return Poll::Pending;
        }
        match connection.line.phase.get() {
            Phase::Head if connection.line.is_flushed.get() => Poll::Ready(Ended::HeadOverdue),
            Phase::Idle if connection.line.is_flushed.get() && connection.has_rest_left() => Poll::Ready(Ended::Rests),
            // The visit has its own way to answer; it was polled above and is about to.
            Phase::Asking => Poll::Pending,
            _ => Poll::Ready(Ended::Overdue),
        }
    })
    .await;
    let parts = http.into_parts();
    // Copied, because even an empty rest would keep hyper's whole buffer.
    let (socket, unread) = parts.io.into_socket(Bytes::copy_from_slice(&parts.read_buf));
    (ended, socket, unread)
}

fn builder(running: &Running) -> http1::Builder {
    let bounds = &running.listener;
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .writev(false)
        .max_headers(bounds.header_count + OVERSIZE_FIELDS)
        // Room to read a head that is somewhat too large: then the `limits` guard can say what is too large about it.
        .max_header_size(bounds.header_bytes + OVERSIZE_BYTES)
        .max_buf_size(bounds.header_bytes + OVERSIZE_BYTES + 4096);
    builder
}

async fn close(connection: &Connection, mut socket: Socket, ended: Ended) {
    match ended {
        // The close of an HTTP/1.0 connection is the end of its answer; only a reset says that there should have been more.
        Ended::Finished if connection.line.must_reset.get() => {
            // If it cannot be set, the client sees a plain close: nothing better can be done.
            let _ = socket2::SockRef::from(socket.tcp()).set_linger(Some(Duration::ZERO));
        }
        Ended::Finished => linger(&mut socket).await,
        Ended::HeadOverdue => {
            let answer = connection.answer_unread(Refusal::new(Code::HeaderTimeout));
            // The client may be gone or not reading; it is being cut for slowness, so it gets one linger to read this.
            let _ = tokio::time::timeout(LINGER, socket.write_all(&answer)).await;
            linger(&mut socket).await;
        }
        Ended::Overdue | Ended::Rests => {}
    }
}

/// Says that nothing more will come, then reads and forgets what the client is still sending, within bounds.
async fn linger(socket: &mut Socket) {
    let mut scratch = [0_u8; 4096];
    let mut left = LINGER_BYTES;
    let drain = async {
        if socket.shutdown().await.is_err() {
            return;
        }
        while let Ok(read) = socket.read(&mut scratch).await {
            if read == 0 || read >= left {
                break;
            }
            left -= read;
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}
