//! Fetches the public keys of issuers, for as long as the gateway runs.
//!
//! One connection a fetch, over HTTP/1.1, on the thread that serves no requests. What is due, and what holds while an issuer
//! cannot be reached, is decided by `portcullis_guards::identity`; here it is only fetched, bounded in time and size. Redirects
//! are not followed at all, so the address that the operator wrote is the only one that is ever asked.
//!
//! Invariant: what comes over the network is keys of this issuer only when the other end proved its name (https), or is this
//! machine itself; a fetch always ends, and its end is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portcullis_core::clock::{Clock, Now};
use portcullis_core::metric::{Declaration, Kind, Label, Registry, Values};
use portcullis_guards::identity::jwt::{Fetch, KEY_SET_BYTES};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::config::upstream::tls::TlsConfig;
use crate::life::Gate;
use crate::proxy::dial::stream::Stream;
use crate::proxy::dial::tls::{Tls, server_name};
use crate::proxy::pool::RESPONSE_HEAD_BYTES;

/// How long one fetch may take, from the name to the last byte.
const FETCH: Duration = Duration::from_secs(5);
/// How often is looked for what is due. Whoever waits for a key wakes it sooner.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How old the keys of an issuer are.
pub static JWKS_AGE: Declaration = Declaration {
    name: "jwks_age_seconds",
    kind: Kind::Gauge,
    help: "Seconds since the keys of an issuer were fetched from `jwks.url`; before the first time, since the start",
    labels: &[Label { name: "issuer", values: Values::Configured("issuers with `jwks.url`") }],
};

/// Says that keys are fetched in this process. Before the first request, so that none is told otherwise.
#[must_use]
pub fn announce(gate: &Gate) -> Arc<Notify> {
    let news = Arc::new(Notify::new());
    let wake = Arc::clone(&news);
    gate.ground.tokens.wake_with(move || wake.notify_one());
    news
}

/// Fetches what is due until the task is dropped.
pub async fn keep(gate: Arc<Gate>, news: Arc<Notify>) {
    loop {
        for fetch in gate.ground.tokens.due(&gate.clock.now()) {
            let (gate, news) = (Arc::clone(&gate), Arc::clone(&news));
            tokio::task::spawn_local(async move {
                one(gate, fetch).await;
                // Somebody may want the next one already.
                news.notify_one();
            });
        }
        // News only shortens the wait.
        let _ = tokio::time::timeout(LOOK_EVERY, news.notified()).await;
    }
}

async fn one(gate: Arc<Gate>, fetch: Fetch) {
    let folder = gate.running().config.folder.clone();
    let result = match tokio::time::timeout(FETCH, get(&fetch, &folder)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(format!("no whole answer within {} s", FETCH.as_secs())),
    };
    let issuer = fetch.issuer().to_owned();
    let had_failed = fetch.has_failed();
    match fetch.end(result, &gate.clock.now()) {
        Ok(()) if had_failed => gate.log.event("info", "keys_recovered", &[("issuer", &issuer)]),
        Ok(()) => {}
        Err(error) if !had_failed => {
            gate.log.event("error", "keys_not_fetched", &[("issuer", &issuer), ("error", &error)]);
        }
        Err(_) => {}
    }
}

/// Asks for the key set; its bytes, and how long the issuer says that they are good.
async fn get(fetch: &Fetch, folder: &Path) -> anyhow::Result<(Bytes, Option<Duration>)> {
    let uri: Uri = fetch.url().parse().context("reading the address")?;
    let host = uri.host().context("the address has no host")?.to_owned();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let socket = TcpStream::connect((bare.as_str(), port)).await.context("connecting")?;
    let stream = if is_tls {
        let config = TlsConfig { ca: fetch.ca().cloned(), ..TlsConfig::default() };
        let tls = Tls::load(&config, folder, false).map_err(|(key, what)| anyhow::anyhow!("{key} {what}"))?;
        let name = server_name(&bare).map_err(anyhow::Error::msg)?;
        Stream::Tls(Box::new(tls.switch.connect(name, socket).await.context("TLS")?))
    } else {
        Stream::Plain(socket)
    };
    let mut builder = http1::Builder::new();
    builder.max_header_size(RESPONSE_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.context("speaking HTTP")?;
    // Ends with the fetch, whatever the other end does.
    let driven = tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    let _driven = Abort(driven);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(target)
        .header(HOST, authority)
        .header(USER_AGENT, "portcullis")
        .header(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("asking")?;
    if response.status() != StatusCode::OK {
        bail!("it answered with status {}; redirects are not followed", response.status().as_u16());
    }
    let good_for = max_age(response.headers());
    let body = Limited::new(response.into_body(), KEY_SET_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading the answer, at most {KEY_SET_BYTES} bytes: {error}"))?;
    Ok((body.to_bytes(), good_for))
}

/// `max-age` of `Cache-Control` (RFC 9111, section 5.2.2.1); with `no-store` or `no-cache` nothing at all.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse::<u64>().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes the ages into the metrics.
pub fn show(gate: &Gate, metrics: &Registry, now: &Now) {
    for (issuer, seen) in gate.ground.tokens.seen(now) {
        let age = seen.age_seconds.unwrap_or(now.monotonic_nanos / 1_000_000_000);
        metrics.gauge(&JWKS_AGE, &[&issuer]).set(i64::try_from(age).unwrap_or(i64::MAX));
    }
}

/// Each issuer with `jwks.url`, for `/health`.
pub fn health(gate: &Gate, now: &Now) -> Value {
    let seen = gate.ground.tokens.seen(now).into_iter().map(|(issuer, seen)| {
        let status = match (&seen.error, seen.age_seconds) {
            (None, Some(_)) => "ok",
            (None, None) => "unknown",
            (Some(_), _) => "failing",
        };
        (issuer, json!({ "keys": status, "ageSeconds": seen.age_seconds, "error": seen.error }))
    });
    Value::Object(seen.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_wherever_it_stands() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        for (lines, expected) in [
            (&[][..], None),
            (&["public"], None),
            (&["public, Max-Age=60"], Some(60)),
            (&["public", "max-age=\"7\""], Some(7)),
            (&["max-age=x, max-age=5"], Some(5)),
            (&["s-maxage=9"], None),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
    }
}
