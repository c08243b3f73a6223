//! What is remembered: how much of each policy's quota a subject has used, in the store's counters.
//!
//! A request takes from all its policies or from none. With one policy that is one `take`. With several, all are looked
//! at first, and only when every one would let the request pass is it taken from them, in their order. So a request that
//! one policy refuses costs nothing in the others: a client that meets the limit of the second does not lose its day's
//! quota. Between look and take another request may have the last unit; then the later policy refuses, and what the
//! earlier ones gave stays taken. That errs on the strict side only, and only while a quota is being used up: each
//! `take` is exact, so no interleaving lets more requests through than the strictest policy holds.
//!
//! Invariant: a dry run only looks.

use std::sync::Arc;

use arrayvec::ArrayVec;
use portcullis_store::counters::{Counters, Key};

use super::decide::Answer;
use super::policy::Policy;
use crate::exchange::{Exchange, MAX_POLICIES, Touch};

/// What the counters said, in the order of the policies.
pub(super) type Answers = ArrayVec<Answer, MAX_POLICIES>;

/// One request at the counters.
pub(super) struct Asking<'a> {
    pub(super) counters: &'a dyn Counters,
    pub(super) exchange: &'a Exchange,
}

impl Asking<'_> {
    /// Takes from all policies or from none, or only looks when the exchange is a dry run.
    pub(super) fn all_or_none(&self, policies: &[Arc<Policy>]) -> Answers {
        let mut answers = Answers::new();
        if let ([policy], Touch::Take) = (policies, self.exchange.touch) {
            answers.push(self.take(policy, policy.key(self.exchange)));
            return answers;
        }
        let keys: ArrayVec<Key, MAX_POLICIES> = policies.iter().map(|policy| policy.key(self.exchange)).collect();
        for (policy, key) in policies.iter().zip(&keys) {
            answers.push(self.peek(policy, *key));
        }
        let all_would_pass = answers.iter().all(|answer| answer.outcome.allowed);
        match self.exchange.touch {
            // The dry run shows what a real request would be told.
            Touch::Peek => answers.iter_mut().for_each(|answer| answer.is_charged = all_would_pass),
            Touch::Take if all_would_pass => {
                for ((policy, key), answer) in policies.iter().zip(&keys).zip(&mut answers) {
                    *answer = self.take(policy, *key);
                    if !answer.outcome.allowed {
                        break;
                    }
                }
            }
            Touch::Take => {}
        }
        answers
    }

    /// Takes from each policy whatever the others say; for policies that refuse nobody.
    pub(super) fn each(&self, policies: &[Arc<Policy>]) -> Answers {
        let ask = |policy: &Arc<Policy>| {
            let key = policy.key(self.exchange);
            if self.exchange.touch == Touch::Take { self.take(policy, key) } else { self.peek(policy, key) }
        };
        policies.iter().map(ask).collect()
    }

    fn take(&self, policy: &Policy, key: Key) -> Answer {
        let cost = policy.cost_of(self.exchange);
        let outcome = self.counters.take(key, &policy.quota, cost, self.exchange.now.monotonic_nanos);
        Answer { outcome, cost, is_charged: outcome.allowed }
    }

    fn peek(&self, policy: &Policy, key: Key) -> Answer {
        let cost = policy.cost_of(self.exchange);
        let outcome = self.counters.peek(key, &policy.quota, cost, self.exchange.now.monotonic_nanos);
        Answer { outcome, cost, is_charged: false }
    }
}
