//! Leaving a target alone that fails again and again: when, for how long, and how many at once.
//!
//! Pure: every function is given the time. A target is ejected after so many failures in a row, for a time that doubles
//! with each ejection and is forgotten when it was well for the longest time.
//!
//! Invariant: of `n` targets at most `n - 1` are ejected, whatever the share says.

/// The rules of one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row; 0 means never.
    pub failures: u32,
    /// The first ejection.
    pub ejection_nanos: u64,
    /// The longest ejection, and how long a target must be well to start anew.
    pub longest_nanos: u64,
    /// The share that may be ejected at once, in percent.
    pub most_percent: u32,
}

impl Rules {
    /// How many of `targets` may be ejected at once: the share, rounded down, but one where there are several, and never
    /// the last.
    #[must_use]
    pub fn most_ejected(&self, targets: usize) -> usize {
        if self.failures == 0 || self.most_percent == 0 || targets < 2 {
            return 0;
        }
        (targets * self.most_percent as usize / 100).clamp(1, targets - 1)
    }
}

/// What is remembered of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// How often it was ejected lately.
    times: u32,
    /// Until when it is ejected; 0 when it is not.
    until_nanos: u64,
    /// When its last ejection ended.
    ended_nanos: u64,
}

impl Record {
    /// Whether it is ejected.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.until_nanos != 0
    }
}

/// The records of all targets of one upstream.
#[derive(Debug)]
pub struct Records {
    rules: Rules,
    records: Vec<Record>,
}

impl Records {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(rules: Rules, targets: usize) -> Records {
        Records { rules, records: vec![Record::default(); targets] }
    }

    /// `index` has failed too often in a row. Whether it is ejected now; not when it is already, or too many are.
    pub fn eject(&mut self, index: usize, now_nanos: u64) -> bool {
        let ejected = self.records.iter().filter(|record| record.is_ejected()).count();
        let most = self.rules.most_ejected(self.records.len());
        let Some(record) = self.records.get_mut(index).filter(|record| !record.is_ejected()) else { return false };
        if ejected >= most {
            return false;
        }
        if now_nanos.saturating_sub(record.ended_nanos) >= self.rules.longest_nanos {
            record.times = 0;
        }
        let doublings = record.times.min(32);
        let time = self.rules.ejection_nanos.saturating_mul(1 << doublings).min(self.rules.longest_nanos);
        record.times = record.times.saturating_add(1);
        record.until_nanos = now_nanos.saturating_add(time).max(1);
        true
    }

    /// Ends every ejection whose time is up and tells each.
    pub fn release(&mut self, now_nanos: u64, mut released: impl FnMut(usize)) {
        for (index, record) in self.records.iter_mut().enumerate() {
            if record.is_ejected() && record.until_nanos <= now_nanos {
                record.until_nanos = 0;
                record.ended_nanos = now_nanos;
                released(index);
            }
        }
    }

    /// How much longer `index` is left alone.
    #[must_use]
    pub fn left_nanos(&self, index: usize, now_nanos: u64) -> Option<u64> {
        self.records
            .get(index)
            .filter(|record| record.is_ejected())
            .map(|record| record.until_nanos.saturating_sub(now_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rules(most_percent: u32) -> Rules {
        Rules { failures: 3, ejection_nanos: 10 * SECOND, longest_nanos: 60 * SECOND, most_percent }
    }

    #[test]
    fn one_always_stays_and_one_may_always_go() {
        for (targets, percent, most) in [
            (0, 50, 0),
            (1, 100, 0),
            (2, 50, 1),
            (2, 10, 1),
            (2, 100, 1),
            (3, 50, 1),
            (10, 50, 5),
            (10, 5, 1),
            (10, 100, 9),
            (10, 0, 0),
        ] {
            assert_eq!(rules(percent).most_ejected(targets), most, "{targets} targets, {percent} %");
        }
    }

    #[test]
    fn the_time_doubles_to_its_cap_and_is_forgotten_after_a_long_time_well() {
        let mut records = Records::new(rules(50), 2);
        let mut now = 100 * SECOND;
        for expected in [10, 20, 40, 60, 60] {
            assert!(records.eject(0, now));
            assert_eq!(records.left_nanos(0, now), Some(expected * SECOND));
            now += expected * SECOND;
            records.release(now - 1, |_| panic!("too early"));
            let mut released = Vec::new();
            records.release(now, |index| released.push(index));
            assert_eq!(released, [0]);
        }
        now += 60 * SECOND;
        assert!(records.eject(0, now));
        assert_eq!(records.left_nanos(0, now), Some(10 * SECOND), "it starts anew");
    }

    #[test]
    fn the_set_is_never_emptied() {
        for percent in [1, 50, 100] {
            for targets in 1..20 {
                let mut records = Records::new(rules(percent), targets);
                let ejected = (0..targets).filter(|index| records.eject(*index, SECOND)).count();
                assert!(ejected < targets, "{ejected} of {targets} at {percent} %");
                assert_eq!(ejected, rules(percent).most_ejected(targets));
            }
        }
    }

    #[test]
    fn who_is_ejected_is_not_ejected_again() {
        let mut records = Records::new(rules(100), 5);
        assert!(records.eject(1, SECOND));
        assert!(!records.eject(1, 2 * SECOND));
        assert_eq!(records.left_nanos(1, SECOND), Some(10 * SECOND));
    }
}
