//! Connections to upstreams, kept per core: taken last-in first-out, given back when the response has been read whole.
//!
//! No lock and no shared state but requests in flight: a core only ever uses its own. `shared` keeps HTTP/2 connections,
//! which many requests use at once. Resting connections are looked through once a second.
//!
//! Invariant: an HTTP/1.1 connection is either lent to one visit or rests here, never both; the number open is bounded;
//! a connection to an address that its name no longer leads to gets no new request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use portcullis_core::clock::nanos;
use portcullis_core::fault::Fault;

use super::dial::{self, Purpose};
use super::request_body::RequestBody;
use super::shared::{Shared, Stream};
use super::targets::Target;
use super::targets::balance::Turn;
use super::upstream::Upstream;
use crate::config::upstream::place::Balance;

/// Bytes of a response head that are read before it counts as too large.
pub(crate) const RESPONSE_HEAD_BYTES: usize = 64 * 1024;
/// Bytes of a response that are read ahead. Without it hyper goes up to 408 KiB, which a client that reads slowly holds
/// twice.
const RESPONSE_BUFFER_BYTES: usize = RESPONSE_HEAD_BYTES + 8 * 1024;
/// Header fields of a response before it counts as too large.
const RESPONSE_HEADER_COUNT: usize = 200;

/// The pools of one core, by upstream.
#[derive(Default)]
pub struct Pools {
    pools: RefCell<HashMap<u64, Rc<Pool>>>,
}

/// One upstream's connections on one core.
pub(super) struct Pool {
    pub(super) upstream: Arc<Upstream>,
    turn: Turn,
    open: Cell<usize>,
    berths: Box<[Berth]>,
}

/// The connections to one target.
#[derive(Default)]
struct Berth {
    resting: RefCell<Vec<Resting>>,
    shared: Shared,
    /// The version of the target's addresses at which gone ones were last looked for.
    seen: Cell<u64>,
}

struct Resting {
    sender: SendRequest<RequestBody>,
    peer: SocketAddr,
    since_nanos: u64,
}

/// What sends a request.
pub enum Sender {
    /// A connection for this request alone.
    One(SendRequest<RequestBody>),
    /// A stream beside others.
    Stream(Stream),
}

/// A connection lent to one visit.
pub struct Lease {
    /// Sends one request.
    pub sender: Sender,
    /// Whether it has carried a request before: the upstream may have closed it meanwhile.
    pub was_used: bool,
    /// Whether something about its last answer forbids using it again.
    pub is_doubtful: bool,
    peer: SocketAddr,
    seat: Seat,
    /// What a tunnel counts as, once hyper's part of the connection has ended.
    tunnel: Option<Place>,
}

/// What a request needs of its connection.
pub struct Wants {
    /// One that nobody has used.
    pub only_new: bool,
    /// Not this target, which has just failed, if there is another good one.
    pub avoid: Option<usize>,
    /// One that can go on in another protocol: HTTP/1.1, whatever the upstream speaks otherwise.
    pub switch: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoLease {
    /// As many are open as may be.
    Full,
    /// The target could not be reached.
    Fault(Fault, usize),
}

impl Lease {
    /// Where it leads.
    pub fn target(&self) -> &Target {
        self.seat.target()
    }

    /// Whether it may have been closed while it rested, which says nothing about the request that met it.
    pub fn is_stale(&self) -> bool {
        self.was_used && matches!(self.sender, Sender::One(_))
    }

    /// Puts the connection to rest, unless it is closed.
    pub fn give_back(self, now_nanos: u64) {
        let Lease { sender: Sender::One(sender), is_doubtful, peer, seat, .. } = self else { return };
        if !sender.is_closed() && !is_doubtful && seat.is_current(peer) {
            seat.berth().resting.borrow_mut().push(Resting { sender, peer, since_nanos: now_nanos });
        }
    }

    /// Its connection was switched and goes on counting, for as long as the lease is held.
    pub fn becomes_tunnel(&mut self) {
        self.tunnel = Some(self.seat.pool.count());
    }

    /// Nothing new is asked on its connection. An HTTP/1.1 connection ends with its lease anyway.
    pub fn spoil(&self) {
        if let Sender::Stream(stream) = &self.sender {
            stream.spoil();
        }
    }
}

impl Pools {
    /// A connection to a target of `upstream`: a resting one, or a new one.
    ///
    /// # Errors
    /// [`NoLease`] when there is no room or nobody answers.
    pub async fn lease(&self, upstream: &Arc<Upstream>, wants: &Wants) -> Result<Lease, NoLease> {
        let seat = Seat::take(self.pool(upstream), wants.avoid);
        if upstream.is_http2 && !wants.switch {
            let (stream, peer, was_used) = Shared::stream(&seat).await?;
            return Ok(Lease {
                sender: Sender::Stream(stream),
                was_used,
                is_doubtful: false,
                peer,
                seat,
                tunnel: None,
            });
        }
        if !wants.only_new {
            while let Some(Resting { mut sender, peer, .. }) = seat.take_resting() {
                // The connection's task may not yet have seen that its last response was read; it says so at once.
                if sender.is_ready() || (!sender.is_closed() && sender.ready().await.is_ok()) {
                    let sender = Sender::One(sender);
                    return Ok(Lease { sender, was_used: true, is_doubtful: false, peer, seat, tunnel: None });
                }
            }
        }
        let place = seat.pool.open_one()?;
        let purpose = if upstream.is_http2 { Purpose::Switch } else { Purpose::Requests };
        let opened = dial::open(upstream, seat.target(), purpose).await.map_err(|error| seat.fault(&error))?;
        let mut builder = http1::Builder::new();
        builder.writev(false).max_header_size(RESPONSE_HEAD_BYTES).max_headers(RESPONSE_HEADER_COUNT);
        builder.max_buf_size(RESPONSE_BUFFER_BYTES);
        let Ok((sender, connection)) = builder.handshake(TokioIo::new(opened.stream)).await else {
            return Err(NoLease::Fault(Fault::Connect, seat.index));
        };
        tokio::task::spawn_local(async move {
            // How it ended is told to the visit that used it; when it rested, nobody needs to know.
            let _ = connection.with_upgrades().await;
            drop(place);
        });
        // Where HTTP/2 is spoken, no other request will want this one.
        let is_doubtful = upstream.is_http2;
        let sender = Sender::One(sender);
        Ok(Lease { sender, was_used: false, is_doubtful, peer: opened.peer, seat, tunnel: None })
    }

    /// Closes connections that rested too long or lead to addresses that are gone, and forgets those that the upstream
    /// closed.
    pub fn prune(&self, now_nanos: u64) {
        self.pools.borrow_mut().retain(|_, pool| {
            let idle_nanos = nanos(pool.upstream.idle);
            for (berth, target) in pool.berths.iter().zip(&pool.upstream.targets) {
                berth.leave_gone(target);
                berth.resting.borrow_mut().retain(|resting| {
                    !resting.sender.is_closed() && now_nanos.saturating_sub(resting.since_nanos) < idle_nanos
                });
                berth.shared.prune(now_nanos, idle_nanos);
            }
            pool.open.get() > 0
        });
    }

    fn pool(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        if let Some(pool) = self.pools.borrow().get(&upstream.id) {
            return Rc::clone(pool);
        }
        let targets = upstream.targets.len();
        let pool = Rc::new(Pool {
            upstream: Arc::clone(upstream),
            turn: Turn::new(upstream.balance, targets, fastrand::usize(..targets)),
            open: Cell::new(0),
            berths: (0..targets).map(|_| Berth::default()).collect(),
        });
        self.pools.borrow_mut().insert(upstream.id, Rc::clone(&pool));
        pool
    }
}

impl Pool {
    /// Counts a connection that is about to be opened.
    pub(super) fn open_one(self: &Rc<Pool>) -> Result<Place, NoLease> {
        if self.open.get() >= self.upstream.connections {
            return Err(NoLease::Full);
        }
        Ok(self.count())
    }

    fn count(self: &Rc<Pool>) -> Place {
        self.open.set(self.open.get() + 1);
        Place(Rc::clone(self))
    }
}

/// Counts a connection as open for as long as this lives.
pub(super) struct Place(Rc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl Berth {
    /// Closes what leads to addresses that are gone.
    fn leave_gone(&self, target: &Target) {
        if !target.addresses.is_name {
            return;
        }
        // Read before the addresses: a change in between is seen next time.
        let version = target.addresses.version();
        if self.seen.replace(version) != version {
            let known = target.addresses.known();
            self.resting.borrow_mut().retain(|resting| known.addresses.contains(&resting.peer));
            self.shared.leave_gone(&known.addresses);
        }
    }
}

/// A target that was chosen for one request, which counts as in flight to it where that matters.
pub(super) struct Seat {
    pub(super) pool: Rc<Pool>,
    pub(super) index: usize,
    /// The version of the target's addresses when it was chosen.
    version: u64,
}

impl Seat {
    fn take(pool: Rc<Pool>, avoid: Option<usize>) -> Seat {
        let index = pool.turn.next(&pool.upstream.targets, avoid);
        let seat = Seat { version: pool.upstream.targets[index].addresses.version(), pool, index };
        if seat.is_counted() {
            seat.target().enter();
        }
        seat
    }

    pub(super) fn target(&self) -> &Target {
        &self.pool.upstream.targets[self.index]
    }

    fn berth(&self) -> &Berth {
        &self.pool.berths[self.index]
    }

    pub(super) fn shared(&self) -> &Shared {
        self.berth().leave_gone(self.target());
        &self.berth().shared
    }

    pub(super) fn fault(&self, error: &dial::DialError) -> NoLease {
        // What this machine has too little of is not held against the upstream: its breaker must not open by it.
        if error.is_our_shortage() { NoLease::Full } else { NoLease::Fault(error.fault(), self.index) }
    }

    fn take_resting(&self) -> Option<Resting> {
        self.berth().leave_gone(self.target());
        self.berth().resting.borrow_mut().pop()
    }

    /// Whether the target's name still leads to `peer`.
    fn is_current(&self, peer: SocketAddr) -> bool {
        let addresses = &self.target().addresses;
        addresses.version() == self.version || addresses.known().addresses.contains(&peer)
    }

    /// Round robin does not ask, and one target needs no choice.
    fn is_counted(&self) -> bool {
        self.pool.upstream.balance == Balance::LeastRequests && self.pool.upstream.targets.len() > 1
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_counted() {
            self.target().leave();
        }
    }
}
