//! One client connection, from accept to close: what it is, its deadlines, and the answers to what never became a request.
//!
//! `arrive` walks it through the door, then `http1` or `http2` drives it. Deadlines by phase: idle (`connections.idle`),
//! head (`limits.header_timeout`), visit (`limits.total`); see [`super::watch`].
//!
//! Invariant: a connection that passed its deadline is answered from the catalogue or cut; it never stays.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use portcullis_core::clock::nanos;
use portcullis_core::refusal::{Code, Refusal};
use portcullis_guards::exchange::Tls;
use portcullis_guards::overload::Slot;
use tokio::net::TcpStream;

use super::arrive::{Arrived, arrive};
use super::core::{Core, Place};
use super::watch::Listed;
use super::wire::{Keeper, Line, Phase};
use super::{http1, http2};
use crate::visit::{self, Visit};

/// How long a closing connection still listens, so that a reset does not destroy the answer on its way.
pub const LINGER: Duration = Duration::from_millis(1000);
/// How long a resting connection still takes a request when the gateway ends.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How long an HTTP/2 client that was told to leave may take to do so once nothing is open.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a connection rests before what serves it is put away. Far above the pauses of a busy client, so that only those
/// pay for it that really rest.
const PUT_AWAY_AFTER: Duration = Duration::from_millis(200);

/// One client connection.
pub struct Connection {
    /// The core it lives on.
    pub core: Rc<Core>,
    /// The other end.
    pub peer: SocketAddr,
    /// What TLS found out; `None` without TLS.
    pub tls: Option<Arc<Tls>>,
    /// Whether it carries several requests at once (HTTP/2).
    pub is_multiplexed: bool,
    /// What it is doing. Only HTTP/1 keeps it.
    pub line: Line,
    /// Its deadline. In HTTP/1 also that of its visit.
    pub watch: Rc<Listed>,
    /// A visit whose connection was switched to another protocol; whoever drives the connection goes on with it.
    pub switched: RefCell<Option<Box<Visit>>>,
    /// Whether it has carried a request.
    has_answered: Cell<bool>,
    /// Open visits. Only HTTP/2 keeps it.
    visits: Cell<u32>,
    /// When its rest is over.
    rests_until_nanos: Cell<u64>,
}

/// Serves one accepted socket until it closes.
pub async fn serve(place: Place, socket: TcpStream, peer: SocketAddr, door: usize, mut slot: Slot) {
    let core = Rc::clone(place.core());
    let watch = Rc::new(core.sweep.list());
    // A connection that says nothing gets no more time for its handshake and first head than one that says half of it.
    watch.arm(core.sweep.coarse_now_nanos().saturating_add(nanos(core.running().listener.header_timeout)));
    watch.rest(core.sweep.coarse_now_nanos());
    let arrived = {
        let running = core.running();
        // A door vanishes only with its address, and that needs a restart.
        let Some(door) = running.doors.get(door) else { return };
        Box::pin(within(&watch, arrive(door, socket, peer, &core.gate.handshakes))).await
    };
    let Some(Ok(Arrived { socket, peer, tls, is_http2 })) = arrived else { return };
    if slot.count_for(&core.running().overload, peer.ip()).is_err() {
        return;
    }
    let connection = Rc::new(Connection {
        core,
        peer,
        tls,
        is_multiplexed: is_http2,
        line: Line::default(),
        watch,
        switched: RefCell::new(None),
        has_answered: Cell::new(false),
        visits: Cell::new(0),
        rests_until_nanos: Cell::new(0),
    });
    if is_http2 {
        Box::pin(http2::serve(connection, socket)).await;
    } else {
        http1::serve(connection, socket).await;
    }
}

/// `None` when the deadline passes first.
async fn within<T>(watch: &Listed, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        watch.wake_me(context);
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if watch.has_passed() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

impl Connection {
    /// A request has arrived.
    pub fn visit_begins(&self) {
        if self.is_multiplexed {
            self.visits.set(self.visits.get() + 1);
            // Each visit keeps its own deadline; between them there is none.
            self.watch.arm(u64::MAX);
        } else {
            self.line.phase.set(Phase::Asking);
            self.line.is_flushed.set(false);
        }
    }

    /// Whether requests are open. Only HTTP/2 counts them.
    pub fn has_visits(&self) -> bool {
        self.visits.get() > 0
    }

    /// Its answer is known.
    pub fn answer_begins(&self) {
        if !self.is_multiplexed {
            self.line.phase.set(Phase::Answering);
        }
    }

    /// The visit is over. Until all of its answer has left, its own deadline holds: a client that does not read must not
    /// win time by it.
    pub fn visit_is_over(&self, is_mid_body: bool, was_cut: bool) {
        if self.is_multiplexed {
            self.visits.set(self.visits.get() - 1);
            if self.visits.get() == 0 {
                self.rest_or_leave();
            }
            return;
        }
        self.has_answered.set(true);
        self.line.phase.set(Phase::Idle);
        self.line.is_mid_body.set(is_mid_body);
        self.line.must_reset.set(was_cut);
    }

    /// HTTP/2 with nothing open: it may be idle for a while, or, when clients were told to leave, for a moment.
    pub fn rest_or_leave(&self) {
        if self.core.gate.stage().tells_clients_to_leave() {
            self.say_goodbye();
        } else {
            self.begin_rest();
        }
    }

    /// An HTTP/2 client was told to leave; it has a moment for that.
    pub fn say_goodbye(&self) {
        self.watch.arm(self.core.sweep.coarse_now_nanos().saturating_add(nanos(GOODBYE)));
    }

    /// From now on it may be idle for so long.
    pub fn begin_rest(&self) {
        let now = self.core.sweep.coarse_now_nanos();
        let until = now.saturating_add(nanos(self.core.running().listener.idle));
        self.rests_until_nanos.set(until);
        self.watch.arm(until);
        self.watch.rest(now);
    }

    /// Whether it only rests: there is nothing to cut, but what serves it can be put away.
    pub fn has_rest_left(&self) -> bool {
        self.rests_until_nanos.get() > self.core.sweep.coarse_now_nanos()
    }

    /// What served it was put away; the rest goes on.
    pub fn go_on_resting(&self) {
        self.watch.arm(self.rests_until_nanos.get());
        self.watch.rest(self.core.sweep.coarse_now_nanos());
    }

    /// The gateway ends: a connection that rests is closed soon, but not at once, because a request may be on its way to
    /// it. One that comes in time is answered, and told to close.
    pub fn leave(&self) {
        if self.line.phase.get() == Phase::Idle {
            let last_call = self.core.sweep.coarse_now_nanos().saturating_add(nanos(LAST_CALL));
            self.rests_until_nanos.set(last_call);
            self.watch.arm(last_call);
        }
    }

    /// The bytes of a refusal for something that never became a request, with what the guards above `route` add.
    pub fn answer_unread(&self, refusal: Refusal) -> Vec<u8> {
        visit::refuse_unread(self, refusal.closing())
    }
}

impl Keeper for Connection {
    fn line(&self) -> &Line {
        &self.line
    }

    fn head_begins(&self) {
        if !self.has_answered.get() {
            // The first head has what the handshake left of its time.
            return;
        }
        let timeout = nanos(self.core.running().listener.header_timeout);
        let now = self.core.sweep.coarse_now_nanos();
        self.watch.arm(now.saturating_add(timeout));
        // Half a head keeps a buffer and is nobody's request yet.
        self.watch.rest(now);
    }

    fn rests(&self) {
        if self.core.gate.stage().closes_idle_connections() {
            return self.leave();
        }
        if self.line.phase.get() != Phase::Idle {
            return;
        }
        if self.line.is_mid_body.get() {
            // After an answer that came before the whole request, the client has a moment to read it, no more.
            self.rests_until_nanos.set(0);
            self.watch.arm(self.core.sweep.coarse_now_nanos().saturating_add(nanos(LINGER)));
        } else {
            self.begin_rest();
            let put_away = self.core.sweep.coarse_now_nanos().saturating_add(nanos(PUT_AWAY_AFTER));
            self.watch.arm(put_away.min(self.rests_until_nanos.get()));
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
