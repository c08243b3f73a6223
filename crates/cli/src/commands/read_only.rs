//! `read-only list|on|off|auto`: which routes of the running gateway refuse writes, and saying so by hand.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::control_client::{Common, encoded};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show every route, whether it refuses writes, and why.
    List(Common),
    /// Refuse writes from the next request on, until `off` or `auto` or the next start.
    On(Order),
    /// Take writes, whatever the config says, until `on` or `auto` or the next start.
    Off(Order),
    /// Let the config decide again.
    Auto(Order),
}

/// Which routes.
#[derive(clap::Args)]
pub(crate) struct Order {
    /// The name of the route. Without it all of them.
    route: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Does one of them.
///
/// # Errors
/// When the gateway cannot be asked, or says no.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    let (answer, common) = match command {
        Command::List(common) => (common.which.ask_well("GET", "/api/v1/read-only", &Value::Null)?, common),
        Command::On(order) => say("on", order)?,
        Command::Off(order) => say("off", order)?,
        Command::Auto(order) => say("auto", order)?,
    };
    if common.json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    for route in answer["routes"].as_array().into_iter().flatten() {
        let text = |key: &str| route[key].as_str().unwrap_or("-");
        let standing = if route["read_only"] == true { "read-only" } else { "writable" };
        println!(
            "{:<24} {standing:<10} why: {:<9} mode: {:<7} by hand: {}",
            text("route"),
            text("why"),
            text("mode"),
            text("by_hand")
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn say(state: &str, order: Order) -> anyhow::Result<(Value, Common)> {
    let route = encoded(order.route.as_deref().unwrap_or("*"));
    let path = format!("/api/v1/read-only/{route}");
    Ok((order.common.which.ask_well("PUT", &path, &json!({ "state": state }))?, order.common))
}
