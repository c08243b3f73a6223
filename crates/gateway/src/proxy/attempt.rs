//! One attempt: lease a connection, send the request, wait for the response head, check it.
//!
//! `Outgoing` keeps what is needed to send the request again, as long as that is safe.
//!
//! Invariant: a request whose body was touched is never sent twice (ATTACKS row 146); a request that cannot be repeated
//! safely is sent twice only when the first connection never took a byte of it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use h2::Reason;
use http::header::{HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use portcullis_core::clock::{Clock, nanos};
use portcullis_core::fault::Fault;
use portcullis_core::refusal::Refusal;
use portcullis_guards::exchange::{Body, Bounds};
use portcullis_guards::guard::ResponseHead;
use portcullis_guards::limits::BodyMeter;

use super::dial::tls::reason;
use super::fields;
use super::overloaded;
use super::pool::{Lease, NoLease, Sender, Wants};
use super::request_body::{RequestBody, Upload};
use super::switch;
use super::targets::Target;
use super::upstream::Upstream;
use crate::visit::Visit;

/// About as many fields as the guards add to an answer.
const FIELDS_OF_GUARDS: usize = 16;

/// Resting connections that turn out to be closed, before a new one is opened.
const MOST_STALE: u32 = 3;

/// A request on its way to the upstream.
pub(super) struct Outgoing {
    method: Method,
    target: PathAndQuery,
    headers: Option<HeaderMap>,
    body: Option<RequestBody>,
    /// The header fields once more, for requests that may be repeated.
    spare: Option<Vec<(HeaderName, HeaderValue)>>,
    is_idempotent: bool,
    has_body: bool,
    is_unsized: bool,
    /// It asks to go on in another protocol.
    wants_switch: bool,
}

/// Why an attempt failed.
pub(super) struct Failed {
    /// What happened; `None` when there was no room for another connection.
    pub fault: Option<Fault>,
    /// Which target it happened at; `None` when the request never got that far.
    pub target: Option<usize>,
}

impl Failed {
    /// What the client hears if this was the last attempt.
    pub(super) fn refusal(&self) -> Refusal {
        self.fault.map_or_else(overloaded, Refusal::from)
    }

    fn at(lease: &Lease, fault: Fault) -> Failed {
        Failed { fault: Some(fault), target: Some(lease.target().index) }
    }
}

impl Outgoing {
    /// Takes the header fields out of the exchange and makes them the gateway's own request.
    pub(super) fn new(visit: &mut Visit, upstream: &Arc<Upstream>, body: Incoming) -> Outgoing {
        let exchange = &mut visit.exchange;
        let mut headers = std::mem::take(&mut exchange.headers);
        fields::clean_request(&mut headers);
        let allowed = visit.running.switches_of(exchange);
        let granted = visit.switch.grant(allowed);
        let wants_switch = granted.is_some();
        if let Some(protocol) = granted {
            switch::write(&mut headers, protocol);
        }
        if !upstream.fields.is_empty() {
            fields::remove_twins(&mut headers, &upstream.fields);
            for (name, value) in &upstream.fields {
                headers.insert(name.clone(), value.clone());
            }
        }
        let is_unsized = exchange.body == Body::Unsized;
        let has_body = exchange.body != Body::Absent;
        let body = if has_body {
            // A path without the limits guard has no bounds, and then nothing may be uploaded.
            let none = Bounds { body_bytes: 0, deadline_nanos: 0 };
            let meter = BodyMeter::new(&exchange.bounds.unwrap_or(none));
            let tap = exchange.request_tap.clone();
            RequestBody::Streamed { incoming: body, meter, tap, upload: Rc::clone(&visit.upload) }
        } else {
            RequestBody::Empty
        };
        let is_idempotent = exchange.method.is_idempotent();
        // Over HTTP/2 the upstream can say that it has not begun with a request; then any method may be repeated.
        let may_repeat = upstream.retry.attempts > 1 && !has_body && (is_idempotent || upstream.is_http2);
        let spare = may_repeat.then(|| headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
        let target = match &exchange.path {
            Some(path) => path.forwarded(&exchange.uri),
            None => exchange.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        };
        let target = written_out(target);
        let method = exchange.method.clone();
        let (headers, body) = (Some(headers), Some(body));
        Outgoing { method, target, headers, body, spare, is_idempotent, has_body, is_unsized, wants_switch }
    }

    /// Whether another attempt could be made after `failed` without doing something twice.
    pub(super) fn may_repeat(&self, failed: &Failed) -> bool {
        let Some(fault) = failed.fault else { return false };
        let is_whole = self.headers.is_some() && self.body.as_ref().is_some_and(RequestBody::is_untouched);
        let can_be_made = is_whole || self.spare.is_some();
        fault.is_retryable() && (self.may_go_again() || (fault.is_before_first_byte() && can_be_made))
    }

    /// Whether doing it twice is the same as doing it once, and it can be made once more.
    fn may_go_again(&self) -> bool {
        self.spare.is_some() && self.is_idempotent
    }

    /// The request as the target of `lease` is to see it.
    fn take(&mut self, upstream: &Upstream, lease: &Lease) -> Option<Request<RequestBody>> {
        let mut headers = match self.headers.take() {
            Some(headers) => headers,
            None => self.spare.as_ref()?.iter().cloned().collect(),
        };
        let body = match self.body.take() {
            Some(body) => body,
            None if self.has_body => return None,
            None => RequestBody::Empty,
        };
        // HTTP/1.0 may come without a host; HTTP/1.1 does not leave without one (RFC 9112, section 3.2).
        if upstream.has_own_host || !headers.contains_key(HOST) {
            headers.insert(HOST, lease.target().own_host.clone());
        }
        let mut request = Request::new(body);
        if matches!(lease.sender, Sender::Stream(_)) {
            *request.uri_mut() = absolute(&mut headers, lease.target(), &self.target);
            *request.version_mut() = Version::HTTP_2;
        } else {
            if self.is_unsized {
                // Without it hyper takes a GET to have no body, and the upstream would see less than the client sent.
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            *request.uri_mut() = Uri::from(self.target.clone());
            *request.version_mut() = Version::HTTP_11;
        }
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = headers;
        Some(request)
    }

    fn put_back(&mut self, request: Request<RequestBody>) {
        let (mut head, body) = request.into_parts();
        if let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        self.headers = Some(head.headers);
        self.body = Some(body);
    }
}

/// HTTP/2 carries `Host` as `:authority` (RFC 9113, section 8.3.1). The guards have refused a host that is none.
fn absolute(headers: &mut HeaderMap, target: &Target, path: &PathAndQuery) -> Uri {
    let host = headers.remove(HOST);
    let asked_for = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if target.place.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = asked_for.or_else(|| Authority::try_from(target.own_host.as_bytes()).ok());
    parts.path_and_query = Some(path.clone());
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(path.clone()))
}

/// Makes one attempt. A resting connection that the upstream has closed meanwhile does not count as one.
pub(super) async fn ask(
    visit: &mut Visit,
    upstream: &Arc<Upstream>,
    outgoing: &mut Outgoing,
    avoid: Option<usize>,
) -> Result<Answered, Failed> {
    let core = Rc::clone(&visit.connection.core);
    let mut stale = 0;
    loop {
        let wants = Wants { only_new: stale >= MOST_STALE, avoid, switch: outgoing.wants_switch };
        let mut lease = match core.pools.lease(upstream, &wants).await {
            Ok(lease) => lease,
            Err(NoLease::Full) => return Err(Failed { fault: None, target: None }),
            Err(NoLease::Fault(fault, target)) => return Err(Failed { fault: Some(fault), target: Some(target) }),
        };
        let Some(request) = outgoing.take(upstream, &lease) else {
            return Err(Failed::at(&lease, Fault::Closed));
        };
        match send(visit, upstream, &mut lease, request).await {
            Sent::Answered(response) => return accept(visit, response, lease).await,
            Sent::Returned(request) => {
                outgoing.put_back(*request);
                // Nothing has left on a connection that had rested: the upstream closed it while nobody looked.
                if !lease.was_used || stale >= MOST_STALE {
                    return Err(Failed::at(&lease, Fault::Closed));
                }
                stale += 1;
            }
            Sent::Failed(Fault::Closed) if lease.is_stale() && outgoing.may_go_again() && stale < MOST_STALE => {
                // It closed just as the request was sent (ATTACKS row 39). Once more, on a connection of its own.
                stale = MOST_STALE;
            }
            Sent::Failed(fault) => {
                if matches!(fault, Fault::FirstByteTimeout | Fault::Malformed) {
                    // Others may wait on the same connection; none should join them.
                    lease.spoil();
                }
                if fault == Fault::TlsAlert {
                    // TLS 1.3 tells a client whose certificate it refuses only after the handshake.
                    upstream.meter.tls_failed("refused");
                    let why = "TLS: the upstream ended the connection with an alert";
                    lease.target().note_trouble("upstream_untrusted", why.to_owned());
                }
                return Err(Failed::at(&lease, fault));
            }
        }
    }
}

/// A target of absolute form may have an empty path (`http://a?x`), which is `/` to whoever asks and nothing to whoever
/// writes it; what is sent always begins with a slash.
fn written_out(target: PathAndQuery) -> PathAndQuery {
    match target.as_str() {
        "/" => PathAndQuery::from_static("/"),
        text if text.starts_with('/') => target,
        text => PathAndQuery::try_from(format!("/{text}")).unwrap_or_else(|_| PathAndQuery::from_static("/")),
    }
}

enum Sent {
    Answered(Response<Incoming>),
    Returned(Box<Request<RequestBody>>),
    Failed(Fault),
}

async fn send(visit: &Visit, upstream: &Upstream, lease: &mut Lease, request: Request<RequestBody>) -> Sent {
    let (connection, watch) = (&visit.connection, &visit.watch);
    let total = visit.exchange.bounds.map_or(u64::MAX, |bounds| bounds.deadline_nanos);
    // The upstream cannot answer what it has not been sent: its time begins when the last byte of the request has come.
    let mut is_counting = false;
    let mut response = pin!(async {
        match &mut lease.sender {
            Sender::One(sender) => sender.try_send_request(request).await,
            Sender::Stream(stream) => stream.sender.try_send_request(request).await,
        }
    });
    let result = poll_fn(|context| {
        if let Poll::Ready(result) = response.as_mut().poll(context) {
            return Poll::Ready(Ok(result));
        }
        if !is_counting && visit.upload.is_done.get() {
            is_counting = true;
            let first_byte = connection.core.sweep.coarse_now_nanos().saturating_add(nanos(upstream.first_byte));
            watch.arm(first_byte.min(total));
        } else if !is_counting {
            visit.upload.waker.replace(Some(context.waker().clone()));
        }
        if !watch.has_passed() {
            return Poll::Pending;
        }
        let is_total = connection.core.gate.clock.now().monotonic_nanos >= total;
        Poll::Ready(Err(if is_total || !is_counting { visit.late() } else { Fault::FirstByteTimeout }))
    })
    .await;
    watch.arm(total);
    match result {
        Ok(Ok(response)) => Sent::Answered(response),
        Ok(Err(mut error)) => match error.take_message() {
            Some(request) => Sent::Returned(Box::new(request)),
            None => Sent::Failed(classify(error.error(), &visit.upload)),
        },
        Err(fault) => Sent::Failed(fault),
    }
}

fn classify(error: &hyper::Error, upload: &Upload) -> Fault {
    if let Some(fault) = upload.fault.get() {
        return fault;
    }
    if error.is_parse_too_large() {
        return Fault::HeadTooLarge;
    }
    if error.is_parse() {
        return Fault::Malformed;
    }
    let source = std::error::Error::source(error);
    if let Some(error) = source.and_then(|source| source.downcast_ref::<h2::Error>()) {
        return classify_http2(error);
    }
    let is_alert = source.and_then(|source| source.downcast_ref::<io::Error>()).is_some_and(|io| reason(io).is_some());
    if is_alert { Fault::TlsAlert } else { Fault::Closed }
}

/// A stream that was refused, or came after the last one that a leaving upstream took, was not processed (RFC 9113,
/// sections 6.8 and 8.7).
fn classify_http2(error: &h2::Error) -> Fault {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_remote() => Fault::Refused,
        Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Fault::Refused,
        // The upstream broke the rules and h2 ended it.
        Some(_) if error.is_library() => Fault::Malformed,
        _ => Fault::Closed,
    }
}

/// A response head that was checked, its body, and the connection it comes on.
pub(super) type Answered = (ResponseHead, Incoming, Lease);

/// Checks the response head and makes it the gateway's own.
async fn accept(visit: &mut Visit, mut response: Response<Incoming>, mut lease: Lease) -> Result<Answered, Failed> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && visit.switch.is_answered_by(response.headers()) {
        let other_end = hyper::upgrade::on(&mut response).await;
        let other_end = other_end.map_err(|_| Failed::at(&lease, Fault::Closed))?;
        lease.becomes_tunnel();
        visit.switch.other_end = Some(other_end);
        let agreed = response.headers().get(UPGRADE).cloned();
        let (mut head, incoming) = response.into_parts();
        fields::clean_response(&mut head.headers);
        if let Some(agreed) = agreed {
            switch::write(&mut head.headers, &agreed);
        }
        return Ok((ResponseHead { status: head.status, headers: head.headers }, incoming, lease));
    }
    let (mut head, incoming) = response.into_parts();
    // A switch nobody asked for, or framing that two readers could understand differently: not to be passed on, and the
    // connection is dropped with the lease.
    if head.status == StatusCode::SWITCHING_PROTOCOLS || fields::is_ambiguous(&head.headers) {
        return Err(Failed::at(&lease, Fault::Malformed));
    }
    let must_be_empty = visit.exchange.method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if must_be_empty && fields::names_a_body(&head.headers) {
        // What follows on this connection may be a body that must not be there. It could come late, and nothing would tell
        // it from the next answer (ATTACKS row 38).
        lease.is_doubtful = true;
    }
    // Looked at only where an answer may be kept: every other request is spared two searches of its fields.
    if visit.exchange.needs_time() {
        visit.exchange.ends_with_connection = head.version < Version::HTTP_2 && !fields::has_end(&head.headers);
    }
    fields::clean_response(&mut head.headers);
    // Room for what the guards add on the way up: the map grows once instead of three times.
    head.headers.reserve(FIELDS_OF_GUARDS);
    Ok((ResponseHead { status: head.status, headers: head.headers }, incoming, lease))
}
