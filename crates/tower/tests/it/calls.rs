//! A circuit breaker around the calls that a handler makes.

use std::convert::Infallible;
use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use portcullis_tower::guards::breaker::{self, State};
use portcullis_tower::guards::config::PathConfig;
use portcullis_tower::{BoxError, BreakerLayer, CallError, Fault, PathLayer, fault_of, refuse};
use tokio::net::TcpSocket;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::stage::{Answer, Stage, client, get as ask_for, read, serve, stage};

const TIMEOUT: Duration = Duration::from_secs(2);

fn layer(stage: &Stage) -> BreakerLayer {
    let config = breaker::Config::default();
    BreakerLayer::new("payments", &config, TIMEOUT, &stage.standing).expect("a valid config")
}

/// A port that is taken, so that no other test gets it, but at which nobody listens yet.
fn dead() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

#[tokio::test]
async fn five_failures_open_it_and_then_nobody_connects_until_a_probe_succeeds() {
    let stage = stage();
    let (socket, payments) = dead();
    let client = layer(&stage).layer(client::<Empty<Bytes>>());
    let handler = move || async move {
        let request = Request::get(format!("http://{payments}/")).body(Empty::new()).expect("a valid request");
        match client.clone().oneshot(request).await {
            Ok(answer) => Ok(answer.status().to_string()),
            Err(error) => Err(refuse(error)),
        }
    };
    let guards = PathLayer::new(&PathConfig::default(), &stage.standing).expect("a valid config");
    let address = serve(guards.layer(Router::new().route("/", get(handler)))).await;
    let ask = async || -> Answer {
        let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).expect("a valid request");
        read(crate::stage::client().request(request).await.expect("an answer")).await
    };
    for _ in 0..5 {
        let answer = ask().await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_GATEWAY, "ERR_UPSTREAM_UNREACHABLE"));
    }
    // From here on there is somebody, who would notice a connection.
    let listener = socket.listen(16).expect("nobody else is there");
    for _ in 0..3 {
        let answer = ask().await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "ERR_CIRCUIT_OPEN"));
        assert_eq!(answer.header("retry-after"), "30");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let connected = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(connected.is_err(), "somebody connected: {connected:?}");
    assert_eq!(stage.metric("circuit_breaker_state{service=\"payments\"}"), 2.0);
    assert_eq!(stage.metric("circuit_breaker_requests_total{service=\"payments\",result=\"rejected\"}"), 3.0);
    let broken = "circuit_breaker_errors_total{service=\"payments\",error_type=\"network_error\"}";
    assert_eq!(stage.metric(broken), 5.0);

    stage.clock.forward_seconds(30);
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(|| async { "paid" }))).await });
    let answer = ask().await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"200 OK"[..]));
    assert_eq!(stage.metric("circuit_breaker_state{service=\"payments\"}"), 0.0);
}

/// A client that counts how often it is asked, and answers as the request's path says.
fn told(
    asked: &Arc<AtomicU32>,
) -> impl Service<Request<http_body_util::Full<Bytes>>, Response = Response<String>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ use<> {
    let asked = Arc::clone(asked);
    service_fn(move |request: Request<_>| {
        asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut response = Response::new(String::new());
            match request.uri().path() {
                "/never" => pending().await,
                "/reset" => return Err(BoxError::from(std::io::Error::from(ErrorKind::ConnectionReset))),
                path => *response.status_mut() = path[1..].parse().expect("a status"),
            }
            Ok(response)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_5xx_and_a_call_that_takes_too_long_are_failures_and_a_4xx_is_none() {
    let stage = stage();
    let asked = Arc::new(AtomicU32::new(0));
    let layer = layer(&stage);
    let client = layer.layer(told(&asked));
    let ask = async |path: &str| client.clone().oneshot(ask_for(path)).await;
    for _ in 0..20 {
        assert_eq!(ask("/404").await.expect("an answer").status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(ask("/503").await.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
    let before = tokio::time::Instant::now();
    let error = ask("/never").await.expect_err("too slow");
    assert!(matches!(error, CallError::TooSlow { timeout: TIMEOUT, .. }), "{error}");
    assert_eq!(before.elapsed(), TIMEOUT);
    let error = ask("/reset").await.expect_err("broken");
    assert!(matches!(error, CallError::Failed { fault: Fault::Closed, .. }), "{error}");
    for _ in 0..2 {
        assert!(ask("/500").await.is_ok());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 25);
    let error = ask("/200").await.expect_err("open");
    assert_eq!(
        error.to_string(),
        "`payments` was not called, because its circuit breaker is open for another 30000 ms"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 25);
    assert_eq!(layer.snapshot().map(|snapshot| snapshot.state), Some(State::Open));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_says_nothing_and_gives_its_place_back() {
    let stage = stage();
    let asked = Arc::new(AtomicU32::new(0));
    let layer = layer(&stage);
    let client = layer.layer(told(&asked));
    for _ in 0..5 {
        client.clone().oneshot(ask_for("/500")).await.expect("an answer");
    }
    stage.clock.forward_seconds(30);
    // The only probe is given up by its caller; the next one gets its place.
    let given_up = tokio::time::timeout(TIMEOUT / 2, client.clone().oneshot(ask_for("/never"))).await;
    assert!(given_up.is_err());
    assert_eq!(layer.snapshot().map(|snapshot| (snapshot.state, snapshot.probes_out)), Some((State::HalfOpen, 0)));
    client.clone().oneshot(ask_for("/200")).await.expect("the probe's place is free");
    assert_eq!(layer.snapshot().map(|snapshot| snapshot.state), Some(State::Closed));
}

#[tokio::test]
async fn an_error_that_is_the_callers_own_does_not_count() {
    let stage = stage();
    let asked = Arc::new(AtomicU32::new(0));
    let layer = layer(&stage).classify(|_| Fault::RequestBodyBroken);
    let client = layer.layer(told(&asked));
    for _ in 0..20 {
        let error = client.clone().oneshot(ask_for("/reset")).await.expect_err("broken");
        let answer = read(refuse(error)).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "ERR_BODY_MALFORMED"));
    }
    assert_eq!(layer.snapshot().map(|snapshot| snapshot.state), Some(State::Closed));
}

#[tokio::test]
async fn a_breaker_that_is_turned_off_lets_everything_through() {
    let stage = stage();
    let config = breaker::Config { enabled: false, ..breaker::Config::default() };
    let layer = BreakerLayer::new("payments", &config, TIMEOUT, &stage.standing).expect("a valid config");
    let asked = Arc::new(AtomicU32::new(0));
    for _ in 0..20 {
        layer.layer(told(&asked)).oneshot(ask_for("/500")).await.expect("an answer");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 20);
    assert_eq!(layer.snapshot(), None);
}

#[test]
fn settings_out_of_bounds_are_told_all_at_once() {
    let stage = stage();
    let config = breaker::Config { failures: 0, ratio: 2.0, ..breaker::Config::default() };
    let mistakes = BreakerLayer::new("payments", &config, Duration::ZERO, &stage.standing).err().expect("three");
    let text = mistakes.to_string();
    for key in ["failures: 0", "ratio: 2", "timeout: 0ns"] {
        assert!(text.contains(key), "{text}");
    }
}

#[tokio::test]
async fn what_kind_of_trouble_a_clients_error_is_shows_from_its_causes() {
    let (_socket, address) = dead();
    let refused = client::<Empty<Bytes>>()
        .request(Request::get(format!("http://{address}/")).body(Empty::new()).expect("a valid request"));
    let refused = refused.await.expect_err("nobody listens");
    assert_eq!(fault_of(&refused), Fault::Connect);
    let io = |kind: ErrorKind| std::io::Error::from(kind);
    assert_eq!(fault_of(&io(ErrorKind::TimedOut)), Fault::ConnectTimeout);
    assert_eq!(fault_of(&io(ErrorKind::ConnectionReset)), Fault::Closed);
    let elapsed = tokio::time::timeout(Duration::ZERO, pending::<Infallible>()).await.expect_err("never");
    assert_eq!(fault_of(&elapsed), Fault::FirstByteTimeout);
}
