//! The routes on which the gateway answers itself where accounts are turned on.
//!
//! They are routes like any other, so that the whole path of guards stands before them: limits, bans, the log, `explain`.
//!
//! Invariant: they come behind the routes that the operator wrote, whose places do not change.

use std::time::Duration;

use portcullis_core::units::{ByteSize, Rate};
use portcullis_guards::config::{PathConfig, RouteConfig};
use portcullis_guards::route::IMPLICIT;
use portcullis_guards::{identity, limits, rate_limit, route};

use super::Config;

/// No name of an upstream: those have no brackets.
const NO_UPSTREAM: &str = "(gateway)";
/// The largest body of a request, in KiB.
const MOST_BODY_KIB: u64 = 16;

impl Config {
    /// Where the routes of accounts begin among all routes of the path; `None` without accounts.
    #[must_use]
    pub fn first_account_route(&self) -> Option<usize> {
        // Without routes there is one.
        self.accounts.as_ref().map(|_| self.path.routes.len().max(1))
    }

    /// Adds them to what the guards are told.
    pub(super) fn add_account_routes(&self, path: &mut PathConfig) {
        let Some(accounts) = &self.accounts else { return };
        if path.routes.is_empty() {
            path.routes.push(RouteConfig { name: IMPLICIT.to_owned(), ..RouteConfig::default() });
        }
        let base = &accounts.path;
        let any = Rate::new(600, Duration::from_secs(60).into());
        path.routes.extend([
            inner("accounts", &format!("{base}/**"), &["GET", "POST", "DELETE"], any),
            inner("accounts-login", &format!("{base}/login"), &["POST"], Some(accounts.login_limit)),
            inner("accounts-register", &format!("{base}/register"), &["POST"], Some(accounts.registration_limit)),
        ]);
    }
}

fn inner(name: &str, path: &str, methods: &[&str], limit: Option<Rate>) -> RouteConfig {
    let limit = rate_limit::Config { name: Some(name.to_owned()), limit, ..rate_limit::Config::default() };
    RouteConfig {
        name: name.to_owned(),
        matches: route::Config {
            path: Some(path.to_owned()),
            methods: Some(methods.iter().map(|method| (*method).to_owned()).collect()),
            ..route::Config::default()
        },
        upstream: Some(NO_UPSTREAM.to_owned()),
        is_inner: true,
        // Who comes to log in may carry a session that is over; what is needed here is asked for here.
        identity: Some(identity::OfRoute {
            required: Some(false),
            accept: Some(Vec::new()),
            ..identity::OfRoute::default()
        }),
        limits: Some(limits::Config {
            body_bytes: Some(ByteSize::from_kib(MOST_BODY_KIB)),
            ..limits::Config::default()
        }),
        rate_limit: Some(vec![limit]),
        ..RouteConfig::default()
    }
}
