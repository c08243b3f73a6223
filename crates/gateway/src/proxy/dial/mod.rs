//! Opening a connection to a target: its addresses in turn, then TLS where it is https.
//!
//! An address that does not answer does not use up the time of the others: the next one is tried beside it after a
//! fraction of the time (RFC 8305, "happy eyeballs"). The caller bounds the whole.
//!
//! Invariant: there is no way from a failed TLS handshake to a plain connection.

pub mod stream;
pub mod tls;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use portcullis_core::fault::Fault;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::stream::Stream;
use self::tls::Tls;
use super::targets::Target;
use super::upstream::Upstream;

/// RFC 8305, section 5: the recommended time between two attempts.
const BESIDE_AFTER: Duration = Duration::from_millis(250);

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Requests, in the upstream's protocol.
    Requests,
    /// A switch to another protocol, which only HTTP/1.1 can ask for.
    Switch,
}

/// A connection that was opened, and the address it leads to.
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// The other end.
    pub peer: SocketAddr,
}

/// Why none was opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name leads nowhere.
    #[error("the name does not resolve")]
    Resolve,
    /// No address took the connection.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// Not within `timeout.connect`.
    #[error("no connection in time")]
    Timeout,
    /// One of the two does not believe the other, or does not speak TLS.
    #[error("TLS failed ({reason})")]
    Tls {
        /// One of [`tls::REASONS`].
        reason: &'static str,
        /// What TLS said.
        source: io::Error,
    },
    /// `tls.required`, and the target is plain.
    #[error("tls.required refuses plain text")]
    PlainRefused,
    /// The upstream does not speak the protocol that the config says.
    #[error("the upstream does not speak HTTP/2")]
    NotHttp2,
}

impl DialError {
    /// The fault of the attempt.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            DialError::Resolve => Fault::Resolve,
            DialError::Connect(_) => Fault::Connect,
            DialError::Timeout => Fault::ConnectTimeout,
            DialError::Tls { .. } | DialError::PlainRefused => Fault::Tls,
            DialError::NotHttp2 => Fault::Malformed,
        }
    }

    /// Whether it is this machine that has run out of descriptors, ports or memory, and the upstream never heard of it.
    #[must_use]
    pub fn is_our_shortage(&self) -> bool {
        let DialError::Connect(error) = self else { return false };
        let errno = Errno::from_io_error(error);
        errno.is_some_and(|errno| {
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL].contains(&errno)
        })
    }
}

/// Opens a connection within `timeout.connect` and counts what TLS had against it.
///
/// # Errors
/// [`DialError`].
pub async fn open(upstream: &Upstream, target: &Target, purpose: Purpose) -> Result<Opened, DialError> {
    let opened = tokio::time::timeout(upstream.connect, connect(upstream, target, purpose)).await;
    let result = opened.unwrap_or(Err(DialError::Timeout));
    match &result {
        Err(DialError::Tls { reason, source }) => {
            upstream.meter.tls_failed(reason);
            target.note_trouble("upstream_untrusted", format!("TLS failed ({reason}): {source}"));
        }
        Err(error @ DialError::PlainRefused) => target.note_trouble("upstream_untrusted", error.to_string()),
        Err(error @ DialError::NotHttp2) => target.note_trouble("upstream_not_http2", error.to_string()),
        // The addresses may be yesterday's.
        Err(DialError::Connect(_) | DialError::Timeout) => target.addresses.wanted.notify_one(),
        Ok(_) | Err(DialError::Resolve) => {}
    }
    result
}

async fn connect(upstream: &Upstream, target: &Target, purpose: Purpose) -> Result<Opened, DialError> {
    let secure = secure(upstream.tls.as_ref(), target, purpose)?;
    let addresses = target.addresses.to_try().await;
    let beside_after = BESIDE_AFTER.min(upstream.connect / 4);
    let (socket, peer) = race(&addresses, beside_after).await?;
    // Failing to set it only costs latency.
    let _ = socket.set_nodelay(true);
    let Some((connector, name)) = secure else { return Ok(Opened { stream: Stream::Plain(socket), peer }) };
    let stream = connector.connect(name.clone(), socket).await.map_err(|source| match tls::reason(&source) {
        Some(reason) => DialError::Tls { reason, source },
        None => DialError::Connect(source),
    })?;
    let stream = Stream::Tls(Box::new(stream));
    if purpose == Purpose::Requests && upstream.is_http2 && stream.alpn() != Some(b"h2") {
        return Err(DialError::NotHttp2);
    }
    Ok(Opened { stream, peer })
}

type Secure<'a> = Option<(&'a TlsConnector, &'a rustls_pki_types::ServerName<'static>)>;

/// How a target is spoken to. A config in which this fails is refused; it is asked again here, because sending in plain
/// text what must not be is the one mistake that cannot be taken back.
fn secure<'a>(tls: Option<&'a Tls>, target: &'a Target, purpose: Purpose) -> Result<Secure<'a>, DialError> {
    match (&target.server_name, tls) {
        (Some(name), Some(tls)) if purpose == Purpose::Switch => Ok(Some((&tls.switch, name))),
        (Some(name), Some(tls)) => Ok(Some((&tls.shared, name))),
        (None, tls) if !target.place.is_tls && !tls.is_some_and(|tls| tls.is_required) => Ok(None),
        _ => Err(DialError::PlainRefused),
    }
}

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)>>>;

/// The first of `addresses` that takes a connection. Each begins when the one before it failed or had its head start.
async fn race(addresses: &[SocketAddr], beside_after: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    if let [only] = addresses {
        return Ok((TcpStream::connect(only).await.map_err(DialError::Connect)?, *only));
    }
    let mut left = addresses.iter().copied();
    let mut racing: Vec<Attempt> = Vec::new();
    let mut last = DialError::Resolve;
    loop {
        match left.next() {
            Some(address) => racing.push(Box::pin(async move { (address, TcpStream::connect(address).await) })),
            None if racing.is_empty() => return Err(last),
            None => {}
        }
        let may_start_another = left.len() > 0;
        tokio::select! {
            (address, ended) = first(&mut racing) => match ended {
                Ok(socket) => return Ok((socket, address)),
                Err(error) => last = DialError::Connect(error),
            },
            () = tokio::time::sleep(beside_after), if may_start_another => {}
        }
    }
}

/// The first that ends, taken out.
async fn first(racing: &mut Vec<Attempt>) -> (SocketAddr, io::Result<TcpStream>) {
    poll_fn(|context| {
        for index in 0..racing.len() {
            if let Poll::Ready(ended) = racing[index].as_mut().poll(context) {
                drop(racing.swap_remove(index));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::HeaderValue;
    use portcullis_core::metric::Registry;

    use super::*;
    use crate::config::upstream::place::Place;
    use crate::config::upstream::tls::TlsConfig;
    use crate::proxy::targets::metrics::TargetMeter;

    fn target(is_tls: bool, name: Option<&str>) -> Target {
        let place = Place { is_tls, host: "app".to_owned(), port: 1, weight: 1 };
        let name = name.map(|name| tls::server_name(name).expect("a name"));
        Target::new(0, place, HeaderValue::from_static("app"), name, TargetMeter::new(&Registry::new("p"), "u", "t"))
    }

    #[test]
    fn plain_text_is_refused_at_run_time_wherever_tls_was_meant() {
        let load = |required| {
            let config = TlsConfig { required, dangerous_skip_verification: true, ..TlsConfig::default() };
            Tls::load(&config, Path::new(""), false).expect("no files")
        };
        let (required, offered) = (load(true), load(false));
        for (is_tls, name, tls, expected) in [
            (false, None, None, "plain"),
            (false, None, Some(&offered), "plain"),
            (false, None, Some(&required), "refused"),
            (true, Some("app"), Some(&offered), "tls"),
            (true, Some("app"), Some(&required), "tls"),
            (true, Some("app"), None, "refused"),
            (true, None, Some(&offered), "refused"),
            (true, None, None, "refused"),
        ] {
            let target = target(is_tls, name);
            for purpose in [Purpose::Requests, Purpose::Switch] {
                let way = match secure(tls, &target, purpose) {
                    Ok(Some(_)) => "tls",
                    Ok(None) => "plain",
                    Err(_) => "refused",
                };
                assert_eq!(way, expected, "https {is_tls}, name {name:?}, tls {}", tls.is_some());
            }
        }
    }

    #[test]
    fn what_this_machine_lacks_is_told_apart_from_what_the_upstream_does() {
        let is_ours = |errno: Errno| DialError::Connect(errno.into()).is_our_shortage();
        assert!(is_ours(Errno::MFILE) && is_ours(Errno::NFILE) && is_ours(Errno::ADDRNOTAVAIL));
        assert!(!is_ours(Errno::CONNREFUSED) && !is_ours(Errno::HOSTUNREACH) && !is_ours(Errno::CONNRESET));
        assert!(!DialError::Timeout.is_our_shortage() && !DialError::Resolve.is_our_shortage());
    }

    #[tokio::test]
    async fn an_address_that_refuses_or_hangs_leaves_time_for_the_next() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let open = listener.local_addr().expect("it is bound");
        let closed = {
            let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            gone.local_addr().expect("it is bound")
        };
        let (_, peer) = race(&[closed, closed, open], Duration::from_secs(3600)).await.expect("the last one takes it");
        assert_eq!(peer, open, "a refusal begins the next at once");
        assert!(matches!(race(&[closed, closed], Duration::ZERO).await, Err(DialError::Connect(_))));
        assert!(matches!(race(&[], Duration::ZERO).await, Err(DialError::Resolve)));
    }
}
