//! Open loop: requests become due at a fixed rate, whatever the target does.
//!
//! Latency counts from the moment a request was due. A target that stalls therefore pays for every request that
//! became due meanwhile, which a closed loop would hide ("coordinated omission").
//!
//! Invariant: no busy waiting. Generator and upstream share a core, and spinning would slow the upstream.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client::{Client, Received, is_right};
use crate::reactor::Reactor;
use crate::request;

/// How long answers may be outstanding after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to load, how fast and for how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to connect to.
    #[arg(long)]
    target: SocketAddr,
    /// Requests a second.
    #[arg(long)]
    rate: u32,
    /// Connections to spread them over.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Milliseconds before latencies count.
    #[arg(long, default_value_t = 200)]
    warm_ms: u64,
    /// Milliseconds to count.
    #[arg(long, default_value_t = 1000)]
    for_ms: u64,
    /// Status every answer must have.
    #[arg(long, default_value_t = 200)]
    expect: u16,
}

/// Runs the load and prints the latencies' quantiles as one JSON line.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // The default slack of 50 us would be added to every wait; where it cannot be set, "direct" shows it too.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let mut reactor = Reactor::new()?;
    let mut clients = (0..arguments.connections)
        .map(|token| Client::connect(arguments.target, None, &reactor, token))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let request = request::render(&arguments.target.to_string(), request::LOAD_PATH);
    let total = u64::from(arguments.rate) * (arguments.warm_ms + arguments.for_ms) / 1000;
    let counted_from = u64::from(arguments.rate) * arguments.warm_ms / 1000;

    let mut free: VecDeque<usize> = (0..clients.len()).collect();
    let mut in_flight: Vec<Option<u64>> = vec![None; clients.len()];
    let mut latencies_ns = Vec::with_capacity((total - counted_from) as usize);
    let (mut sent, mut done, mut wrong, mut lost) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut buffer = vec![0; 32 * 1024];
    let mut ready = Vec::new();
    let start = Instant::now();
    let due = |number: u64| start + Duration::from_nanos(number * 1_000_000_000 / u64::from(arguments.rate));
    let give_up = due(total) + PATIENCE;
    while done < total {
        let now = Instant::now();
        if now > give_up {
            bail!("{} answered {done} of {total} requests only", arguments.target);
        }
        while sent < total && due(sent) <= now {
            let Some(token) = free.pop_front() else { break };
            if !clients[token].send(&request) {
                lost += 1;
                clients[token].reconnect(&reactor)?;
                free.push_front(token);
                continue;
            }
            in_flight[token] = Some(sent);
            sent += 1;
        }
        let next = if sent < total && !free.is_empty() { due(sent) } else { give_up };
        reactor.wait(Some(next.saturating_duration_since(Instant::now())), &mut ready)?;
        let now = Instant::now();
        for &token in &ready {
            let received = clients[token].receive(&mut buffer);
            match received.with_context(|| format!("an answer of {}", arguments.target))? {
                Received::Part => continue,
                Received::Whole(answer) => wrong += u64::from(!is_right(answer, arguments.expect)),
                Received::Lost => {
                    lost += 1;
                    clients[token].reconnect(&reactor)?;
                }
            }
            let Some(number) = in_flight[token].take() else { continue };
            done += 1;
            free.push_back(token);
            if number >= counted_from {
                latencies_ns.push(now.saturating_duration_since(due(number)).as_nanos() as u64);
            }
        }
    }
    latencies_ns.sort_unstable();
    let quantile_us = |share: f64| latency_at(&latencies_ns, share) as f64 / 1000.0;
    println!(
        "{}",
        serde_json::json!({
            "counted": latencies_ns.len(), "wrong": wrong, "lost": lost,
            "p50_us": quantile_us(0.5), "p99_us": quantile_us(0.99), "max_us": quantile_us(1.0),
        })
    );
    Ok(())
}

/// The smallest latency that at least `share` of all do not exceed (nearest rank); 0 when there are none.
fn latency_at(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::latency_at;

    #[test]
    fn quantiles_are_nearest_rank() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!(latency_at(&sorted, 0.5), 50);
        assert_eq!(latency_at(&sorted, 0.99), 99);
        assert_eq!(latency_at(&sorted, 1.0), 100);
        assert_eq!(latency_at(&[7], 0.5), 7);
        assert_eq!(latency_at(&[], 0.5), 0);
    }
}
