//! One client connection, from accept to close: drives hyper, keeps its deadlines, answers what never became a request.
//!
//! Deadlines by phase: idle (`limits.idle`), head (`limits.header_timeout`), visit (`limits.total`); see [`super::watch`].
//! A connection that is closed with unread bytes lingers for a moment, so that the client can read the answer.
//!
//! Invariant: a connection that passed its deadline is answered from the catalogue or cut; it never stays.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use portcullis_core::clock::nanos;
use portcullis_core::refusal::{Code, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::core::Core;
use super::watch::Listed;
use super::wire::{Keeper, Line, Phase, Wire};
use crate::running::Running;
use crate::visit;

/// How long and how much a closing connection still listens, so that a reset does not destroy the answer on its way.
const LINGER: Duration = Duration::from_millis(1000);
/// How long a resting connection still takes a request when the gateway ends.
const LAST_CALL: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 256 * 1024;

/// How far a head may pass its bound and still be read, so that a URL of 100 KiB hears 414 and not 431 (ATTACKS row 28).
const OVERSIZE_BYTES: usize = 128 * 1024;
/// The same for the number of fields.
const OVERSIZE_FIELDS: usize = 32;

/// One client connection.
pub struct Connection {
    /// The core it lives on.
    pub core: Rc<Core>,
    /// The other end.
    pub peer: SocketAddr,
    /// What it is doing.
    pub line: Line,
    /// Its deadline.
    pub watch: Listed,
}

enum Ended {
    /// hyper is done with it.
    Finished,
    /// The head did not arrive in time.
    HeadOverdue,
    /// Anything else was overdue.
    Overdue,
}

/// Serves one accepted socket until it closes.
pub async fn serve(core: Rc<Core>, socket: TcpStream, peer: SocketAddr) {
    let running = core.running();
    let connection =
        Rc::new(Connection { watch: core.sweep.list(), line: Line::default(), core: Rc::clone(&core), peer });
    // A connection that says nothing gets no more time for its first head than one that says half of it.
    connection.head_begins();
    let mut http = {
        let visitor = Rc::clone(&connection);
        let service = service_fn(move |request| visit::receive(Rc::clone(&visitor), request));
        builder(&running).serve_connection(Wire::new(socket, Rc::clone(&connection)), service)
    };
    drop(running);
    let mut is_leaving = false;
    let ended = poll_fn(|context| {
        connection.watch.wake_me(context);
        if core.gate.stage().closes_idle_connections() && !is_leaving {
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
            // The visit has its own way to answer; it was polled above and is about to.
            Phase::Asking => Poll::Pending,
            _ => Poll::Ready(Ended::Overdue),
        }
    })
    .await;
    let mut socket = http.into_parts().io.into_socket();
    match ended {
        // The close of an HTTP/1.0 connection is the end of its answer; only a reset says that there should have been more.
        Ended::Finished if connection.line.must_reset.get() => {
            // If it cannot be set, the client sees a plain close: nothing better can be done.
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
        Ended::Finished => linger(&mut socket).await,
        Ended::HeadOverdue => {
            let answer = connection.answer_unread(Refusal::new(Code::HeaderTimeout));
            // The client may be gone or not reading; it is being cut for slowness, so it gets one linger to read this.
            let _ = tokio::time::timeout(LINGER, socket.write_all(&answer)).await;
            linger(&mut socket).await;
        }
        Ended::Overdue => {}
    }
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

/// Says that nothing more will come, then reads and forgets what the client is still sending, within bounds.
async fn linger(socket: &mut TcpStream) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut scratch = [0_u8; 4096];
    let mut left = LINGER_BYTES;
    let drain = async {
        while let Ok(read) = socket.read(&mut scratch).await {
            if read == 0 || read >= left {
                break;
            }
            left -= read;
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

impl Connection {
    /// The visit is over. Until all of its answer has left, its own deadline holds: a client that does not read must not
    /// win time by it.
    pub fn visit_is_over(&self, is_mid_body: bool, was_cut: bool) {
        self.line.phase.set(Phase::Idle);
        self.line.is_mid_body.set(is_mid_body);
        self.line.must_reset.set(was_cut);
    }

    /// The gateway ends: a connection that rests is closed soon, but not at once, because a request may be on its way to
    /// it. One that comes in time is answered, and told to close.
    fn leave(&self) {
        if self.line.phase.get() == Phase::Idle {
            self.watch.arm(self.core.sweep.coarse_now_nanos().saturating_add(nanos(LAST_CALL)));
        }
    }

    /// The bytes of a refusal for something that never became a request, with what the guards above `route` add.
    fn answer_unread(&self, refusal: Refusal) -> Vec<u8> {
        visit::refuse_unread(self, refusal.closing())
    }
}

impl Keeper for Connection {
    fn line(&self) -> &Line {
        &self.line
    }

    fn head_begins(&self) {
        let timeout = nanos(self.core.running().listener.header_timeout);
        self.watch.arm(self.core.sweep.coarse_now_nanos().saturating_add(timeout));
    }

    fn rests(&self) {
        if self.core.gate.stage().closes_idle_connections() {
            return self.leave();
        }
        if self.line.phase.get() == Phase::Idle {
            // After an answer that came before the whole request, the client has a moment to read it, no more.
            let is_mid_body = self.line.is_mid_body.get();
            let idle = nanos(if is_mid_body { LINGER } else { self.core.running().listener.idle });
            self.watch.arm(self.core.sweep.coarse_now_nanos().saturating_add(idle));
        }
    }

    fn instead_of(&self, status: u16) -> Vec<u8> {
        self.answer_unread(match status {
            414 => Refusal::new(Code::UriTooLong),
            431 => Refusal::new(Code::HeadersTooLarge),
            _ => Refusal::malformed("the request line or a header field is not valid"),
        })
    }
}
