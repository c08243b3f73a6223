//! What a client hears: limits, security headers and the error format, from guards and from handlers, over real sockets.

use axum::Router;
use axum::routing::get;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use portcullis_tower::guards::config::PathConfig;
use portcullis_tower::guards::path::{BrokenPath, Path};
use portcullis_tower::guards::{guard::Fact, limits, rate_limit, route, security_headers};
use portcullis_tower::units::{Duration, Rate};
use portcullis_tower::{Code, GuardLayer, Mistakes, PathLayer, Refusal, RefusalResponse, refusal_of, refuse};
use tower::Layer;

use crate::stage::{Answer, Stage, call, client, read, serve, stage};

/// Three requests a minute for an address.
fn three_a_minute() -> PathConfig {
    let policy = rate_limit::Config {
        name: Some("few".to_owned()),
        limit: Rate::new(3, Duration::from_secs(60)),
        ..rate_limit::Config::default()
    };
    PathConfig { rate_limit: Some(vec![policy]), ..PathConfig::default() }
}

async fn ask(address: std::net::SocketAddr, path: &str, accept: &str) -> Answer {
    let request = Request::get(format!("http://{address}{path}")).header("accept", accept);
    let request = request.body(Empty::new()).expect("a valid request");
    read(client().request(request).await.expect("an answer")).await
}

#[tokio::test]
async fn after_the_limit_clients_get_429_with_its_fields_and_every_answer_is_secured() {
    let Stage { standing, mut log, .. } = stage();
    let layer = PathLayer::new(&three_a_minute(), &standing).expect("a valid config");
    let address = serve(layer.layer(Router::new().route("/", get(|| async { "hello" })))).await;
    for left in [2, 1, 0] {
        let answer = ask(address, "/", "*/*").await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
        assert_eq!(answer.header("ratelimit-policy"), "\"few\";q=3;w=60");
        assert!(answer.header("ratelimit").starts_with(&format!("\"few\";r={left};")), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "SAMEORIGIN");
        let line = log.line().await;
        assert_eq!((&line["status"], &line["end"], &line["bytes_out"]), (&200.into(), &"complete".into(), &5.into()));
        assert_eq!((&line["attempts"], &line["client"]), (&1.into(), &"127.0.0.1".into()));
        assert_eq!(line["request_id"], answer.header("x-request-id"));
    }
    let answer = ask(address, "/", "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "ERR_RATE_LIMITED"));
    assert_eq!(answer.header("retry-after"), "20");
    assert!(answer.header("ratelimit").starts_with("\"few\";r=0;"), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert_eq!(answer.json()["error"]["requestId"], answer.header("x-request-id"));
    let line = log.line().await;
    assert_eq!(
        (&line["code"], &line["guard"], &line["rule"]),
        (&"ERR_RATE_LIMITED".into(), &"rate_limit".into(), &"few".into())
    );
    assert_eq!((&line["attempts"], &line["end"]), (&0.into(), &"complete".into()));
}

/// Handlers say no in the words of the catalogue, one of them with a field of its own.
fn handlers_that_refuse() -> Router {
    async fn missing() -> Result<String, RefusalResponse> {
        Err(refuse(Refusal::new(Code::ResourceNotFound).because("no order has this number")))
    }
    async fn secret() -> RefusalResponse {
        let mut response = refuse(Refusal::new(Code::Unauthenticated));
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        response
    }
    Router::new().route("/missing", get(missing)).route("/secret", get(secret))
}

#[tokio::test]
async fn a_handlers_refusal_is_said_as_the_guards_say_theirs() {
    let Stage { standing, mut log, .. } = stage();
    let layer = PathLayer::new(&PathConfig::default(), &standing).expect("a valid config");
    let address = serve(layer.layer(handlers_that_refuse())).await;

    let answer = ask(address, "/missing", "*/*").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "ERR_RESOURCE_NOT_FOUND"));
    let error = &answer.json()["error"];
    assert_eq!(error["details"]["reason"], "no order has this number");
    assert_eq!(
        (&error["requestId"], &error["timestamp"]),
        (&answer.header("x-request-id").into(), &"2026-01-01T10:00:00.000Z".into())
    );
    // The strict set, as on every answer of ours, and the fields of the limit.
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    assert!(answer.headers.contains_key("ratelimit"));
    let line = log.line().await;
    assert_eq!((&line["code"], &line["guard"]), (&"ERR_RESOURCE_NOT_FOUND".into(), &"service".into()));

    let answer = ask(address, "/missing", "application/problem+json").await;
    assert_eq!(answer.header("content-type"), "application/problem+json; charset=utf-8");
    let problem = answer.json();
    assert_eq!(
        (&problem["code"], &problem["requestId"]),
        (&"ERR_RESOURCE_NOT_FOUND".into(), &answer.header("x-request-id").into())
    );
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());

    let answer = ask(address, "/secret", "*/*").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer"));
}

#[tokio::test]
async fn without_a_layer_a_handlers_refusal_is_still_in_the_houses_form() {
    let answer = read(call(&handlers_that_refuse(), crate::stage::get("/missing")).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "ERR_RESOURCE_NOT_FOUND"));
    assert_eq!(answer.json()["error"]["requestId"], "");
}

#[tokio::test]
async fn a_layer_within_a_layer_keeps_the_request_id_and_its_refusal_is_told_outside() {
    let Stage { standing, mut log, .. } = stage();
    // Outside everything but the limit, inside the limit alone.
    let inner = GuardLayer::new(rate_limit::build, &three_a_minute(), &standing).expect("a valid config");
    let config = PathConfig { rate_limit: Some(Vec::new()), ..PathConfig::default() };
    let outer = PathLayer::new(&config, &standing).expect("a valid config");
    let app = outer.layer(inner.layer(Router::new().route("/", get(|| async { "hello" }))));
    for _ in 0..3 {
        assert_eq!(call(&app, crate::stage::get("/")).await.status(), StatusCode::OK);
        log.line().await;
    }
    let response = call(&app, crate::stage::get("/")).await;
    assert_eq!(refusal_of(&response).map(|refusal| refusal.code), Some(Code::RateLimited));
    let answer = read(response).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "ERR_RATE_LIMITED"));
    assert!(answer.header("ratelimit").starts_with("\"few\";r=0;"), "the inner layer's fields are lost: {answer:?}");
    let line = log.line().await;
    assert_eq!((&line["guard"], &line["status"]), (&"rate_limit".into(), &429.into()));
    assert_eq!(line["request_id"], answer.json()["error"]["requestId"]);
    assert_eq!(answer.header("x-request-id"), answer.json()["error"]["requestId"]);
}

#[tokio::test]
async fn one_guard_stands_alone_with_what_it_needs() {
    let Stage { standing, .. } = stage();
    let layer = GuardLayer::new(rate_limit::build, &three_a_minute(), &standing).expect("a valid config");
    assert_eq!(layer.names().collect::<Vec<_>>(), ["client_address", "rate_limit"]);
    let layer = GuardLayer::new(limits::build, &PathConfig::default(), &standing).expect("a valid config");
    assert_eq!(layer.names().collect::<Vec<_>>(), ["route", "limits"]);
    let layer = GuardLayer::new(security_headers::build, &PathConfig::default(), &standing).expect("a valid config");
    assert_eq!(layer.names().collect::<Vec<_>>(), ["security_headers"]);
    let answer = read(call(&layer.layer(Router::new()), crate::stage::get("/nowhere")).await).await;
    assert_eq!((answer.status, answer.header("x-content-type-options")), (StatusCode::NOT_FOUND, "nosniff"));
    assert!(!answer.headers.contains_key("x-request-id"));
}

#[test]
fn a_path_whose_needs_are_not_met_is_refused_when_it_is_built() {
    let Stage { standing, .. } = stage();
    let config = PathConfig::default();
    let build = |limits_first: bool| {
        let limits = limits::build(&config, standing.ground()).expect("a valid config");
        let route = route::build(&config, standing.ground()).expect("a valid config");
        let builder = Path::builder();
        let builder = if limits_first { builder.add(limits).add(route) } else { builder.add(route).add(limits) };
        builder.build().err()
    };
    assert_eq!(build(true), Some(BrokenPath::Unmet { guard: "limits", fact: Fact::Route }));
    assert_eq!(build(false), None);
}

#[test]
fn every_mistake_in_the_config_is_told_at_once_and_with_its_place() {
    let Stage { standing, .. } = stage();
    let mut config = three_a_minute();
    config.limits.headers = Some(1);
    config.rate_limit.as_mut().expect("it is set")[0].limit = None;
    let mistakes = PathLayer::new(&config, &standing).err().expect("two mistakes");
    let text = mistakes.to_string();
    assert!(text.contains("2 mistake(s)") && text.contains("limits.headers"), "{text}");
    assert!(text.contains("rate_limit[0].limit"), "{text}");
    let of_one_guard = GuardLayer::new(limits::build, &config, &standing).err();
    assert!(matches!(of_one_guard, Some(Mistakes(found)) if found.len() == 1));
}
