//! The process: opens listeners, starts the cores, and stays until a signal ends it.
//!
//! The calling thread runs telemetry, signals, the wall clock, the config watch and the minder of upstreams; it serves no requests. Signals: TERM
//! drains, INT stops without the drain delay, a second one forces, HUP reloads.
//!
//! Invariant: nothing is served before every listener is bound, and the process ends within `shutdown.total`.

mod listeners;
mod stores;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::clock::Clock;
use portcullis_core::metric::Registry;
use portcullis_guards::access_log::LogSink;
use portcullis_guards::config::Mistake;
use portcullis_guards::request_path::Ground;
use portcullis_store::acts::Acts;
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::acts::MemoryActs;
use portcullis_store::memory::counters::MemoryCounters;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::accounts;
use crate::acme;
use crate::admin;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::control;
use crate::keeper::StoreFailure;
use crate::keys;
use crate::life::{Gate, Stage};
use crate::listen;
use crate::pressure::{self, Sight};
use crate::proxy::minder;
use crate::running::Running;
use crate::telemetry;
use crate::telemetry::log::Log;

pub use self::listeners::Bound;
use self::listeners::Listeners;
use self::stores::{open_accounts, open_keeper, open_permissions, open_store};

/// Housekeeping that needs no better timing: wall clock, breaker gauges, config watch.
const TICK: Duration = Duration::from_secs(1);

/// How long the end waits for what is still to be written.
const LAST_WRITING: Duration = Duration::from_secs(3);

/// How the process ended; the exit codes are those of CONVENTIONS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was finished: 0.
    Done,
    /// A second signal forced it: 2.
    Forced,
    /// Time ran out with work in flight: 3.
    Unfinished,
}

/// Where a newer config comes from.
pub trait ConfigSource: Send {
    /// Reads it again.
    ///
    /// # Errors
    /// What is wrong with it, one text a mistake, fit for the log.
    fn read(&mut self) -> Result<Config, Vec<String>>;
    /// Whether it differs from what was last read. Called once a second.
    fn has_changed(&mut self) -> bool;
    /// Tells a mistake found after reading, with its place in the source.
    fn describe(&self, mistake: &Mistake) -> String;
}

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config cannot be run.
    #[error("the config has {} mistake(s)", .0.len())]
    Config(Vec<Mistake>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The control socket cannot be bound safely.
    #[error("cannot open the control socket (see `control` in the config)")]
    Control(#[from] control::socket::SocketError),
    /// The durable store cannot be used.
    #[error("cannot use the store (see `store` in the config)")]
    Store(#[from] StoreFailure),
    /// The operating system refused a thread, a signal handler or a runtime.
    #[error("cannot start")]
    System(#[from] io::Error),
}

/// What a process is started with.
pub struct Start {
    /// The first config.
    pub config: Config,
    /// Where newer ones come from, if anywhere.
    pub source: Option<Box<dyn ConfigSource>>,
    /// Where the log goes.
    pub log: Box<dyn io::Write + Send>,
    /// Called once everything is bound and served.
    pub on_ready: Box<dyn FnOnce(&Bound) + Send>,
}

/// Makes what guards stand on.
///
/// # Errors
/// When there is no memory for the counters or no randomness for their keys.
pub fn ground(config: &Config, log: Arc<dyn LogSink>) -> io::Result<Ground> {
    let metrics = Arc::new(Registry::new(&config.telemetry.prefix));
    let memory = config.counters.memory.as_usize();
    let counters = Arc::new(MemoryCounters::new(memory).map_err(io::Error::other)?);
    let keys = KeyHasher::random().map_err(io::Error::other)?;
    let mut ground = Ground::new(metrics, counters, keys, log);
    ground.sources = accounts::sources_of_nobody(config);
    Ok(ground)
}

/// Serves until a signal ends it. Blocks.
///
/// # Errors
/// [`StartError`] when it could not start; nothing was served then.
pub fn serve(start: Start) -> Result<Exit, StartError> {
    let Start { config, source, log, on_ready } = start;
    let clock = Arc::new(SystemClock::start());
    let log = Log::start(Arc::clone(&clock), config.log.format, log)?;
    let mut ground = ground(&config, Arc::clone(&log) as Arc<dyn LogSink>)?;
    telemetry::declare(&ground.metrics);
    let sight = Sight::open(&ground.pressure);
    let workers = match config.workers {
        Some(workers) => workers,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let accounts = accounts::start(&config, &ground)?;
    if let Some(service) = &accounts {
        ground.sources = accounts::sources(&service.register, service.rules());
    }
    let running = Running::compile(config, &ground, None).map_err(StartError::Config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = runtime.block_on(open_store(&running.config))?;
    let keeper = Arc::new(runtime.block_on(open_keeper(store.as_ref(), &ground, &clock, &log))?);
    let permissions = Arc::new(runtime.block_on(open_permissions(store.as_ref(), &ground))?);
    let acts: Arc<dyn Acts> = match &store {
        Some((_, store)) => Arc::clone(store) as Arc<dyn Acts>,
        None => Arc::new(MemoryActs::default()),
    };
    let accounts = runtime.block_on(open_accounts(accounts, store.as_ref(), &ground, &clock, &log))?;
    let listeners = Listeners::bind(&running.config, workers)?;
    let control = open_control(&running.config, &log)?;
    let bound = listeners.bound.clone();
    let gate = Gate::new(clock, Arc::clone(&log), ground, running).kept_by(keeper).permitting_by(permissions);
    let gate = Arc::new(gate.noting_in(acts).with_accounts(accounts));
    let wanted_keys = keys::announce(&gate);
    let (ended, cores) = mpsc::channel(workers);
    for (index, data) in listeners.per_core.into_iter().enumerate() {
        let (gate, ended) = (Arc::clone(&gate), ended.clone());
        std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let result = listen::run_core(gate, data);
            // The receiver is gone only when the process already ends.
            let _ = ended.blocking_send(result);
        })?;
    }
    drop(ended);
    let local = LocalSet::new();
    let exit = local.block_on(&runtime, async {
        tokio::task::spawn_local(telemetry::serve(Arc::clone(&gate), listeners.telemetry));
        if let Some(listener) = listeners.admin {
            tokio::task::spawn_local(admin::serve(Arc::clone(&gate), listener));
        }
        tokio::task::spawn_local(minder::run(Arc::clone(&gate)));
        // Its place is held until the end, and given up then.
        let _place = control.map(|control| {
            tokio::task::spawn_local(control::serve(Arc::clone(&gate), control.listener));
            control.place
        });
        tokio::task::spawn_local(acme::keep(Arc::clone(&gate)));
        tokio::task::spawn_local(keys::keep(Arc::clone(&gate), wanted_keys));
        tokio::task::spawn_local(pressure::watch(Arc::clone(&gate), sight));
        let keeping = Arc::clone(&gate);
        tokio::task::spawn_local(async move { keeping.keeper.keep(&keeping.clock, &keeping.log).await });
        let keeping = Arc::clone(&gate);
        tokio::task::spawn_local(async move { keeping.permissions.keep(&keeping.clock, &keeping.log).await });
        if let Some(accounts) = gate.accounts.clone() {
            let keeping = Arc::clone(&gate);
            tokio::task::spawn_local(async move { accounts.keeper.keep(&keeping.clock, &keeping.log).await });
        }
        let signals = Signals::listen()?;
        gate.advance(Stage::Serving);
        log.event(
            "info",
            "started",
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("listen", &join(&bound.data)),
                ("telemetry", &bound.telemetry.to_string()),
                ("admin", &bound.admin.map(|admin| admin.to_string()).unwrap_or_default()),
                ("workers", &workers.to_string()),
            ],
        );
        on_ready(&bound);
        let exit = stay(&gate, cores, signals, source).await;
        // What is not written now is told by the next line; what somebody was told is kept is written already.
        let last = async {
            gate.keeper.write(&gate.clock).await?;
            match &gate.accounts {
                Some(accounts) => accounts.keeper.write(&gate.clock).await,
                None => Ok(()),
            }
        };
        match tokio::time::timeout(LAST_WRITING, last).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log.event("error", "store_failed", &[("error", &error.to_string())]),
            Err(_) => log.event("error", "store_failed", &[("error", "the store did not answer before the end")]),
        }
        exit
    })?;
    log.event(
        "info",
        "stopped",
        &[(
            "exit",
            match exit {
                Exit::Done => "done",
                Exit::Forced => "forced",
                Exit::Unfinished => "unfinished",
            },
        )],
    );
    log.stop();
    Ok(exit)
}

/// Binds the control socket. Where nobody asked for this path, another gateway that has it is no reason not to start.
fn open_control(config: &Config, log: &Log) -> Result<Option<control::socket::Bound>, StartError> {
    let off = |why: &str| log.event("warn", "control_off", &[("why", why)]);
    let Some((path, is_asked_for)) = control::socket::place(config) else {
        if config.control.enabled {
            off("there is no durable store and no XDG_RUNTIME_DIR; name a path in control.socket");
        }
        return Ok(None);
    };
    match control::socket::bind(&path) {
        Ok(bound) => {
            log.event("info", "control_open", &[("socket", &path.display().to_string())]);
            Ok(Some(bound))
        }
        Err(error @ control::socket::SocketError::Taken(_)) if !is_asked_for => {
            off(&error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn join(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Leave { is_hurried: false },
            _ = self.interrupt.recv() => Told::Leave { is_hurried: true },
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Waits for one that ends the process.
    async fn ends(&mut self) {
        while matches!(self.next().await, Told::Reload) {}
    }
}

/// What a signal asks for.
enum Told {
    /// End; hurried when a person at a terminal asks.
    Leave { is_hurried: bool },
    /// Read the config again.
    Reload,
}

type Cores = mpsc::Receiver<io::Result<()>>;

async fn stay(
    gate: &Arc<Gate>,
    mut cores: Cores,
    mut signals: Signals,
    mut source: Option<Box<dyn ConfigSource>>,
) -> io::Result<Exit> {
    let mut ticks = tokio::time::interval(TICK);
    let is_hurried = loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Leave { is_hurried } => break is_hurried,
                Told::Reload => reload(gate, source.as_deref_mut(), "signal"),
            },
            _ = ticks.tick() => {
                gate.clock.resynchronise();
                gate.ground.breakers.refresh(gate.clock.now().monotonic_nanos);
                gate.ground.bans.tick(&gate.clock.now());
                if let Some(accounts) = &gate.accounts {
                    accounts.service.tick(&gate.clock.now());
                }
                gate.ground.tokens.revocations().tick(gate.clock.now().unix_millis / 1000);
                if source.as_deref_mut().is_some_and(ConfigSource::has_changed) {
                    reload(gate, source.as_deref_mut(), "file");
                }
            }
            ended = cores.recv() => {
                // A core only ends by itself when its runtime failed: better to stop than to serve with half the cores.
                let error = ended.and_then(Result::err).unwrap_or_else(|| io::Error::other("a core stopped"));
                gate.log.event("error", "core_failed", &[("error", &error.to_string())]);
                return Err(error);
            }
        }
    };
    Ok(leave(gate, cores, &mut signals, is_hurried).await)
}

/// Drains and closes. The first of: everything done, time is up, another signal.
async fn leave(gate: &Arc<Gate>, mut cores: Cores, signals: &mut Signals, is_hurried: bool) -> Exit {
    let shutdown = gate.running().config.shutdown.clone();
    let drain_delay = if is_hurried { Duration::ZERO } else { *shutdown.drain_delay };
    gate.advance(Stage::Draining);
    gate.log.event("info", "draining", &[("drain_delay_ms", &drain_delay.as_millis().to_string())]);
    let work = async {
        tokio::time::sleep(drain_delay).await;
        gate.advance(Stage::Closing);
        while cores.recv().await.is_some() {}
    };
    let exit = tokio::select! {
        () = work => Exit::Done,
        () = tokio::time::sleep(*shutdown.total) => Exit::Unfinished,
        () = signals.ends() => Exit::Forced,
    };
    gate.advance(Stage::Stopped);
    exit
}

fn reload(gate: &Gate, source: Option<&mut (dyn ConfigSource + 'static)>, why: &str) {
    let Some(source) = source else {
        let why_not = "the process was started without a config file, so there is nothing to read again";
        gate.log.event("warn", "reload_refused", &[("trigger", why), ("mistake", why_not)]);
        gate.reload_refused(vec![why_not.to_owned()]);
        return;
    };
    let mistakes = match source.read() {
        Ok(config) => match gate.reload(config) {
            Ok(()) => {
                let generation = gate.generation().to_string();
                gate.log.event("info", "reloaded", &[("trigger", why), ("generation", &generation)]);
                return;
            }
            Err(mistakes) => mistakes.iter().map(|mistake| source.describe(mistake)).collect(),
        },
        Err(mistakes) => mistakes,
    };
    for mistake in &mistakes {
        gate.log.event("error", "reload_refused", &[("trigger", why), ("mistake", mistake)]);
    }
    gate.reload_refused(mistakes);
}
