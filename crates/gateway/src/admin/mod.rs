//! The admin listener: the rows of [`crate::control::routes`] for programs and people with a token.
//!
//! What comes here goes down a shorter path of the same guards as any request (ids, access log, security headers, believed
//! address, bounds, a rate limit), then `Host`, token and scope are checked, the act is written down, and the row's handler is
//! asked. It is served by the thread that serves no requests. The control socket answers the same rows without a token, to
//! whom the kernel vouches for (ADR 8, ADR 12).
//!
//! Invariant: nothing but a refusal is answered to who has no valid token; nothing is changed before it is written down by whom.

mod authority;
mod visit;

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_core::secret::Secret;
use portcullis_core::units::{ByteSize, Rate};
use portcullis_guards::config::{Mistake, PathConfig, RouteConfig};
use portcullis_guards::limits::{self, Total};
use portcullis_guards::path::Path;
use portcullis_guards::request_path::Ground;
use portcullis_guards::{access_log, client_address, rate_limit, request_id, route, security_headers};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use self::authority::Authority;
use crate::config::Config;
use crate::control::routes::ROUTES;
use crate::life::{Gate, Stage};

/// Connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 256;
/// How long one connection may carry new requests.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);
/// How long the last request on it may take after that.
const LAST_REQUEST: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest body of a call, in bytes.
const MOST_BODY_BYTES: u64 = 64 * 1024;
/// The name of its route in logs and metrics.
const NAME: &str = "portcullis-admin";

/// What the admin listener runs under, in its compiled form.
pub struct Admin {
    path: Path,
    authority: Authority,
}

/// A token that was just made.
pub struct Made {
    /// What the client sends. Kept nowhere.
    pub token: Secret,
    /// What the config holds, in hexadecimal.
    pub sha256: String,
}

/// Makes a token of 256 random bits. It begins with `pa_`, so that scanners find one that leaked.
#[must_use]
pub fn make_token() -> Option<Made> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut_slice()).ok()?;
    let token = Secret::new(format!("pa_{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())));
    let hash = digest(&SHA256, token.expose().as_bytes());
    let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Made { token, sha256 })
}

/// Every action that a scope may name.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|row| row.action)
}

/// Whether a scope names an action of the API, or a kind of them.
#[must_use]
pub fn is_scope(scope: &str) -> bool {
    match scope.strip_suffix('*') {
        Some(kind) => ROUTES.iter().any(|row| row.action.starts_with(kind)),
        None => ROUTES.iter().any(|row| row.action == scope),
    }
}

impl Admin {
    /// Compiles the part of `config`; `None` where nobody has a token.
    ///
    /// # Errors
    /// Every mistake.
    pub fn compile(config: &Config, ground: &Ground) -> Result<Option<Admin>, Vec<Mistake>> {
        let tokens = config.admin.compile(is_scope)?;
        if !config.admin.is_on() {
            return Ok(None);
        }
        let path = path(&path_config(config), ground)?;
        Ok(Some(Admin { path, authority: Authority::new(tokens, &config.admin) }))
    }
}

/// What its guards are told: the general settings of the config, and bounds of its own.
fn path_config(config: &Config) -> PathConfig {
    let general = config.path_config();
    let mut own = RouteConfig { name: NAME.to_owned(), upstream: Some(NAME.to_owned()), ..RouteConfig::default() };
    // A network stands as one segment: `203.0.113.0%2F24`.
    own.matches.encoded_slash = Some(route::EncodedSlash::Keep);
    PathConfig {
        request_id: general.request_id,
        access_log: general.access_log,
        security_headers: security_headers::Config::default(),
        client_address: general.client_address,
        trusted_proxies: general.trusted_proxies,
        limits: limits::Config {
            body_bytes: Some(ByteSize::from_bytes(MOST_BODY_BYTES)),
            total: Some(Total::After(LAST_REQUEST.into())),
            ..limits::Config::default()
        },
        // Whoever guesses tokens is slow; an application that asks for each of its requests is not refused.
        rate_limit: Some(vec![rate_limit::Config {
            name: Some(NAME.to_owned()),
            by: Some(vec!["address".to_owned()]),
            limit: Rate::new(5_000, portcullis_core::units::Duration::from_secs(1)),
            burst: Some(10_000),
            ..rate_limit::Config::default()
        }]),
        routes: vec![own],
        upstreams: vec![NAME.to_owned()],
        folder: general.folder,
        ..PathConfig::default()
    }
}

/// Guards that share state with the data listener's path (bans, breakers, read-only switches) are not on it: they would be told
/// another config.
fn path(config: &PathConfig, ground: &Ground) -> Result<Path, Vec<Mistake>> {
    let path = Path::builder()
        .add(request_id::build(config, ground)?)
        .add(access_log::build(config, ground)?)
        .add(security_headers::build(config, ground)?)
        .add(client_address::build(config, ground)?)
        .add(route::build(config, ground)?)
        .add(limits::build(config, ground)?)
        .add(rate_limit::build(config, ground)?);
    path.build().map_err(|broken| vec![Mistake::new("admin", broken.to_string())])
}

/// Serves until the task is dropped.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve(gate: Arc<Gate>, listener: StdListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Without it an answer of several writes waits for the other end's delayed acknowledgement.
        let _ = socket.set_nodelay(true);
        let gate = Arc::clone(&gate);
        tokio::task::spawn_local(async move {
            let stage = gate.stages();
            let service = service_fn(|request| visit::receive(Arc::clone(&gate), peer, request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_header_size(16 * 1024)
                .serve_connection(TokioIo::new(socket), service);
            let mut connection = std::pin::pin!(connection);
            let mut stage = stage;
            tokio::select! {
                // Whoever hung up or is too slow has had its answer or does not want it.
                _ = connection.as_mut() => return drop(place),
                () = tokio::time::sleep(LONGEST_CONNECTION) => {}
                () = stage.reaches(Stage::Closing) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_REQUEST, connection).await;
            drop(place);
        });
    }
}
