//! From the server's request to an exchange, and from the exchange to the service's request.
//!
//! The service is the end of this hop, so its own connection's fields (`Connection`, `Upgrade`, `TE`) stay as they were
//! sent; WebSockets need them. What else `Connection` names is removed before any guard looks, as in the gateway, so that
//! a client cannot make two readers see different requests.
//!
//! Invariant: the service sees the header fields, the path and the host that the guards decided by, and nothing else.

use std::fmt;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Extensions, HeaderMap, HeaderName, Request, Uri};
use http_body::Body as HttpBody;
use portcullis_core::clock::Now;
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};

use crate::standing::Peer;

/// The name of a request in every log, answer and trace: 1 to 64 characters of `[A-Za-z0-9._-]`.
///
/// In the extensions of each request that a path with `request_id` has passed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(portcullis_guards::exchange::RequestId);

impl RequestId {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

/// Begins an exchange; what the exchange does not carry comes back.
pub(crate) fn begin<B: HttpBody>(request: Request<B>, peer: Peer, now: Now) -> (Exchange, Extensions, B) {
    let (mut head, body) = request.into_parts();
    remove_nominated(&mut head.headers);
    let arrival = Arrival {
        method: head.method,
        uri: head.uri,
        version: head.version,
        body: what_follows(&body, &head.headers),
        headers: head.headers,
        peer: peer.address,
        is_secure: peer.is_secure,
    };
    let mut exchange = Exchange::new(arrival, now, Touch::Take);
    // A layer outside this one has named the request already; no client can put anything there.
    exchange.request_id = head.extensions.get::<RequestId>().map(|id| id.0);
    (exchange, head.extensions, body)
}

fn what_follows<B: HttpBody>(body: &B, headers: &HeaderMap) -> Body {
    let hint = body.size_hint();
    match hint.exact() {
        Some(0) if body.is_end_stream() => Body::Absent,
        Some(bytes) => Body::Sized(bytes),
        // A layer outside may have wrapped the body in one that has forgotten its length. The server has checked the
        // field, and every byte is counted all the same.
        None => match headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()) {
            Some(bytes) if hint.lower() <= bytes => Body::Sized(bytes),
            _ => Body::Unsized,
        },
    }
}

/// The path led somewhere that is no URI: a defect of ours.
#[derive(Debug)]
pub(crate) struct NoUri;

/// The request as the service gets it. Takes the header fields out of the exchange.
pub(crate) fn outgoing<B>(exchange: &mut Exchange, mut extensions: Extensions, body: B) -> Result<Request<B>, NoUri> {
    if let Some(id) = exchange.request_id {
        extensions.insert(RequestId(id));
    }
    if let Some(client) = exchange.client {
        extensions.insert(client);
    }
    if let Some(route) = &exchange.route {
        extensions.insert(Arc::clone(route));
    }
    let mut request = Request::new(body);
    *request.method_mut() = exchange.method.clone();
    *request.uri_mut() = target(exchange)?;
    *request.version_mut() = exchange.version;
    *request.headers_mut() = std::mem::take(&mut exchange.headers);
    *request.extensions_mut() = extensions;
    Ok(request)
}

/// The target with the path in the form that the guards decided by.
fn target(exchange: &Exchange) -> Result<Uri, NoUri> {
    let uri = &exchange.uri;
    let Some(path) = &exchange.path else { return Ok(uri.clone()) };
    let forwarded = path.forwarded(uri);
    if uri.path_and_query() == Some(&forwarded) {
        return Ok(uri.clone());
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(forwarded);
    Uri::from_parts(parts).map_err(|_| NoUri)
}

/// Removes the fields that the client's `Connection` names, but never those that frame or address the message, nor those
/// that speak of this connection.
fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | TE))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}
