//! The circuit breaker of one upstream: what it remembers, and the permits that outcomes come back by.
//!
//! Asked before every attempt; each attempt reports once through its [`Permit`]. A closed breaker admits with one atomic
//! load and counts a success with one more load and one addition; everything else (failures, probes, transitions) goes
//! through one short lock, so the order of transitions is the order in which they are observed.
//!
//! Every transition begins a new generation. A permit belongs to the generation that gave it, a probe also to its lease;
//! verdicts of an older generation or of a lease that ran out are ignored. So a probe that is lost, cancelled, panics or
//! hangs can hold a place no longer than its lease, and nothing that is late can open or close the breaker.
//!
//! Invariant: reads no clock. `now` is in nanoseconds since the process started; where it goes backwards (two threads'
//! readings crossing) the breaker takes the latest it has seen.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, PoisonError};

use portcullis_core::fault::ErrorType;

use super::config::Rules;
use super::decide::{self, Admission, AfterProbe, Counts, Standing, State, Verdict};
use super::observer::{Cause, Observer, Transition};
use super::permit::{OwnedPermit, Permit, Ticket};
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use super::window::{Failures, Successes};

/// A request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// How long to wait before asking again, in nanoseconds: the rest of the open time, or a second while probes are out.
    pub retry_after_nanos: u64,
}

/// What [`Breaker::snapshot`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The state by now: half-open as soon as the open time is up, traffic or not.
    pub state: State,
    /// What the window holds; all 0 unless closed.
    pub counts: Counts,
    /// Why the state was entered that traffic last saw; `None` if it was never left.
    pub cause: Option<Cause>,
    /// The rest of the open time in nanoseconds; 0 unless open.
    pub open_remaining_nanos: u64,
    /// Probes that are out under a lease that still holds.
    pub probes_out: u32,
    /// Probes that succeeded since the breaker became half-open.
    pub probes_succeeded: u32,
}

/// The circuit breaker of one upstream. Shared by reference or [`Arc`] between all threads.
pub struct Breaker {
    /// State in the two low bits, generation above: all that the closed path reads. Written under the lock. Relaxed is
    /// enough, because nothing that is read without the lock is believed for the sake of another.
    head: AtomicU64,
    /// When an open breaker becomes half-open; only ever later. Written under the lock.
    open_until: AtomicU64,
    rules: Rules,
    successes: Successes,
    machine: Mutex<Machine>,
    observer: Box<dyn Observer>,
}

const STATE_BITS: u32 = 2;

/// What is remembered under the lock.
#[derive(Debug)]
struct Machine {
    /// The latest `now` that came through the lock.
    latest: u64,
    failures: Failures,
    /// The probes that are out; at most `Rules::probes`.
    probes: Vec<Lease>,
    probes_succeeded: u32,
    /// Why the present state was entered.
    cause: Option<Cause>,
    /// The number of the last lease given.
    last_lease: NonZeroU64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    number: NonZeroU64,
    until: u64,
}

impl Breaker {
    /// A closed breaker with nothing counted.
    pub fn new(rules: Rules, observer: impl Observer + 'static) -> Breaker {
        Breaker {
            head: AtomicU64::new(State::Closed as u64),
            open_until: AtomicU64::new(0),
            successes: Successes::new(),
            machine: Mutex::new(Machine {
                latest: 0,
                failures: Failures::new(rules.failures),
                probes: Vec::with_capacity(rules.probes as usize),
                probes_succeeded: 0,
                cause: None,
                last_lease: NonZeroU64::MIN,
            }),
            rules,
            observer: Box::new(observer),
        }
    }

    /// The rules it runs on. A reload that brings equal rules should keep the breaker and what it remembers.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Asks for one attempt, with a permit that borrows the breaker.
    ///
    /// # Errors
    /// [`Rejected`] while open, and while half-open with every probe out.
    #[inline]
    pub fn admit(&self, now: u64) -> Result<Permit<&Breaker>, Rejected> {
        let ticket = self.ticket(now)?;
        Ok(Permit::new(self, ticket))
    }

    /// Asks for one attempt, with a permit that can be moved into a task or a body.
    ///
    /// # Errors
    /// As [`Breaker::admit`].
    #[inline]
    pub fn admit_owned(self: &Arc<Breaker>, now: u64) -> Result<OwnedPermit, Rejected> {
        let ticket = self.ticket(now)?;
        Ok(Permit::new(Arc::clone(self), ticket))
    }

    /// What [`Breaker::admit`] would answer at `now`. Changes nothing.
    pub fn peek(&self, now: u64) -> Admission {
        let machine = self.lock();
        let now = machine.latest.max(now);
        decide::admission(&self.rules, self.standing(&machine, now), now)
    }

    /// How long it has been half-open at `now`; `None` in any other state. One load while it is closed.
    pub fn half_open_for_nanos(&self, now: u64) -> Option<u64> {
        if self.state() == State::Closed {
            return None;
        }
        let machine = self.lock();
        let now = machine.latest.max(now);
        let standing = self.standing(&machine, now);
        (decide::state_at(standing, now) == State::HalfOpen).then(|| now.saturating_sub(standing.open_until))
    }

    /// Everything there is to see at `now`. Changes nothing.
    pub fn snapshot(&self, now: u64) -> Snapshot {
        let machine = self.lock();
        let now = machine.latest.max(now);
        let standing = self.standing(&machine, now);
        let state = decide::state_at(standing, now);
        Snapshot {
            state,
            counts: self.successes.counts(&machine.failures, &self.rules, self.generation(), now),
            cause: machine.cause,
            open_remaining_nanos: match state {
                State::Open => decide::remaining(&self.rules, standing.open_until, now),
                State::Closed | State::HalfOpen => 0,
            },
            probes_out: standing.probes_out,
            probes_succeeded: standing.probes_succeeded,
        }
    }

    /// Makes the transition to half-open if it is due at `now`, as traffic would.
    ///
    /// For whoever reads the observed gauge: called before each scrape, a breaker without traffic does not look open for ever.
    pub fn advance(&self, now: u64) {
        if self.state() == State::Open {
            let mut machine = self.lock();
            let now = machine.at(now);
            self.enter_half_open_if_due(&mut machine, now);
        }
    }

    #[inline]
    fn ticket(&self, now: u64) -> Result<Ticket, Rejected> {
        loop {
            let head = self.head.load(Ordering::Relaxed);
            if state_of(head) == State::Closed {
                return Ok(Ticket { head, since: now, lease: None });
            }
            // Returns in registers: a ticket that came back through memory would cost the closed path more than all the rest.
            match self.lease_unless_closed(head, now) {
                Ok(None) => {}
                Ok(lease) => return Ok(Ticket { head, since: now, lease }),
                Err(rejected) => return Err(rejected),
            }
        }
    }

    /// A probe's lease; none where the breaker turned out to be closed by now.
    #[cold]
    fn lease_unless_closed(&self, head: u64, now: u64) -> Result<Option<NonZeroU64>, Rejected> {
        let answer = self.lease(head, now);
        if answer.is_err() {
            self.observer.rejected();
        }
        answer
    }

    fn lease(&self, head: u64, now: u64) -> Result<Option<NonZeroU64>, Rejected> {
        if state_of(head) == State::Open {
            // A flood that is being refused must not queue at the lock. Should the breaker have moved on since `head` was
            // read, this is the answer of a moment ago. An end that is older than `head` is over, and leads to the lock.
            let retry_after_nanos = decide::remaining(&self.rules, self.open_until.load(Ordering::Relaxed), now);
            if retry_after_nanos > 0 {
                return Err(Rejected { retry_after_nanos });
            }
        }
        let mut machine = self.lock();
        let now = machine.at(now);
        self.enter_half_open_if_due(&mut machine, now);
        match decide::admission(&self.rules, self.standing(&machine, now), now) {
            Admission::Pass => Ok(None),
            Admission::Probe => Ok(Some(machine.lend(now, &self.rules))),
            Admission::Refuse { retry_after_nanos } => Err(Rejected { retry_after_nanos }),
        }
    }

    #[inline]
    pub(super) fn settle(&self, head: u64, verdict: Verdict, now: u64) {
        match verdict {
            Verdict::Success if self.head.load(Ordering::Relaxed) == head => {
                self.successes.add(self.rules.buckets, generation_of(head), now);
            }
            Verdict::Failure(kind) => self.settle_failure(head, kind, now),
            Verdict::Success | Verdict::Answered | Verdict::Neutral => {}
        }
    }

    #[cold]
    fn settle_failure(&self, head: u64, kind: ErrorType, now: u64) {
        let mut machine = self.lock();
        if self.head.load(Ordering::Relaxed) != head {
            return;
        }
        let now = machine.at(now);
        machine.failures.add(self.rules.buckets, now);
        let counts = self.successes.counts(&machine.failures, &self.rules, generation_of(head), now);
        if decide::opens(&self.rules, counts) {
            self.open(&mut machine, now, Cause::Failures(kind, counts));
        }
    }

    #[cold]
    pub(super) fn settle_probe(&self, lease: NonZeroU64, verdict: Verdict, now: u64) {
        let mut machine = self.lock();
        let now = machine.at(now);
        // Leases are numbered through all generations and forgotten with their own, so one that is found is of this one.
        match machine.give_back(lease) {
            Some(lease) if lease.until > now => {}
            _ => return,
        }
        match decide::after_probe(&self.rules, machine.probes_succeeded, verdict) {
            AfterProbe::Wait { probes_succeeded } => machine.probes_succeeded = probes_succeeded,
            AfterProbe::Reopen(kind) => self.open(&mut machine, now, Cause::ProbeFailed(kind)),
            AfterProbe::Close => self.enter(&mut machine, State::Closed, Cause::ProbesSucceeded),
        }
    }

    /// Takes a probe's place back without a verdict.
    pub(super) fn release(&self, lease: NonZeroU64) {
        self.lock().give_back(lease);
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    fn enter_half_open_if_due(&self, machine: &mut Machine, now: u64) {
        if self.state() == State::Open && decide::state_at(self.standing(machine, now), now) == State::HalfOpen {
            self.enter(machine, State::HalfOpen, Cause::TimeUp);
        }
    }

    fn open(&self, machine: &mut Machine, now: u64, cause: Cause) {
        self.open_until.store(now.saturating_add(self.rules.open_for_nanos), Ordering::Relaxed);
        self.enter(machine, State::Open, cause);
    }

    /// The one place where the state changes. Everything is written before the observer is called, so that one that
    /// panics leaves a whole machine behind.
    fn enter(&self, machine: &mut Machine, to: State, cause: Cause) {
        machine.failures.clear();
        machine.probes.clear();
        machine.probes_succeeded = 0;
        machine.cause = Some(cause);
        let head = self.head.load(Ordering::Relaxed);
        let next = generation_of(head).wrapping_add(1) << STATE_BITS | to as u64;
        self.head.store(next, Ordering::Relaxed);
        self.observer.transition(&Transition { from: state_of(head), to, cause });
    }

    fn standing(&self, machine: &Machine, now: u64) -> Standing {
        Standing {
            state: self.state(),
            open_until: self.open_until.load(Ordering::Relaxed),
            probes_out: machine.probes.iter().filter(|lease| lease.until > now).count() as u32,
            probes_succeeded: machine.probes_succeeded,
        }
    }

    /// The state last entered.
    fn state(&self) -> State {
        state_of(self.head.load(Ordering::Relaxed))
    }

    /// The generation by now; does not move while the lock is held.
    fn generation(&self) -> u64 {
        generation_of(self.head.load(Ordering::Relaxed))
    }

    /// Under the lock nothing of ours can panic; an observer can, and leaves the machine whole (see `enter`).
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// The time to reckon with at `now`.
    fn at(&mut self, now: u64) -> u64 {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Gives a lease, and forgets those that ran out.
    fn lend(&mut self, now: u64, rules: &Rules) -> NonZeroU64 {
        self.probes.retain(|lease| lease.until > now);
        let number = self.last_lease.saturating_add(1);
        self.probes.push(Lease { number, until: now.saturating_add(rules.probe_lease_nanos) });
        self.last_lease = number;
        debug_assert!(self.probes.len() <= rules.probes as usize, "more probes are out than asked for");
        number
    }

    /// Takes a lease out, if it is still there.
    fn give_back(&mut self, number: NonZeroU64) -> Option<Lease> {
        let position = self.probes.iter().position(|lease| lease.number == number)?;
        Some(self.probes.swap_remove(position))
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Breaker")
            .field("state", &self.state())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

fn generation_of(head: u64) -> u64 {
    head >> STATE_BITS
}

fn state_of(head: u64) -> State {
    match head & ((1 << STATE_BITS) - 1) {
        0 => State::Closed,
        1 => State::HalfOpen,
        _ => State::Open,
    }
}
