//! Asks the shop over sockets, as its clients do. The clock stands still, so that limits count alike on any machine.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use axum_service::{guards, shop};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use portcullis_tower::{Clock, Now, Standing};
use serde_json::Value;
use tokio::net::TcpSocket;

/// 2026-01-01T10:00:00.000Z, for ever.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { monotonic_nanos: 1_000_000_000, unix_millis: 1_767_261_600_000 }
    }
}

struct Shop {
    address: SocketAddr,
    standing: Standing,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().expect("ASCII")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn code(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Shop {
    async fn open(payments: SocketAddr) -> Shop {
        let standing = Standing::builder().clock(Arc::new(Still)).log(|_| {}).peer_from(guards::peer).build();
        let standing = standing.expect("16 MiB and a seed are there");
        let payments = format!("http://{payments}/").parse().expect("a URL");
        let router = shop::router(payments, &standing).expect("a valid config");
        let app = guards::around(router, &standing).expect("a valid config");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Shop { address, standing }
    }

    async fn ask(&self, method: Method, path: &str, accept: &str, body: &'static str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::from(body))
            .expect("a valid request");
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let (head, body) = client.request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "*/*", "").await
    }

    async fn order(&self) -> Answer {
        self.ask(Method::POST, "/orders", "*/*", r#"{"item":"rope","pieces":2}"#).await
    }
}

/// A port that is taken, so that no other test gets it, but at which nobody listens.
fn nobody() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    socket
}

#[tokio::test]
async fn answers_carry_limits_security_headers_and_a_request_id() {
    let payments = nobody();
    let shop = Shop::open(payments.local_addr().expect("it is bound")).await;
    let answer = shop.get("/orders/7").await;
    assert_eq!((answer.status, &answer.json()["item"]), (StatusCode::OK, &"portcullis".into()));
    assert!(answer.header("ratelimit").starts_with("\"orders\";r=19;"));
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-request-id").len(), 36);
    let answer = shop.get("/healthz").await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"ok"[..]));
    assert!(!answer.headers.contains_key("ratelimit"));
}

#[tokio::test]
async fn the_twenty_first_request_in_ten_seconds_is_refused() {
    let payments = nobody();
    let shop = Shop::open(payments.local_addr().expect("it is bound")).await;
    for _ in 0..20 {
        assert_eq!(shop.get("/orders/7").await.status, StatusCode::OK);
    }
    let answer = shop.get("/orders/7").await;
    assert_eq!(answer.code(), (429, "ERR_RATE_LIMITED".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(shop.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn guards_and_handlers_refuse_in_one_form() {
    let payments = nobody();
    let shop = Shop::open(payments.local_addr().expect("it is bound")).await;
    for (method, path, body, expected) in [
        (Method::GET, "/orders/8", "", (404, "ERR_ROUTE_NOT_FOUND")),
        (Method::GET, "/elsewhere", "", (404, "ERR_ROUTE_NOT_FOUND")),
        (Method::DELETE, "/orders/7", "", (405, "ERR_METHOD_NOT_ALLOWED")),
        (Method::POST, "/orders", "no order", (400, "ERR_BODY_MALFORMED")),
        (Method::GET, "/orders/%2e%2e/%2e%2e/x", "", (400, "ERR_INVALID_PATH")),
    ] {
        let answer = shop.ask(method, path, "*/*", body).await;
        assert_eq!(answer.code(), (expected.0, expected.1.to_owned()), "{path}");
        assert_eq!(answer.json()["error"]["requestId"], answer.header("x-request-id"));
    }
    let answer = shop.ask(Method::GET, "/orders/8", "application/problem+json", "").await;
    assert_eq!(answer.header("content-type"), "application/problem+json; charset=utf-8");
    assert_eq!(answer.json()["reason"], "no order has this number");
}

#[tokio::test]
async fn an_order_is_paid_under_the_same_request_id() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let payments = listener.local_addr().expect("it is bound");
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let pay = move |headers: HeaderMap, text: String| async move {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("none").to_owned();
        tell.send((id, text)).expect("the test listens");
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(pay))).await });
    let shop = Shop::open(payments).await;
    let answer = shop.order().await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(heard.recv().await, Some((answer.header("x-request-id").to_owned(), "2 of rope".to_owned())));
}

#[tokio::test]
async fn payments_is_left_alone_after_five_failures() {
    let payments = nobody();
    let shop = Shop::open(payments.local_addr().expect("it is bound")).await;
    for _ in 0..5 {
        assert_eq!(shop.order().await.code(), (502, "ERR_UPSTREAM_UNREACHABLE".to_owned()));
    }
    let answer = shop.order().await;
    assert_eq!(answer.code(), (503, "ERR_CIRCUIT_OPEN".to_owned()));
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(shop.get("/orders/7").await.status, StatusCode::OK);
    let metrics = shop.standing.metrics();
    assert!(metrics.contains("portcullis_circuit_breaker_state{service=\"payments\"} 2"), "{metrics}");
}
