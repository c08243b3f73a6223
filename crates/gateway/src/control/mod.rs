//! The control socket: how commands on this machine talk to the running gateway (`portcullis bans ...`).
//!
//! A Unix domain socket that only the gateway's own user (and root) can open, speaking a small HTTP/JSON API with tight
//! bounds, served by the thread that serves no requests. `socket` binds it safely, `routes` is the one table of what can be
//! asked, and each subject has a file of handlers. Why a socket and no TCP port: ADR 8.
//!
//! Invariant: nobody but this user and root is answered, and nothing here runs on a thread that serves requests.

mod accounts;
mod acts;
mod bans;
mod explain;
mod life;
mod openapi;
mod permissions;
pub mod read_only;
pub mod routes;
pub mod socket;
mod tokens;

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::life::Gate;
use portcullis_core::clock::Clock;
use portcullis_store::acts::{Act, cut};
use routes::{Answer, Call, Found, Row, find};

/// Connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 16;
/// How long one connection may last, the wait for a durable write included.
const LONGEST_CONNECTION: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest body of a call, in bytes.
const MOST_BODY_BYTES: usize = 64 * 1024;

/// Serves until the task is dropped.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn serve(gate: Arc<Gate>, listener: StdListener) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !is_ours(&stream, own) {
            continue;
        }
        let gate = Arc::clone(&gate);
        let uid = stream.peer_cred().map_or(own, |peer| peer.uid());
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| answer(Arc::clone(&gate), uid, request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .header_read_timeout(HEADER_TIMEOUT)
                .max_header_size(8 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // A command that hung up or is too slow is its own problem.
            let _ = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
            drop(place);
        });
    }
}

/// Whether the other end is this user, or root. The socket's mode says the same; this holds where a copy of the mode does not.
fn is_ours(stream: &UnixStream, own: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Who asks for something.
pub(crate) struct Asker {
    /// `token:NAME` or `user:UID`.
    pub(crate) who: String,
    /// The method and path that were asked for.
    pub(crate) target: String,
    /// The id in the access log, where there is one.
    pub(crate) request_id: String,
    /// Whether nothing is done that cannot be written down. Who is on the machine may ban an attacker while the disk is full.
    pub(crate) must_be_noted: bool,
}

/// Members of a body that say what was done, and can be no secret. Others are left out of the record.
const TELLING: &[&str] = &[
    "network",
    "for",
    "reason",
    "state",
    "user",
    "tenant",
    "account",
    "name",
    "role",
    "roles",
    "group",
    "member",
    "permission",
    "permissions",
    "resource",
    "effect",
    "on",
    "expires",
    "scopes",
    "issuer",
    "jti",
    "subject",
    "changes",
    "disabled",
    "unlock",
];

/// What a body says of the act, as ` network=203.0.113.9 for=1h`.
fn told(body: &Value) -> String {
    let Some(fields) = body.as_object() else { return String::new() };
    let mut told = String::new();
    let known = TELLING.iter().filter_map(|name| fields.get(*name).map(|value| (name, value)));
    for (name, value) in known.filter(|(_, value)| !value.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        told.push_str(&format!(" {name}={}", text.replace(|letter: char| letter.is_control(), " ")));
    }
    told
}

/// Asks a row. What changes something is written down first, and how it ended afterwards.
pub(crate) async fn asked(gate: &Arc<Gate>, row: &Row, call: Call, asker: Asker) -> Answer {
    if !row.changes() {
        return (row.handle)(Arc::clone(gate), call).await;
    }
    let Asker { who, target, request_id, must_be_noted } = asker;
    let act = Act {
        at_unix_millis: gate.clock.now().unix_millis,
        who: cut(who),
        action: row.action.to_owned(),
        target: cut(format!("{target}{}", told(&call.body))),
        request_id: cut(request_id),
        status: None,
    };
    let failed = |why: &dyn std::fmt::Display| {
        gate.log.event("error", "act_not_noted", &[("action", row.action), ("error", &why.to_string())]);
    };
    let number = match gate.acts.add(&act).await {
        Ok(number) => Some(number),
        Err(error) if !must_be_noted => {
            failed(&error);
            None
        }
        Err(error) => {
            failed(&error);
            let why = "nothing was done, because it could not be written down who asked for it";
            return Answer::wrong(StatusCode::SERVICE_UNAVAILABLE, why);
        }
    };
    let answer = (row.handle)(Arc::clone(gate), call).await;
    let status = answer.status.as_u16().to_string();
    let fields = [("who", &*act.who), ("action", row.action), ("target", &act.target), ("status", &status)];
    gate.log.event("info", "act", &fields);
    // It is done; that its end is missing from the record is told, and reads as "interrupted".
    if let Some(number) = number
        && let Err(error) = gate.acts.update(number, answer.status.as_u16()).await
    {
        failed(&error);
    }
    answer
}

async fn answer(gate: Arc<Gate>, uid: u32, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let answer = match find(&head.method, head.uri.path()) {
        Found::Row(row, segment) => match read(body).await {
            Ok(body) => {
                let query = head.uri.query().unwrap_or_default().to_owned();
                let target = format!("{} {}", head.method, head.uri.path());
                let asker =
                    Asker { who: format!("user:{uid}"), target, request_id: String::new(), must_be_noted: false };
                // To its end, also when the command is interrupted: what has begun is finished and written down.
                let call = Call { segment, query, body };
                let asking = tokio::task::spawn_local(async move { asked(&gate, row, call, asker).await });
                asking.await.unwrap_or_else(|_| Answer::wrong(StatusCode::INTERNAL_SERVER_ERROR, "it panicked"))
            }
            Err(refused) => refused,
        },
        Found::OtherMethods(allowed) => {
            let mut response =
                render(&Answer::wrong(StatusCode::METHOD_NOT_ALLOWED, "this method is not answered here"));
            if let Ok(allowed) = HeaderValue::from_str(&allowed) {
                response.headers_mut().insert(ALLOW, allowed);
            }
            return Ok(response);
        }
        Found::Nothing => Answer::wrong(StatusCode::NOT_FOUND, "there is nothing at this path"),
    };
    Ok(render(&answer))
}

/// The whole body as JSON; `null` without one.
async fn read(body: Incoming) -> Result<Value, Answer> {
    let Ok(whole) = Limited::new(body, MOST_BODY_BYTES).collect().await else {
        let told = format!("the body is broken or above {MOST_BODY_BYTES} bytes");
        return Err(Answer::wrong(StatusCode::PAYLOAD_TOO_LARGE, told));
    };
    let bytes = whole.to_bytes();
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Answer::wrong(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))
}

fn render(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{}\n", answer.body))));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
