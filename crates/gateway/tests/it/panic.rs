//! A request whose guard panics is answered with 500; the one beside it, the one after it, and every count are untouched.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use portcullis_gateway::clock::SystemClock;
use portcullis_gateway::config::{Config, LogFormat};
use portcullis_gateway::life::{Gate, Stage};
use portcullis_gateway::listen;
use portcullis_gateway::running::Running;
use portcullis_gateway::serve::ground;
use portcullis_gateway::telemetry::log::Log;
use portcullis_store::counters::{CompiledQuota, Counters, Key, Nanos, Outcome};
use portcullis_testkit::client::{Client, get};
use portcullis_testkit::upstream::{Upstream, answer};

/// Counters that panic when they are told to: a defect in a store, as seen from the request path.
struct Broken {
    inner: Arc<dyn Counters>,
    is_broken: Arc<AtomicBool>,
}

impl Counters for Broken {
    fn take(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome {
        assert!(!self.is_broken.load(Ordering::SeqCst), "the defect that this test is about");
        self.inner.take(key, quota, cost, now)
    }

    fn peek(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome {
        self.inner.peek(key, quota, cost, now)
    }
}

/// Where the log goes, to be read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn row_182_a_panic_in_one_request_is_a_500_for_that_request_only() {
    let upstream = Upstream::start(|socket, _| answer(socket, "200 OK", "well\n"));
    let config = Config::in_front_of(&format!("http://{}", upstream.address));
    let lines = Lines::default();
    let clock = Arc::new(SystemClock::start());
    let log = Log::start(Arc::clone(&clock), LogFormat::Json, Box::new(lines.clone())).expect("a thread");
    let mut ground = ground(&config, Arc::clone(&log) as _).expect("memory and randomness");
    let is_broken = Arc::new(AtomicBool::new(false));
    ground.counters = Arc::new(Broken { inner: Arc::clone(&ground.counters), is_broken: Arc::clone(&is_broken) });
    let running = Running::compile(config, &ground, None).expect("the defaults are right");
    let gate = Arc::new(Gate::new(clock, Arc::clone(&log), ground, running));
    let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let core = std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || listen::run_core(gate, vec![listener])
    });
    gate.advance(Stage::Serving);

    let mut beside = Client::connect(address);
    beside.send(b"GET /beside HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(beside.response().expect("an answer").status, 200);
    is_broken.store(true, Ordering::SeqCst);
    let broken = get(address, "/broken");
    is_broken.store(false, Ordering::SeqCst);
    assert_eq!(broken.status, 500);
    assert!(broken.text().contains("\"code\":\"ERR_INTERNAL\""), "{}", broken.text());
    assert!(!broken.text().contains("defect"), "our own trouble is not the client's to read");
    assert!(broken.field("x-request-id").is_some() && broken.field("x-content-type-options").is_some());
    beside.send(b"GET /beside HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(beside.response().expect("the connection beside it goes on").status, 200);
    assert_eq!(get(address, "/after").status, 200);

    gate.advance(Stage::Closing);
    core.join().expect("the core survived").expect("and ended well");
    log.stop();
    let said = String::from_utf8(lines.0.lock().expect("no writer panics").clone()).expect("text");
    assert!(
        said.lines().any(|line| line.contains("\"path\":\"/broken\"") && line.contains("\"end\":\"panic\"")),
        "{said}"
    );
    let metrics = gate.ground.metrics.render();
    assert!(
        metrics.lines().any(|line| line.starts_with("portcullis_http_requests_in_flight") && line.ends_with(" 0")),
        "{metrics}"
    );
}
