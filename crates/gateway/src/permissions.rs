//! Changes of permissions: planned, written to the store, and only then in force. One at a time.
//!
//! Requests are held against the [`Policy`] in memory, which is what the store has: it is read at start, and every change
//! comes through here. A change that has begun is carried to its end even when the command that asked for it hangs up. When
//! writing fails it is tried again; when it fails for good, the store is read, because nobody else knows what it took; and
//! when that fails too, the policy is in doubt until a later reading succeeds.
//!
//! Invariant: what is acknowledged is written and in force; what is in force was written.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::metric::{Declaration, Histogram, Kind, Registry};
use portcullis_guards::permissions::metrics as of_guard;
use portcullis_store::memory::permissions::MemoryPermissions;
use portcullis_store::permissions::{
    Change, Changed, NameError, Permissions as Store, Policy, Refused, StoreError, Why,
};
use tokio::sync::Mutex;

use crate::clock::SystemClock;
use crate::keeper::Operation;
use crate::life::Gate;
use crate::telemetry::log::Log;

/// How long a writing that failed is waited for before it is tried again: another program's lock is gone by then, or not.
const RETRIES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long checks over the API took, a whole batch as one.
pub static CHECK_DURATION: Declaration = Declaration {
    name: "permission_check_duration_seconds",
    kind: Kind::Histogram,
    help: "Time of calls of the check API, a batch as one; checks on routes are not timed, two clock readings cost as much",
    labels: &[],
};

/// Keeps the policy and its store alike.
pub struct Keeper {
    policy: Arc<Policy>,
    store: Arc<dyn Store>,
    changing: Mutex<()>,
    pauses: [Duration; 3],
    update: Operation,
    list: Operation,
    /// What checks over the API count.
    checks: Checks,
}

/// What checks over the API count.
struct Checks {
    counts: of_guard::Counts,
    duration: Histogram,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    /// It makes no sense.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store failed. Nothing was acknowledged; what is in force is what the store has.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Keeper {
    /// Keeps what is changed as long as the process lives.
    #[must_use]
    pub fn in_memory(policy: Arc<Policy>, metrics: &Registry) -> Keeper {
        Keeper::new(policy, Arc::new(MemoryPermissions::default()), metrics)
    }

    /// Reads everything that `store` has.
    ///
    /// # Errors
    /// When it cannot be read; then nothing may be served, because an entry that denies may be among it.
    pub async fn open(policy: Arc<Policy>, store: Arc<dyn Store>, metrics: &Registry) -> Result<Keeper, StoreError> {
        let keeper = Keeper::new(policy, store, metrics);
        keeper.policy.load(&keeper.store.list().await?).map_err(unreadable)?;
        Ok(keeper)
    }

    fn new(policy: Arc<Policy>, store: Arc<dyn Store>, metrics: &Registry) -> Keeper {
        Keeper {
            policy,
            store,
            changing: Mutex::new(()),
            pauses: RETRIES,
            update: Operation::new(metrics, "permissions_update"),
            list: Operation::new(metrics, "permissions_list"),
            checks: Checks {
                counts: of_guard::Counts::new(metrics),
                duration: metrics.histogram(&CHECK_DURATION, &[]),
            },
        }
    }

    /// Makes these changes: all or none. Gives those that changed something.
    ///
    /// # Errors
    /// [`NotMade`].
    pub async fn change(&self, orders: &[Change], clock: &SystemClock) -> Result<Vec<Change>, NotMade> {
        let _changing = self.changing.lock().await;
        if !self.policy.is_sure() {
            self.read(clock).await?;
        }
        let planned = self.policy.plan(orders)?;
        if planned.changes.is_empty() {
            return Ok(Vec::new());
        }
        match self.write(&planned, clock).await {
            Ok(()) => {
                let changes = planned.changes.clone();
                self.policy.commit(planned);
                Ok(changes)
            }
            Err(error) => {
                // A writing that failed has changed nothing, says the store's trait; a disk that fails keeps no promises.
                if self.read(clock).await.is_err() {
                    self.policy.doubt();
                }
                Err(error.into())
            }
        }
    }

    async fn write(&self, planned: &Changed, clock: &SystemClock) -> Result<(), StoreError> {
        let mut pauses = self.pauses.iter();
        loop {
            // Every change can be made twice.
            let error = match self.update.timed(clock, self.store.update(&planned.changes)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let Some(pause) = pauses.next() else { return Err(error) };
            tokio::time::sleep(*pause).await;
        }
    }

    async fn read(&self, clock: &SystemClock) -> Result<(), StoreError> {
        let records = self.list.timed(clock, self.store.list()).await?;
        self.policy.load(&records).map_err(unreadable)
    }

    /// The word for health pages.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.policy.is_sure() { "ok" } else { "in_doubt" }
    }

    /// Counts the answers of one call of the check API, and how long it took.
    pub(crate) fn count(&self, answers: impl Iterator<Item = (Option<Why>, bool)>, took: Duration) {
        for (why, is_remembered) in answers {
            match why {
                Some(why) => self.checks.counts.count(why, is_remembered),
                None => self.checks.counts.count_unavailable(),
            }
        }
        self.checks.duration.observe(took.as_secs_f64());
    }

    /// Ends a doubt as soon as the store can be read, until the task is dropped.
    pub async fn keep(&self, clock: &SystemClock, log: &Log) {
        let mut pause = FIRST_PAUSE;
        let mut has_failed = false;
        loop {
            tokio::time::sleep(pause).await;
            if self.policy.is_sure() {
                pause = FIRST_PAUSE;
                continue;
            }
            if !has_failed {
                log.event(
                    "error",
                    "permissions_in_doubt",
                    &[("why", "the store failed in a change and cannot be read")],
                );
            }
            let _changing = self.changing.lock().await;
            has_failed = self.read(clock).await.is_err();
            pause = if has_failed { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
            if !has_failed {
                log.event("info", "permissions_known_again", &[]);
            }
        }
    }
}

/// Makes changes in a task of their own, so that they are carried to their end whoever hangs up. Runs in a `LocalSet`.
///
/// # Errors
/// As [`Keeper::change`].
pub async fn change(gate: &Arc<Gate>, orders: Vec<Change>) -> Result<Vec<Change>, NotMade> {
    let of_task = Arc::clone(gate);
    let task = tokio::task::spawn_local(async move { of_task.permissions.change(&orders, &of_task.clock).await });
    task.await.unwrap_or_else(|_| {
        // It panicked in the middle, or the process ends.
        gate.ground.permissions.doubt();
        Err(StoreError { tried: "changing permissions".to_owned(), why: "it was cut off".to_owned() }.into())
    })
}

fn unreadable(wrong: NameError) -> StoreError {
    StoreError { tried: "reading the permissions".to_owned(), why: wrong.to_string() }
}

#[cfg(test)]
mod tests;
