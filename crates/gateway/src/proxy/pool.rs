//! Connections to upstreams, kept per core: taken last-in first-out, given back when the response has been read whole.
//!
//! No lock, no shared state: a core only ever uses its own. Resting connections are looked through once a second.
//!
//! Invariant: a connection is either lent to one visit or rests here, never both; the number open is bounded.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use portcullis_core::clock::nanos;
use portcullis_core::fault::Fault;
use tokio::net::TcpStream;

use super::request_body::RequestBody;
use super::upstream::Upstream;

/// Bytes of a response head that are read before it counts as too large.
const RESPONSE_HEAD_BYTES: usize = 64 * 1024;
/// Header fields of a response before it counts as too large.
const RESPONSE_HEADER_COUNT: usize = 200;
/// Addresses of one name that are tried in turn.
const MOST_ADDRESSES: usize = 8;

/// The pools of one core, by upstream.
#[derive(Default)]
pub struct Pools {
    pools: RefCell<HashMap<u64, Rc<Pool>>>,
}

/// One upstream's connections on one core.
struct Pool {
    resting: RefCell<Vec<Resting>>,
    open: Cell<usize>,
    idle_nanos: u64,
}

struct Resting {
    sender: SendRequest<RequestBody>,
    since_nanos: u64,
}

/// A connection lent to one visit.
pub struct Lease {
    /// Sends one request.
    pub sender: SendRequest<RequestBody>,
    /// Whether it has carried a request before: the upstream may have closed it meanwhile.
    pub was_used: bool,
    /// Whether something about its last answer forbids using it again.
    pub is_doubtful: bool,
    pool: Rc<Pool>,
}

/// Why there is no connection.
pub enum NoLease {
    /// As many are open as may be.
    Full,
    /// The upstream could not be reached.
    Fault(Fault),
}

impl Lease {
    /// Puts the connection to rest, unless it is closed.
    pub fn give_back(self, now_nanos: u64) {
        if !self.sender.is_closed() && !self.is_doubtful {
            self.pool.resting.borrow_mut().push(Resting { sender: self.sender, since_nanos: now_nanos });
        }
    }
}

impl Pools {
    /// A resting connection, or a new one.
    ///
    /// # Errors
    /// [`NoLease`] when there is no room or nobody answers.
    pub async fn lease(&self, upstream: &Upstream, only_new: bool) -> Result<Lease, NoLease> {
        let pool = self.pool(upstream);
        if !only_new {
            while let Some(mut sender) = pool.take_resting() {
                // The connection's task may not yet have seen that its last response was read; it says so at once.
                if sender.is_ready() || (!sender.is_closed() && sender.ready().await.is_ok()) {
                    return Ok(Lease { sender, was_used: true, is_doubtful: false, pool });
                }
            }
        }
        if pool.open.get() >= upstream.connections {
            return Err(NoLease::Full);
        }
        let opened = Opened::count(&pool);
        let socket = match tokio::time::timeout(upstream.connect, connect(upstream)).await {
            Ok(socket) => socket.map_err(NoLease::Fault)?,
            Err(_) => return Err(NoLease::Fault(Fault::ConnectTimeout)),
        };
        let mut builder = http1::Builder::new();
        builder.writev(false).max_header_size(RESPONSE_HEAD_BYTES).max_headers(RESPONSE_HEADER_COUNT);
        let Ok((sender, connection)) = builder.handshake(TokioIo::new(socket)).await else {
            return Err(NoLease::Fault(Fault::Connect));
        };
        tokio::task::spawn_local(async move {
            // How it ended is told to the visit that used it; when it rested, nobody needs to know.
            let _ = connection.with_upgrades().await;
            drop(opened);
        });
        Ok(Lease { sender, was_used: false, is_doubtful: false, pool })
    }

    /// Closes connections that rested too long and forgets those that the upstream closed.
    pub fn prune(&self, now_nanos: u64) {
        self.pools.borrow_mut().retain(|_, pool| {
            pool.resting.borrow_mut().retain(|resting| {
                !resting.sender.is_closed() && now_nanos.saturating_sub(resting.since_nanos) < pool.idle_nanos
            });
            pool.open.get() > 0
        });
    }

    fn pool(&self, upstream: &Upstream) -> Rc<Pool> {
        if let Some(pool) = self.pools.borrow().get(&upstream.id) {
            return Rc::clone(pool);
        }
        let pool =
            Rc::new(Pool { resting: RefCell::new(Vec::new()), open: Cell::new(0), idle_nanos: nanos(upstream.idle) });
        self.pools.borrow_mut().insert(upstream.id, Rc::clone(&pool));
        pool
    }
}

impl Pool {
    fn take_resting(&self) -> Option<SendRequest<RequestBody>> {
        self.resting.borrow_mut().pop().map(|resting| resting.sender)
    }
}

/// Counts a connection as open for as long as this lives.
struct Opened(Rc<Pool>);

impl Opened {
    fn count(pool: &Rc<Pool>) -> Opened {
        pool.open.set(pool.open.get() + 1);
        Opened(Rc::clone(pool))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

async fn connect(upstream: &Upstream) -> Result<TcpStream, Fault> {
    let addresses =
        tokio::net::lookup_host((upstream.host.as_str(), upstream.port)).await.map_err(|_| Fault::Resolve)?;
    let mut found_any = false;
    for address in addresses.take(MOST_ADDRESSES) {
        found_any = true;
        if let Ok(socket) = TcpStream::connect(address).await {
            // Failing to set it only costs latency.
            let _ = socket.set_nodelay(true);
            return Ok(socket);
        }
    }
    Err(if found_any { Fault::Connect } else { Fault::Resolve })
}
