//! One attempt: lease a connection, send the request, wait for the response head, check it.
//!
//! `Outgoing` keeps what is needed to send the request again, as long as that is safe.
//!
//! Invariant: a request whose body was touched is never sent twice (ATTACKS row 146); a request that cannot be repeated
//! safely is sent twice only when the first connection never took a byte of it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use portcullis_core::clock::{Clock, nanos};
use portcullis_core::fault::Fault;
use portcullis_core::refusal::Refusal;
use portcullis_guards::exchange::{Body, Bounds};
use portcullis_guards::guard::ResponseHead;
use portcullis_guards::limits::BodyMeter;

use super::fields;
use super::overloaded;
use super::pool::{Lease, NoLease};
use super::request_body::{RequestBody, Upload};
use super::switch;
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
    has_body: bool,
}

/// Why an attempt failed.
pub(super) struct Failed {
    /// What happened; `None` when there was no room for another connection.
    pub fault: Option<Fault>,
}

impl Failed {
    /// What the client hears if this was the last attempt.
    pub(super) fn refusal(&self) -> Refusal {
        self.fault.map_or_else(overloaded, Refusal::from)
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed { fault: Some(fault) }
    }
}

impl Outgoing {
    /// Takes the header fields out of the exchange and makes them the gateway's own request.
    pub(super) fn new(visit: &mut Visit, upstream: &Arc<Upstream>, body: Incoming) -> Outgoing {
        let exchange = &mut visit.exchange;
        let mut headers = std::mem::take(&mut exchange.headers);
        fields::clean_request(&mut headers);
        if let Some(host) = &upstream.own_host {
            headers.insert(http::header::HOST, host.clone());
        }
        let allowed = visit.running.switches_of(exchange);
        if let Some(protocol) = visit.switch.granted(allowed) {
            switch::write(&mut headers, protocol);
        }
        if !upstream.fields.is_empty() {
            fields::remove_twins(&mut headers, &upstream.fields);
            for (name, value) in &upstream.fields {
                headers.insert(name.clone(), value.clone());
            }
        }
        if exchange.body == Body::Unsized {
            // Without it hyper takes a GET to have no body, and the upstream would see less than the client sent.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let has_body = exchange.body != Body::Absent;
        let body = if has_body {
            // A path without the limits guard has no bounds, and then nothing may be uploaded.
            let none = Bounds { body_bytes: 0, deadline_nanos: 0 };
            let meter = BodyMeter::new(&exchange.bounds.unwrap_or(none));
            RequestBody::Streamed { incoming: body, meter, upload: Rc::clone(&visit.upload) }
        } else {
            RequestBody::Empty
        };
        let may_repeat = upstream.retry.attempts > 1 && !has_body && exchange.method.is_idempotent();
        let spare = may_repeat.then(|| headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
        let target = match &exchange.path {
            Some(path) => path.forwarded(&exchange.uri),
            None => exchange.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        };
        let target = written_out(target);
        Outgoing { method: exchange.method.clone(), target, headers: Some(headers), body: Some(body), spare, has_body }
    }

    /// Whether another attempt could be made after `failed` without doing something twice.
    pub(super) fn may_repeat(&self, failed: &Failed) -> bool {
        let Some(fault) = failed.fault else { return false };
        let is_whole = self.headers.is_some() && self.body.as_ref().is_some_and(RequestBody::is_untouched);
        fault.is_retryable() && (self.spare.is_some() || (fault.is_before_first_byte() && is_whole))
    }

    fn take(&mut self) -> Option<Request<RequestBody>> {
        let headers = match self.headers.take() {
            Some(headers) => headers,
            None => self.spare.as_ref()?.iter().cloned().collect(),
        };
        let body = match self.body.take() {
            Some(body) => body,
            None if self.has_body => return None,
            None => RequestBody::Empty,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Some(request)
    }

    fn put_back(&mut self, request: Request<RequestBody>) {
        let (head, body) = request.into_parts();
        self.headers = Some(head.headers);
        self.body = Some(body);
    }
}

/// Makes one attempt. A resting connection that the upstream has closed meanwhile does not count as one.
pub(super) async fn ask(visit: &mut Visit, upstream: &Upstream, outgoing: &mut Outgoing) -> Result<Answered, Failed> {
    let core = Rc::clone(&visit.connection.core);
    let mut stale = 0;
    loop {
        let mut lease = match core.pools.lease(upstream, stale >= MOST_STALE).await {
            Ok(lease) => lease,
            Err(NoLease::Full) => return Err(Failed { fault: None }),
            Err(NoLease::Fault(fault)) => return Err(fault.into()),
        };
        let Some(request) = outgoing.take() else { return Err(Fault::Closed.into()) };
        match send(visit, upstream, &mut lease, request).await {
            Sent::Answered(response) => return accept(visit, response, lease).await,
            Sent::Returned(request) => {
                outgoing.put_back(*request);
                // Nothing has left on a connection that had rested: the upstream closed it while nobody looked.
                if !lease.was_used || stale >= MOST_STALE {
                    return Err(Fault::Closed.into());
                }
                stale += 1;
            }
            Sent::Failed(Fault::Closed) if lease.was_used && outgoing.spare.is_some() && stale < MOST_STALE => {
                // It closed just as the request was sent (ATTACKS row 39). Once more, on a connection of its own.
                stale = MOST_STALE;
            }
            Sent::Failed(fault) => return Err(fault.into()),
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
    let mut response = pin!(lease.sender.try_send_request(request));
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
        fault
    } else if error.is_parse_too_large() {
        Fault::HeadTooLarge
    } else if error.is_parse() {
        Fault::Malformed
    } else {
        Fault::Closed
    }
}

/// A response head that was checked, its body, and the connection it comes on.
pub(super) type Answered = (ResponseHead, Incoming, Lease);

/// Checks the response head and makes it the gateway's own.
async fn accept(visit: &mut Visit, mut response: Response<Incoming>, mut lease: Lease) -> Result<Answered, Failed> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && visit.switch.is_answered_by(response.headers()) {
        let other_end = hyper::upgrade::on(&mut response).await.map_err(|_| Fault::Closed)?;
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
        return Err(Fault::Malformed.into());
    }
    if head.status == StatusCode::NO_CONTENT && fields::names_a_body(&head.headers) {
        // What follows on this connection may be a body that must not be there.
        lease.is_doubtful = true;
    }
    fields::clean_response(&mut head.headers);
    // Room for what the guards add on the way up: the map grows once instead of three times.
    head.headers.reserve(FIELDS_OF_GUARDS);
    Ok((ResponseHead { status: head.status, headers: head.headers }, incoming, lease))
}
