//! The same requests through the layer and through the gateway's runner: the same trail, and the same bytes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use portcullis_tower::guards::config::{PathConfig, RouteConfig};
use portcullis_tower::guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_tower::guards::guard::{End, Guard, Outcome, ResponseHead, Verdict};
use portcullis_tower::guards::path::Path;
use portcullis_tower::guards::request_path::request_path;
use portcullis_tower::guards::{
    access_log, breaker, client_address, identity, ip_block, limits, login_watch, overload, permissions, rate_limit,
    read_only, request_id, route, security_headers, stale_if_error,
};
use portcullis_tower::units::{ByteSize, Duration, Rate};
use portcullis_tower::{Clock, PathLayer, Standing};
use tower::{Layer, service_fn};

use crate::stage::{Stage, ask, call, read, stage};

/// What was decided about a request, and how it ended.
type Told = (Vec<(String, String, String)>, End, u16);

/// Keeps the trail of every exchange.
struct Recorder(Arc<Mutex<Vec<Told>>>);

impl Guard for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Skip
    }

    fn finish(&self, exchange: &Exchange, outcome: &Outcome) {
        let steps = exchange.trail.steps().iter();
        let steps =
            steps.map(|step| (step.guard.to_owned(), format!("{:?}", step.decision), step.rule.text().to_owned()));
        self.0.lock().expect("nobody panicked").push((steps.collect(), outcome.end, outcome.status));
    }
}

fn config() -> PathConfig {
    let mut orders = RouteConfig { name: "orders".to_owned(), ..RouteConfig::default() };
    orders.matches.path = Some("/orders/**".to_owned());
    orders.matches.methods = Some(vec!["GET".to_owned(), "POST".to_owned()]);
    let limit = rate_limit::Config {
        name: Some("orders".to_owned()),
        limit: Rate::new(4, Duration::from_secs(60)),
        ..rate_limit::Config::default()
    };
    let shadow = rate_limit::Config {
        name: Some("rehearsed".to_owned()),
        limit: Rate::new(1, Duration::from_secs(60)),
        shadow: Some(true),
        ..rate_limit::Config::default()
    };
    orders.rate_limit = Some(vec![limit, shadow]);
    let mut config = PathConfig {
        // Request ids are taken from the peer, so that both runs have the same.
        trusted_proxies: vec!["203.0.113.0/24".parse().expect("a network")],
        routes: vec![orders],
        ..PathConfig::default()
    };
    config.limits.body_bytes = Some(ByteSize::from_kib(1));
    config.breakers.insert("default".to_owned(), breaker::Config::default());
    config
}

/// The list of the gateway with a recorder outside of it.
fn path(standing: &Standing, told: &Arc<Mutex<Vec<Told>>>) -> Path {
    let (config, ground) = (config(), standing.ground());
    let path = Path::builder()
        .add(Recorder(Arc::clone(told)))
        .add(request_id::build(&config, ground).expect("valid"))
        .add(access_log::build(&config, ground).expect("valid"))
        .add(security_headers::build(&config, ground).expect("valid"))
        .add(client_address::build(&config, ground).expect("valid"))
        .add(ip_block::build(&config, ground).expect("valid"))
        .add(overload::build(&config, ground).expect("valid"))
        .add(route::build(&config, ground).expect("valid"))
        .add(read_only::build(&config, ground).expect("valid"))
        .add(limits::build(&config, ground).expect("valid"))
        .add(rate_limit::build(&config, ground).expect("valid"))
        .add(login_watch::build(&config, ground).expect("valid"))
        .add(identity::build(&config, ground).expect("valid"))
        .add(rate_limit::build_by_identity(&config, ground).expect("valid"))
        .add(permissions::build(&config, ground).expect("valid"))
        .add(stale_if_error::build(&config, ground).expect("valid"))
        .add(breaker::build(&config, ground).expect("valid"))
        .build()
        .expect("the order of the gateway's list");
    let gateways = request_path(&config, ground).expect("valid");
    assert!(path.names().skip(1).eq(gateways.names()), "this test's list is not the gateway's any more");
    path
}

/// Requests that end in many ways. The body is so many bytes.
fn scenario() -> Vec<Request<Full<Bytes>>> {
    let requests = [
        ("GET", "/orders/7", 0, ""),
        ("POST", "/orders", 1024, ""),
        ("POST", "/orders", 1025, ""),
        ("GET", "/orders/../../x", 0, ""),
        ("GET", "/elsewhere", 0, ""),
        ("DELETE", "/orders/7", 0, "application/problem+json"),
        ("GET", "/orders//x/", 0, ""),
        ("HEAD", "/orders/7", 0, ""),
        ("GET", "/orders/7", 0, "application/problem+json"),
        ("HEAD", "/orders/7", 0, ""),
        ("CONNECT", "/orders/7", 0, ""),
    ];
    let mut made = Vec::new();
    for (index, (method, target, bytes, accept)) in requests.into_iter().enumerate() {
        let mut request = ask(method, target, Full::from(vec![b'x'; bytes]));
        let headers = request.headers_mut();
        headers.insert("x-request-id", format!("request-{index}").parse().expect("a value"));
        headers.insert("x-forwarded-for", "192.0.2.1".parse().expect("a value"));
        headers.insert("accept", accept.parse().expect("a value"));
        if bytes > 0 {
            headers.insert("content-length", bytes.into());
        }
        made.push(request);
    }
    made
}

type Answered = (StatusCode, HeaderMap, Bytes);

/// Drives the requests as the gateway's visit does: down, an answer of 200, up, finish.
async fn by_the_runner() -> (Vec<Answered>, Vec<Told>) {
    let Stage { standing, clock, .. } = stage();
    let told = Arc::default();
    let path = path(&standing, &told);
    let mut answers = Vec::new();
    for request in scenario() {
        let (head, body) = request.into_parts();
        let length = http_body::Body::size_hint(&body).exact().expect("a known length");
        let arrival = Arrival {
            method: head.method,
            uri: head.uri,
            version: head.version,
            headers: head.headers,
            body: if length == 0 { Body::Absent } else { Body::Sized(length) },
            peer: head.extensions.get::<ConnectInfo<std::net::SocketAddr>>().expect("a peer").0,
            is_secure: false,
        };
        let mut exchange = Exchange::new(arrival, clock.now(), Touch::Take);
        let (head, body) = match path.run_down(&mut exchange).await {
            Some(refusal) => {
                let refusal = if length == 0 { refusal } else { refusal.closing() };
                path.refuse(&mut exchange, "proxy", refusal)
            }
            None => {
                let mut head = ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() };
                path.ascend(&mut exchange, &mut head);
                (head, Bytes::from_static(b"ok"))
            }
        };
        let outcome = Outcome {
            end: End::Complete,
            status: head.status.as_u16(),
            bytes_in: 0,
            bytes_out: 0,
            duration_nanos: 0,
            upstream_nanos: 0,
            attempts: 0,
        };
        path.finish(&exchange, &outcome);
        answers.push((head.status, head.headers, body));
    }
    drop(path);
    (answers, std::mem::take(&mut *told.lock().expect("nobody panicked")))
}

async fn by_the_layer() -> (Vec<Answered>, Vec<Told>) {
    let Stage { standing, .. } = stage();
    let told = Arc::default();
    let layer = PathLayer::of(path(&standing, &told), &standing);
    let app = layer.layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::from("ok")))));
    let mut answers = Vec::new();
    for request in scenario() {
        let answer = read(call(&app, request).await).await;
        answers.push((answer.status, answer.headers, answer.body));
    }
    (answers, std::mem::take(&mut *told.lock().expect("nobody panicked")))
}

#[tokio::test]
async fn the_layer_and_the_gateways_runner_decide_and_answer_alike() {
    let (expected, expected_trails) = by_the_runner().await;
    let (answers, trails) = by_the_layer().await;
    assert_eq!(trails, expected_trails);
    assert_eq!(answers, expected);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.0.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 413, 400, 404, 405, 200, 200, 429, 429, 405]);
    // Not the same by being empty.
    assert!(trails.iter().all(|(steps, ..)| steps.len() >= 5), "{trails:?}");
    assert!(trails.iter().any(|(steps, ..)| steps.iter().any(|step| step.1 == "WouldRefuse(RateLimited)")));
}
