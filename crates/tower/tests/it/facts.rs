//! What a handler sees of the request, and what the guards know of the peer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode, Uri};
use portcullis_tower::guards::config::{PathConfig, RouteConfig};
use portcullis_tower::guards::exchange::ClientAddress;
use portcullis_tower::guards::route::Route;
use portcullis_tower::{PathLayer, Peer, RequestId};
use tower::Layer;

use crate::stage::{Stage, ask, call, get as ask_for, read, stage, staged};

/// Behind one trusted proxy, with a route that strips its prefix.
fn config() -> PathConfig {
    let mut route =
        RouteConfig { name: "shop".to_owned(), strip_prefix: Some("/shop".to_owned()), ..Default::default() };
    route.matches.path = Some("/shop/**".to_owned());
    PathConfig {
        trusted_proxies: vec!["198.51.100.0/24".parse().expect("a network")],
        routes: vec![route],
        ..PathConfig::default()
    }
}

async fn tell(
    uri: Uri,
    headers: HeaderMap,
    Extension(id): Extension<RequestId>,
    Extension(client): Extension<ClientAddress>,
    Extension(route): Extension<Arc<Route>>,
    // Put there by the server, and left alone.
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
) -> String {
    let field = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap_or("?")).to_owned();
    assert_eq!(field("x-request-id"), id.as_str());
    let told = [uri.to_string(), route.name.to_string(), client.address.to_string(), peer.ip().to_string()];
    let fields = ["x-forwarded-for", "x-portcullis-user", "x-secret", "connection", "upgrade", "host"].map(field);
    format!("{} | {}", told.join(" "), fields.join(" "))
}

#[tokio::test]
async fn a_handler_sees_the_request_as_the_guards_decided_by_it() {
    let Stage { standing, .. } = stage();
    let layer = PathLayer::new(&config(), &standing).expect("a valid config");
    let app = layer.layer(Router::new().route("/orders/{number}", get(tell)));
    let mut request = ask_for("/shop/./x/../orders//%37?a=1");
    *request.extensions_mut().get_mut::<ConnectInfo<SocketAddr>>().expect("it was put there") =
        ConnectInfo(SocketAddr::from(([198, 51, 100, 7], 4000)));
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-portcullis-user", "root"),
        ("x-secret", "1"),
        ("connection", "Upgrade, X-Secret, Host"),
        ("upgrade", "websocket"),
    ] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let answer = read(call(&app, request).await).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let told = String::from_utf8_lossy(&answer.body);
    let expected = "/orders/7?a=1 shop 203.0.113.9 198.51.100.7 \
                    | 203.0.113.9, 198.51.100.7 - - Upgrade, X-Secret, Host websocket shop.test";
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_target_with_an_authority_keeps_it() {
    let Stage { standing, .. } = stage();
    let layer = PathLayer::new(&PathConfig::default(), &standing).expect("a valid config");
    let app = layer.layer(Router::new().route("/a", get(|uri: Uri| async move { uri.to_string() })));
    let answer = read(call(&app, ask_for("http://shop.test/./a?b")).await).await;
    assert_eq!(answer.body, "http://shop.test/a?b");
}

#[tokio::test]
async fn where_nobody_says_who_the_peer_is_all_are_one_and_the_log_says_so_once() {
    let Stage { standing, mut log, .. } = staged(|builder| builder.peer_from(|_| None));
    let layer = PathLayer::new(&config(), &standing).expect("a valid config");
    let app = layer.layer(Router::new().route(
        "/",
        get(|client: Extension<ClientAddress>| async move { format!("{} {}", client.address, client.peer_is_trusted) }),
    ));
    for turn in 0..2 {
        let mut request = ask_for("/shop");
        request.headers_mut().insert("x-forwarded-for", "203.0.113.9".parse().expect("a value"));
        let answer = read(call(&app, request).await).await;
        assert_eq!(answer.body, "0.0.0.0 false");
        if turn == 0 {
            assert_eq!(log.line().await["msg"], "peer_unknown");
        }
        assert_eq!(log.line().await["msg"], "request");
    }
    assert!(log.is_read());
}

#[tokio::test]
async fn a_peer_on_tls_is_told_to_stay_there() {
    let address = SocketAddr::from(([203, 0, 113, 9], 50_000));
    for (peer, has_hsts) in [(Peer::plain(address), false), (Peer::tls(address), true)] {
        let Stage { standing, .. } = staged(|builder| builder.peer_from(|known| known.get::<Peer>().copied()));
        let layer = PathLayer::new(&PathConfig::default(), &standing).expect("a valid config");
        let app = layer.layer(Router::new().route("/", get(|| async {})));
        let mut request = ask("GET", "/", String::new());
        request.extensions_mut().insert(peer);
        let answer = read(call(&app, request).await).await;
        assert_eq!(answer.headers.contains_key("strict-transport-security"), has_hsts);
        assert_eq!(peer.address.ip(), IpAddr::from([203, 0, 113, 9]));
    }
}

#[tokio::test]
async fn within_a_router_the_layer_works_on_routes_that_were_chosen_already() {
    let Stage { standing, .. } = stage();
    let layer = PathLayer::new(&PathConfig::default(), &standing).expect("a valid config");
    let app = Router::new().route("/a", get(|id: Extension<RequestId>| async move { id.to_string() })).layer(layer);
    let answer = read(call(&app, ask_for("/a")).await).await;
    assert_eq!(answer.header("x-request-id").as_bytes(), &answer.body[..]);
    // The guards read `/a`, the router read what was sent.
    assert_eq!(call(&app, ask_for("/./a")).await.status(), StatusCode::NOT_FOUND);
}
