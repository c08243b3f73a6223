//! What all cores share, and the stages of the process: starting, serving, draining, closing, stopped.
//!
//! The [`Gate`] holds the running config and swaps it on reload. Cores read it through their own cached copy, so a reload
//! costs a request nothing.
//!
//! Invariant: stages only move forward; a config that does not compile changes nothing.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portcullis_core::metric::{Declaration, Gauge, Kind};
use portcullis_guards::config::Mistake;
use portcullis_guards::request_path::Ground;
use portcullis_store::acts::Acts;
use portcullis_store::memory::acts::MemoryActs;
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::keeper::Keeper;
use crate::listen::metrics::{Handshakes, TUNNELS};
use crate::permissions;
use crate::running::Running;
use crate::telemetry::log::Log;

/// Whether the last reload was taken.
pub static LAST_RELOAD_SUCCESS: Declaration = Declaration {
    name: "config_last_reload_success",
    kind: Kind::Gauge,
    help: "1 when the last attempt to load the config succeeded, 0 when the old one was kept",
    labels: &[],
};

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Listeners are not open yet.
    Starting,
    /// Normal work.
    Serving,
    /// Says that it is not ready, still accepts, asks clients to leave.
    Draining,
    /// Accepts nothing new, finishes what is in flight.
    Closing,
    /// Done.
    Stopped,
}

impl Stage {
    /// Whether answers carry `Connection: close`.
    #[must_use]
    pub fn tells_clients_to_leave(self) -> bool {
        self >= Stage::Draining
    }

    /// Whether connections without a request are closed.
    #[must_use]
    pub fn closes_idle_connections(self) -> bool {
        self >= Stage::Closing
    }

    /// The word for health pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Serving => "serving",
            Stage::Draining => "draining",
            Stage::Closing => "closing",
            Stage::Stopped => "stopped",
        }
    }
}

/// What all cores share.
pub struct Gate {
    /// Counts handshakes.
    pub handshakes: Handshakes,
    /// Counts switched connections.
    pub tunnels: Gauge,
    /// The clock.
    pub clock: Arc<SystemClock>,
    /// The log.
    pub log: Arc<Log>,
    /// What guards stand on; outlives every reload.
    pub ground: Ground,
    /// Who writes down the bans.
    pub keeper: Arc<Keeper>,
    /// Where is written down who changed what.
    pub acts: Arc<dyn Acts>,
    /// Who changes permissions.
    pub permissions: Arc<permissions::Keeper>,
    /// Accounts, where they are turned on.
    pub accounts: Option<Arc<Accounts>>,
    running: ArcSwap<Running>,
    generation: AtomicU64,
    stage: watch::Sender<Stage>,
    /// The same stage, for reading on the way of a request without a lock.
    stage_now: AtomicU8,
    last_reload: Gauge,
    reloads: Mutex<Reloads>,
}

/// What became of reloads.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    /// How often one was tried.
    pub attempts: u64,
    /// Why the last one was refused; `None` when it was taken.
    pub refused: Option<Vec<String>>,
}

impl Gate {
    /// A gate that is about to serve `running`.
    #[must_use]
    pub fn new(clock: Arc<SystemClock>, log: Arc<Log>, ground: Ground, running: Running) -> Gate {
        let last_reload = ground.metrics.gauge(&LAST_RELOAD_SUCCESS, &[]);
        last_reload.set(1);
        let handshakes = Handshakes::new(&ground.metrics);
        let tunnels = ground.metrics.gauge(&TUNNELS, &[]);
        running.tell_certificates(&ground.metrics);
        running.path.begins();
        let keeper = Arc::new(Keeper::in_memory(Arc::clone(&ground.bans), &ground.metrics));
        let permissions = permissions::Keeper::in_memory(Arc::clone(&ground.permissions), &ground.metrics);
        Gate {
            keeper,
            acts: Arc::new(MemoryActs::default()),
            permissions: Arc::new(permissions),
            accounts: None,
            handshakes,
            tunnels,
            clock,
            log,
            ground,
            running: ArcSwap::from_pointee(running),
            generation: AtomicU64::new(1),
            stage: watch::Sender::new(Stage::Starting),
            stage_now: AtomicU8::new(Stage::Starting as u8),
            last_reload,
            reloads: Mutex::default(),
        }
    }

    /// With this keeper instead of one that forgets at the end.
    #[must_use]
    pub fn kept_by(self, keeper: Arc<Keeper>) -> Gate {
        Gate { keeper, ..self }
    }

    /// With permissions kept by this keeper instead of one that forgets at the end.
    #[must_use]
    pub fn permitting_by(self, permissions: Arc<permissions::Keeper>) -> Gate {
        Gate { permissions, ..self }
    }

    /// With acts written down here instead of in memory.
    #[must_use]
    pub fn noting_in(self, acts: Arc<dyn Acts>) -> Gate {
        Gate { acts, ..self }
    }

    /// With these accounts.
    #[must_use]
    pub fn with_accounts(self, accounts: Option<Arc<Accounts>>) -> Gate {
        Gate { accounts, ..self }
    }

    /// The config that runs.
    #[must_use]
    pub fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }

    /// Grows with each reload that was taken.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Compiles `config` and swaps it in. Connections, counters and breakers that it did not change go on as they are.
    ///
    /// # Errors
    /// Every mistake; then the old config goes on.
    pub fn reload(&self, config: Config) -> Result<(), Vec<Mistake>> {
        let old = self.running();
        let fixed = old.config.what_needs_restart(&config);
        let result = if fixed.is_empty() {
            Running::compile(config, &self.ground, Some(&old))
        } else {
            Err(fixed.into_iter().map(|key| Mistake::new(key, "a change here needs a restart")).collect())
        };
        match result {
            Ok(running) => {
                running.tell_certificates(&self.ground.metrics);
                running.path.begins();
                if !running.has_upstreams_of(&old) {
                    // What the old one answered says nothing about what the new one would.
                    self.ground.shelf.clear();
                }
                self.running.store(Arc::new(running));
                self.generation.fetch_add(1, Ordering::Release);
                self.last_reload.set(1);
                self.note_reload(None);
                Ok(())
            }
            Err(mistakes) => Err(mistakes),
        }
    }

    /// Notes why the last config was not taken.
    pub fn reload_refused(&self, mistakes: Vec<String>) {
        self.last_reload.set(0);
        self.note_reload(Some(mistakes));
    }

    /// How often a reload was tried, and why the last one was refused, if it was.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_reload(&self, refused: Option<Vec<String>>) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.attempts += 1;
        reloads.refused = refused;
    }

    /// Where the process stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage_now.load(Ordering::Relaxed) {
            0 => Stage::Starting,
            1 => Stage::Serving,
            2 => Stage::Draining,
            3 => Stage::Closing,
            _ => Stage::Stopped,
        }
    }

    /// Moves on; a stage that is already behind changes nothing.
    pub fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let moves = to > *stage;
            if moves {
                *stage = to;
                self.stage_now.store(to as u8, Ordering::Relaxed);
            }
            moves
        });
    }

    /// For waiting until a stage is reached.
    #[must_use]
    pub fn stages(&self) -> Stages {
        Stages(self.stage.subscribe())
    }
}

/// Waits for stages.
pub struct Stages(watch::Receiver<Stage>);

impl Stages {
    /// Returns once `stage` or a later one is reached.
    pub async fn reaches(&mut self, stage: Stage) {
        // The sender lives as long as the gate, which outlives every waiter; if it were gone, that is the end as well.
        let _ = self.0.wait_for(|now| *now >= stage).await;
    }
}
