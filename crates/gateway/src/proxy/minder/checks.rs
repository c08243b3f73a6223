//! Asks one target regularly whether it is well, on a connection of its own each time.
//!
//! A fresh connection shows what new requests would meet: the name, the port, TLS, and the answer.
//!
//! Invariant: a check takes no longer than its timeout, and of its answer only the head is read.

use std::rc::Rc;

use http::header::{HOST, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use super::{About, Task};
use crate::config::upstream::care::HealthRules;
use crate::proxy::dial::stream::Stream;
use crate::proxy::dial::{self, Purpose};
use crate::proxy::pool::RESPONSE_HEAD_BYTES;
use crate::proxy::request_body::RequestBody;
use crate::proxy::shared::http2_client;
use crate::proxy::targets::Target;
use crate::proxy::targets::health::Health;
use crate::proxy::upstream::Upstream;

/// Asks until the task is ended.
pub(super) async fn ask_on(about: About, rules: HealthRules, places: Rc<Semaphore>) {
    let mut health = Health::UNKNOWN;
    loop {
        // Never closed: it lives as long as the tasks.
        let Ok(place) = places.acquire().await else { return };
        let answer = tokio::time::timeout(rules.timeout, ask(&about.upstream, &about.target, &rules)).await;
        drop(place);
        let (is_good, heard) = match answer {
            Ok(Ok(status)) => (rules.is_good(status.as_u16()), format!("status {}", status.as_u16())),
            Ok(Err(why)) => (false, why),
            Err(_) => (false, "no answer in time".to_owned()),
        };
        let meter = &about.target.meter;
        if is_good { &meter.passed } else { &meter.failed }.inc();
        about.target.note_check(heard);
        if health.hear(is_good, rules.thresholds) {
            about.target.set_healthy(is_good);
        }
        // Jittered, so that many gateways do not ask at the same moment.
        tokio::time::sleep(rules.interval.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

/// Asks once. What went wrong is told for people.
pub(crate) async fn ask(upstream: &Upstream, target: &Target, rules: &HealthRules) -> Result<StatusCode, String> {
    let opened = dial::open(upstream, target, Purpose::Requests).await.map_err(|error| told(&error))?;
    let host = rules.host.as_ref().unwrap_or(&target.own_host);
    let mut request = Request::new(RequestBody::Empty);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("portcullis-health-check"));
    if upstream.is_http2 {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if target.place.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Authority::try_from(host.as_bytes()).ok();
        parts.path_and_query = Some(rules.path.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        *request.version_mut() = Version::HTTP_2;
    } else {
        request.headers_mut().insert(HOST, host.clone());
        *request.uri_mut() = Uri::from(rules.path.clone());
    }
    let answer = if upstream.is_http2 {
        over_http2(opened.stream, request).await
    } else {
        over_http1(opened.stream, request).await
    };
    answer.map_err(|error| told(&error))
}

async fn over_http1(stream: Stream, request: Request<RequestBody>) -> hyper::Result<StatusCode> {
    let mut builder = http1::Builder::new();
    builder.max_header_size(RESPONSE_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let _driven = Task(tokio::task::spawn_local(async move {
        let _ = connection.await;
    }));
    sender.send_request(request).await.map(|response| response.status())
}

async fn over_http2(stream: Stream, request: Request<RequestBody>) -> hyper::Result<StatusCode> {
    let (mut sender, connection) = http2_client(1).handshake(TokioIo::new(stream)).await?;
    let _driven = Task(tokio::task::spawn_local(async move {
        let _ = connection.await;
    }));
    sender.send_request(request).await.map(|response| response.status())
}

/// An error with its cause.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
