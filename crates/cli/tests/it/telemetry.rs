//! Metrics as Prometheus reads them, health, and the one-line start.

use std::io::Write;
use std::process::{Command, Stdio};

use portcullis_testkit::client::{ask, get};
use portcullis_testkit::gate::Gate;

use crate::{BINARY, misbehaving};

#[test]
fn one_line_starts_it_with_safe_defaults_and_no_file() {
    let upstream = misbehaving::start();
    let mut command = Command::new(BINARY);
    command.args(["run", "--upstream", &format!("http://{}", upstream.address)]);
    command.args(["--listen", "127.0.0.1:0", "--telemetry", "127.0.0.1:0"]);
    let gate = Gate::from_command(command);
    let response = get(gate.data, "/hello");
    assert_eq!(response.status, 200);
    for field in [
        "x-request-id",
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-limit",
        "x-content-type-options",
        "content-security-policy",
        "referrer-policy",
        "x-frame-options",
    ] {
        assert!(response.field(field).is_some(), "{field} in {:?}", response.fields);
    }
    let large = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", (1 << 20) + 1);
    assert_eq!(ask(gate.data, &large).status, 413);
    assert_eq!(get(gate.telemetry, "/readyz").status, 200);
    let health = get(gate.telemetry, "/health").text();
    assert!(health.contains("\"app\":{\"circuit_breaker\":\"closed\""), "{health}");
}

#[test]
fn what_prometheus_reads_has_no_fault_and_random_paths_add_no_series() {
    let upstream = misbehaving::start();
    let config = format!(
        "upstreams: {{ app: {{ url: \"http://{}\" }} }}\nrate_limit: [{{ name: all, by: [address], limit: 100000/1s, burst: 100000 }}]\n",
        upstream.address
    );
    let gate = Gate::start(BINARY, &config);
    let scrape = || get(gate.telemetry, "/metrics").text();
    let _ = get(gate.data, "/x");
    let _ = get(gate.data, "/status?404+No");
    let count = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    let before = count(&scrape());
    for index in 0..300 {
        let _ = get(gate.data, &format!("/random/{index}?q={index}"));
    }
    let page = scrape();
    assert_eq!(count(&page), before, "{page}");
    for name in [
        "circuit_breaker_state",
        "circuit_breaker_requests_total",
        "circuit_breaker_latency_seconds_bucket",
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "rate_limit_decisions_total",
        "build_info",
    ] {
        assert!(page.contains(&format!("portcullis_{name}")), "{name} in {page}");
    }
    // promtool reads the older text format, which has no end marker and no units.
    let text: String = page
        .lines()
        .filter(|line| *line != "# EOF" && !line.starts_with("# UNIT"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `cargo xtask setup`");
    promtool.stdin.take().expect("piped").write_all(classic(&text).as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
}

/// OpenMetrics names a counter's family without `_total`; the older format names it with.
fn classic(text: &str) -> String {
    let counters: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .map(str::to_owned)
        .collect();
    text.lines()
        .map(|line| {
            for name in &counters {
                for kind in ["# TYPE ", "# HELP "] {
                    if let Some(rest) = line.strip_prefix(&format!("{kind}{name} ")) {
                        return format!("{kind}{name}_total {rest}\n");
                    }
                }
            }
            format!("{line}\n")
        })
        .collect()
}
