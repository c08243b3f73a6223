//! Request bodies: bounds by count and by word, bodies that break off or never come, trailers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use portcullis_tower::guards::config::PathConfig;
use portcullis_tower::units::ByteSize;
use portcullis_tower::{BoxError, PathLayer, Standing};
use tower::Layer;

use crate::stage::{Never, Pieces, Stage, ask, call, client, read, serve, stage};

const LIMIT: usize = 64 * 1024;

/// Tells how many bytes came. A body that stops is answered as axum does it, with 400 and a text.
fn counter(
    standing: &Standing,
) -> impl tower::Service<
    Request<axum::body::Body>,
    Response = http::Response<portcullis_tower::Answer<axum::body::Body>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let mut config = PathConfig::default();
    config.limits.body_bytes = Some(ByteSize::from_kib(64));
    let layer = PathLayer::new(&config, standing).expect("a valid config");
    layer.layer(Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() })))
}

fn asking<B>(body: B) -> Request<axum::body::Body>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    ask("POST", "/", axum::body::Body::new(body))
}

#[tokio::test]
async fn a_chunked_upload_past_the_bound_is_413_and_up_to_it_is_taken() {
    let Stage { standing, mut log, .. } = stage();
    let address = serve(counter(&standing)).await;
    let upload = |pieces| {
        let request = Request::post(format!("http://{address}/")).body(pieces).expect("a valid request");
        client::<Pieces>().request(request)
    };
    let answer = read(upload(Pieces::of(64, 1024)).await.expect("an answer")).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, LIMIT.to_string().as_bytes()));
    assert_eq!(log.line().await["bytes_in"], LIMIT);

    let mut pieces = Pieces::of(64, 1024);
    pieces.0.push_back(Bytes::from_static(b"x"));
    let answer = read(upload(pieces).await.expect("an answer")).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "ERR_BODY_TOO_LARGE"));
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let line = log.line().await;
    assert_eq!((&line["status"], &line["guard"], &line["end"]), (&413.into(), &"service".into(), &"complete".into()));
    assert!(line["bytes_in"].as_u64() > Some(LIMIT as u64), "{line}");
}

#[tokio::test]
async fn a_length_past_the_bound_is_413_before_a_byte_is_read() {
    let Stage { standing, mut log, .. } = stage();
    let app = counter(&standing);
    let answer = read(call(&app, asking(Full::from(vec![0; LIMIT + 1]))).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "ERR_BODY_TOO_LARGE"));
    let line = log.line().await;
    assert_eq!((&line["guard"], &line["bytes_in"], &line["attempts"]), (&"limits".into(), &0.into(), &0.into()));
}

/// Breaks off after one piece.
struct Broken(bool);

impl Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(match std::mem::replace(&mut self.0, true) {
            false => Ok(Frame::data(Bytes::from_static(b"half"))),
            true => Err("the connection was reset".into()),
        }))
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_as_that() {
    let Stage { standing, .. } = stage();
    let answer = read(call(&counter(&standing), asking(Broken(false))).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "ERR_BODY_MALFORMED"));
}

#[tokio::test]
async fn a_length_counts_also_where_a_layer_outside_has_hidden_it_from_the_body() {
    let Stage { standing, .. } = stage();
    let app = counter(&standing);
    for (bytes, status) in [(LIMIT, StatusCode::OK), (LIMIT + 1, StatusCode::PAYLOAD_TOO_LARGE)] {
        let mut request = asking(Pieces::of(1, bytes));
        request.headers_mut().insert("content-length", bytes.into());
        assert_eq!(call(&app, request).await.status(), status);
    }
}

#[tokio::test]
async fn a_refusal_on_http_2_does_not_speak_of_the_connection() {
    let Stage { standing, .. } = stage();
    let app = counter(&standing);
    for (version, closes) in [(http::Version::HTTP_11, true), (http::Version::HTTP_2, false)] {
        let mut request = asking(Pieces::of(2, LIMIT));
        *request.version_mut() = version;
        let answer = read(call(&app, request).await).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.headers.contains_key("connection"), closes, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_in_time_is_408_and_not_the_services_fault() {
    let Stage { standing, .. } = stage();
    let answer = read(call(&counter(&standing), asking(Never)).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::REQUEST_TIMEOUT, "ERR_BODY_TIMEOUT"));
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn a_body_that_was_stopped_stays_stopped_however_often_it_is_asked() {
    let Stage { standing, .. } = stage();
    let mut config = PathConfig::default();
    config.limits.body_bytes = Some(ByteSize::from_bytes(3));
    let layer = PathLayer::new(&config, &standing).expect("a valid config");
    // A handler that reads on after an error, and then says that all is well.
    let stubborn = |mut body: axum::body::Body| async move {
        let mut errors = 0;
        for _ in 0..4 {
            errors += usize::from(body.frame().await.is_some_and(|frame| frame.is_err()));
        }
        assert_eq!(errors, 3, "one piece, and then errors only, also after the last piece");
        "all is well"
    };
    let app = layer.layer(Router::new().route("/", post(stubborn)));
    let answer = read(call(&app, asking(Pieces::of(3, 2))).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "ERR_BODY_TOO_LARGE"));
}

/// One piece and a trailer.
struct WithTrailer(VecDeque<Frame<Bytes>>);

impl Body for WithTrailer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn with_trailer(name: &'static str) -> WithTrailer {
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(name), "x".parse().expect("a value"))]);
    WithTrailer([Frame::data(Bytes::from_static(b"hi")), Frame::trailers(trailers)].into())
}

#[tokio::test]
async fn trailers_of_the_request_reach_no_handler_and_those_of_the_answer_reach_the_client() {
    let Stage { standing, mut log, .. } = stage();
    let layer = PathLayer::new(&PathConfig::default(), &standing).expect("a valid config");
    let handler = |body: axum::body::Body| async move {
        let whole = body.collect().await.expect("a whole body");
        assert_eq!(whole.trailers(), None);
        axum::body::Body::new(with_trailer("grpc-status"))
    };
    let app = layer.layer(Router::new().route("/", post(handler)));
    let response = call(&app, asking(with_trailer("x-forwarded-for"))).await;
    let whole = response.into_body().collect().await.expect("a whole body");
    assert!(whole.trailers().is_some_and(|trailers| trailers.contains_key("grpc-status")));
    let line = log.line().await;
    assert_eq!((&line["bytes_in"], &line["bytes_out"], &line["end"]), (&2.into(), &2.into(), &"complete".into()));
}
