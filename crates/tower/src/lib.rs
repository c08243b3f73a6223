//! Portcullis' guards as tower layers, for services that want them without a proxy in front.
//!
//! The gateway's runner, its guards and its error format, around any `Service<http::Request<_>>`: axum, hyper, tonic.
//! [`PathLayer`] is the whole request path, [`GuardLayer`] one guard, [`BreakerLayer`] a circuit breaker around the calls
//! a service makes, [`refuse`] a handler's own "no". All of them stand on one [`Standing`].
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use axum::extract::ConnectInfo;
//! use axum::routing::get;
//! use axum::{Extension, Router};
//! use portcullis_tower::guards::config::PathConfig;
//! use portcullis_tower::guards::exchange::ClientAddress;
//! use portcullis_tower::{PathLayer, Peer, Refusal, RefusalResponse, RequestId, Standing, refuse};
//! use tower::{Layer, ServiceExt};
//!
//! async fn order(Extension(client): Extension<ClientAddress>) -> Result<String, RefusalResponse> {
//!     if client.address.is_loopback() {
//!         return Err(refuse(Refusal::not_found()));
//!     }
//!     Ok(format!("hello, {}", client.address))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let standing = Standing::builder()
//!     .peer_from(|known| known.get::<ConnectInfo<SocketAddr>>().map(|info| Peer::plain(info.0)))
//!     .build()?;
//! let guards = PathLayer::new(&PathConfig::default(), &standing)?;
//! let router = Router::new().route("/order", get(order));
//! // Around the whole router, and then as a router again, which is what axum serves.
//! let app = Router::new().fallback_service(guards.layer(router));
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = axum::serve(listener, app.clone().into_make_service_with_connect_info::<SocketAddr>());
//! # drop(server); // The example does not stay.
//!
//! let request = http::Request::get("/order").header("host", "shop.test");
//! let request = request.extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4000))));
//! let request = request.body(axum::body::Body::empty())?;
//! let answer = app.oneshot(request).await?;
//! assert_eq!(answer.status(), 404);
//! assert!(answer.headers()["ratelimit"].to_str()?.starts_with("\"default\";r=199"));
//! assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
//! assert!(answer.headers().contains_key("x-request-id"));
//! # Ok(())
//! # }
//! ```
//!
//! # What a handler sees
//!
//! The request as the guards decided by it: the path in its one normal form, forwarding fields written by us, exactly
//! one `X-Request-Id`. In its extensions: [`RequestId`], `guards::exchange::ClientAddress`, `Arc<guards::route::Route>`.
//! `Connection`, `Upgrade` and `TE` stay as they were sent, because the service is the end of this hop; trailers of the
//! request are dropped, those of the answer are not.
//!
//! # What goes wrong, and what the client then hears
//!
//! A panic in a handler is 500 for that request only. An error of the inner service is 500, and its text goes to the
//! log. A body past `limits.body_bytes` is 413 and one that breaks off 400, whatever the handler makes of the error it
//! reads. Past `limits.total` it is 504, or 408 when the client had not sent its body; an answer that has begun is cut.
//!
//! # Caveats
//!
//! - Put the layer around the whole router (`layer.layer(router)`), not into it (`Router::layer`): routes would then be
//!   chosen by the path as it was sent, and guards would decide by its normal form.
//! - Guards know the peer from [`Builder::peer_from`]. Where the server does not say, all clients are counted as one.
//! - `axum::serve` bounds neither the time of a request's head nor that of an idle connection, and a client that stops
//!   reading is not cut by the deadline: the body is not asked while the socket is full. On an open network put the
//!   gateway in front, or use a server with these timeouts.
//! - A body is counted while it is read. One that a handler never reads is never too large, and axum's extractors have
//!   a bound of their own (`DefaultBodyLimit`, 2 MB) inside of this one.
//! - After an upgrade (WebSockets) nothing is counted or bounded any more.
//! - Layers within layers work: the inner one takes over the request id, and a refusal is told in the outer one's log.

mod answer;
mod arrival;
mod call;
mod clock;
mod deadline;
mod layer;
mod refusal;
mod request_body;
mod standing;
mod stdout;
mod visit;

pub use portcullis_core::clock::{Clock, Now};
pub use portcullis_core::fault::Fault;
pub use portcullis_core::refusal::{Code, Refusal};
/// Durations, sizes and rates, as the config has them.
pub use portcullis_core::units;
/// The guards themselves: their `build` functions, their config, and the contract for one of your own.
pub use portcullis_guards as guards;

pub use answer::{Answer, Cut};
pub use arrival::RequestId;
pub use call::{BreakerLayer, CallError, WithBreaker, fault_of};
pub use clock::SystemClock;
pub use layer::{GuardLayer, Guarded, Mistakes, PathLayer};
pub use refusal::{RefusalBody, RefusalResponse, refusal_of, refuse};
pub use request_body::{BodyTooLarge, RequestBody};
pub use standing::{Builder, Peer, Standing, StandingError};

/// Any error, as tower's and axum's services have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
