//! One request's stay: owns the exchange from the head to the last byte, and makes sure that `finish` runs.
//!
//! `receive` is the service that hyper calls: down the path, to the proxy, up again. Whatever ends a visit (the last
//! byte, a hang-up, a deadline, a panic) ends in its `Drop`, so no outcome is missed.
//!
//! Invariant: exactly one `finish` for each visit, with the outcome the client saw.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::header::{CONNECTION, DATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use portcullis_core::clock::Clock;
use portcullis_core::fault::Fault;
use portcullis_core::refusal::Refusal;
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_guards::guard::{End, Outcome, ResponseHead};

use crate::accounts;
use crate::listen::connection::Connection;
use crate::listen::core::Generation;
use crate::listen::watch::Listed;
use crate::proxy;
use crate::proxy::answer::{Answer, Stream};
use crate::proxy::fields;
use crate::proxy::request_body::Upload;
use crate::proxy::switch::Switch;

/// How long a client may take to read an answer that the gateway itself gives after the deadline has passed.
const LAST_WORDS_NANOS: u64 = 5_000_000_000;

/// One request's stay.
pub struct Visit {
    /// The connection it came on.
    pub connection: Rc<Connection>,
    /// Its deadline. In HTTP/1 the connection's.
    pub watch: Rc<Listed>,
    /// The config it runs under, from its first byte to its last.
    pub running: Generation,
    /// The request and its trail.
    pub exchange: Exchange,
    /// What has become of the client's body.
    pub upload: Rc<Upload>,
    /// Body bytes handed to the client's connection.
    pub bytes_out: u64,
    /// Nanoseconds the upstream took until its response head, over all attempts.
    pub upstream_nanos: u64,
    /// How often the upstream was asked.
    pub attempts: u32,
    /// What the client wants to switch to, and, once the upstream has agreed, the other end of it.
    pub switch: Switch,
    /// It must be refused before any guard decides on it.
    is_malformed: bool,
    /// How it ends if nothing else is said.
    pub end: End,
    status: u16,
}

/// hyper's service: one request in, one response out.
///
/// # Errors
/// Never: every failure is an answer.
pub async fn receive(
    connection: Rc<Connection>,
    watch: Rc<Listed>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (mut visit, body) = Visit::begin(connection, watch, request);
    let (head, stream) = visit.go(body).await;
    Ok(visit.answer(head, stream))
}

/// The whole response, as bytes, to something that never became a request.
pub fn refuse_unread(connection: &Connection, refusal: Refusal) -> Vec<u8> {
    let gate = &connection.core.gate;
    let running = connection.core.running();
    let arrival = Arrival {
        method: Method::from_bytes(b"UNREAD").expect("a valid method token"),
        uri: Uri::from_static("/"),
        version: Version::HTTP_11,
        headers: http::HeaderMap::new(),
        body: Body::Absent,
        peer: connection.peer,
        is_secure: connection.tls.is_some(),
    };
    let mut exchange = Exchange::new(arrival, gate.clock.now(), Touch::Take);
    exchange.tls.clone_from(&connection.tls);
    let (mut head, body) = running.path.refuse_unread(&mut exchange, refusal);
    head.headers.insert(DATE, fields::date(exchange.now.unix_millis));
    let outcome = Outcome {
        end: End::Complete,
        status: head.status.as_u16(),
        bytes_in: 0,
        bytes_out: body.len() as u64,
        duration_nanos: 0,
        upstream_nanos: 0,
        attempts: 0,
    };
    running.path.finish(&exchange, &outcome);
    fields::render(&head, &body)
}

impl Visit {
    fn begin(connection: Rc<Connection>, watch: Rc<Listed>, request: Request<Incoming>) -> (Box<Visit>, Incoming) {
        connection.visit_begins();
        let running = connection.core.running();
        let (mut head, body) = request.into_parts();
        let switch = Switch::wanted(&head);
        let mut is_malformed = false;
        if head.version == Version::HTTP_2 {
            is_malformed = fields::has_blank_edges(&head.headers);
            fields::join_cookies(&mut head.headers);
        }
        fields::remove_nominated(&mut head.headers);
        let upload = Rc::new(Upload::default());
        let what_follows = match body.size_hint().exact() {
            Some(0) if body.is_end_stream() => Body::Absent,
            Some(length) => Body::Sized(length),
            None => Body::Unsized,
        };
        upload.is_done.set(what_follows == Body::Absent);
        let arrival = Arrival {
            method: head.method,
            uri: head.uri,
            version: head.version,
            headers: head.headers,
            body: what_follows,
            peer: connection.peer,
            is_secure: connection.tls.is_some(),
        };
        let now = connection.core.gate.clock.now();
        let mut exchange = Exchange::new(arrival, now, Touch::Take);
        exchange.tls.clone_from(&connection.tls);
        watch.arm(now.after(running.listener.total));
        let visit = Visit {
            connection,
            watch,
            switch,
            is_malformed,
            running,
            exchange,
            upload,
            bytes_out: 0,
            upstream_nanos: 0,
            attempts: 0,
            end: End::ClientGone,
            status: 499,
        };
        (Box::new(visit), body)
    }

    /// Down, to the upstream, up. A panic or a passed deadline on the way becomes a refusal.
    async fn go(&mut self, body: Incoming) -> (ResponseHead, Stream) {
        enum Came<T> {
            Through(T),
            Late,
            Panicked,
        }
        if self.is_malformed {
            let refusal = Refusal::malformed("a field value begins or ends with white space");
            let running = Rc::clone(&self.running);
            let (head, bytes) = running.path.refuse_unread(&mut self.exchange, refusal);
            return (head, Stream::Bytes(bytes));
        }
        let watch = Rc::clone(&self.watch);
        let came = {
            let mut inside = pin!(self.pass(body));
            poll_fn(|context| match std::panic::catch_unwind(AssertUnwindSafe(|| inside.as_mut().poll(context))) {
                Ok(Poll::Ready(result)) => Poll::Ready(Came::Through(result)),
                Ok(Poll::Pending) if watch.has_passed() => Poll::Ready(Came::Late),
                Ok(Poll::Pending) => Poll::Pending,
                Err(_) => Poll::Ready(Came::Panicked),
            })
            .await
        };
        match came {
            Came::Through(Ok(answered)) => answered,
            Came::Through(Err((by, refusal))) => self.refuse(by, refusal),
            Came::Late => self.refuse("proxy", Refusal::from(self.late())),
            Came::Panicked => {
                self.end = End::Panicked;
                self.refuse("proxy", Refusal::internal().closing())
            }
        }
    }

    async fn pass(&mut self, body: Incoming) -> Result<(ResponseHead, Stream), (&'static str, Refusal)> {
        let running = Rc::clone(&self.running);
        if let Some(refusal) = running.path.run_down(&mut self.exchange).await {
            // The guard that refused has written its own step.
            return Err(("", refusal));
        }
        if let Some(bounds) = self.exchange.bounds {
            self.watch.arm(bounds.deadline_nanos);
        }
        let (mut head, stream) = if running.ends_in_accounts(&self.exchange) {
            accounts::answer(self, body).await.map_err(|refusal| ("accounts", refusal))?
        } else {
            proxy::forward(self, body).await.map_err(|refusal| ("proxy", refusal))?
        };
        self.tell_time();
        running.path.ascend(&mut self.exchange, &mut head);
        match self.exchange.instead.take() {
            None => Ok((head, stream)),
            Some(instead) => {
                stream.leave(self);
                Ok((head, Stream::Bytes(instead)))
            }
        }
    }

    /// Whose fault it is that the deadline passed.
    #[must_use]
    pub fn late(&self) -> Fault {
        if self.upload.waits_for_client.get() { Fault::RequestBodyTimeout } else { Fault::TotalTimeout }
    }

    fn refuse(&mut self, by: &'static str, refusal: Refusal) -> (ResponseHead, Stream) {
        let running = Rc::clone(&self.running);
        if self.watch.has_passed() {
            let now = self.connection.core.gate.clock.now().monotonic_nanos;
            self.watch.arm(now.saturating_add(LAST_WORDS_NANOS));
        }
        let refusal = if self.upload.is_done.get() { refusal } else { refusal.closing() };
        self.tell_time();
        let (head, bytes) = running.path.refuse(&mut self.exchange, by, refusal);
        (head, Stream::Bytes(bytes))
    }

    fn tell_time(&mut self) {
        if self.exchange.needs_time() {
            self.exchange.answer_nanos = Some(self.connection.core.gate.clock.now().monotonic_nanos);
        }
    }

    fn answer(mut self: Box<Self>, head: ResponseHead, stream: Stream) -> Response<Answer> {
        self.connection.answer_begins();
        self.status = head.status.as_u16();
        let is_leaving = self.connection.core.gate.stage().tells_clients_to_leave();
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if self.connection.is_multiplexed {
            // Fields of one connection do not exist there (RFC 9113, section 8.2.2).
            response.headers_mut().remove(CONNECTION);
        } else if self.status == StatusCode::SWITCHING_PROTOCOLS {
            let connection = Rc::clone(&self.connection);
            connection.switched.replace(Some(self));
            return response.map(|()| Answer::Switched);
        } else if is_leaving || self.switch.is_wanted() {
            // What a client sends ahead of a switch that did not come must never be read as a request (RFC 9931).
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|()| Answer::new(self, stream))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = self.connection.core.gate.clock.now().monotonic_nanos;
        let outcome = Outcome {
            end: self.end,
            status: self.status,
            bytes_in: self.upload.bytes.get(),
            bytes_out: self.bytes_out,
            duration_nanos: now.saturating_sub(self.exchange.now.monotonic_nanos),
            upstream_nanos: self.upstream_nanos,
            attempts: self.attempts,
        };
        self.running.path.finish(&self.exchange, &outcome);
        // A tunnel's visit stays until its connection is closed; nothing is said on it afterwards.
        let was_cut = self.exchange.version == Version::HTTP_10
            && matches!(self.end, End::UpstreamCut | End::DeadlinePassed)
            && self.status != 499;
        self.connection.visit_is_over(!self.upload.is_done.get(), was_cut);
    }
}
