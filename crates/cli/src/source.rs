//! Config files: read, compiled, watched, and mistakes told with their place.
//!
//! The config crate reads text with positions; the gateway compiles; here the two meet.
//!
//! Invariant: a mistake that compiling finds is told at its line, like one that reading finds.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use portcullis_config::{Loaded, Source, SystemEnvironment, load};
use portcullis_gateway::config::listen::ListenConfig;
use portcullis_gateway::config::{Config, LogFormat};
use portcullis_gateway::running::Running;
use portcullis_gateway::serve::{ConfigSource, ground};
use portcullis_guards::access_log::LogSink;
use portcullis_guards::config::Mistake;

/// The config file when none is named.
pub(crate) const DEFAULT_FILE: &str = "portcullis.yaml";

/// Reads a config file.
///
/// # Errors
/// Every mistake, as `file:line:column: key: what`.
pub(crate) fn read(path: &Path) -> Result<Loaded<Config>, Vec<String>> {
    let source = Source::read(path, &SystemEnvironment).map_err(|mistake| vec![mistake.to_string()])?;
    let mut loaded: Loaded<Config> = load(&source, &SystemEnvironment)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    loaded.value.folder = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(loaded)
}

/// Reads and compiles a config file without starting anything.
///
/// # Errors
/// Every mistake, as [`read`] tells them.
pub(crate) fn compile(path: &Path) -> Result<Running, Vec<String>> {
    compile_loaded(path).map(|(running, _)| running)
}

/// The same, with the places of its keys for what is found later.
///
/// # Errors
/// Every mistake, as [`read`] tells them.
pub(crate) fn compile_loaded(path: &Path) -> Result<(Running, Loaded<Config>), Vec<String>> {
    let loaded = read(path)?;
    match compile_config(loaded.value.clone()) {
        Ok(running) => Ok((running, loaded)),
        Err(mistakes) => Err(mistakes.iter().map(|mistake| describe(&loaded, mistake)).collect()),
    }
}

/// Compiles the defaults of `run --upstream`.
///
/// # Errors
/// What is wrong with the URL.
pub(crate) fn compile_upstream(url: &str) -> Result<Running, Vec<String>> {
    compile_config(Config::in_front_of(url)).map_err(|mistakes| mistakes.iter().map(plain).collect())
}

fn compile_config(config: Config) -> Result<Running, Vec<Mistake>> {
    let ground = ground(&config, Arc::new(NoLog)).map_err(|error| vec![Mistake::new("counters", error.to_string())])?;
    Running::compile(config, &ground, None)
}

/// A mistake with its place.
pub(crate) fn describe(loaded: &Loaded<Config>, mistake: &Mistake) -> String {
    loaded.mistake(&mistake.path, mistake.message.clone()).to_string()
}

/// A mistake without a file.
pub(crate) fn plain(mistake: &Mistake) -> String {
    if mistake.path.is_empty() { mistake.message.clone() } else { format!("{}: {}", mistake.path, mistake.message) }
}

/// Nothing runs, so nothing is logged.
struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _line: &[u8]) {}
}

/// What the command line says instead of the config; a reload keeps it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) telemetry: Option<SocketAddr>,
    pub(crate) format: Option<LogFormat>,
}

impl Overrides {
    /// Writes it over `config`.
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(address) = self.listen {
            // The first listener moves; its TLS stays, so that an override never opens a plain door.
            let first = config.listen.drain(..).next();
            config.listen = vec![ListenConfig { address, ..first.unwrap_or_else(|| ListenConfig::plain(address)) }];
        }
        if let Some(address) = self.telemetry {
            config.telemetry.address = address;
        }
        if let Some(format) = self.format {
            config.log.format = format;
        }
    }
}

/// A config file that may be read again.
pub(crate) struct FileSource {
    path: PathBuf,
    overrides: Overrides,
    places: Places,
    stamps: Vec<(PathBuf, Option<Stamp>)>,
}

/// Tells where in the file a mistake is. Shared with whoever started the process, because a start can fail as well.
#[derive(Clone)]
pub(crate) struct Places(Arc<Mutex<Option<Loaded<Config>>>>);

/// What changes when a file is written, or replaced by another (as Kubernetes does with a link).
type Stamp = (SystemTime, u64);

impl FileSource {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Every mistake, as [`read`] tells them.
    pub(crate) fn open(path: &Path, overrides: Overrides) -> Result<(Config, FileSource), Vec<String>> {
        let mut source = FileSource {
            path: path.to_owned(),
            overrides,
            places: Places(Arc::new(Mutex::new(None))),
            stamps: Vec::new(),
        };
        let config = source.read()?;
        Ok((config, source))
    }

    /// For telling mistakes that are found later.
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }
}

impl Places {
    /// The mistake with its place.
    pub(crate) fn describe(&self, mistake: &Mistake) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(loaded) => describe(loaded, mistake),
            None => plain(mistake),
        }
    }
}

impl ConfigSource for FileSource {
    fn read(&mut self) -> Result<Config, Vec<String>> {
        // Stamped before it is read: what is written meanwhile is read again.
        self.stamps = stamped(vec![self.path.clone()]);
        let loaded = read(&self.path)?;
        let mut config = loaded.value.clone();
        self.stamps.extend(stamped(config.files()));
        self.overrides.apply(&mut config);
        *self.places.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(config)
    }

    fn has_changed(&mut self) -> bool {
        self.stamps.iter().any(|(path, known)| stamp(path) != *known)
    }

    fn describe(&self, mistake: &Mistake) -> String {
        self.places.describe(mistake)
    }
}

fn stamped(paths: Vec<PathBuf>) -> Vec<(PathBuf, Option<Stamp>)> {
    paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
