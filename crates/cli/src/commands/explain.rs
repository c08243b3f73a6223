//! `explain METHOD URL`: what each guard would decide, and by which rule. Changes nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portcullis_core::clock::Clock;
use portcullis_gateway::clock::SystemClock;
use portcullis_gateway::explain::{Explanation, Question, explain};

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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints one line a guard. Exit 0 when the upstream would be asked, 1 when a guard refuses.
///
/// # Errors
/// When the request cannot be made up or the config has mistakes.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
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
    let mut headers = HeaderMap::new();
    for field in &arguments.headers {
        let (name, value) = field.split_once(':').with_context(|| format!("`{field}` is not `Name: value`"))?;
        let name: HeaderName = name.trim().parse().with_context(|| format!("`{name}` is no header name"))?;
        let value = HeaderValue::from_str(value.trim()).with_context(|| format!("the value of {name}"))?;
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
    let explanation = explain(&running, question, SystemClock::start().now());
    if arguments.json {
        println!("{}", explanation.to_json());
    } else {
        print_table(&explanation);
    }
    Ok(if explanation.refused_with.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print_table(explanation: &Explanation) {
    println!("{:<18} {:<13} {:<16} DETAIL", "GUARD", "DECISION", "RULE");
    for step in &explanation.steps {
        let line = format!("{:<18} {:<13} {:<16} {}", step.guard, step.decision, step.rule, step.detail);
        println!("{}", line.trim_end());
    }
    match (explanation.refused_with, &explanation.upstream) {
        (Some(status), _) => println!("=> refused with {status}"),
        (None, Some(upstream)) => println!("=> forwarded to {upstream}"),
        (None, None) => println!("=> no upstream"),
    }
}
