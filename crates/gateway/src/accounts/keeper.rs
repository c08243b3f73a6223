//! Writes down accounts, sessions and keys, and tells who waits when it is done.
//!
//! The register marks what changed; everything that is marked goes into one transaction, so logins that come while the disk is
//! busy share the next one (group commit). A failed writing is put back and tried again with growing pauses; who waits for it is
//! told at once that it failed.
//!
//! Invariant: [`Keeper::kept`] answers `Ok` only when everything up to the caller's change is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_accounts::register::Register;
use portcullis_core::metric::Registry;
use portcullis_store::accounts::{Accounts as Store, Changes};
use portcullis_store::bans::StoreError;
use tokio::sync::{Mutex, Notify, watch};

use crate::clock::SystemClock;
use crate::keeper::Operation;
use crate::telemetry::log::Log;

/// Records in one transaction.
const MOST_AT_ONCE: usize = 500;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long an answer waits for its writing.
const PATIENCE: Duration = Duration::from_secs(8);

/// How far the writing has come, in versions of the register.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Everything up to this is written.
    written: u64,
    /// A writing that held everything up to this failed.
    failed: u64,
}

/// Keeps the register in a store.
pub struct Keeper {
    register: Arc<Register>,
    store: Arc<dyn Store>,
    is_durable: bool,
    is_failing: AtomicBool,
    /// One writing at a time, so that a version is written only after all before it.
    writing: Mutex<()>,
    progress: watch::Sender<Progress>,
    news: Arc<Notify>,
    update: Operation,
}

impl Keeper {
    /// Keeps `register` in `store`.
    #[must_use]
    pub fn new(register: Arc<Register>, store: Arc<dyn Store>, is_durable: bool, metrics: &Registry) -> Keeper {
        let news = Arc::new(Notify::new());
        let wake = Arc::clone(&news);
        register.wake_with(move || wake.notify_one());
        Keeper {
            register,
            store,
            is_durable,
            is_failing: AtomicBool::new(false),
            writing: Mutex::new(()),
            progress: watch::Sender::new(Progress::default()),
            news,
            update: Operation::new(metrics, "accounts_update"),
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

    /// Waits until everything up to `version` is written.
    ///
    /// # Errors
    /// In words for the log: the writing failed, or takes too long. It is tried again, and may be written later.
    pub async fn kept(&self, version: u64) -> Result<(), &'static str> {
        let mut progress = self.progress.subscribe();
        let told = progress.wait_for(|now| now.written >= version || now.failed >= version);
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(now)) if now.written >= version => Ok(()),
            Ok(Ok(_)) => Err("the store failed"),
            // The sender lives as long as this.
            Ok(Err(_)) => Err("the process ends"),
            Err(_) => Err("the store did not answer in time"),
        }
    }

    /// Writes everything that is marked.
    ///
    /// # Errors
    /// What the store said; what was not written stays marked.
    pub async fn write(&self, clock: &SystemClock) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        loop {
            let (changes, version) = self.register.changes(MOST_AT_ONCE);
            if !changes.is_empty() {
                // Dropped in the middle, what was fetched would be lost; this puts it back.
                let mut held = PutBack { register: &self.register, changes: Some(changes) };
                if let Some(changes) = &held.changes
                    && let Err(error) = self.update.timed(clock, self.store.update(changes)).await
                {
                    self.is_failing.store(true, Ordering::Relaxed);
                    let failed = self.register.version();
                    drop(held);
                    self.progress.send_modify(|progress| progress.failed = failed);
                    return Err(error);
                }
                held.changes = None;
            }
            if let Some(version) = version {
                self.is_failing.store(false, Ordering::Relaxed);
                self.progress.send_modify(|progress| progress.written = progress.written.max(version));
                return Ok(());
            }
        }
    }

    /// Writes what changes, as it changes, until the task is dropped.
    pub async fn keep(&self, clock: &SystemClock, log: &Log) {
        let mut pause = FIRST_PAUSE;
        let mut has_failed = false;
        loop {
            self.news.notified().await;
            while let Err(error) = self.write(clock).await {
                if !has_failed {
                    let fields = [("error", &*error.to_string()), ("meanwhile", "changes of accounts are refused")];
                    log.event("error", "accounts_store_failed", &fields);
                }
                has_failed = true;
                // Who comes meanwhile is answered by a writing of its own, not by the end of this pause.
                let _ = tokio::time::timeout(pause, self.news.notified()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if has_failed {
                log.event("info", "accounts_store_recovered", &[]);
            }
            (has_failed, pause) = (false, FIRST_PAUSE);
        }
    }
}

/// Marks again what was fetched and not written.
struct PutBack<'a> {
    register: &'a Register,
    changes: Option<Changes>,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        if let Some(changes) = &self.changes {
            self.register.put_back(changes);
        }
    }
}
