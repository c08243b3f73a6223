//! Requests as bytes, the whole way without sockets: our second reader, hyper as the gateway sets it, the guards, the
//! header hygiene, hyper again towards the upstream; and then an independent reader on what the upstream would get.
//!
//! Two targets share it: any bytes as a connection's ([`head`]), and any bytes as a chunked body with a request behind it
//! ([`chunked`]).
//!
//! Invariant: one request in is at most one request out, in canonical form, with the body that the independent reader
//! finds in what was sent; and what that reader cannot read with certainty is not sent on as if it were whole.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis_gateway::listen::strict::Strict;
use portcullis_gateway::proxy::fields;
use portcullis_gateway::proxy::request_body::{RequestBody, Upload};
use portcullis_guards::config::{PathConfig, RouteConfig};
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_guards::limits::BodyMeter;
use portcullis_guards::path::Path;
use portcullis_guards::request_path::request_path;
use portcullis_guards::{limits, rate_limit};
use portcullis_testkit::reread::{self, Read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// What became of one request that hyper handed over.
#[derive(Debug)]
enum Visit {
    /// A guard refused it.
    Refused,
    /// It was sent on, and these bytes were written.
    Sent(Vec<u8>),
}

/// What a client says first, so that the body is fuzzed and not the head.
const HEAD: &[u8] = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const BEHIND: &[u8] = b"GET /behind HTTP/1.1\r\nHost: behind\r\n\r\n";

/// Any bytes as what a client sends.
pub fn head(bytes: &[u8]) {
    examine(bytes);
}

/// Any bytes as a chunked body, with another request behind it.
pub fn chunked(bytes: &[u8]) {
    examine(&[HEAD, bytes, BEHIND].concat());
}

fn examine(bytes: &[u8]) {
    let visits = served(bytes);
    let mut rest = bytes;
    // An independent reader on the same bytes, for as long as it understands them.
    let mut is_sure = true;
    for (index, visit) in visits.iter().enumerate() {
        let sent = match visit {
            Visit::Refused => None,
            Visit::Sent(written) => match reread::read(written) {
                Read::Whole(request, length) => {
                    assert_eq!(length, written.len(), "visit {index} made more than one request: {}", text(written));
                    request.canonical().unwrap_or_else(|wrong| panic!("visit {index}: {wrong}"));
                    Some(request)
                }
                Read::Partial => None,
                Read::Broken(why) => panic!("visit {index} sent what cannot be read ({why}): {}", text(written)),
            },
        };
        if !is_sure {
            continue;
        }
        match reread::read(rest) {
            Read::Whole(request, length) => {
                rest = &rest[length..];
                if let Some(sent) = sent {
                    assert_eq!(sent.method, request.method, "visit {index}");
                    assert_eq!(sent.body, request.body, "visit {index} has another body");
                }
            }
            Read::Partial => {
                assert!(sent.is_none(), "visit {index} was sent whole, and had not come whole: {sent:?}");
                is_sure = false;
            }
            Read::Broken(why) => {
                assert!(sent.is_none() || is_tolerated(why), "visit {index} was sent, and is broken ({why}): {sent:?}");
                is_sure = false;
            }
        }
    }
}

/// What the parser takes although it is not strict, and what is then sent on in canonical form.
fn is_tolerated(why: &str) -> bool {
    [
        // Line feeds alone end lines of a head (RFC 9112, section 2.2); empty lines in front of a request are skipped.
        "a bare line feed",
        "a request line that is not three words",
        // Equal lengths are sent on as one, a length beside chunks not at all.
        "framing that can be read in two ways",
    ]
    .contains(&why)
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Everything that hyper made of these bytes, in order.
fn served(bytes: &[u8]) -> Vec<Visit> {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be had");
    }
    let visits = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&visits);
    RUNTIME.with(|runtime| {
        runtime.block_on(async move {
            let (mut client, gateway) = tokio::io::duplex(1 << 20);
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.half_close(false).writev(false).max_headers(132).max_header_size(160 << 10).max_buf_size(164 << 10);
            let service = service_fn(move |request| visit(request, Rc::clone(&seen)));
            let server = builder.serve_connection(TokioIo::new(Strict::new(gateway)), service);
            let talk = async {
                // The other side may have closed already.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let mut answers = Vec::new();
                let _ = client.read_to_end(&mut answers).await;
                assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{}", text(&answers));
            };
            let (_, ()) = tokio::join!(server, talk);
        });
    });
    Rc::into_inner(visits).expect("the connection is over").into_inner()
}

fn path() -> &'static Path {
    static PATH: OnceLock<Path> = OnceLock::new();
    PATH.get_or_init(|| {
        let many =
            rate_limit::Config { limit: Some("1000000/1s".parse().expect("a rate")), ..rate_limit::Config::defaults() };
        let config = PathConfig {
            rate_limit: Some(vec![many]),
            limits: limits::Config::defaults(),
            routes: vec![RouteConfig {
                name: "all".to_owned(),
                upstream: Some("app".to_owned()),
                ..RouteConfig::default()
            }],
            upstreams: vec!["app".to_owned()],
            ..PathConfig::default()
        };
        request_path(&config, crate::standing().ground()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    })
}

async fn visit(request: Request<Incoming>, seen: Rc<RefCell<Vec<Visit>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let index = {
        let mut seen = seen.borrow_mut();
        seen.push(Visit::Refused);
        seen.len() - 1
    };
    let (mut head, body) = request.into_parts();
    fields::remove_nominated(&mut head.headers);
    let what_follows = match body.size_hint().exact() {
        Some(0) if body.is_end_stream() => Body::Absent,
        Some(length) => Body::Sized(length),
        None => Body::Unsized,
    };
    let arrival = Arrival {
        method: head.method,
        uri: head.uri,
        version: head.version,
        headers: head.headers,
        body: what_follows,
        peer: SocketAddr::from(([203, 0, 113, 9], 50_000)),
        is_secure: false,
    };
    let mut exchange = Exchange::new(arrival, crate::NOW, Touch::Take);
    if let Some(refusal) = path().run_down(&mut exchange).await {
        let (head, bytes) = path().refuse(&mut exchange, "", refusal.closing());
        let mut response = Response::new(Full::new(bytes));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        return Ok(response);
    }
    let written = sent_on(exchange, what_follows, body).await;
    seen.borrow_mut()[index] = Visit::Sent(written);
    let mut response = Response::new(Full::new(Bytes::from_static(b"done")));
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// What the proxy makes of it, and the bytes that hyper writes.
async fn sent_on(mut exchange: Exchange, what_follows: Body, body: Incoming) -> Vec<u8> {
    let mut headers = std::mem::take(&mut exchange.headers);
    fields::clean_request(&mut headers);
    // HTTP/1.0 needs none, and the proxy then names the upstream.
    headers.entry(HOST).or_insert(HeaderValue::from_static("app"));
    if what_follows == Body::Unsized {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let target = exchange.path.as_ref().expect("the route gives it").forwarded(&exchange.uri);
    let target = if target.as_str().starts_with('/') {
        target
    } else {
        PathAndQuery::try_from(format!("/{target}")).expect("a slash in front keeps it valid")
    };
    let body = if what_follows == Body::Absent {
        RequestBody::Empty
    } else {
        let meter = BodyMeter::new(&exchange.bounds.expect("the limits give them"));
        RequestBody::Streamed { incoming: body, meter, tap: None, upload: Rc::new(Upload::default()) }
    };
    let mut request = Request::new(body);
    *request.method_mut() = exchange.method.clone();
    *request.uri_mut() = Uri::from(target);
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    let (gateway, mut upstream) = tokio::io::duplex(1 << 20);
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.writev(false);
    let Ok((mut sender, connection)) = builder.handshake(TokioIo::new(gateway)).await else { return Vec::new() };
    let mut written = Vec::new();
    let recorder = async {
        // Reads until it is whole, or the gateway gives up on it.
        while upstream.read_buf(&mut written).await.is_ok_and(|read| read > 0) {
            if !matches!(reread::read(&written), Read::Partial) {
                let _ = upstream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
                break;
            }
        }
        // What comes behind it would be a second request.
        let _ = upstream.shutdown().await;
        let _ = upstream.read_to_end(&mut written).await;
    };
    let asking = async {
        let answer = sender.send_request(request).await;
        drop((answer, sender));
    };
    let (_, _, ()) = tokio::join!(connection, asking, recorder);
    written
}
