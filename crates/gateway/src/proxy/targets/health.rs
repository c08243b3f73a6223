//! What health checks have said about one target: so many in a row turn the verdict, the first one alone.
//!
//! Pure. Before the first answer a target counts as well: nothing is known against it.
//!
//! Invariant: the verdict turns only on a run of equal answers, so a flapping target does not flap in and out.

/// How many answers in a row turn the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones, for a target that counts as bad.
    pub healthy: u32,
    /// Bad ones, for a target that counts as good.
    pub unhealthy: u32,
}

/// What is known of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    verdict: Option<bool>,
    against: u32,
}

impl Health {
    /// Nobody has asked yet.
    pub const UNKNOWN: Health = Health { verdict: None, against: 0 };

    /// Whether it is well; `None` before the first answer.
    #[must_use]
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// Another answer. Whether it turned the verdict.
    pub fn hear(&mut self, is_good: bool, thresholds: Thresholds) -> bool {
        let Some(was_good) = self.verdict else {
            self.verdict = Some(is_good);
            return true;
        };
        if is_good == was_good {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if is_good { thresholds.healthy } else { thresholds.unhealthy };
        if self.against < needed {
            return false;
        }
        *self = Health { verdict: Some(is_good), against: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_decides_and_then_only_runs_do() {
        let thresholds = Thresholds { healthy: 2, unhealthy: 3 };
        for (answers, verdicts) in [
            ("+", "+"),
            ("-", "-"),
            ("+--+--", "++++++"),
            ("+---", "+++-"),
            ("+---+-+-++", "+++------+"),
            ("-+-+++", "----++"),
        ] {
            let mut health = Health::UNKNOWN;
            let heard: String = answers
                .chars()
                .map(|answer| {
                    let before = health.verdict();
                    let turned = health.hear(answer == '+', thresholds);
                    assert_eq!(turned, before != health.verdict(), "{answers}");
                    if health.verdict() == Some(true) { '+' } else { '-' }
                })
                .collect();
            assert_eq!(heard, verdicts, "{answers}");
        }
    }
}
