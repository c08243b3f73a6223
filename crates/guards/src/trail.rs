//! The trail: what each guard decided about one request and by which rule.
//!
//! The runner appends to it; access log, audit and `explain` read it and nothing else, so they cannot disagree with
//! what happened. It lives inside the exchange, has a fixed size and allocates only in a dry run.
//!
//! Invariant: steps are in the order in which the guards were asked.

use std::sync::Arc;

use arrayvec::ArrayVec;
use portcullis_core::refusal::Code;

/// More steps than guards exist, with room for several shadow refusals. Later steps are dropped and counted.
pub const MAX_STEPS: usize = 24;

/// Which rule made a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// The guard has only one.
    #[default]
    Only,
    /// A rule of the guard itself.
    Fixed(&'static str),
    /// A rule that the operator named: a route, a policy, an upstream.
    Named(Arc<str>),
}

impl Rule {
    /// Its text; empty for [`Rule::Only`].
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Rule::Only => "",
            Rule::Fixed(text) => text,
            Rule::Named(text) => text,
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request may go on.
    Passed,
    /// Not this guard's business.
    Skipped,
    /// Stopped.
    Refused(Code),
    /// Would have been stopped, but the rule is in shadow mode.
    WouldRefuse(Code),
    /// Answered in place of what failed below.
    StoodIn,
}

impl Decision {
    /// The word that logs and `explain` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Decision::Passed => "passed",
            Decision::Skipped => "skipped",
            Decision::Refused(_) => "refused",
            Decision::WouldRefuse(_) => "would_refuse",
            Decision::StoodIn => "stood_in",
        }
    }

    /// The code of a refusal, real or shadow.
    #[must_use]
    pub fn code(self) -> Option<Code> {
        match self {
            Decision::Refused(code) | Decision::WouldRefuse(code) => Some(code),
            Decision::Passed | Decision::Skipped | Decision::StoodIn => None,
        }
    }
}

/// One decision.
#[derive(Clone, Debug)]
pub struct Step {
    /// Who decided.
    pub guard: &'static str,
    /// What.
    pub decision: Decision,
    /// By which rule.
    pub rule: Rule,
    /// For people, only written in a dry run.
    pub detail: Option<Box<str>>,
}

/// All decisions about one request.
#[derive(Debug, Default)]
pub struct Trail {
    steps: ArrayVec<Step, MAX_STEPS>,
    dropped: u32,
}

impl Trail {
    /// Appends a step, or counts it as dropped when the trail is full.
    pub fn push(&mut self, step: Step) {
        if self.steps.try_push(step).is_err() {
            self.dropped += 1;
        }
    }

    /// The steps, first asked first.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The refusal, if there was one.
    #[must_use]
    pub fn refused(&self) -> Option<(&Step, Code)> {
        self.steps.iter().rev().find_map(|step| match step.decision {
            Decision::Refused(code) => Some((step, code)),
            _ => None,
        })
    }

    /// Who answered in place of what failed, if somebody did.
    #[must_use]
    pub fn stood_in(&self) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.decision == Decision::StoodIn)
    }

    /// Steps that did not fit.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}
