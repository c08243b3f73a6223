//! One call on the admin listener, from its head to its answer.
//!
//! Invariant: exactly one `finish` for each call; a row is asked only with a token that may.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use portcullis_core::clock::Clock;
use portcullis_core::refusal::render::{Form, body};
use portcullis_core::refusal::{Code, Refusal};
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_guards::guard::{End, Outcome, ResponseHead};
use serde_json::Value;

use super::{Admin, MOST_BODY_BYTES};
use crate::control::routes::{Answer, Call, Found, find};
use crate::control::{Asker, asked};
use crate::life::Gate;
use crate::proxy::fields::remove_nominated;

/// The bytes of an answer, and what came before them.
type Told = (ResponseHead, Bytes);

/// hyper's service. The call goes to its end also when the client hangs up: what has begun is finished, written down and logged.
///
/// # Errors
/// Never: every failure is an answer.
pub(super) async fn receive(
    gate: Arc<Gate>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let log = Arc::clone(&gate.log);
    let called = tokio::task::spawn_local(call(gate, peer, request)).await;
    // It panicked: a defect, which nobody else may suffer from, and which must be seen.
    Ok(called.unwrap_or_else(|error| {
        log.event("error", "admin_call_failed", &[("error", &error.to_string())]);
        bare(StatusCode::INTERNAL_SERVER_ERROR)
    }))
}

fn bare(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

async fn call(gate: Arc<Gate>, peer: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let running = gate.running();
    let Some(admin) = &running.admin else {
        // The last token was taken away by a reload; the listener goes with the next start.
        return bare(StatusCode::NOT_FOUND);
    };
    let (mut parts, incoming) = request.into_parts();
    remove_nominated(&mut parts.headers);
    let length = incoming.size_hint();
    let arrival = Arrival {
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        headers: parts.headers,
        body: match length.exact() {
            Some(0) if incoming.is_end_stream() => Body::Absent,
            Some(bytes) => Body::Sized(bytes),
            None => Body::Unsized,
        },
        peer,
        is_secure: false,
    };
    let mut exchange = Exchange::new(arrival, gate.clock.now(), Touch::Take);
    let mut bytes_in = 0;
    let said = match admin.path.run_down(&mut exchange).await {
        Some(refusal) => Err(("", refusal)),
        None => act(&gate, admin, &mut exchange, incoming, &mut bytes_in).await.map_err(|refusal| ("admin", refusal)),
    };
    let (mut head, bytes) = match said {
        Ok((mut head, bytes)) => {
            admin.path.ascend(&mut exchange, &mut head);
            (head, bytes)
        }
        Err((by, refusal)) => {
            let is_unread = exchange.body != Body::Absent && bytes_in == 0;
            admin.path.refuse(&mut exchange, by, if is_unread { refusal.closing() } else { refusal })
        }
    };
    if head.status == StatusCode::UNAUTHORIZED {
        // RFC 9110, section 11.6.1: every 401 says how to do better.
        head.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portcullis\""));
    }
    let outcome = Outcome {
        end: End::Complete,
        status: head.status.as_u16(),
        bytes_in,
        bytes_out: bytes.len() as u64,
        duration_nanos: gate.clock.now().monotonic_nanos.saturating_sub(exchange.now.monotonic_nanos),
        upstream_nanos: 0,
        attempts: 0,
    };
    admin.path.finish(&exchange, &outcome);
    gate.log.flush_this_core();
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// Who is asking, may they, and what do they hear.
async fn act(
    gate: &Arc<Gate>,
    admin: &Admin,
    exchange: &mut Exchange,
    incoming: Incoming,
    bytes_in: &mut u64,
) -> Result<Told, Refusal> {
    if !admin.authority.is_own_host(&exchange.uri, &exchange.headers) {
        return Err(Refusal::new(Code::InvalidHost)
            .because("not a name of the admin listener; see `admin.hosts`")
            .closing());
    }
    // Who has no token keeps no place among the connections.
    let token = admin.authority.token(&exchange.headers, &exchange.now).map_err(Refusal::closing)?;
    let path = exchange.path.as_ref().map_or(exchange.uri.path(), |path| path.matched(&exchange.uri)).to_owned();
    let (row, segment) = match find(&exchange.method, &path) {
        Found::Row(row, segment) => (row, segment),
        Found::OtherMethods(allowed) => return Err(Refusal::method_not_allowed(allowed.into())),
        Found::Nothing => return Err(Refusal::not_found()),
    };
    if !token.may(row.action) {
        return Err(Refusal::new(Code::Forbidden).because("the token has no scope for this action"));
    }
    if row.changes() && !token.may_change_now(&exchange.now) {
        return Err(Refusal::rate_limited(1_000_000_000).because("a token changes at most 20 things a second"));
    }
    let body = read(incoming, bytes_in).await?;
    let query = exchange.uri.query().unwrap_or_default().to_owned();
    let asker = Asker {
        who: format!("token:{}", token.name),
        target: format!("{} {path}", exchange.method),
        request_id: exchange.request_id.map(|id| id.to_string()).unwrap_or_default(),
        must_be_noted: true,
    };
    let answer = asked(gate, row, Call { segment, query, body }, asker).await;
    Ok(render(exchange, &answer))
}

async fn read(incoming: Incoming, bytes_in: &mut u64) -> Result<Value, Refusal> {
    let whole = Limited::new(incoming, usize::try_from(MOST_BODY_BYTES).unwrap_or(usize::MAX)).collect().await;
    let bytes = whole.map_err(|error| {
        let is_long = error.is::<LengthLimitError>();
        Refusal::new(if is_long { Code::BodyTooLarge } else { Code::BodyMalformed }).closing()
    });
    let bytes = bytes?.to_bytes();
    *bytes_in = bytes.len() as u64;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|_| Refusal::new(Code::InvalidValue).because("the body is not JSON"))
}

/// The answer of a row; what is wrong is told in the one format of errors.
fn render(exchange: &Exchange, answer: &Answer) -> Told {
    let mut headers = HeaderMap::new();
    let form = if exchange.wants_problem { Form::Problem } else { Form::Json };
    let is_wrong = answer.status.is_client_error() || answer.status.is_server_error();
    let text = if is_wrong { wrong(exchange, answer, form) } else { answer.body.to_string() };
    let content_type = if is_wrong { form.content_type() } else { Form::Json.content_type() };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("30"));
    }
    let bytes = if exchange.method == Method::HEAD { Bytes::new() } else { Bytes::from(text) };
    (ResponseHead { status: answer.status, headers }, bytes)
}

/// The catalogue's body for it, with the handler's words as `details.reason`: who has a token is a colleague.
fn wrong(exchange: &Exchange, answer: &Answer, form: Form) -> String {
    let code = match answer.status.as_u16() {
        404 => Code::ResourceNotFound,
        409 => Code::Conflict,
        503 => Code::StoreUnavailable,
        400..=499 => Code::InvalidValue,
        _ => Code::Internal,
    };
    let id = exchange.request_id.as_ref().map_or("", |id| id.as_str());
    let body = body(&Refusal::new(code), form, exchange.now.unix_millis, id);
    let Ok(mut body) = serde_json::from_slice::<Value>(&body) else { return String::new() };
    let status = Value::from(answer.status.as_u16());
    match form {
        Form::Json => {
            body["error"]["statusCode"] = status;
            body["error"]["details"]["reason"] = answer.body["error"].clone();
        }
        Form::Problem => {
            body["status"] = status;
            body["reason"] = answer.body["error"].clone();
        }
    }
    body.to_string()
}
