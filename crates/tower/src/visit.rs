//! One request's stay: down the path, to the service, up again, and the end that never fails to come.
//!
//! The same three moments as in the gateway, by the same runner. Whatever ends a visit (the last byte, a hang-up, a
//! deadline, a panic) ends in its `Drop`, so no outcome is missed.
//!
//! Invariant: exactly one `finish` for each visit, with the outcome the client saw; exactly one verdict, or none, for
//! each permit of the breaker.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Extensions, HeaderMap, Request, Response, Version};
use http_body::Body;
use portcullis_core::fault::{ErrorType, Fault};
use portcullis_core::refusal::Refusal;
use portcullis_guards::breaker::{Verdict, judge};
use portcullis_guards::exchange::{self, Exchange};
use portcullis_guards::guard::{End, Outcome, ResponseHead};
use portcullis_guards::limits::BodyMeter;
use portcullis_guards::path::{Descent, Path};
use tower_service::Service;

use crate::BoxError;
use crate::answer::Answer;
use crate::arrival;
use crate::deadline::{Deadline, Late};
use crate::refusal::{SERVICE, Said};
use crate::request_body::{RequestBody, Upload};
use crate::standing::Standing;

/// What all visits of one layer share.
pub(crate) struct House {
    pub(crate) path: Path,
    pub(crate) standing: Standing,
}

/// One request's stay.
pub(crate) struct Visit {
    house: Arc<House>,
    pub(crate) exchange: Exchange,
    upload: Arc<Upload>,
    pub(crate) deadline: Deadline,
    /// Body bytes handed to the client's connection.
    pub(crate) bytes_out: u64,
    /// How it ends if nothing else is said.
    pub(crate) end: End,
    status: u16,
    /// Nanoseconds the service took until its response head.
    service_nanos: u64,
    /// Whether the service was asked.
    attempts: u32,
}

/// Why the service has no answer of its own.
struct Halt {
    by: &'static str,
    refusal: Refusal,
}

/// Where the head of an answer comes from.
struct Answered<R> {
    head: ResponseHead,
    version: Version,
    extensions: Extensions,
    body: Result<R, Bytes>,
}

/// Takes a request through its whole stay.
pub(crate) async fn receive<S, B, R>(house: Arc<House>, service: S, request: Request<B>) -> Response<Answer<R>>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    let (mut visit, extensions, body) = Visit::begin(house, request);
    let passed = unless_it_panics(visit.pass(service, extensions, body)).await;
    let answered = match passed {
        Some(Ok(response)) => match catch_unwind(AssertUnwindSafe(|| visit.accept(response))) {
            Ok(answered) => answered,
            Err(_) => visit.panicked(),
        },
        Some(Err(Halt { by, refusal })) => {
            // What is left of an unread body must not be taken for the next request.
            let refusal = if visit.upload.is_done() { refusal } else { refusal.closing() };
            visit.refuse(by, refusal)
        }
        None => visit.panicked(),
    };
    visit.answer(answered)
}

/// `None` when it panics.
async fn unless_it_panics<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // Asserted: after a panic the future is never polled again, and the visit it borrows is only refused and finished.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

impl Visit {
    fn begin<B: Body>(house: Arc<House>, request: Request<B>) -> (Box<Visit>, Extensions, B) {
        let peer = house.standing.peer(request.extensions());
        let (exchange, extensions, body) = arrival::begin(request, peer, house.standing.clock().now());
        let upload = Arc::new(Upload::new(exchange.body == exchange::Body::Absent));
        let visit = Visit {
            house,
            exchange,
            upload,
            deadline: Deadline::default(),
            bytes_out: 0,
            end: End::ClientGone,
            status: 499,
            service_nanos: 0,
            attempts: 0,
        };
        (Box::new(visit), extensions, body)
    }

    /// Down the path and into the service.
    async fn pass<S, B, R>(&mut self, mut service: S, extensions: Extensions, body: B) -> Result<Response<R>, Halt>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        self.descend().await?;
        let meter = self.exchange.bounds.as_ref().map(BodyMeter::new);
        let body = RequestBody::new(body, meter, self.exchange.request_tap.clone(), Arc::clone(&self.upload));
        let request = arrival::outgoing(&mut self.exchange, extensions, body)
            .map_err(|arrival::NoUri| Halt { by: SERVICE, refusal: Refusal::internal() })?;
        self.attempts = 1;
        let began = self.now_nanos();
        let asked = self
            .deadline
            .before(async {
                poll_fn(|context| service.poll_ready(context)).await?;
                service.call(request).await
            })
            .await;
        self.service_nanos = self.now_nanos().saturating_sub(began);
        let refused = |refusal| Err(Halt { by: SERVICE, refusal });
        match (asked, self.upload.fault()) {
            (Err(Late), _) => {
                let fault = self.late();
                self.report(Verdict::of_fault(fault));
                refused(fault.into())
            }
            // Whatever the service made of a body that was stopped: the client hears why it was.
            (Ok(_), Some(fault)) => {
                self.report(Verdict::of_fault(fault));
                refused(fault.into())
            }
            (Ok(Err(error)), None) => {
                self.log_failure(&error.into());
                self.report(Verdict::Failure(ErrorType::ApiError));
                refused(Refusal::internal())
            }
            (Ok(Ok(response)), None) => {
                self.report(judge(response.status()));
                Ok(response)
            }
        }
    }

    async fn descend(&mut self) -> Result<(), Halt> {
        let house = Arc::clone(&self.house);
        let mut descent = house.path.descend(&mut self.exchange);
        loop {
            self.arm();
            descent = match descent {
                Descent::Through => return Ok(()),
                // The guard that refused has written its own step.
                Descent::Refused(refusal) => return Err(Halt { by: SERVICE, refusal }),
                Descent::Waiting(waiting) => match self.deadline.before(waiting).await {
                    Ok(resume) => house.path.resume(&mut self.exchange, resume),
                    Err(Late) => return Err(Halt { by: SERVICE, refusal: self.late().into() }),
                },
            };
        }
    }

    /// Begins to wait for the deadline as soon as a guard has set one.
    fn arm(&mut self) {
        let Some(bounds) = self.exchange.bounds.filter(|bounds| bounds.deadline_nanos != u64::MAX) else { return };
        self.deadline.arm(Duration::from_nanos(bounds.deadline_nanos.saturating_sub(self.now_nanos())));
    }

    /// Whose fault it is that the deadline passed.
    fn late(&self) -> Fault {
        if self.upload.is_done() { Fault::TotalTimeout } else { Fault::RequestBodyTimeout }
    }

    /// Tells the breaker, if the path has one. A permit that is dropped with the visit is neutral.
    fn report(&mut self, verdict: Verdict) {
        let now = self.now_nanos();
        if let Some(permit) = self.exchange.permit.take() {
            permit.report(now, verdict);
        }
    }

    fn now_nanos(&self) -> u64 {
        self.house.standing.clock().now().monotonic_nanos
    }

    /// The service failed without an answer. The client hears nothing of why, so the log must.
    fn log_failure(&self, error: &BoxError) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        let id = self.exchange.request_id.as_ref().map_or("", |id| id.as_str());
        self.house.standing.event("error", "service_failed", &[("request_id", id), ("error", &text)]);
    }

    /// Takes the service's answer up. One that is a refusal of the catalogue is said again by the runner.
    fn accept<R>(&mut self, response: Response<R>) -> Answered<R> {
        let (parts, body) = response.into_parts();
        let (version, mut extensions) = (parts.version, parts.extensions);
        if let Some(said) = extensions.remove::<Said>() {
            let mut answered = self.refuse(said.by, said.refusal);
            add_missing(&mut answered.head.headers, parts.headers);
            extensions.extend(answered.extensions);
            return Answered { version, extensions, ..answered };
        }
        let mut head = ResponseHead { status: parts.status, headers: parts.headers };
        let house = Arc::clone(&self.house);
        self.tell_time();
        house.path.ascend(&mut self.exchange, &mut head);
        let body = self.exchange.instead.take().map_or(Ok(body), Err);
        Answered { head, version, extensions, body }
    }

    fn tell_time(&mut self) {
        if self.exchange.needs_time() {
            self.exchange.answer_nanos = Some(self.house.standing.clock().now().monotonic_nanos);
        }
    }

    fn refuse<R>(&mut self, by: &'static str, refusal: Refusal) -> Answered<R> {
        let house = Arc::clone(&self.house);
        self.tell_time();
        let (mut head, bytes) = house.path.refuse(&mut self.exchange, by, refusal.clone());
        if self.exchange.version >= Version::HTTP_2 {
            // RFC 9113, section 8.2.2: the field does not exist there.
            head.headers.remove(CONNECTION);
        }
        let by = self.exchange.trail.refused().map_or(by, |(step, _)| step.guard);
        let mut extensions = Extensions::new();
        extensions.insert(Said { by, refusal });
        Answered { head, version: Version::HTTP_11, extensions, body: Err(bytes) }
    }

    /// The service, or a guard, panicked: 500 for this request, and for no other.
    fn panicked<R>(&mut self) -> Answered<R> {
        self.end = End::Panicked;
        self.report(Verdict::Failure(ErrorType::ApiError));
        self.refuse(SERVICE, Refusal::internal())
    }

    fn answer<R: Body>(mut self: Box<Self>, answered: Answered<R>) -> Response<Answer<R>> {
        let Answered { head, version, extensions, body } = answered;
        self.status = head.status.as_u16();
        let answer = Answer::new(self, &head, body);
        let mut response = Response::new(answer);
        *response.status_mut() = head.status;
        *response.version_mut() = version;
        *response.headers_mut() = head.headers;
        *response.extensions_mut() = extensions;
        response
    }

    /// The request's method.
    pub(crate) fn method(&self) -> &http::Method {
        &self.exchange.method
    }
}

/// Adds the fields that `headers` does not have.
fn add_missing(headers: &mut HeaderMap, others: HeaderMap) {
    let mut name = None;
    let missing: HeaderMap = others
        .into_iter()
        .filter_map(|(next, value)| {
            name = next.or(name.take());
            let name = name.clone()?;
            (!headers.contains_key(&name)).then_some((name, value))
        })
        .fold(HeaderMap::new(), |mut missing, (name, value)| {
            missing.append(name, value);
            missing
        });
    headers.extend(missing);
}

impl Drop for Visit {
    fn drop(&mut self) {
        let outcome = Outcome {
            end: self.end,
            status: self.status,
            bytes_in: self.upload.bytes(),
            bytes_out: self.bytes_out,
            duration_nanos: self.now_nanos().saturating_sub(self.exchange.now.monotonic_nanos),
            upstream_nanos: self.service_nanos,
            attempts: self.attempts,
        };
        self.house.path.finish(&self.exchange, &outcome);
    }
}
