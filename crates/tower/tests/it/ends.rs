//! How visits end: whatever happens, `finish` runs once, and the client hears what can still be said.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use portcullis_tower::guards::config::PathConfig;
use portcullis_tower::guards::exchange::Exchange;
use portcullis_tower::guards::guard::{Guard, Resume, Verdict};
use portcullis_tower::guards::limits::{self, Total};
use portcullis_tower::guards::path::Path;
use portcullis_tower::guards::{breaker, route};
use portcullis_tower::{BoxError, PathLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower::{Layer, Service, service_fn};

use crate::stage::{Never, Pieces, Stage, ask, call, client, get as ask_for, read, serve, stage};

fn whole_path(stage: &Stage) -> PathLayer {
    PathLayer::new(&PathConfig::default(), &stage.standing).expect("a valid config")
}

#[tokio::test]
async fn a_panic_in_a_handler_is_500_for_that_request_only() {
    let mut stage = stage();
    let handler = || async {
        if true {
            panic!("a defect of the handler");
        }
    };
    let router = Router::new().route("/panic", get(handler)).route("/", get(|| async { "hello" }));
    let address = serve(whole_path(&stage).layer(router)).await;
    let client = client::<Empty<Bytes>>();
    let mut ask = async |path: &str| {
        let request = Request::get(format!("http://{address}{path}")).body(Empty::new()).expect("a valid request");
        let answer = read(client.request(request).await.expect("an answer")).await;
        (answer, stage.log.line().await)
    };
    let (answer, line) = ask("/panic").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "ERR_INTERNAL"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("defect"), "the panic's words reached the client");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!((&line["end"], &line["status"], &line["level"]), (&"panic".into(), &500.into(), &"error".into()));
    let (answer, line) = ask("/").await;
    assert_eq!((answer.status, &line["end"]), (StatusCode::OK, &"complete".into()));
    assert_eq!(stage.metric("http_requests_in_flight{}"), 0.0);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_handler_works_ends_the_visit() {
    let mut stage = stage();
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let handler = move || {
        let tell = Arc::clone(&tell);
        async move {
            tell.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let address = serve(whole_path(&stage).layer(Router::new().route("/", get(handler)))).await;
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await.expect("it reads");
    begun.notified().await;
    assert_eq!(stage.metric("http_requests_in_flight{}"), 1.0);
    drop(socket);
    let line = stage.log.line().await;
    assert_eq!((&line["end"], &line["status"]), (&"client_gone".into(), &499.into()));
    assert_eq!(stage.metric("http_requests_in_flight{}"), 0.0);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_answer_is_sent_ends_the_visit() {
    let mut stage = stage();
    // The first piece is sent, the rest never comes.
    let handler = || async { axum::body::Body::new(Chain(Pieces::of(1, 5), Never)) };
    let address = serve(whole_path(&stage).layer(Router::new().route("/", get(handler)))).await;
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await.expect("it reads");
    let mut seen = Vec::new();
    while !seen.ends_with(b"xxxxx\r\n") {
        assert_ne!(socket.read_buf(&mut seen).await.expect("it answers"), 0, "cut too early");
    }
    assert!(stage.log.is_read(), "a line before the end");
    drop(socket);
    let line = stage.log.line().await;
    assert_eq!((&line["end"], &line["status"], &line["bytes_out"]), (&"client_gone".into(), &200.into(), &5.into()));
    assert_eq!(stage.metric("http_requests_in_flight{}"), 0.0);
}

/// One body after the other.
struct Chain<A, B>(A, B);

impl<A, B> Body for Chain<A, B>
where
    A: Body<Data = Bytes, Error = Infallible> + Unpin,
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match Pin::new(&mut self.0).poll_frame(cx) {
            Poll::Ready(None) => Pin::new(&mut self.1).poll_frame(cx),
            other => other,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_past_the_deadline_is_dropped_and_the_client_hears_504() {
    struct Tells(Arc<AtomicBool>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let mut stage = stage();
    let is_dropped = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&is_dropped);
    let handler = move || {
        let tells = Tells(Arc::clone(&tells));
        async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        }
    };
    let app = whole_path(&stage).layer(Router::new().route("/", get(handler)));
    let before = tokio::time::Instant::now();
    let answer = read(call(&app, ask_for("/")).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::GATEWAY_TIMEOUT, "ERR_DEADLINE_EXCEEDED"));
    assert_eq!(before.elapsed().as_secs(), 30);
    assert!(is_dropped.load(Ordering::Relaxed), "the handler goes on");
    assert_eq!(stage.log.line().await["end"], "complete");
}

#[tokio::test(start_paused = true)]
async fn an_answer_past_the_deadline_is_cut_and_never_looks_complete() {
    let mut stage = stage();
    let handler = || async { axum::body::Body::new(Chain(Pieces::of(1, 5), Never)) };
    let app = whole_path(&stage).layer(Router::new().route("/", get(handler)));
    let mut body = call(&app, ask_for("/")).await.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    let error = body.frame().await.expect("not the end").expect_err("no more of it");
    assert_eq!(error.to_string(), "the response body was cut: deadline");
    drop(body);
    assert_eq!(stage.log.line().await["end"], "deadline");
}

/// Waits for as long as its own time says before it lets a request pass.
struct Slow(Duration);

impl Guard for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        let wait = tokio::time::sleep(self.0);
        Verdict::Wait(Box::pin(async move {
            wait.await;
            let resume: Resume = Box::new(|_| Verdict::Pass);
            resume
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_waits_is_waited_for_but_not_past_the_deadline() {
    for (seconds, status) in [(29, StatusCode::OK), (31, StatusCode::GATEWAY_TIMEOUT)] {
        let stage = stage();
        let (config, ground) = (PathConfig::default(), stage.standing.ground());
        let path = Path::builder()
            .add(route::build(&config, ground).expect("valid"))
            .add(limits::build(&config, ground).expect("valid"))
            .add(Slow(Duration::from_secs(seconds)))
            .build()
            .expect("all needs are met");
        let app = PathLayer::of(path, &stage.standing).layer(Router::new().route("/", get(|| async {})));
        assert_eq!(call(&app, ask_for("/")).await.status(), status);
    }
}

/// Is never ready.
#[derive(Clone)]
struct Busy;

impl<Q> Service<Q> for Busy {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Q) -> Self::Future {
        panic!("called before it was ready");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_get_ready_holds_nobody_past_the_deadline_and_refusals_not_at_all() {
    let stage = stage();
    let app = whole_path(&stage).layer(Busy);
    assert_eq!(call(&app, ask_for("/")).await.status(), StatusCode::GATEWAY_TIMEOUT);
    let before = tokio::time::Instant::now();
    assert_eq!(call(&app, ask_for("/../x")).await.status(), StatusCode::BAD_REQUEST);
    assert!(before.elapsed().is_zero());
}

/// Always has more.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_always_has_more_is_cut_too() {
    let stage = stage();
    let handler = || async { axum::body::Body::new(Endless) };
    let app = whole_path(&stage).layer(Router::new().route("/", get(handler)));
    let mut body = call(&app, ask_for("/")).await.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
}

#[tokio::test(start_paused = true)]
async fn a_route_without_a_deadline_may_go_on_for_ever() {
    let stage = stage();
    let mut config = PathConfig::default();
    config.limits.total = Some(Total::Off);
    let layer = PathLayer::new(&config, &stage.standing).expect("a valid config");
    let handler = || async { tokio::time::sleep(Duration::from_secs(86_400)).await };
    let app = layer.layer(Router::new().route("/", get(handler)));
    assert_eq!(call(&app, ask_for("/")).await.status(), StatusCode::OK);
}

/// Panics when it is asked a second time.
struct Grenade(bool);

impl Body for Grenade {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        assert!(!std::mem::replace(&mut self.0, true), "a defect of the body");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half")))))
    }
}

#[tokio::test]
async fn a_panic_in_an_answers_body_cuts_that_answer_only() {
    let mut stage = stage();
    let app = whole_path(&stage).layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Grenade(false)))));
    let mut body = call(&app, ask_for("/")).await.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
    drop(body);
    assert_eq!(stage.log.line().await["end"], "panic");
}

#[tokio::test]
async fn an_answer_whose_body_fails_is_told_as_cut() {
    let mut stage = stage();
    let app = whole_path(&stage).layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Broken))));
    let mut body = call(&app, ask_for("/")).await.into_body();
    let error = body.frame().await.expect("not the end").expect_err("it fails");
    assert_eq!(error.to_string(), "the disk is gone");
    drop(body);
    let line = stage.log.line().await;
    assert_eq!((&line["end"], &line["level"]), (&"upstream_cut".into(), &"warn".into()));
}

/// Fails at once.
struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err("the disk is gone".into())))
    }
}

#[tokio::test]
async fn a_body_that_no_server_sends_does_not_keep_the_answer_from_being_complete() {
    let mut stage = stage();
    let says = service_fn(async |request: Request<_>| {
        let mut response = Response::new(Full::from("a body"));
        *response.status_mut() = request.uri().path()[1..].parse().expect("a status");
        Ok::<_, Infallible>(response)
    });
    let app = whole_path(&stage).layer(says);
    for (method, path, end) in [
        ("HEAD", "/200", "complete"),
        ("GET", "/204", "complete"),
        ("GET", "/304", "complete"),
        ("GET", "/200", "client_gone"),
    ] {
        drop(call(&app, ask(method, path, String::new())).await);
        assert_eq!(stage.log.line().await["end"], end, "{method} {path}");
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_500_and_its_text_is_for_the_log_alone() {
    let mut stage = stage();
    let fails = service_fn(async |_| Err::<Response<Full<Bytes>>, BoxError>("the database is at 10.0.0.7".into()));
    let answer = read(call(&whole_path(&stage).layer(fails), ask_for("/")).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "ERR_INTERNAL"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("10.0.0.7"));
    let line = stage.log.line().await;
    assert_eq!((&line["msg"], &line["error"]), (&"service_failed".into(), &"the database is at 10.0.0.7".into()));
    assert_eq!(line["request_id"], answer.header("x-request-id"));
    assert_eq!(stage.log.line().await["code"], "ERR_INTERNAL");
}

#[tokio::test]
async fn an_answer_is_complete_when_all_that_is_sent_of_it_was_taken() {
    let mut stage = stage();
    let sized = || async {
        Response::builder().header("content-length", 5).body(axum::body::Body::new(Chain(Pieces::of(1, 5), Never)))
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/sized", get(async move || sized().await.expect("valid")));
    let app = whole_path(&stage).layer(router);
    // Not sent at all.
    drop(call(&app, ask("HEAD", "/", String::new())).await);
    let line = stage.log.line().await;
    assert_eq!((&line["end"], &line["bytes_out"]), (&"complete".into(), &0.into()));
    // As long as it said, though its end was never asked for.
    let mut body = call(&app, ask_for("/sized")).await.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    drop(body);
    assert_eq!(stage.log.line().await["end"], "complete");
    // Let go of before its first byte.
    drop(call(&app, ask_for("/")).await);
    assert_eq!(stage.log.line().await["end"], "client_gone");
    assert_eq!(stage.metric("http_requests_in_flight{}"), 0.0);
}

#[tokio::test]
async fn the_paths_own_breaker_judges_the_service_by_its_answers() {
    let mut stage = stage();
    let mut config = PathConfig::default();
    config.breakers.insert("shop".to_owned(), breaker::Config::default());
    let layer = PathLayer::new(&config, &stage.standing).expect("a valid config");
    let handler = |uri: http::Uri| async move {
        match uri.path() {
            "/fails" => Err(StatusCode::SERVICE_UNAVAILABLE),
            "/panics" => panic!("a defect of the handler"),
            "/waits" => std::future::pending().await,
            _ => Ok("hello"),
        }
    };
    let app = layer.layer(Router::new().fallback(handler));
    // Hang-ups say nothing about the service, however many they are.
    for _ in 0..10 {
        let visit = pin!(call(&app, ask_for("/waits")));
        assert!(visit.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    for path in ["/fails", "/panics", "/fails", "/panics", "/fails"] {
        assert!(call(&app, ask_for(path)).await.status().is_server_error());
    }
    let answer = read(call(&app, ask_for("/")).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "ERR_CIRCUIT_OPEN"));
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(stage.metric("circuit_breaker_state{service=\"shop\"}"), 2.0);
    stage.clock.forward_seconds(30);
    assert_eq!(call(&app, ask_for("/")).await.status(), StatusCode::OK);
    assert_eq!(stage.metric("circuit_breaker_state{service=\"shop\"}"), 0.0);
    assert_eq!(stage.log.line().await["msg"], "request");
}
