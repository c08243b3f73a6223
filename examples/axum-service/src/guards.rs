//! What the guards are told, and the one line that puts them around the router.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Extensions;
use portcullis_tower::guards::config::{PathConfig, RouteConfig};
use portcullis_tower::guards::security_headers::Treatment;
use portcullis_tower::guards::{limits, rate_limit, security_headers};
use portcullis_tower::units::{ByteSize, Duration, Rate};
use portcullis_tower::{Mistakes, PathLayer, Peer, Standing};
use tower::Layer;

/// The path around the whole router, so that its routes are chosen by the path that the guards have checked.
///
/// # Errors
/// Every mistake in [`config`], all at once.
pub fn around(router: Router, standing: &Standing) -> Result<Router, Mistakes> {
    let guards = PathLayer::new(&config(), standing)?;
    Ok(Router::new().fallback_service(guards.layer(router)))
}

/// Who the peer is, as axum knows it.
#[must_use]
pub fn peer(known: &Extensions) -> Option<Peer> {
    known.get::<ConnectInfo<SocketAddr>>().map(|info| Peer::plain(info.0))
}

/// Two routes: orders, limited for each address, and a health check that is neither limited nor logged.
#[must_use]
pub fn config() -> PathConfig {
    let mut orders = RouteConfig { name: "orders".to_owned(), ..RouteConfig::default() };
    orders.matches.path = Some("/orders/**".to_owned());
    orders.matches.methods = Some(["GET", "POST"].map(str::to_owned).into());
    orders.rate_limit = Some(vec![rate_limit::Config {
        name: Some("orders".to_owned()),
        limit: Rate::new(20, Duration::from_secs(10)),
        ..rate_limit::Config::default()
    }]);

    let mut health = RouteConfig { name: "health".to_owned(), rate_limit: Some(Vec::new()), ..RouteConfig::default() };
    health.matches.path = Some("/healthz".to_owned());
    health.access_log.get_or_insert_default().enabled = Some(false);

    PathConfig {
        routes: vec![orders, health],
        limits: limits::Config {
            body_bytes: Some(ByteSize::from_kib(64)),
            total: Some(limits::Total::After(Duration::from_secs(5))),
            content_types: Some(vec!["application/json".to_owned()]),
            ..limits::Config::default()
        },
        security_headers: security_headers::Config {
            content_security_policy: Some(Treatment::Set("default-src 'none'; frame-ancestors 'none'".to_owned())),
            ..security_headers::Config::default()
        },
        ..PathConfig::default()
    }
}
