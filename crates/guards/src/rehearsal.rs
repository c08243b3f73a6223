//! What tests through the runner stand on: a ground in memory, a log that keeps its lines, and requests in one line.
//!
//! Invariant: nothing here reads a clock or contacts anybody; every exchange begins at the same pretend moment.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_core::refusal::Refusal;
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::counters::{BYTES_MIN, MemoryCounters};

use crate::access_log::LogSink;
use crate::exchange::{Arrival, Body, Exchange, Touch};
use crate::guard::{End, Guard, Outcome, ResponseHead, Verdict};
use crate::request_path::Ground;

/// When every rehearsed exchange begins: 2026-01-01T10:00:00.000Z.
pub(crate) const NOW: Now = Now { monotonic_nanos: 1_000_000_000, unix_millis: 1_767_261_600_000 };

/// A log that keeps its lines.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<Vec<u8>>>);

impl LogSink for Lines {
    fn line(&self, line: &[u8]) {
        self.0.lock().unwrap().push(line.to_vec());
    }
}

impl Lines {
    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A ground in memory, and the log that stands on it.
pub(crate) fn ground() -> (Ground, Arc<Lines>) {
    let metrics = Arc::new(Registry::new("portcullis"));
    let lines = Arc::new(Lines::default());
    let counters = Arc::new(MemoryCounters::new(BYTES_MIN).unwrap());
    let log = Arc::clone(&lines) as Arc<dyn LogSink>;
    let ground = Ground::new(metrics, counters, KeyHasher::from_seed([7; 16]), log);
    (ground, lines)
}

/// A request to be.
pub(crate) struct Ask {
    arrival: Arrival,
    touch: Touch,
}

/// `GET uri` from 203.0.113.9, without fields.
pub(crate) fn get(uri: &str) -> Ask {
    ask("GET", uri)
}

/// `method uri` from 203.0.113.9, without fields.
pub(crate) fn ask(method: &str, uri: &str) -> Ask {
    let arrival = Arrival {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        uri: uri.parse().unwrap(),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body: Body::Absent,
        peer: SocketAddr::from(([203, 0, 113, 9], 50_000)),
        is_secure: false,
    };
    Ask { arrival, touch: Touch::Take }
}

impl Ask {
    /// With one more line of header fields.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Ask {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.arrival.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// From another peer, `ADDRESS:PORT` or an address.
    pub(crate) fn from(mut self, peer: &str) -> Ask {
        self.arrival.peer = match peer.parse() {
            Ok(peer) => peer,
            Err(_) => SocketAddr::new(peer.parse().unwrap(), 50_000),
        };
        self
    }

    /// On a TLS connection.
    pub(crate) fn secure(mut self) -> Ask {
        self.arrival.is_secure = true;
        self
    }

    /// As a dry run.
    pub(crate) fn dry(mut self) -> Ask {
        self.touch = Touch::Peek;
        self
    }

    /// The exchange, at its beginning.
    pub(crate) fn begin(self) -> Exchange {
        Exchange::new(self.arrival, NOW, self.touch)
    }
}

/// An answer of an upstream with these fields.
pub(crate) fn answer(fields: &[(&str, &str)]) -> ResponseHead {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    ResponseHead { status: StatusCode::OK, headers }
}

/// All values of a field, in order.
pub(crate) fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// An exchange that ended well after 1.234567 ms without asking an upstream.
pub(crate) fn outcome(status: u16) -> Outcome {
    Outcome {
        end: End::Complete,
        status,
        bytes_in: 0,
        bytes_out: 0,
        duration_nanos: 1_234_567,
        upstream_nanos: 0,
        attempts: 0,
    }
}

/// A guard that refuses everything.
pub(crate) struct Wall(pub(crate) Refusal);

impl Guard for Wall {
    fn name(&self) -> &'static str {
        "wall"
    }

    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Refuse(self.0.clone())
    }
}
