//! What the telemetry pages say: `/livez`, `/readyz`, `/health`, `/metrics`.
//!
//! `/livez` says that the process runs and touches nothing; `/readyz` whether it should be sent requests; `/health` both,
//! with each upstream's breaker, for people.
//!
//! Invariant: a check that cannot decide says `unknown`, never `ok`; one failing upstream never makes the gateway unready.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use portcullis_core::clock::Clock;
use portcullis_guards::overload::{Level, Resource};
use serde_json::{Value, json};

use crate::life::{Gate, Stage};
use crate::proxy::upstream::Upstream;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page at `path`.
#[must_use]
pub fn page(gate: &Gate, method: &Method, path: &str) -> Response<Bytes> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = json_page(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "only GET is answered here" }));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => json_page(StatusCode::OK, &json!({ "status": "ok" })),
        "/readyz" => ready(gate),
        "/health" => health(gate),
        "/metrics" => metrics(gate),
        _ => json_page(
            StatusCode::NOT_FOUND,
            &json!({ "error": "no such page", "pages": ["/livez", "/readyz", "/health", "/metrics"] }),
        ),
    }
}

fn is_ready(gate: &Gate) -> bool {
    gate.stage() == Stage::Serving
}

fn ready(gate: &Gate) -> Response<Bytes> {
    let status = if is_ready(gate) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_page(status, &json!({ "ready": is_ready(gate), "stage": gate.stage().name() }))
}

fn health(gate: &Gate) -> Response<Bytes> {
    let now = gate.clock.now().monotonic_nanos;
    let breakers = gate.ground.breakers.snapshot(now);
    let upstreams: serde_json::Map<String, Value> = gate
        .running()
        .upstreams()
        .map(|upstream| {
            let breaker = breakers.iter().find(|(name, _)| **name == *upstream.name);
            // Without a breaker nobody watches this upstream, so nobody can say.
            let state = breaker.map_or("unknown", |(_, snapshot)| snapshot.state.name());
            (upstream.name.to_string(), json!({ "circuit_breaker": state, "targets": targets(upstream, now) }))
        })
        .collect();
    let status = if is_ready(gate) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let reloads = gate.reloads();
    let body = json!({
        "status": if is_ready(gate) { "ok" } else { "unavailable" },
        "stage": gate.stage().name(),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "config": {
            "generation": gate.generation(),
            "attempts": reloads.attempts,
            "refused": reloads.refused,
        },
        "overload": overload(gate),
        "read_only": crate::control::read_only::routes(gate),
        "issuers": crate::keys::health(gate, &gate.clock.now()),
        "store": gate.keeper.status(),
        "accounts": gate.accounts.as_ref().map_or("off", |accounts| accounts.keeper.status()),
        "permissions": gate.permissions.status(),
        "upstreams": upstreams,
    });
    json_page(status, &body)
}

/// Every target of an upstream, and what is held against it.
fn targets(upstream: &Upstream, now_nanos: u64) -> Value {
    let targets = upstream.targets.iter().map(|target| {
        let check = match (&upstream.health, target.last_check()) {
            (None, _) => json!("not asked"),
            (Some(_), heard) if heard.is_empty() => json!("unknown"),
            (Some(_), heard) => json!({ "healthy": target.is_healthy(), "last": heard }),
        };
        let ejected_ms = upstream.ejected_for_nanos(target.index, now_nanos).map(|left| left / 1_000_000);
        let addresses = target.addresses.known().addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        let about = json!({ "health_check": check, "ejected_for_ms": ejected_ms, "addresses": addresses });
        (target.label.to_string(), about)
    });
    Value::Object(targets.collect())
}

/// How short the process is of anything. A resource that nobody could look at is `unknown`.
fn overload(gate: &Gate) -> Value {
    let (pressure, levels) = (&gate.ground.pressure, gate.ground.pressure.levels());
    let of = |resource, level: Level| match pressure.reading(resource) {
        Some(reading) => json!({ "level": level.name(), "used": reading.used, "limit": reading.limit }),
        None => json!({ "level": "unknown" }),
    };
    json!({
        "connections": gate.ground.connections.open(),
        "memory": of(Resource::Memory, levels.memory),
        "descriptors": of(Resource::Descriptors, levels.descriptors),
    })
}

fn metrics(gate: &Gate) -> Response<Bytes> {
    // A breaker that turned half-open without traffic must not look open for ever.
    gate.ground.breakers.refresh(gate.clock.now().monotonic_nanos);
    gate.running().concurrency.show();
    gate.ground.read_only.refresh(gate.clock.now().monotonic_nanos);
    crate::keys::show(gate, &gate.ground.metrics, &gate.clock.now());
    let mut response = Response::new(Bytes::from(gate.ground.metrics.render()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
    response
}

fn json_page(status: StatusCode, value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
