//! One validated config in its compiled form: what runs. Swapped whole on reload, never changed in place.
//!
//! A visit holds the generation it began under until its last byte; new visits take the new one.
//!
//! Invariant: what is reported as running is this value and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_guards::config::Mistake;
use portcullis_guards::exchange::Exchange;
use portcullis_guards::path::Path;
use portcullis_guards::request_path::{Ground, request_path};

use crate::config::{Config, ListenerBounds};
use crate::proxy::upstream::Upstream;

/// One generation of the gateway.
pub struct Running {
    /// The request path.
    pub path: Path,
    /// Bounds that hold before a request is matched to a route.
    pub listener: ListenerBounds,
    /// The config it was made from.
    pub config: Config,
    upstreams: HashMap<Arc<str>, Arc<Upstream>>,
}

impl Running {
    /// Compiles `config`. Upstreams that are configured as in `previous` keep their identity, and so their connections.
    ///
    /// # Errors
    /// Every mistake in the config, all at once.
    pub fn compile(config: Config, ground: &Ground, previous: Option<&Running>) -> Result<Running, Vec<Mistake>> {
        let mut mistakes = config.check();
        let mut upstreams = HashMap::new();
        for (name, upstream) in &config.upstreams {
            let mut find = |key: &str, message| mistakes.push(Mistake::new(format!("upstreams.{name}.{key}"), message));
            let target = upstream.target().map_err(|message| find("url", message)).ok();
            let fields = upstream.fields().map_err(|wrong| {
                for (field, message) in wrong {
                    find(&format!("request_headers.{field}"), message);
                }
            });
            let (Some((host, port)), Ok(fields)) = (target, fields) else { continue };
            let kept = previous
                .and_then(|previous| previous.upstreams.get(name.as_str()))
                .filter(|kept| kept.is_made_from(upstream))
                .cloned();
            let compiled = kept.unwrap_or_else(|| Arc::new(Upstream::compile(name, upstream, host, port, fields)));
            upstreams.insert(Arc::clone(&compiled.name), compiled);
        }
        let listener = config.listener_bounds(&mut mistakes);
        match request_path(&config.path_config(), ground) {
            Ok(path) if mistakes.is_empty() => Ok(Running { path, listener, config, upstreams }),
            Ok(_) => Err(mistakes),
            Err(found) => {
                mistakes.extend(found);
                Err(mistakes)
            }
        }
    }

    /// Where this exchange goes.
    #[must_use]
    pub fn upstream_of(&self, exchange: &Exchange) -> Option<&Arc<Upstream>> {
        exchange.route.as_ref().and_then(|route| self.upstreams.get(&route.upstream))
    }

    /// All upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }
}
