//! The end of the path: asks the upstream, again where that is safe, and hands its answer up.
//!
//! `upstream` is what is known of one, `targets` the places where it is, `dial` opens connections, `pool` and `shared` keep
//! them on this core, `attempt` is one try, `retry` the rule for another one, `minder` looks after targets, `fields` is the
//! header hygiene, `request_body` and `answer` are the two streams.
//!
//! Invariant: every attempt is admitted by the breaker first and reports exactly one verdict to it; a connection that
//! gave a doubtful answer is never used again.

pub mod answer;
mod attempt;
pub mod concurrency;
pub mod dial;
pub mod fields;
pub mod minder;
pub mod pool;
pub mod request_body;
pub mod retry;
mod shared;
pub mod switch;
pub mod targets;
pub mod tunnel;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use portcullis_core::clock::Clock;
use portcullis_core::fault::Fault;
use portcullis_core::refusal::{Code, Refusal};
use portcullis_guards::breaker::{OwnedPermit, Verdict};
use portcullis_guards::guard::ResponseHead;
use portcullis_guards::trail::Rule;

use self::answer::Stream;
use self::attempt::{Failed, Outgoing};
use self::concurrency::Place;
use self::pool::Lease;
use self::upstream::Upstream;
use crate::visit::Visit;

/// Asks the upstream of the visit's route and returns its answer, cleaned of what concerns only its connection.
///
/// # Errors
/// The refusal that tells the client what went wrong.
pub async fn forward(visit: &mut Visit, body: Incoming) -> Result<(ResponseHead, Stream), Refusal> {
    let Some(upstream) = visit.running.upstream_of(&visit.exchange) else {
        // Config refuses a route without upstream; a defect here must not look like the client's.
        return Err(Refusal::internal());
    };
    let upstream = Arc::clone(upstream);
    visit.exchange.by_rule(Rule::Named(Arc::clone(&upstream.name)));
    upstream.retry.budget.deposit();
    if let (Some(total), Some(bounds)) = (upstream.total, &mut visit.exchange.bounds) {
        bounds.deadline_nanos = bounds.deadline_nanos.min(visit.exchange.now.after(total));
    }
    let place = place(visit).await?;
    let mut outgoing = Outgoing::new(visit, &upstream, body);
    let mut permit = visit.exchange.permit.take();
    let mut avoid = None;
    loop {
        visit.attempts += 1;
        let started = visit.connection.core.gate.clock.now().monotonic_nanos;
        let result = attempt::ask(visit, &upstream, &mut outgoing, avoid).await;
        let now = visit.connection.core.gate.clock.now().monotonic_nanos;
        let took = now.saturating_sub(started);
        visit.upstream_nanos = visit.upstream_nanos.saturating_add(took);
        let failed = match result {
            Ok((head, _, lease)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                upstream.judge(lease.target().index, Verdict::Success, || now);
                visit.switch.lease = Some(lease);
                if let Some(permit) = permit {
                    permit.report(now, Verdict::of_status(head.status.as_u16()));
                }
                return Ok((head, Stream::Bytes(Bytes::new())));
            }
            Ok((head, incoming, lease)) => {
                let held = Held { lease, permit, status: head.status, upstream, _place: place };
                return Ok((head, Stream::Upstream(incoming, Some(held))));
            }
            Err(failed) => failed,
        };
        report_failure(permit.take(), &failed, now);
        if let (Some(fault), Some(target)) = (failed.fault, failed.target) {
            upstream.judge(target, Verdict::of_fault(fault), || now);
            avoid = Some(target);
        }
        permit = match again(visit, &upstream, &mut outgoing, &failed).await {
            Ok(permit) => permit,
            Err(refusal) => return Err(refusal),
        };
    }
}

/// A place among the requests that the upstream has at once.
async fn place(visit: &mut Visit) -> Result<Option<Place>, Refusal> {
    let Some(concurrency) = visit.running.concurrency.of(&visit.exchange).cloned() else { return Ok(None) };
    concurrency.enter(visit.connection.core.sweep.coarse_now_nanos()).await.map(Some).map_err(|shed| {
        visit.exchange.by_rule(Rule::Fixed(shed.name()));
        overloaded()
    })
}

fn report_failure(permit: Option<OwnedPermit>, failed: &Failed, now: u64) {
    match (permit, failed.fault) {
        (Some(permit), Some(fault)) => permit.report(now, Verdict::of_fault(fault)),
        // No room for another connection says nothing about the upstream.
        (Some(permit), None) => permit.neutral(),
        (None, _) => {}
    }
}

/// Waits for the next attempt if there may be one; the refusal of the last attempt otherwise.
async fn again(
    visit: &mut Visit,
    upstream: &Upstream,
    outgoing: &mut Outgoing,
    failed: &Failed,
) -> Result<Option<OwnedPermit>, Refusal> {
    let last_word = failed.refusal();
    // Who could not prove who it is will not be able to a moment later; another target may.
    let is_hopeless = failed.fault == Some(Fault::Tls) && upstream.targets.len() == 1;
    if is_hopeless || !outgoing.may_repeat(failed) || visit.attempts >= upstream.retry.attempts {
        return Err(last_word);
    }
    // Backing off is for the one that failed; another that is well can be asked at once.
    let wait = match failed.target {
        Some(failed) if visit.attempts == 1 && upstream.has_another(failed) => Duration::ZERO,
        _ => upstream.retry.backoff(visit.attempts, fastrand::f64()),
    };
    let now = visit.connection.core.gate.clock.now();
    let ends = visit.exchange.bounds.map_or(u64::MAX, |bounds| bounds.deadline_nanos);
    if now.after(wait) >= ends || !upstream.retry.budget.withdraw() {
        return Err(last_word);
    }
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let Some(breaker) = visit.exchange.breaker.clone() else { return Ok(None) };
    let now = visit.connection.core.gate.clock.now().monotonic_nanos;
    // The client hears why the upstream failed, not that the breaker opened meanwhile.
    breaker.admit_owned(now).map(Some).map_err(|_| last_word)
}

/// What an answer holds until its last byte: the connection it comes on, its place, and the breaker's permit. The verdict is given at
/// the end, because a status is no success before its body is whole. Dropped, it is neutral and closes the connection.
pub struct Held {
    lease: Lease,
    permit: Option<OwnedPermit>,
    status: StatusCode,
    upstream: Arc<Upstream>,
    _place: Option<Place>,
}

impl Held {
    /// The body was read whole.
    fn whole(self, visit: &Visit) {
        let core = &visit.connection.core;
        let verdict = Verdict::of_status(self.status.as_u16());
        self.upstream.judge(self.lease.target().index, verdict, || core.gate.clock.now().monotonic_nanos);
        if let Some(permit) = self.permit {
            permit.report(core.gate.clock.now().monotonic_nanos, verdict);
        }
        // An answer that came before the whole request was read leaves a connection that cannot be used again.
        if visit.upload.is_done.get() {
            self.lease.give_back(core.sweep.coarse_now_nanos());
        }
    }

    /// The upstream ended the body early.
    fn cut(self, visit: &Visit) {
        self.closed(visit, Verdict::of_fault(Fault::BodyCut));
    }

    /// Nobody wants the body: its status says it all.
    fn left(self, visit: &Visit) {
        let verdict = Verdict::of_status(self.status.as_u16());
        self.closed(visit, verdict);
    }

    fn closed(self, visit: &Visit, verdict: Verdict) {
        let now = visit.connection.core.gate.clock.now().monotonic_nanos;
        self.upstream.judge(self.lease.target().index, verdict, || now);
        if let Some(permit) = self.permit {
            permit.report(now, verdict);
        }
    }
}

/// 503: the upstream has as many connections as it may have.
fn overloaded() -> Refusal {
    Refusal::new(Code::Overloaded)
}
