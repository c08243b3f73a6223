//! A shop on axum that hardens itself with `portcullis-tower`: `guards` is the config, `shop` the handlers.

pub mod guards;
pub mod shop;
