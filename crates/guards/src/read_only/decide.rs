//! Decides whether a request may write: `(safe, mode, by hand) -> Decision`, nothing else.
//!
//! Invariant: a read is decided before anything else is looked at.

use super::config::Mode;

/// What the operator said by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ByHand {
    /// Nothing: the mode holds.
    #[default]
    Nothing,
    /// Read-only.
    On,
    /// Not read-only, whatever the mode says.
    Off,
}

/// Why a write is refused. The names are rules in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The operator's command.
    Hand,
    /// `mode: always`.
    Config,
    /// Writes keep failing.
    Failures,
}

impl Why {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Why::Hand => "hand",
            Why::Config => "config",
            Why::Failures => "failures",
        }
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is no write.
    Read,
    /// It may write.
    Pass,
    /// It may not.
    Refuse(Why),
    /// What became of other writes decides.
    Ask,
}

/// Decides.
pub(super) fn decide(is_safe: bool, mode: Mode, by_hand: ByHand) -> Decision {
    match (is_safe, by_hand, mode) {
        (true, _, _) => Decision::Read,
        (_, ByHand::On, _) => Decision::Refuse(Why::Hand),
        (_, ByHand::Off, _) | (_, ByHand::Nothing, Mode::Never) => Decision::Pass,
        (_, ByHand::Nothing, Mode::Always) => Decision::Refuse(Why::Config),
        (_, ByHand::Nothing, Mode::Auto) => Decision::Ask,
    }
}
