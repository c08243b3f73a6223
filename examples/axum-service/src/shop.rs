//! The handlers: an order to look at, and orders to place, which must be paid at another service.

use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_tower::guards::breaker;
use portcullis_tower::{
    BreakerLayer, Fault, Mistakes, Refusal, RefusalResponse, RequestId, Standing, WithBreaker, refuse,
};
use serde::{Deserialize, Serialize};
use tower::{Layer, ServiceExt};

/// How long a payment may take. Shorter than a whole request may (`limits.total`), so that a slow payment is noticed here.
const PAYMENT: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Shop {
    payments: Uri,
    client: WithBreaker<Client<HttpConnector, Full<Bytes>>>,
}

/// What someone wants to buy.
#[derive(Debug, Deserialize, Serialize)]
pub struct Order {
    /// What.
    pub item: String,
    /// How many.
    pub pieces: u32,
}

/// The shop's routes, with a client of `payments` that leaves it alone while it is failing.
///
/// # Errors
/// A setting of the breaker that is out of bounds.
pub fn router(payments: Uri, standing: &Standing) -> Result<Router, Mistakes> {
    let breaker = BreakerLayer::new("payments", &breaker::Config::default(), PAYMENT, standing)?;
    let client = breaker.layer(Client::builder(TokioExecutor::new()).build_http());
    Ok(Router::new()
        .route("/orders", axum::routing::post(place))
        .route("/orders/{number}", get(look))
        .route("/healthz", get(async || "ok"))
        .fallback(async || refuse(Refusal::not_found()))
        .with_state(Shop { payments, client }))
}

async fn look(Path(number): Path<String>) -> Result<Json<Order>, RefusalResponse> {
    match number.as_str() {
        "7" => Ok(Json(Order { item: "portcullis".to_owned(), pieces: 1 })),
        _ => Err(refuse(Refusal::not_found().because("no order has this number"))),
    }
}

async fn place(
    State(shop): State<Shop>,
    Extension(id): Extension<RequestId>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<(StatusCode, Json<Order>), RefusalResponse> {
    // axum's own words about a body that is no order would have another form than everything else here.
    let Json(order) = order.map_err(|_| refuse(Fault::RequestBodyBroken))?;
    let request = Request::post(shop.payments)
        .header(header::CONTENT_TYPE, "text/plain")
        .header("x-request-id", id.as_str())
        .body(Full::from(format!("{} of {}", order.pieces, order.item)))
        .map_err(|_| refuse(Refusal::internal()))?;
    // 503 while payments is left alone, 502 where it cannot be reached, 504 where it is too slow.
    let answer = shop.client.oneshot(request).await.map_err(refuse)?;
    if !answer.status().is_success() {
        return Err(refuse(Fault::Malformed));
    }
    Ok((StatusCode::CREATED, Json(order)))
}
