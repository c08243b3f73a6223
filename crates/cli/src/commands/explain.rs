//! `explain METHOD URL`: what each guard would decide, and by which rule. Changes nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portcullis_core::clock::Clock;
use portcullis_gateway::clock::SystemClock;
use portcullis_gateway::explain::{Question, explain};
use serde_json::{Value, json};

use crate::control_client::Which;
use crate::source;

/// Options of `explain`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The method, for example GET.
    method: String,
    /// A path, or a URL whose host becomes the Host field.
    url: String,
    /// A header field, as `Name: value`. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The address the request comes from.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    from: IpAddr,
    /// How many body bytes it carries.
    #[arg(long, default_value_t = 0)]
    body_bytes: u64,
    /// The config file.
    #[arg(long, short, default_value = source::DEFAULT_FILE, conflicts_with = "upstream")]
    config: PathBuf,
    /// Explain the defaults of `run --upstream` instead of a config file.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Ask the running gateway, through its control socket: with its bans, counters and breakers as they are now.
    #[arg(long, conflicts_with = "upstream")]
    running: bool,
    /// The control socket of the running gateway. Default: where the config has it.
    #[arg(long, value_name = "PATH", requires = "running")]
    socket: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints one line a guard. Exit 0 when the upstream would be asked, 1 when a guard refuses.
///
/// # Errors
/// When the request cannot be made up or the config has mistakes.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.running {
        let which = match &arguments.socket {
            Some(socket) => Which::at(socket.clone()),
            None => Which::of(arguments.config.clone()),
        };
        let question = json!({
            "method": arguments.method,
            "url": arguments.url,
            "headers": pairs(&arguments.headers)?,
            "from": arguments.from.to_string(),
            "bodyBytes": arguments.body_bytes,
        });
        return Ok(show(&which.ask_well("POST", "/api/v1/explain", &question)?, arguments.json));
    }
    let compiled = match &arguments.upstream {
        Some(url) => source::compile_upstream(url),
        None => source::compile(&arguments.config),
    };
    let running = match compiled {
        Ok(running) => running,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            anyhow::bail!("the config has {} mistake(s)", mistakes.len());
        }
    };
    // Nothing runs, but what is explained stands as if it did.
    running.path.begins();
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(&arguments.headers)? {
        let name: HeaderName = name.parse().with_context(|| format!("`{name}` is no header name"))?;
        let value = HeaderValue::from_str(&value).with_context(|| format!("the value of {name}"))?;
        headers.append(name, value);
    }
    let question = Question {
        method: Method::from_bytes(arguments.method.as_bytes())
            .with_context(|| format!("`{}` is no method", arguments.method))?,
        uri: arguments.url.parse::<Uri>().with_context(|| format!("`{}` is no URL or path", arguments.url))?,
        headers,
        from: arguments.from,
        body_bytes: arguments.body_bytes,
    };
    Ok(show(&explain(&running, question, SystemClock::start().now()).to_json(), arguments.json))
}

/// The fields as name and value.
fn pairs(fields: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |field: &String| {
        let (name, value) = field.split_once(':').with_context(|| format!("`{field}` is not `Name: value`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    fields.iter().map(pair).collect()
}

/// Prints an explanation. Exit 0 when the upstream would be asked, 1 when a guard refuses.
fn show(explanation: &Value, is_json: bool) -> ExitCode {
    if is_json {
        println!("{explanation}");
    } else {
        print_table(explanation);
    }
    if explanation["refusedWith"].is_null() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn print_table(explanation: &Value) {
    println!("{:<18} {:<13} {:<16} DETAIL", "GUARD", "DECISION", "RULE");
    for step in explanation["steps"].as_array().into_iter().flatten() {
        let word = |key: &str| step[key].as_str().unwrap_or_default();
        let (guard, decision, rule) = (word("guard"), word("decision"), word("rule"));
        println!("{}", format!("{guard:<18} {decision:<13} {rule:<16} {}", word("detail")).trim_end());
    }
    match (explanation["refusedWith"].as_u64(), explanation["upstream"].as_str()) {
        (Some(status), _) => println!("=> refused with {status}"),
        (None, Some(upstream)) => println!("=> forwarded to {upstream}"),
        (None, None) => println!("=> no upstream"),
    }
}
