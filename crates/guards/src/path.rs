//! The only runner: takes an exchange down the list of guards, up again, and through `finish`.
//!
//! Gateway, admin listener, tower layer and `explain` all use it, so a guard behaves the same everywhere. The list itself
//! stands in [`crate::request_path`].
//!
//! Invariant: a guard sees `response` and `finish` exactly when it saw `request`; the order is fixed when the path is built.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use portcullis_core::refusal::Refusal;
use portcullis_core::refusal::render::{Form, body};

use crate::exchange::{Exchange, Touch};
use crate::guard::{Fact, Guard, Outcome, ResponseHead, Verdict, Waiting};
use crate::trail::{Decision, Step};

/// A list of guards, outside first, whose needs are all met.
pub struct Path {
    guards: Box<[Box<dyn Guard>]>,
}

/// Collects guards in order. See [`Path::builder`].
#[derive(Default)]
pub struct PathBuilder {
    guards: Vec<Box<dyn Guard>>,
}

/// A list that cannot be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenPath {
    /// A guard needs what nobody above it gives.
    #[error("guard `{guard}` needs {fact:?}, which no guard above it gives")]
    Unmet {
        /// Who needs it.
        guard: &'static str,
        /// What is missing.
        fact: Fact,
    },
    /// A guard stands twice on the list under one name.
    #[error("guard `{0}` stands twice on the path")]
    Twice(&'static str),
}

/// How far a descent came.
pub enum Descent {
    /// Through all guards.
    Through,
    /// Stopped by a guard.
    Refused(Refusal),
    /// A guard waits; hand the future's result to [`Path::resume`].
    Waiting(Waiting),
}

impl PathBuilder {
    /// Adds a guard inside those that were added before.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "reads as the list it is; nobody adds paths")]
    pub fn add(mut self, guard: impl Guard + 'static) -> PathBuilder {
        self.guards.push(Box::new(guard));
        self
    }

    /// Adds a guard whose type is not known, as [`PathBuilder::add`] does.
    #[must_use]
    pub(crate) fn add_boxed(mut self, guard: Box<dyn Guard>) -> PathBuilder {
        self.guards.push(guard);
        self
    }

    /// Checks needs and gives.
    ///
    /// # Errors
    /// [`BrokenPath`] names the first guard that cannot work where it stands.
    pub fn build(self) -> Result<Path, BrokenPath> {
        let mut given: Vec<Fact> = Vec::new();
        let mut names: Vec<&'static str> = Vec::new();
        for guard in &self.guards {
            if names.contains(&guard.name()) {
                return Err(BrokenPath::Twice(guard.name()));
            }
            names.push(guard.name());
            if let Some(&fact) = guard.needs().iter().find(|fact| !given.contains(fact)) {
                return Err(BrokenPath::Unmet { guard: guard.name(), fact });
            }
            given.extend_from_slice(guard.gives());
        }
        Ok(Path { guards: self.guards.into_boxed_slice() })
    }
}

impl Path {
    /// An empty list.
    #[must_use]
    pub fn builder() -> PathBuilder {
        PathBuilder::default()
    }

    /// The names in order, for `explain` and the reference page.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.guards.iter().map(|guard| guard.name())
    }

    /// This path is the one that runs from now on.
    pub fn begins(&self) {
        for guard in &self.guards {
            guard.begins();
        }
    }

    /// Takes the exchange down from where it stands.
    pub fn descend(&self, exchange: &mut Exchange) -> Descent {
        self.descend_until(exchange, self.guards.len())
    }

    /// Goes on after the wait that [`Path::descend`] reported.
    pub fn resume(&self, exchange: &mut Exchange, resume: crate::guard::Resume) -> Descent {
        let name = self.guards[exchange.depth - 1].name();
        let verdict = resume(exchange);
        match Self::note(exchange, name, verdict) {
            Descent::Through => self.descend(exchange),
            stopped => stopped,
        }
    }

    /// Takes the exchange all the way, waiting where a guard waits. `None` when every guard passed it.
    pub async fn run_down(&self, exchange: &mut Exchange) -> Option<Refusal> {
        let mut descent = self.descend(exchange);
        loop {
            match descent {
                Descent::Through => return None,
                Descent::Refused(refusal) => return Some(refusal),
                Descent::Waiting(waiting) => descent = self.resume(exchange, waiting.await),
            }
        }
    }

    /// Refuses what never became a whole request (broken or slow bytes): only the guards above `route` see it, because
    /// there is nothing yet to match.
    pub fn refuse_unread(&self, exchange: &mut Exchange, refusal: Refusal) -> (ResponseHead, Bytes) {
        let above_route = self.guards.iter().position(|guard| guard.gives().contains(&Fact::Route));
        // Their verdict does not matter: the request is refused either way, and with the refusal that came first.
        let _ = self.descend_until(exchange, above_route.unwrap_or(self.guards.len()));
        self.refuse(exchange, "listen", refusal)
    }

    /// Answers with `refusal`, which `by` (a guard, or `proxy`, or `listen`) said, and takes the answer up.
    pub fn refuse(&self, exchange: &mut Exchange, by: &'static str, refusal: Refusal) -> (ResponseHead, Bytes) {
        if exchange.trail.refused().is_none() {
            let rule = std::mem::take(&mut exchange.rule);
            let detail = exchange.detail.take();
            exchange.trail.push(Step { guard: by, decision: Decision::Refused(refusal.code), rule, detail });
        }
        let (mut head, bytes) = answer(&refusal, exchange);
        self.ascend(exchange, &mut head);
        (head, exchange.instead.take().unwrap_or(bytes))
    }

    /// Takes a response up through every guard that saw the request. Where one of them answers in place of what came, its body
    /// is in [`Exchange::instead`].
    pub fn ascend(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        for guard in self.guards[..exchange.depth].iter().rev() {
            guard.response(exchange, head);
        }
    }

    /// The third moment. Does nothing in a dry run.
    pub fn finish(&self, exchange: &Exchange, outcome: &Outcome) {
        if exchange.touch == Touch::Peek {
            return;
        }
        for guard in self.guards[..exchange.depth].iter().rev() {
            guard.finish(exchange, outcome);
        }
    }

    fn descend_until(&self, exchange: &mut Exchange, end: usize) -> Descent {
        while exchange.depth < end {
            let guard = &self.guards[exchange.depth];
            exchange.depth += 1;
            let verdict = guard.request(exchange);
            match Self::note(exchange, guard.name(), verdict) {
                Descent::Through => {}
                stopped => return stopped,
            }
        }
        Descent::Through
    }

    /// Writes the trail's step for a verdict.
    fn note(exchange: &mut Exchange, guard: &'static str, verdict: Verdict) -> Descent {
        let (decision, descent) = match verdict {
            Verdict::Pass => (Decision::Passed, Descent::Through),
            Verdict::Skip => (Decision::Skipped, Descent::Through),
            Verdict::Refuse(refusal) => (Decision::Refused(refusal.code), Descent::Refused(refusal)),
            Verdict::Wait(waiting) => return Descent::Waiting(waiting),
        };
        let rule = std::mem::take(&mut exchange.rule);
        let detail = exchange.detail.take();
        exchange.trail.push(Step { guard, decision, rule, detail });
        descent
    }
}

/// The response of a refusal before the guards have seen it.
fn answer(refusal: &Refusal, exchange: &Exchange) -> (ResponseHead, Bytes) {
    let entry = refusal.code.entry();
    let form = if exchange.wants_problem { Form::Problem } else { Form::Json };
    let request_id = exchange.request_id.as_ref().map_or("", |id| id.as_str());
    let body = body(refusal, form, exchange.now.unix_millis, request_id);
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refusal.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    if refusal.must_close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = StatusCode::from_u16(entry.status).expect("the catalogue holds valid statuses");
    let bytes = if exchange.method == Method::HEAD { Bytes::new() } else { Bytes::from(body) };
    (ResponseHead { status, headers }, bytes)
}
