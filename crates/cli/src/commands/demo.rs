//! `demo`: a sample service, the gateway before it, and what to try, in one process.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use portcullis_config::{FixedEnvironment, Source, load};
use portcullis_gateway::config::Config;
use portcullis_gateway::config::listen::ListenConfig;
use portcullis_gateway::serve::{Bound, Start, serve};

use super::run::{Format, code_of};
use crate::demo::{CONFIG, sample};

/// Options of `demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where metrics and health are served.
    #[arg(long, default_value = "127.0.0.1:9701", value_name = "ADDRESS")]
    telemetry: SocketAddr,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text")]
    log_format: Format,
}

/// Runs until it is interrupted.
///
/// # Errors
/// When an address is taken.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let upstream = sample::start().context("starting the sample service")?;
    let environment = FixedEnvironment::new().with_variable("DEMO_UPSTREAM", &format!("http://{upstream}"));
    let loaded = load::<Config>(&Source::new("demo.yaml", CONFIG), &environment)
        .map_err(|mistakes| anyhow!("the demo's own config is wrong: {}", mistakes[0]))?;
    let mut config = loaded.value;
    config.listen = vec![ListenConfig::plain(arguments.listen)];
    config.telemetry.address = arguments.telemetry;
    config.log.format = arguments.log_format.into();
    let start = Start {
        config,
        source: None,
        log: Box::new(std::io::stdout()),
        on_ready: Box::new(move |bound| println!("{}", what_to_try(bound, upstream))),
    };
    Ok(code_of(serve(start).context("the demo could not start (try --listen and --telemetry)")?))
}

fn what_to_try(bound: &Bound, upstream: SocketAddr) -> String {
    let gate = bound.data.first().copied().unwrap_or(upstream);
    let telemetry = bound.telemetry;
    format!(
        "
Portcullis stands at http://{gate}, before a sample service at http://{upstream}.
Try, in another terminal:

  curl -i http://{gate}/                    what the service sees, what the client gets
  curl -i http://{gate}/flaky               every other request crashes: the retry hides it
  curl -i http://{gate}/slow                cut after 2s with 504
  for i in $(seq 8); do curl -s -o /dev/null -w '%{{http_code}} ' http://{gate}/limited; done
                                                       five pass, then 429 with Retry-After
  for i in $(seq 8); do curl -s -o /dev/null -w '%{{http_code}} ' http://{gate}/failing; done
                                                       five 500s, then the circuit breaker answers 503 for 5s
  head -c 2000 /dev/zero | curl -i --data-binary @- http://{gate}/upload
                                                       413: this route takes 1 KiB
  curl -N http://{gate}/events              events arrive one by one
  curl -i -H 'Accept: application/problem+json' http://{gate}/%2e%2e/%zz
                                                       400, as RFC 9457 problem details
  curl -s http://{telemetry}/metrics | grep circuit
  curl -s http://{telemetry}/health

Stop it with Ctrl-C.
"
    )
}
