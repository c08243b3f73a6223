//! Listening: one thread with its own runtime, listener and connections for each core.
//!
//! Every core binds the same address with SO_REUSEPORT, so the kernel spreads connections and cores share nothing.
//! A connection comes through its `door` (`arrive`, `proxy_header`, `certificates`) and is served by `connection` with `http1`
//! or `http2`; `wire` is the socket as hyper sees it, `watch` keeps deadlines.
//!
//! Invariant: the accept loop survives everything that accept(2) can say, running out of file descriptors included.

mod arrive;
pub mod certificates;
pub mod connection;
pub mod core;
pub mod door;
mod heard;
mod http1;
mod http2;
pub mod metrics;
mod proxy_header;
pub mod socket;
pub mod strict;
pub mod watch;
pub mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::clock::{Clock, nanos};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use self::core::Core;
use self::watch::SWEEP_EVERY;
use crate::life::{Gate, Stage};

/// Connections waiting to be accepted, per core and address; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long accept pauses when the process or the system is out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// While that lasts, the log says so this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long accept waits for a place when the core has all the connections it may have.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Connections to upstreams that rest longer than this are looked through for closing this often.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// Bytes of an answer that wait in the kernel beyond what the network takes. A client that hardly reads would otherwise hold
/// up to `tcp_wmem` (4 MiB), and a thousand of them all memory that the machine has for TCP.
const UNSENT_BYTES: u32 = 256 * 1024;

/// Binds `address` so that several sockets may share it.
///
/// # Errors
/// What the operating system says: in use, not permitted, not this machine's address.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // "[::]" and "0.0.0.0" may both be listed; each takes its own family.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it. Without it, one keeps it a little larger in the kernel, nothing else.
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Runs one core until the gate has drained. Blocks the calling thread.
///
/// # Errors
/// When the runtime cannot be built or a listener cannot be registered with it.
pub fn run_core(gate: Arc<Gate>, listeners: Vec<StdListener>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let core = Core::new(gate);
        core.sweep.run(core.gate.clock.now().monotonic_nanos);
        let sweeper = tokio::task::spawn_local(sweep(Rc::clone(&core)));
        let mut accepting = Vec::new();
        for (door, listener) in listeners.into_iter().enumerate() {
            let listener = TcpListener::from_std(listener)?;
            accepting.push(tokio::task::spawn_local(accept(Rc::clone(&core), listener, door)));
        }
        for task in accepting {
            // A panic in the accept loop is a defect; ending the core makes it visible instead of half alive.
            task.await.map_err(io::Error::other)?;
        }
        while !core.sweep.is_empty() && core.gate.stage() != Stage::Stopped {
            tokio::time::sleep(SWEEP_EVERY).await;
        }
        sweeper.abort();
        Ok(())
    })
}

/// Marks overdue deadlines, prunes resting upstream connections, and wakes idle connections when the gate drains.
async fn sweep(core: Rc<Core>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut since_prune = Duration::ZERO;
    let mut told = core.gate.stage();
    loop {
        ticks.tick().await;
        let now = core.gate.clock.now();
        core.sweep.run(now.monotonic_nanos);
        core.gate.log.flush_this_core();
        let is_short = core.gate.ground.pressure.is_on();
        if is_short {
            core.sweep.end_rests(now.monotonic_nanos);
        }
        since_prune += SWEEP_EVERY;
        if since_prune >= PRUNE_EVERY {
            since_prune = Duration::ZERO;
            // Where room is needed, nothing has rested too short a time.
            core.pools.prune(if is_short { u64::MAX } else { now.monotonic_nanos });
        }
        let stage = core.gate.stage();
        if stage != told {
            told = stage;
            core.sweep.wake_all();
        }
    }
}

/// `door` is the listener's place in the config.
async fn accept(core: Rc<Core>, listener: TcpListener, door: usize) {
    let mut stage = core.gate.stages();
    let mut told_nanos = None;
    loop {
        if core.connections.get() >= core.running().listener.most_connections && core.gate.stage() < Stage::Closing {
            tokio::time::sleep(FULL_PAUSE).await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stage.reaches(Stage::Closing) => break,
        };
        match accepted {
            Ok((socket, peer)) => begin(&core, socket, peer, door),
            Err(error) => pause_after(&core, &error, &mut told_nanos).await,
        }
    }
    // What the kernel has already accepted for us belongs to someone who is waiting: closing now would reset it.
    while let Some(Ok((socket, peer))) = poll_once(&listener).await {
        begin(&core, socket, peer, door);
    }
}

async fn poll_once(listener: &TcpListener) -> Option<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
    std::future::poll_fn(|context| match listener.poll_accept(context) {
        std::task::Poll::Ready(accepted) => std::task::Poll::Ready(Some(accepted)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

fn begin(core: &Rc<Core>, socket: tokio::net::TcpStream, peer: SocketAddr, door: usize) {
    let running = core.running();
    // Whom a proxy speaks for is known only when its header was read; until then it counts for nobody.
    let is_proxy = running.doors.get(door).is_some_and(|door| door.expects_proxy_header(peer.ip()));
    let counted = (!is_proxy).then_some(peer.ip());
    // One too many is closed before a byte of it is read; why is counted.
    let connections = &core.gate.ground.connections;
    let Ok(slot) = connections.admit(&running.overload, counted, socket.as_raw_fd()) else { return };
    // Without it a response of several writes waits for the client's delayed acknowledgement. Failing to set it only
    // costs latency.
    let _ = socket.set_nodelay(true);
    tokio::task::spawn_local(connection::serve(core.enter(), socket, peer, door, slot));
}

/// One broken connection is nobody's problem; having no descriptors left is everybody's, and asking again at once would
/// only burn the core.
async fn pause_after(core: &Core, error: &io::Error, told_nanos: &mut Option<u64>) {
    let is_about_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !is_about_one_connection {
        let now = core.sweep.coarse_now_nanos();
        if told_nanos.is_none_or(|told| now.saturating_sub(told) >= nanos(TELL_EVERY)) {
            *told_nanos = Some(now);
            core.gate.log.event("warn", "accept_failed", &[("error", &error.to_string())]);
        }
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}
