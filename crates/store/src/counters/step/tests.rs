//! Tests of one decision: edges by table, clock steps, quota changes, and the reading of states by class.

use super::{CompiledQuota, FRESH, Usage, usage};
use crate::counters::{Algorithm, CLOCK_SLACK_NANOS, NEVER, Nanos, Outcome, Quota, SPAN_MAX_NANOS};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

fn bucket(limit: u64, period_nanos: u64, burst: u64) -> CompiledQuota {
    Quota { algorithm: Algorithm::TokenBucket, limit, period_nanos, burst }.compile().unwrap()
}

fn window(limit: u64, period_nanos: u64) -> CompiledQuota {
    Quota { algorithm: Algorithm::FixedWindow, limit, period_nanos, burst: 0 }.compile().unwrap()
}

/// One key's state, driven by hand.
struct Cell(u64);

fn outcome(quota: &CompiledQuota, state: u64, cost: u64, now: Nanos) -> Outcome {
    quota.outcome(quota.step(state, cost, now).answer)
}

impl Cell {
    fn take(&mut self, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome {
        let step = quota.step(self.0, cost, now);
        if let Some(next) = step.next {
            self.0 = next;
        }
        quota.outcome(step.answer)
    }

    fn drain(&mut self, quota: &CompiledQuota, now: Nanos) -> u64 {
        (0..).take_while(|_| self.take(quota, 1, now).allowed).count() as u64
    }
}

#[test]
fn a_bucket_gives_its_burst_then_its_rate() {
    let quota = bucket(10, SECOND, 3);
    let mut cell = Cell(FRESH);
    let first = cell.take(&quota, 1, 0);
    assert_eq!((first.allowed, first.limit, first.remaining), (true, 3, 2));
    assert_eq!((first.reset_after_nanos, first.retry_after_nanos), (SECOND / 10, 0));
    assert_eq!(cell.drain(&quota, 0), 2);
    let refused = cell.take(&quota, 1, 0);
    assert_eq!((refused.allowed, refused.remaining, refused.retry_after_nanos), (false, 0, SECOND / 10));
    assert!(!cell.take(&quota, 1, SECOND / 10 - 1).allowed);
    assert!(cell.take(&quota, 1, SECOND / 10).allowed);
    assert_eq!(cell.drain(&quota, HOUR), 3);
}

#[test]
fn a_window_starts_anew_at_its_multiple() {
    let quota = window(3, SECOND);
    let mut cell = Cell(FRESH);
    assert_eq!(cell.drain(&quota, SECOND - 1), 3);
    let refused = cell.take(&quota, 1, SECOND - 1);
    assert_eq!((refused.remaining, refused.reset_after_nanos, refused.retry_after_nanos), (0, 1, 1));
    assert_eq!(cell.drain(&quota, SECOND), 3, "twice the limit across a boundary, as documented");
    assert!(!cell.take(&quota, 1, 2 * SECOND - 1).allowed);
}

#[test]
fn costs_at_the_edges_are_answered_honestly() {
    for quota in [bucket(10, SECOND, 3), window(3, SECOND)] {
        let mut cell = Cell(FRESH);
        for cost in [4, u64::MAX] {
            let refused = cell.take(&quota, cost, 0);
            assert_eq!((refused.allowed, refused.remaining, refused.retry_after_nanos), (false, 3, NEVER));
        }
        assert_eq!(cell.0, FRESH);
        assert!(cell.take(&quota, 3, 0).allowed);
        let asked = cell.take(&quota, 0, 0);
        assert_eq!((asked.allowed, asked.remaining, asked.retry_after_nanos), (true, 0, 0));
    }
    for closed in [bucket(0, SECOND, 3), bucket(10, SECOND, 0), window(0, SECOND)] {
        let refused = Cell(FRESH).take(&closed, 1, 0);
        assert_eq!((refused.allowed, refused.limit, refused.retry_after_nanos), (false, 0, NEVER));
        assert!(Cell(FRESH).take(&closed, 0, 0).allowed);
    }
}

#[test]
fn an_hour_back_gives_nothing_and_locks_out_for_one_refill() {
    for quota in [bucket(10, 10 * SECOND, 10), window(10, 10 * SECOND)] {
        let mut cell = Cell(FRESH);
        assert_eq!(cell.drain(&quota, 2 * HOUR), 10);
        let refused = cell.take(&quota, 1, HOUR);
        assert!(!refused.allowed && refused.retry_after_nanos <= 10 * SECOND, "{refused:?}");
        assert!(cell.take(&quota, 1, HOUR + refused.retry_after_nanos).allowed);
        assert_eq!(cell.drain(&quota, HOUR + 20 * SECOND), 10);
    }
}

#[test]
fn threads_that_disagree_about_now_win_nothing_by_taking_turns() {
    for quota in [bucket(1000, SECOND, 5), window(5, SECOND), window(5, HOUR)] {
        let mut cell = Cell(FRESH);
        let early = HOUR - CLOCK_SLACK_NANOS / 2;
        let allowed = (0..10_000).filter(|i| cell.take(&quota, 1, if i % 2 == 0 { HOUR } else { early }).allowed);
        assert_eq!(allowed.count(), 5);
    }
}

#[test]
fn time_beyond_the_horizon_closes_and_does_not_panic() {
    for quota in [bucket(10, SECOND, 3), window(3, SECOND), bucket(1, SPAN_MAX_NANOS, 1)] {
        let mut cell = Cell(FRESH);
        assert!(cell.drain(&quota, u64::MAX) <= 3);
        assert!(!cell.take(&quota, 1, u64::MAX - 1).allowed);
    }
}

#[test]
fn a_smaller_quota_takes_over_as_used_up() {
    let (large, small) = (bucket(10, SECOND, 1000), bucket(10, SECOND, 10));
    let mut cell = Cell(FRESH);
    assert_eq!(cell.drain(&large, HOUR), 1000);
    let refused = cell.take(&small, 1, HOUR);
    assert!(!refused.allowed && refused.retry_after_nanos <= SECOND / 10, "{refused:?}");
    assert!(cell.take(&small, 1, HOUR + SECOND / 10).allowed);
}

#[test]
fn conversion_keeps_the_share_between_algorithms() {
    let (buckets, windows) =
        ([bucket(10, SECOND, 100), bucket(1, HOUR, 4)], [window(60, 60 * SECOND), window(1000, HOUR)]);
    let pairs =
        buckets.iter().flat_map(|bucket| windows.iter().flat_map(|window| [(*bucket, *window), (*window, *bucket)]));
    for (from, to) in pairs {
        let state = from.step(FRESH, from.capacity() / 2, HOUR).next.unwrap();
        let mut cell = Cell(to.convert(from.class(), state, HOUR));
        let left = cell.take(&to, 0, HOUR).remaining;
        let half = to.capacity() / 2;
        assert!(left.abs_diff(half) <= 1 + half / 100, "{left} left of {to:?} from {from:?}");
        assert_eq!(to.convert(from.class(), state, 5 * HOUR), FRESH);
    }
}

#[test]
fn conversion_within_an_algorithm_keeps_what_was_used() {
    let old = bucket(10, SECOND, 100);
    let state = old.step(FRESH, 60, HOUR).next.unwrap();
    let left = |quota: &CompiledQuota| outcome(quota, quota.convert(old.class(), state, HOUR), 0, HOUR).remaining;
    assert_eq!((left(&bucket(10, SECOND, 200)), left(&bucket(10, SECOND, 50))), (140, 0));
    let smaller = bucket(10, SECOND, 58);
    let refused = outcome(&smaller, smaller.convert(old.class(), state, HOUR), 1, HOUR);
    assert_eq!(refused.retry_after_nanos, SECOND / 10, "waits as one who has used up the new quota, not the old");

    let old = window(100, HOUR);
    let state = old.step(FRESH, 60, HOUR).next.unwrap();
    let left = |quota: &CompiledQuota| outcome(quota, quota.convert(old.class(), state, HOUR), 0, HOUR).remaining;
    assert_eq!((left(&window(200, HOUR / 2)), left(&window(50, HOUR))), (140, 0));
}

#[test]
fn usage_reads_idle_half_and_whole() {
    for quota in [bucket(10, SECOND, 100), window(100, 10 * SECOND)] {
        let read = |cost: u64, after: Nanos| {
            let state = quota.step(FRESH, cost, HOUR).next.unwrap();
            usage(quota.class(), state, HOUR + after)
        };
        assert!(matches!(read(50, 0), Usage::Used { share, halved_after_nanos: 0 } if share <= Usage::HALF));
        assert!(matches!(read(100, 0), Usage::Used { share, halved_after_nanos } if share > Usage::WHOLE * 99 / 100
            && halved_after_nanos > 4 * SECOND));
        assert_eq!(read(100, 11 * SECOND), Usage::Idle);
    }
}

proptest! {
    /// Any word may meet any quota at any time: states survive reloads, and clocks step.
    #[test]
    fn no_state_panics_or_gives_more_than_the_capacity(
        state in any::<u64>(), class in any::<u16>(), cost in any::<u64>(), now in any::<u64>(),
        limit in 0u64..1 << 24, period in 10_000_000u64..SPAN_MAX_NANOS, burst in 0u64..1000,
    ) {
        let period = period.max(limit * 100);
        let quotas = [Algorithm::TokenBucket, Algorithm::FixedWindow]
            .map(|algorithm| Quota { algorithm, limit, period_nanos: period, burst }.compile());
        for quota in quotas.into_iter().flatten() {
            for state in [state, state >> 5, quota.convert(class, state, now)] {
                let step = quota.step(state, cost, now);
                let said = quota.outcome(step.answer);
                prop_assert!(said.remaining <= quota.capacity());
                prop_assert!(!said.allowed || cost <= quota.capacity());
                prop_assert_ne!(step.next, Some(u64::MAX));
                let _ = usage(class, state, now);
            }
            let converted = quota.convert(class, state, now);
            let after = outcome(&quota, converted, 0, now).reset_after_nanos;
            prop_assert!(after <= quota.tolerance_nanos.max(quota.span_nanos()), "waits {after}");
        }
    }

    /// A refusal's `retry_after` is the very nanosecond from which the request passes.
    #[test]
    fn retry_after_is_exact(
        limit in 1u64..100, period in 10_000_000u64..100 * SECOND, burst in 1u64..100,
        now in 0..HOUR, cost in any::<u64>(), used in any::<u64>(), is_window in any::<bool>(),
    ) {
        let quota = if is_window { window(limit, period) } else { bucket(limit, period, burst) };
        let cost = 1 + cost % quota.capacity();
        let used = quota.capacity() - used % cost;
        let mut cell = Cell(FRESH);
        prop_assert!(cell.take(&quota, used, now).allowed);
        let answer = cell.take(&quota, cost, now);
        prop_assert!(!answer.allowed);
        let at = now + answer.retry_after_nanos;
        prop_assert!(!outcome(&quota, cell.0, cost, at - 1).allowed);
        prop_assert!(outcome(&quota, cell.0, cost, at).allowed);
    }
}
