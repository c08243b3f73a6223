//! Starts the shop: the service on one port, metrics on another that only the monitoring should reach.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use axum_service::{guards, shop};
use http::{Uri, header};
use portcullis_tower::Standing;
use tokio::net::TcpListener;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let payments = set("PAYMENTS_URL", "http://127.0.0.1:3002/");
    let payments: Uri = payments.parse().with_context(|| format!("PAYMENTS_URL is `{payments}`, which is no URL"))?;

    let standing = Standing::builder().prefix("shop").peer_from(guards::peer).build()?;
    let app = guards::around(shop::router(payments, &standing)?, &standing)?;

    let metrics = move || {
        let text = standing.metrics();
        async { ([(header::CONTENT_TYPE, OPENMETRICS)], text) }
    };
    let telemetry = listen(&set("TELEMETRY", "127.0.0.1:3001")).await?;
    tokio::spawn(async move { axum::serve(telemetry, Router::new().route("/metrics", get(metrics))).await });

    let address = set("LISTEN", "127.0.0.1:3000");
    let listener = listen(&address).await?;
    eprintln!("the shop is open: http://{address}/orders/7");
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async {
            // Without a handler for it the signal would end the process anyway.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await
        .context("serving")
}

/// What the environment says, or else `default`.
fn set(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}
