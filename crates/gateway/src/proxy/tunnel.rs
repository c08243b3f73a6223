//! A connection after its protocol was switched: bytes both ways until one end closes, both are silent for too long, or the
//! gateway ends.
//!
//! The visit goes on, so the access log has one line for it, with its bytes and its time.
//!
//! Invariant: at most two buffers of 8 KiB a tunnel; silence is bounded by `connections.tunnel_idle`.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper_util::rt::TokioIo;
use portcullis_core::clock::nanos;
use portcullis_core::metric::Gauge;
use portcullis_guards::guard::End;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::connection::Connection;
use crate::listen::socket::Socket;
use crate::visit::Visit;

/// Carries bytes between the client of `visit` and the upstream that has agreed.
pub async fn run(mut visit: Box<Visit>, client: Socket) {
    let Some(other_end) = visit.switch.other_end.take() else { return };
    let connection = Rc::clone(&visit.connection);
    let _open = Open::count(&connection.core.gate.tunnels);
    let mut client = Metered {
        socket: client,
        idle_nanos: nanos(visit.running.listener.tunnel_idle),
        connection: Rc::clone(&connection),
        received: Cell::new(0),
        sent: Cell::new(0),
    };
    client.moved();
    let mut other_end = TokioIo::new(other_end);
    let end = {
        let mut copy = pin!(tokio::io::copy_bidirectional(&mut client, &mut other_end));
        poll_fn(|context| {
            connection.watch.wake_me(context);
            match copy.as_mut().poll(context) {
                Poll::Ready(Ok(_)) => Poll::Ready(End::Complete),
                Poll::Ready(Err(_)) => Poll::Ready(End::ClientGone),
                Poll::Pending if connection.watch.has_passed() => Poll::Ready(End::DeadlinePassed),
                Poll::Pending if connection.core.gate.stage().closes_idle_connections() => Poll::Ready(End::Complete),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    visit.upload.bytes.set(visit.upload.bytes.get() + client.received.get());
    visit.bytes_out += client.sent.get();
    visit.end = end;
}

/// Counts an open tunnel.
struct Open(Gauge);

impl Open {
    fn count(gauge: &Gauge) -> Open {
        gauge.inc();
        Open(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The client's end: counts bytes, and every byte moves the deadline.
struct Metered {
    socket: Socket,
    connection: Rc<Connection>,
    idle_nanos: u64,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Metered {
    fn moved(&self) {
        let now = self.connection.core.sweep.coarse_now_nanos();
        self.connection.watch.arm(now.saturating_add(self.idle_nanos));
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        self.received.set(self.received.get() + (buffer.filled().len() - before) as u64);
        self.moved();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        self.sent.set(self.sent.get() + written as u64);
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
