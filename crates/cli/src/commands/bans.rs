//! `bans list|show|add|remove`: who is kept out of the running gateway.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::control_client::{Common, encoded};

/// What to do with bans.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show who is banned.
    List {
        /// Also networks whose bans are over but still remembered.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show everything about an address or network: its ban, its past, and bans around it. Exit 0 when it is banned, else 1.
    Show {
        /// An address, or a network as 203.0.113.0/24.
        network: String,
        #[command(flatten)]
        common: Common,
    },
    /// Ban an address or network, from the next request on.
    Add {
        /// An address (for IPv6 its /64 is meant), or a network as 203.0.113.0/24.
        network: String,
        /// For how long, as 30m, 4h, 7d. Without it until somebody lifts the ban.
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
        /// Why, for who reads it later. At most 200 bytes.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        common: Common,
    },
    /// Lift the ban of an address or network. It does not count as a repeat later.
    Remove {
        /// The address or network as `bans list` shows it.
        network: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Does one of them. Exit 3 when a change holds but could not be written down.
///
/// # Errors
/// When the gateway cannot be asked, or says no.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { all, common } => list(all, &common),
        Command::Show { network, common } => show(&network, &common),
        Command::Add { network, time, reason, common } => {
            let order = json!({ "network": network, "for": time, "reason": reason });
            let answer = common.which.ask_well("POST", "/api/v1/bans", &order)?;
            Ok(told("banned", &answer, &common))
        }
        Command::Remove { network, common } => {
            let answer =
                common.which.ask_well("DELETE", &format!("/api/v1/bans/{}", encoded(&network)), &Value::Null)?;
            Ok(told("lifted the ban of", &answer, &common))
        }
    }
}

fn list(all: bool, common: &Common) -> anyhow::Result<ExitCode> {
    let mut bans: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let mut page = common.which.ask_well("GET", &format!("/api/v1/bans?past={all}{after}"), &Value::Null)?;
        if let Value::Array(more) = page["bans"].take() {
            bans.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => break,
        }
    }
    if common.json {
        println!("{}", Value::Array(bans));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<28} {:<14} {:<26} {:<5} REASON", "NETWORK", "BY", "UNTIL", "PAST");
    for known in &bans {
        let past = known["past"].as_array().map_or(0, Vec::len);
        let ban = &known["ban"];
        let until = if ban.is_null() { "over" } else { ban["until"].as_str().unwrap_or("lifted by hand") };
        let (by, reason) = (text(&ban["by"]), text(&ban["reason"]));
        println!("{}", format!("{:<28} {by:<14} {until:<26} {past:<5} {reason}", text(&known["network"])).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn show(network: &str, common: &Common) -> anyhow::Result<ExitCode> {
    let answer = common.which.ask_well("GET", &format!("/api/v1/bans/{}", encoded(network)), &Value::Null)?;
    let is_banned = answer["banned"] == true;
    if common.json {
        println!("{answer}");
    } else {
        println!("{} is {}", text(&answer["network"]), if is_banned { "banned" } else { "not banned" });
        let own = [&answer["known"]];
        for known in own.into_iter().chain(answer["inside"].as_array().into_iter().flatten()) {
            for ban in [&known["ban"]].into_iter().chain(known["past"].as_array().into_iter().flatten()) {
                if !ban.is_null() {
                    println!("{}", line(text(&known["network"]), ban));
                }
            }
        }
    }
    Ok(if is_banned { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// One ban, over or not, in words.
fn line(network: &str, ban: &Value) -> String {
    let until = ban["until"].as_str().unwrap_or("somebody lifts it");
    let end = match ban["end"].as_str() {
        Some(end) => format!(", {end} {}", text(&ban["ended"])),
        None => String::new(),
    };
    let (by, since, reason) = (text(&ban["by"]), text(&ban["since"]), text(&ban["reason"]));
    format!("  {network} by {by} since {since} until {until}{end}: {reason}").trim_end_matches([':', ' ']).to_owned()
}

fn told(what: &str, answer: &Value, common: &Common) -> ExitCode {
    let network = text(&answer["ban"]["network"]);
    if common.json {
        println!("{answer}");
    } else {
        let until = match &answer["ban"]["ban"] {
            Value::Null => String::new(),
            ban => ban["until"]
                .as_str()
                .map_or_else(|| " until somebody lifts it".to_owned(), |until| format!(" until {until}")),
        };
        println!("{what} {network}{until}");
        if answer["widened"] == true {
            println!("(an IPv6 address stands for its network; for one address alone write it with /128)");
        }
        if answer["durable"] != true {
            println!("(the gateway has no durable store: this is forgotten when it ends; see store.url)");
        }
    }
    if answer["kept"] == true {
        return ExitCode::SUCCESS;
    }
    eprintln!("portcullis: it holds in the running gateway, but is not written down: {}", text(&answer["why"]));
    ExitCode::from(3)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
