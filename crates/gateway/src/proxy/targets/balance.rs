//! Which target is asked next: smooth weighted round robin, or the fewest requests in flight for its weight.
//!
//! Each core has its own turn, so that nothing is locked; requests in flight are counted over all cores. Choosing looks at
//! every target once and allocates nothing.
//!
//! Invariant: as long as there is a target, one is chosen. Bad ones are chosen only when all are bad (panic routing).

use std::cell::{Cell, RefCell};

use crate::config::upstream::place::Balance;

/// What balancing needs to know of one target.
pub trait Candidate {
    /// Its share, 1 to 1000.
    fn weight(&self) -> u32;
    /// Whether nothing is known against it.
    fn is_good(&self) -> bool;
    /// Requests in flight to it.
    fn in_flight(&self) -> usize;
}

/// One core's turn.
pub struct Turn {
    balance: Balance,
    /// Smooth weighted round robin: what each target has saved up.
    saved: RefCell<Vec<i64>>,
    /// Where the search for the fewest begins, so that equals take turns.
    begin: Cell<usize>,
}

impl Turn {
    /// A turn over `targets` targets that begins at `begin`, which is best different on each core.
    #[must_use]
    pub fn new(balance: Balance, targets: usize, begin: usize) -> Turn {
        let turn = Turn { balance, saved: RefCell::new(vec![0; targets]), begin: Cell::new(begin) };
        if targets > 0 {
            turn.saved.borrow_mut()[begin % targets] = 1;
        }
        turn
    }

    /// The next target. `avoid` is the one that has just failed: it is chosen only when there is no other good one.
    pub fn next<T: Candidate>(&self, targets: &[T], avoid: Option<usize>) -> usize {
        if targets.len() < 2 {
            return 0;
        }
        self.begin.set(self.begin.get().wrapping_add(1));
        let good = |index: usize| targets[index].is_good();
        let other = |index: usize| Some(index) != avoid;
        self.choose(targets, |index| good(index) && other(index))
            .or_else(|| self.choose(targets, good))
            .or_else(|| self.choose(targets, other))
            .unwrap_or(0)
    }

    fn choose<T: Candidate>(&self, targets: &[T], may: impl Fn(usize) -> bool) -> Option<usize> {
        match self.balance {
            Balance::RoundRobin => self.in_turn(targets, may),
            Balance::LeastRequests => self.fewest(targets, may),
        }
    }

    /// nginx's rule: everybody saves its weight, the richest is chosen and pays for all.
    fn in_turn<T: Candidate>(&self, targets: &[T], may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut saved = self.saved.borrow_mut();
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, target) in targets.iter().enumerate().filter(|(index, _)| may(*index)) {
            let weight = i64::from(target.weight());
            total += weight;
            saved[index] += weight;
            if best.is_none_or(|best| saved[index] > saved[best]) {
                best = Some(index);
            }
        }
        if let Some(best) = best {
            saved[best] -= total;
        }
        best
    }

    /// The least `(in flight + 1) / weight`, so that an idle target of double weight is worth two.
    fn fewest<T: Candidate>(&self, targets: &[T], may: impl Fn(usize) -> bool) -> Option<usize> {
        let begin = self.begin.get();
        let load = |index: usize| (targets[index].in_flight() as u64 + 1, u64::from(targets[index].weight()));
        let mut best: Option<(usize, (u64, u64))> = None;
        for index in
            (0..targets.len()).map(|step| (begin % targets.len() + step) % targets.len()).filter(|index| may(*index))
        {
            let (busy, weight) = load(index);
            if best.is_none_or(|(_, (least, of_weight))| busy * of_weight < least * weight) {
                best = Some((index, (busy, weight)));
            }
        }
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Fake(u32, bool, usize);

    impl Candidate for Fake {
        fn weight(&self) -> u32 {
            self.0
        }
        fn is_good(&self) -> bool {
            self.1
        }
        fn in_flight(&self) -> usize {
            self.2
        }
    }

    fn chosen(turn: &Turn, targets: &[Fake], times: usize) -> Vec<usize> {
        (0..times).map(|_| turn.next(targets, None)).collect()
    }

    #[test]
    fn round_robin_is_exact_and_smooth() {
        let targets = [Fake(5, true, 0), Fake(1, true, 0), Fake(1, true, 0)];
        let turn = Turn::new(Balance::RoundRobin, 3, 0);
        let chosen = chosen(&turn, &targets, 700);
        for (index, expected) in [(0, 500), (1, 100), (2, 100)] {
            assert_eq!(chosen.iter().filter(|target| **target == index).count(), expected);
        }
        assert!(chosen.windows(6).all(|six| six.iter().any(|target| *target != 0)), "never more than five in a row");
    }

    #[test]
    fn bad_targets_are_left_out_until_all_are_bad() {
        for balance in [Balance::RoundRobin, Balance::LeastRequests] {
            let turn = Turn::new(balance, 3, 0);
            let one_good = [Fake(1, false, 0), Fake(1, true, 9), Fake(9, false, 0)];
            assert!(chosen(&turn, &one_good, 50).iter().all(|target| *target == 1), "{balance:?}");
            let none_good = [Fake(1, false, 0), Fake(1, false, 0), Fake(1, false, 0)];
            let mut used = chosen(&turn, &none_good, 50);
            used.sort_unstable();
            used.dedup();
            assert_eq!(used, [0, 1, 2], "{balance:?}: all of them when all are bad");
        }
    }

    #[test]
    fn the_one_that_just_failed_is_avoided_while_there_is_another() {
        for balance in [Balance::RoundRobin, Balance::LeastRequests] {
            let turn = Turn::new(balance, 3, 0);
            let all = [Fake(1000, true, 0), Fake(1, true, 500), Fake(1, false, 0)];
            assert!((0..50).all(|_| turn.next(&all, Some(0)) == 1), "{balance:?}");
            let only = [Fake(1, true, 0), Fake(1, false, 0)];
            assert_eq!(turn.next(&only, Some(0)), 0, "{balance:?}: better the same than a bad one");
            let none = [Fake(1, false, 0), Fake(1, false, 0)];
            assert_eq!(turn.next(&none, Some(0)), 1, "{balance:?}");
            assert_eq!(turn.next(&only[..1], Some(0)), 0, "{balance:?}");
        }
    }

    #[test]
    fn the_fewest_in_flight_for_the_weight_is_chosen_and_equals_take_turns() {
        let turn = Turn::new(Balance::LeastRequests, 2, 0);
        for (first, second, expected) in
            [((1, 3), (1, 2), 1), ((2, 3), (1, 2), 0), ((1, 0), (1000, 998), 1), ((1, 0), (1000, 1001), 0)]
        {
            let targets = [Fake(first.0, true, first.1), Fake(second.0, true, second.1)];
            assert_eq!(turn.next(&targets, None), expected, "{first:?} {second:?}");
        }
        let equal = [Fake(1, true, 0), Fake(1, true, 0)];
        assert_eq!(chosen(&turn, &equal, 4).iter().sum::<usize>(), 2);
    }

    #[test]
    fn a_target_that_comes_back_does_not_get_everything_at_once() {
        let turn = Turn::new(Balance::RoundRobin, 2, 0);
        chosen(&turn, &[Fake(1, true, 0), Fake(1, false, 0)], 1000);
        let back = chosen(&turn, &[Fake(1, true, 0), Fake(1, true, 0)], 10);
        assert_eq!(back.iter().filter(|target| **target == 1).count(), 5);
    }
}
