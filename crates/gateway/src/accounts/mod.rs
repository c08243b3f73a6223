//! Accounts at the end of the path: where a request ends that is meant for the gateway itself, below `accounts.path`.
//!
//! The request has gone down the whole path of guards like any other. Here its body is read within the route's bound, it is
//! handed to its `handlers`, and the answer waits until what it says is written down (`keeper`). `client` reads what the
//! request carries: cookies, tokens, where it comes from.
//!
//! Invariant: an answer that says that something was done is given after it was written down.

mod client;
pub(crate) mod handlers;
pub mod keeper;
mod reply;
mod source;

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_accounts::config::{Rules, compile};
use portcullis_accounts::register::Register;
use portcullis_accounts::service::Service;
use portcullis_core::clock::Clock;
use portcullis_core::fault::Fault;
use portcullis_core::metric::Registry;
use portcullis_core::refusal::{Code, Refusal};
use portcullis_guards::exchange::{Body, Bounds};
use portcullis_guards::guard::ResponseHead;
use portcullis_guards::identity::Source;
use portcullis_guards::limits::BodyMeter;
use portcullis_guards::request_path::Ground;
use portcullis_store::accounts::Accounts as Store;
use portcullis_store::memory::accounts::MemoryAccounts;

pub use portcullis_accounts::metrics::ALL as METRICS;

use self::handlers::Asked;
use self::keeper::Keeper;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::keeper::StoreFailure;
use crate::proxy::answer::Stream;
use crate::proxy::request_body::RequestBody;
use crate::telemetry::log::Log;
use crate::visit::Visit;

/// Accounts of a running gateway.
pub struct Accounts {
    /// What people do with them.
    pub service: Service,
    /// Who writes them down.
    pub keeper: Keeper,
}

/// Starts the service where the config turns it on. A config that does not compile starts none; it is refused elsewhere.
///
/// # Errors
/// When the operating system refuses a thread, or has no randomness.
pub fn start(config: &Config, ground: &Ground) -> io::Result<Option<Service>> {
    let Some(accounts) = &config.accounts else { return Ok(None) };
    let Ok(rules) = compile(accounts, &config.sessions) else { return Ok(None) };
    Service::start(rules, &ground.metrics).map(Some)
}

/// What the identity guard asks, answered by `register`.
#[must_use]
pub fn sources(register: &Arc<Register>, rules: &Rules) -> Vec<Arc<dyn Source>> {
    let sessions = source::Sessions { register: Arc::clone(register), headers: rules.sessions.headers };
    vec![Arc::new(sessions), Arc::new(source::ApiKeys { register: Arc::clone(register) })]
}

/// The same over a register in which there is nobody, for looking at a config.
#[must_use]
pub fn sources_of_nobody(config: &Config) -> Vec<Arc<dyn Source>> {
    let rules = config.accounts.as_ref().and_then(|accounts| compile(accounts, &config.sessions).ok());
    rules.map_or_else(Vec::new, |rules| {
        sources(&Arc::new(Register::new(rules.sessions.clone(), rules.most_accounts)), &rules)
    })
}

impl Accounts {
    /// Accounts that are forgotten with the process.
    #[must_use]
    pub fn in_memory(service: Service, metrics: &Registry) -> Accounts {
        let store = Arc::new(MemoryAccounts::default());
        let keeper = Keeper::new(Arc::clone(&service.register), store, false, metrics);
        Accounts { service, keeper }
    }

    /// Loads what `store` remembers.
    ///
    /// # Errors
    /// When it cannot be read; then nothing may be served, because names would seem free and sessions ended.
    pub async fn over(
        store: Arc<dyn Store>,
        path: &Path,
        service: Service,
        clock: &SystemClock,
        log: &Log,
        metrics: &Registry,
    ) -> Result<Accounts, StoreFailure> {
        let records = store.list().await;
        let records = records.map_err(|source| StoreFailure::Read { path: path.to_owned(), source })?;
        let (accounts, sessions) = (records.accounts.len().to_string(), records.sessions.len().to_string());
        service.register.load(records, &clock.now());
        service.tick(&clock.now());
        log.event("info", "accounts_loaded", &[("accounts", &accounts), ("sessions", &sessions)]);
        let keeper = Keeper::new(Arc::clone(&service.register), store, true, metrics);
        Ok(Accounts { service, keeper })
    }
}

/// Answers a request that ends here.
///
/// # Errors
/// The refusal that tells the client what was wrong.
pub async fn answer(visit: &mut Visit, body: Incoming) -> Result<(ResponseHead, Stream), Refusal> {
    let gate = Arc::clone(&visit.connection.core.gate);
    let (Some(accounts), Some(config)) = (&gate.accounts, &visit.running.config.accounts) else {
        // A route ends here only where both are there.
        return Err(Refusal::internal());
    };
    let below = config.path.clone();
    let body = read(visit, body).await?;
    let asked = Asked::new(&visit.exchange, &below, body, accounts.service.rules())?;
    let reply = handlers::answer(accounts, &asked, &gate).await?;
    if let Err(why) = accounts.keeper.kept(reply.version).await {
        // Nobody was told of a session that could not be written down, so nobody may find it later.
        if let Some(id) = reply.begun {
            accounts.service.register.end_id(&id);
        }
        gate.log.event("error", "accounts_not_kept", &[("why", why)]);
        return Err(Refusal::new(Code::StoreUnavailable));
    }
    let is_head = visit.exchange.method == http::Method::HEAD;
    let (head, bytes) = reply.rendered()?;
    Ok((head, Stream::Bytes(if is_head { Bytes::new() } else { bytes })))
}

/// The whole body, within the route's bound.
async fn read(visit: &Visit, body: Incoming) -> Result<Bytes, Refusal> {
    if visit.exchange.body == Body::Absent {
        return Ok(Bytes::new());
    }
    // A path without the limits guard has no bounds, and then nothing may be uploaded.
    let bounds = visit.exchange.bounds.unwrap_or(Bounds { body_bytes: 0, deadline_nanos: 0 });
    let stream = RequestBody::Streamed {
        incoming: body,
        meter: BodyMeter::new(&bounds),
        tap: visit.exchange.request_tap.clone(),
        upload: Rc::clone(&visit.upload),
    };
    match stream.collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(_) => Err(Refusal::from(visit.upload.fault.get().unwrap_or(Fault::RequestBodyBroken))),
    }
}

/// 200 unless something else is said.
const OK: StatusCode = StatusCode::OK;
