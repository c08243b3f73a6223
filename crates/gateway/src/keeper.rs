//! Writes down who is banned, so that bans survive a restart, and says in the log what happened to them.
//!
//! The register in memory is what requests are held against; it marks what changed. The keeper fetches the marks, writes all
//! of them in one transaction (so many bans at once cost one wait for the disk), and puts them back when that fails. It is
//! woken by each change, tries again after a failure with growing pauses, and a command that wants its ban kept waits for it.
//!
//! Invariant: a change is unmarked only when it is written; what waits to be written is bounded by what is remembered.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_core::clock::{Clock, rfc3339};
use portcullis_core::metric::{Counter, Declaration, Histogram, Kind, Label, Registry, Values};
use portcullis_guards::ip_block::{Bans, Event};
use portcullis_store::bans::{Bans as Store, StoreError};
use portcullis_store::memory::bans::MemoryBans;
use portcullis_store::sql::{OpenError, Sql};
use tokio::sync::{Mutex, Notify};

use crate::clock::SystemClock;
use crate::telemetry::log::Log;

/// Networks in one transaction.
const MOST_AT_ONCE: usize = 500;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const OPERATION: Label = Label {
    name: "operation",
    values: Values::Closed(&[
        "bans_update",
        "bans_remove",
        "permissions_update",
        "permissions_list",
        "accounts_update",
    ]),
};

/// Calls of the durable store.
pub static OPERATIONS: Declaration = Declaration {
    name: "db_operations_total",
    kind: Kind::Counter,
    help: "Calls of the store, by what was done and how it ended",
    labels: &[OPERATION, Label { name: "status", values: Values::Closed(&["ok", "error"]) }],
};

/// How long they took.
pub static DURATION: Declaration = Declaration {
    name: "db_operation_duration_seconds",
    kind: Kind::Histogram,
    help: "Time of calls of the store",
    labels: &[OPERATION],
};

/// Keeps the register's bans in a store.
pub struct Keeper {
    bans: Arc<Bans>,
    store: Arc<dyn Store>,
    is_durable: bool,
    is_failing: AtomicBool,
    /// One writing at a time, so that who waits for it knows that everything marked before is written.
    writing: Mutex<()>,
    news: Arc<Notify>,
    update: Operation,
    remove: Operation,
}

/// Counts one kind of call.
pub(crate) struct Operation {
    ok: Counter,
    error: Counter,
    duration: Histogram,
}

/// Why the store cannot be used at start.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was opened and cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What was tried, and what it said.
        source: StoreError,
    },
}

impl Operation {
    /// The counters of the calls with this name.
    pub(crate) fn new(metrics: &Registry, name: &'static str) -> Operation {
        Operation {
            ok: metrics.counter(&OPERATIONS, &[name, "ok"]),
            error: metrics.counter(&OPERATIONS, &[name, "error"]),
            duration: metrics.histogram(&DURATION, &[name]),
        }
    }

    /// Counts and times `call`.
    pub(crate) async fn timed<T>(
        &self,
        clock: &SystemClock,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = clock.now().monotonic_nanos;
        let result = call.await;
        let took = Duration::from_nanos(clock.now().monotonic_nanos.saturating_sub(began));
        self.duration.observe(took.as_secs_f64());
        if result.is_ok() { &self.ok } else { &self.error }.inc();
        result
    }
}

impl Keeper {
    /// Keeps bans as long as the process lives.
    #[must_use]
    pub fn in_memory(bans: Arc<Bans>, metrics: &Registry) -> Keeper {
        Keeper::new(bans, Arc::new(MemoryBans::default()), false, metrics)
    }

    /// Loads what `store`, the database at `path`, remembers, and keeps bans there.
    ///
    /// # Errors
    /// When it cannot be read; then nothing may be served, because bans would not hold.
    pub async fn open(
        path: &Path,
        store: Arc<Sql>,
        bans: Arc<Bans>,
        clock: &SystemClock,
        log: &Log,
        metrics: &Registry,
    ) -> Result<Keeper, StoreFailure> {
        let event = if store.is_new() { "store_made" } else { "store_opened" };
        let records = Store::list(&*store).await;
        let records = records.map_err(|source| StoreFailure::Read { path: path.to_owned(), source })?;
        let count = records.len().to_string();
        bans.load(records, &clock.now());
        log.event("info", event, &[("path", &path.display().to_string()), ("networks", &count)]);
        Ok(Keeper::new(bans, store, true, metrics))
    }

    fn new(bans: Arc<Bans>, store: Arc<dyn Store>, is_durable: bool, metrics: &Registry) -> Keeper {
        Keeper {
            bans,
            store,
            is_durable,
            is_failing: AtomicBool::new(false),
            writing: Mutex::new(()),
            news: Arc::new(Notify::new()),
            update: Operation::new(metrics, "bans_update"),
            remove: Operation::new(metrics, "bans_remove"),
        }
    }

    /// Whether what is written survives the process.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// The word for health pages.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match (self.is_durable, self.is_failing.load(Ordering::Relaxed)) {
            (false, _) => "memory",
            (true, false) => "ok",
            (true, true) => "failing",
        }
    }

    /// Writes everything that is marked. When it answers `Ok`, all that changed before the call is written.
    ///
    /// # Errors
    /// What the store said; what was not written stays marked.
    pub async fn write(&self, clock: &SystemClock) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        loop {
            let changes = self.bans.changes(MOST_AT_ONCE);
            if changes.is_empty() {
                self.is_failing.store(false, Ordering::Relaxed);
                return Ok(());
            }
            // Dropped in the middle (a command that hung up), what was fetched would be lost; this puts it back.
            let mut held = PutBack { bans: &self.bans, changes: Some(changes) };
            if let Some(changes) = &held.changes {
                if !changes.records.is_empty() {
                    self.timed(&self.update, clock, self.store.update(&changes.records)).await?;
                }
                if !changes.forgotten.is_empty() {
                    self.timed(&self.remove, clock, self.store.remove(&changes.forgotten)).await?;
                }
            }
            held.changes = None;
        }
    }

    async fn timed(
        &self,
        operation: &Operation,
        clock: &SystemClock,
        call: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let result = operation.timed(clock, call).await;
        self.is_failing.store(result.is_err(), Ordering::Relaxed);
        result
    }

    /// Writes what changes, as it changes, until the task is dropped.
    pub async fn keep(&self, clock: &SystemClock, log: &Log) {
        let news = Arc::clone(&self.news);
        self.bans.wake_with(move || news.notify_one());
        let mut pause = FIRST_PAUSE;
        let mut has_failed = false;
        loop {
            self.news.notified().await;
            for event in self.bans.events() {
                tell(log, &event);
            }
            while let Err(error) = self.write(clock).await {
                if !has_failed {
                    log.event(
                        "error",
                        "store_failed",
                        &[("error", &error.to_string()), ("meanwhile", "bans hold in memory")],
                    );
                }
                has_failed = true;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if has_failed {
                log.event("info", "store_recovered", &[]);
            }
            (has_failed, pause) = (false, FIRST_PAUSE);
        }
    }
}

/// Marks again what was fetched and not written.
struct PutBack<'a> {
    bans: &'a Bans,
    changes: Option<portcullis_guards::ip_block::Changes>,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        if let Some(changes) = &self.changes {
            self.bans.put_back(changes);
        }
    }
}

fn tell(log: &Log, event: &Event) {
    let until = event.until_unix_millis.map(rfc3339);
    let until = until.as_ref().map_or("", |until| std::str::from_utf8(until).unwrap_or_default());
    let network = event.network.to_string();
    let mut fields =
        vec![("network", network.as_str()), ("by", event.origin.name()), ("reason", event.reason.as_str())];
    if !until.is_empty() {
        fields.push(("until", until));
    }
    let level = if matches!(event.what, "banned" | "ban_not_placed") { "warn" } else { "info" };
    log.event(level, event.what, &fields);
}
