//! What a request hears about its rate limits, as functions over what the counters said.
//!
//! `state.rs` asks the counters, `fields.rs` writes what is quoted here into the response.
//!
//! Invariant: no clock, no counters, no I/O. On a refusal, no `t` that is told is later than `Retry-After`.

use arrayvec::ArrayVec;
use portcullis_core::clock::{self, retry_after_seconds};
use portcullis_store::counters::Outcome;

use crate::exchange::MAX_POLICIES;

/// What the counters said about one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// What the request takes from this policy.
    pub(super) cost: u64,
    /// Whether `outcome.remaining` is without this cost because it was taken, or, in a dry run, would have been.
    pub(super) is_charged: bool,
}

/// What happens to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Every policy lets it pass.
    Pass,
    /// At least one does not.
    Refuse {
        /// The place of the policy that asks for the longest wait.
        by: usize,
        /// That wait, in nanoseconds.
        wait_nanos: u64,
    },
}

/// What one policy said about a request, for the response's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotation {
    /// Units that are left: `r`.
    pub remaining: u64,
    /// Nanoseconds until the quota is whole again or, where this policy refused, until the same request passes: `t`.
    pub reset_nanos: u64,
    /// Whether `t` is told. Not by a policy that did not refuse and is whole again only after `Retry-After`.
    pub tells_reset: bool,
    /// Whether this policy is the nearest to refusing, or refused: the one that the `X-RateLimit` fields speak of.
    pub is_nearest: bool,
}

/// Quotations of all policies that are enforced, in their order.
pub(super) type Quotations = ArrayVec<Quotation, MAX_POLICIES>;

/// Decides: who refuses and asks for the longest wait speaks for all.
pub(super) fn decide(answers: &[Answer]) -> Decision {
    let mut decision = Decision::Pass;
    for (place, answer) in answers.iter().enumerate().filter(|(_, answer)| !answer.outcome.allowed) {
        let wait = answer.outcome.retry_after_nanos;
        match decision {
            Decision::Refuse { wait_nanos, .. } if wait_nanos >= wait => {}
            _ => decision = Decision::Refuse { by: place, wait_nanos: wait },
        }
    }
    decision
}

/// What the client is told about each policy.
pub(super) fn quote(answers: &[Answer], decision: Decision) -> Quotations {
    let mut quotations: Quotations = answers.iter().map(quotation).collect();
    match decision {
        Decision::Pass => {
            if let Some(nearest) = nearest(answers) {
                quotations[nearest].is_nearest = true;
            }
        }
        Decision::Refuse { by, wait_nanos } => {
            quotations[by].is_nearest = true;
            tell_no_later(&mut quotations, retry_after_seconds(wait_nanos));
        }
    }
    quotations
}

/// Leaves out every `t` that would be later than a refusal's `Retry-After`.
pub(super) fn tell_no_later(quotations: &mut [Quotation], retry_after_seconds: u64) {
    for quotation in quotations {
        quotation.tells_reset &= clock::retry_after_seconds(quotation.reset_nanos) <= retry_after_seconds;
    }
}

fn quotation(answer: &Answer) -> Quotation {
    let outcome = answer.outcome;
    let (remaining, reset_nanos) = match (outcome.allowed, answer.is_charged) {
        (true, true) => (outcome.remaining, outcome.reset_after_nanos),
        // Another policy refused, so this one gave nothing: what it foresaw to be left is more by the cost. Its reset is
        // the one after a charge, a little late rather than early.
        (true, false) => (outcome.remaining.saturating_add(answer.cost).min(outcome.limit), outcome.reset_after_nanos),
        (false, _) => (outcome.remaining, outcome.retry_after_nanos),
    };
    Quotation { remaining, reset_nanos, tells_reset: true, is_nearest: false }
}

/// The place of the policy that lets the fewest further requests of this kind pass; of equals the first.
fn nearest(answers: &[Answer]) -> Option<usize> {
    if answers.len() <= 1 {
        return answers.len().checked_sub(1);
    }
    let requests_left = |answer: &Answer| answer.outcome.remaining / answer.cost.max(1);
    answers.iter().enumerate().min_by_key(|(_, answer)| requests_left(answer)).map(|(place, _)| place)
}

/// Whether this request is the one with which the use of a quota rose to `near_from` units or above.
pub(super) fn rises_near_limit(answer: &Answer, near_from: u64) -> bool {
    let used = answer.outcome.limit - answer.outcome.remaining.min(answer.outcome.limit);
    answer.is_charged && used >= near_from && used.saturating_sub(answer.cost) < near_from
}

/// From how many used units on a quota of `capacity` is nearly used up: four fifths, rounded up.
pub(super) fn near_from(capacity: u64) -> u64 {
    capacity.saturating_mul(4).div_ceil(5)
}

#[cfg(test)]
mod tests {
    use portcullis_store::counters::NEVER;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn passed(remaining: u64, reset_seconds: u64) -> Answer {
        let outcome = Outcome {
            allowed: true,
            limit: 100,
            remaining,
            reset_after_nanos: reset_seconds * SECOND,
            retry_after_nanos: 0,
        };
        Answer { outcome, cost: 1, is_charged: true }
    }

    fn foreseen(remaining: u64, reset_seconds: u64) -> Answer {
        Answer { is_charged: false, ..passed(remaining, reset_seconds) }
    }

    fn refused(wait_nanos: u64) -> Answer {
        let outcome = Outcome {
            allowed: false,
            limit: 100,
            remaining: 0,
            reset_after_nanos: 100 * SECOND,
            retry_after_nanos: wait_nanos,
        };
        Answer { outcome, cost: 1, is_charged: false }
    }

    #[test]
    fn the_longest_wait_decides() {
        for (answers, decision) in [
            (vec![], Decision::Pass),
            (vec![passed(3, 1), passed(0, 9)], Decision::Pass),
            (vec![foreseen(3, 1), refused(5)], Decision::Refuse { by: 1, wait_nanos: 5 }),
            (vec![refused(7), refused(5)], Decision::Refuse { by: 0, wait_nanos: 7 }),
            (vec![refused(5), refused(7), refused(7)], Decision::Refuse { by: 1, wait_nanos: 7 }),
            (vec![refused(NEVER)], Decision::Refuse { by: 0, wait_nanos: NEVER }),
        ] {
            assert_eq!(decide(&answers), decision, "{answers:?}");
        }
    }

    #[test]
    fn a_refusal_quotes_its_wait_and_gives_back_what_was_only_foreseen() {
        let answers = [foreseen(40, 50), foreseen(99, 1), refused(2 * SECOND)];
        let told: Vec<_> = quote(&answers, decide(&answers))
            .iter()
            .map(|quotation| {
                (quotation.remaining, quotation.reset_nanos / SECOND, quotation.tells_reset, quotation.is_nearest)
            })
            .collect();
        assert_eq!(told, [(41, 50, false, false), (100, 1, true, false), (0, 2, true, true)]);
    }

    #[test]
    fn the_policy_that_lets_the_fewest_requests_pass_is_nearest() {
        let dear = Answer { cost: 10, ..passed(40, 1) };
        for (answers, expected) in [
            (vec![passed(5, 1)], 0),
            (vec![passed(5, 1), passed(4, 1)], 1),
            (vec![passed(5, 1), dear], 1),
            (vec![passed(3, 1), dear], 0),
            (vec![passed(4, 1), passed(4, 1)], 0),
        ] {
            let quotations = quote(&answers, Decision::Pass);
            let marked: Vec<_> = (0..answers.len()).filter(|&place| quotations[place].is_nearest).collect();
            assert_eq!(marked, [expected], "{answers:?}");
        }
        assert!(quote(&[], Decision::Pass).is_empty());
    }

    #[test]
    fn nearing_the_limit_is_counted_when_use_rises_over_four_fifths() {
        assert_eq!((near_from(100), near_from(1), near_from(4), near_from(u64::MAX)), (80, 1, 4, u64::MAX.div_ceil(5)));
        let rises = |remaining, cost| rises_near_limit(&Answer { cost, ..passed(remaining, 1) }, near_from(100));
        assert!(!rises(21, 1) && rises(20, 1) && !rises(19, 1), "only the request that takes the 80th");
        assert!(rises(11, 10) && !rises(10, 10), "also when it takes several at once");
        assert!(!rises_near_limit(&foreseen(20, 1), 80), "not when nothing was taken");
    }
}
