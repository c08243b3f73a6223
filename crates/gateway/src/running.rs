//! One validated config in its compiled form: what runs. Swapped whole on reload, never changed in place.
//!
//! A visit holds the generation it began under until its last byte; new visits take the new one.
//!
//! Invariant: what is reported as running is this value and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_core::metric::Registry;
use portcullis_guards::config::{Mistake, RouteConfig};
use portcullis_guards::exchange::Exchange;
use portcullis_guards::overload;
use portcullis_guards::path::Path;
use portcullis_guards::request_path::{Ground, request_path};

use crate::acme::Challenges;
use crate::admin::Admin;
use crate::config::{Config, ListenerBounds};
use crate::listen::door::Door;
use crate::listen::metrics::TLS_CERTIFICATE_NOT_AFTER;
use crate::proxy::concurrency::Places;
use crate::proxy::upstream::{Upstream, prepare};

/// One generation of the gateway.
pub struct Running {
    /// The request path.
    pub path: Path,
    /// What each listener asks of its connections, in the order of `listen`.
    pub doors: Box<[Door]>,
    /// What an authority that checks the gateway's names is shown; it outlives a reload.
    pub challenges: Arc<Challenges>,
    /// Bounds that hold before a request is matched to a route.
    pub listener: ListenerBounds,
    /// What is asked of connections, and when requests are shed.
    pub overload: overload::Rules,
    /// The config it was made from.
    pub config: Config,
    upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    /// The upstream of each route, by the route's index.
    by_route: Box<[Arc<Upstream>]>,
    /// The places at each upstream.
    pub concurrency: Places,
    /// What the admin listener runs under, where somebody has a token.
    pub admin: Option<Admin>,
}

impl Running {
    /// Compiles `config`. Upstreams that are configured as in `previous` keep their identity, and so their connections.
    ///
    /// # Errors
    /// Every mistake in the config, all at once.
    pub fn compile(config: Config, ground: &Ground, previous: Option<&Running>) -> Result<Running, Vec<Mistake>> {
        let mut mistakes = config.check();
        let mut prepared = Vec::new();
        for (name, upstream) in &config.upstreams {
            match prepare(upstream, &config.folder) {
                Ok(ready) => prepared.push((name, upstream, ready)),
                Err(wrong) => mistakes
                    .extend(wrong.into_iter().map(|(key, what)| Mistake::new(format!("upstreams.{name}.{key}"), what))),
            }
        }
        let challenges = previous.map(|previous| Arc::clone(&previous.challenges)).unwrap_or_default();
        let mut doors = Vec::new();
        for (index, listen) in config.listen.iter().enumerate() {
            match Door::compile(listen, index, &config.folder, &challenges) {
                Ok(door) => doors.push(door),
                Err(found) => mistakes.extend(found),
            }
        }
        let doors = doors.into_boxed_slice();
        let listener = config.listener_bounds(&mut mistakes);
        let admin = Admin::compile(&config, ground).map_err(|found| mistakes.extend(found));
        let path_config = config.path_config();
        let path = request_path(&path_config, ground).map_err(|found| mistakes.extend(found));
        let (path, overload, admin) = match (path, overload::Rules::compile(&path_config), admin) {
            (Ok(path), Ok(overload), Ok(admin)) if mistakes.is_empty() => (path, overload, admin),
            // The guard is made from the same rules and has told what is wrong with them.
            _ => return Err(mistakes),
        };
        // Only now: an upstream that will not run must leave nothing behind, no series either.
        let mut upstreams = HashMap::new();
        for (name, upstream, ready) in prepared {
            let kept = previous
                .and_then(|previous| previous.upstreams.get(name.as_str()))
                .filter(|kept| kept.is_made_from(upstream, &ready))
                .cloned();
            let compiled = kept.unwrap_or_else(|| Arc::new(Upstream::compile(name, upstream, ready, &ground.metrics)));
            upstreams.insert(Arc::clone(&compiled.name), compiled);
        }
        let by_route = by_route(&config, &upstreams);
        let concurrency = Places::new(&config, &by_route, ground, previous.map(|previous| &previous.concurrency));
        Ok(Running { path, doors, challenges, listener, overload, config, upstreams, by_route, concurrency, admin })
    }

    /// Where this exchange goes.
    #[must_use]
    pub fn upstream_of(&self, exchange: &Exchange) -> Option<&Arc<Upstream>> {
        exchange.route.as_ref().and_then(|route| self.by_route.get(route.index))
    }

    /// Writes into the metrics when each certificate ends.
    pub fn tell_certificates(&self, metrics: &Registry) {
        for certificate in self.doors.iter().flat_map(|door| &door.certificates) {
            metrics.gauge(&TLS_CERTIFICATE_NOT_AFTER, &[&certificate.name]).set(certificate.not_after_unix);
        }
    }

    /// Whether this exchange ends in the gateway's own accounts.
    #[must_use]
    pub fn ends_in_accounts(&self, exchange: &Exchange) -> bool {
        let first = self.config.first_account_route();
        first.is_some_and(|first| exchange.route_index().is_some_and(|index| index >= first))
    }

    /// What a request on this exchange's route may switch to, where the route says so.
    #[must_use]
    pub fn switches_of(&self, exchange: &Exchange) -> Option<&[String]> {
        let route = exchange.route.as_ref().and_then(|route| self.config.path.routes.get(route.index))?;
        route.switch_to.as_deref()
    }

    /// Whether every upstream of `other` is here just as it was there.
    #[must_use]
    pub fn has_upstreams_of(&self, other: &Running) -> bool {
        let is_kept = |(name, upstream): (&Arc<str>, &Arc<Upstream>)| {
            self.upstreams.get(name).is_some_and(|own| Arc::ptr_eq(own, upstream))
        };
        other.upstreams.iter().all(is_kept)
    }

    /// All upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }
}

/// The `route` guard has refused names that do not exist, so every route finds its upstream; without routes there is one
/// implicit route to the only upstream.
fn by_route(config: &Config, upstreams: &HashMap<Arc<str>, Arc<Upstream>>) -> Box<[Arc<Upstream>]> {
    let only = || upstreams.values().next();
    if config.path.routes.is_empty() {
        return only().cloned().into_iter().collect();
    }
    let named = |route: &RouteConfig| route.upstream.as_deref().map_or_else(only, |name| upstreams.get(name)).cloned();
    config.path.routes.iter().filter_map(named).collect()
}
