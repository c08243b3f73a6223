//! Several targets of one upstream: how requests are shared, and what happens when targets die, fail, or are all bad.
//!
//! `names` is about DNS, `tls` about who proves what, `http2` about many requests on one connection, `connect` about
//! `validate --connect`.

mod connect;
mod http2;
mod names;
mod servers;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use portcullis_testkit::client::{Client, ask, get};
use portcullis_testkit::gate::Gate;
use portcullis_testkit::upstream::{Upstream, answer, dawdle};

use self::servers::{free_port, python};
use crate::{BINARY, misbehaving};

/// More than the default limit lets through; some tests ask often.
const NO_LIMIT: &str = "rate_limit: [{ name: all, by: [address], limit: 1000000/1s, burst: 1000000 }]\n";

fn gate(upstream: &str) -> Gate {
    Gate::start(BINARY, &format!("workers: 1\n{NO_LIMIT}upstreams: {{ app: {{ {upstream} }} }}\n"))
}

/// `url`s as targets.
fn targets(addresses: &[SocketAddr]) -> String {
    let targets: Vec<String> = addresses.iter().map(|address| format!("{{ url: \"http://{address}\" }}")).collect();
    format!("targets: [{}]", targets.join(", "))
}

/// Asks again and again until `is_it`.
///
/// # Panics
/// When it does not come.
fn until(what: &str, mut is_it: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_it() {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("never: {what}");
}

/// An upstream that answers, says that it is well until told otherwise by `/ill`, and fails on `/500`.
fn moody() -> Upstream {
    use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
    // Scripts are plain functions, so what they remember is by port.
    static ILL: [AtomicU16; 8] = [const { AtomicU16::new(0) }; 8];
    Upstream::start(|socket, request| {
        let port = socket.local_addr().expect("it is connected").port();
        let is_ill = || ILL.iter().any(|ill| ill.load(SeqCst) == port);
        match request.path() {
            "/healthz" if is_ill() => answer(socket, "503 Ill", ""),
            "/ill" => {
                let free = ILL.iter().find(|ill| ill.compare_exchange(0, port, SeqCst, SeqCst).is_ok());
                answer(socket, "200 OK", if free.is_some() { "ill" } else { "no place" })
            }
            "/well" => {
                for ill in &ILL {
                    let _ = ill.compare_exchange(port, 0, SeqCst, SeqCst);
                }
                answer(socket, "200 OK", "well")
            }
            "/500" => answer(socket, "500 Oops", ""),
            _ => answer(socket, "200 OK", &port.to_string()),
        }
    })
}

fn asked(upstream: &Upstream, path: &str) -> usize {
    upstream.received().iter().filter(|request| request.path() == path).count()
}

#[test]
fn weights_share_requests_exactly() {
    let (heavy, light) = (moody(), moody());
    let gate = gate(&format!(
        "targets: [{{ url: \"http://{}\", weight: 3 }}, {{ url: \"http://{}\" }}]",
        heavy.address, light.address
    ));
    for _ in 0..40 {
        assert_eq!(get(gate.data, "/x").status, 200);
    }
    assert_eq!((asked(&heavy, "/x"), asked(&light, "/x")), (30, 10));
}

#[test]
fn least_requests_goes_round_a_target_that_is_busy() {
    let slow = Upstream::start(|socket, _| {
        dawdle(Duration::from_secs(20));
        answer(socket, "200 OK", "slow")
    });
    let quick = moody();
    let gate = gate(&format!("{}, balance: least_requests", targets(&[slow.address, quick.address])));
    let mut waiting: Vec<Client> = Vec::new();
    until("one request is stuck", || {
        let mut client = Client::connect(gate.data);
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        waiting.push(client);
        std::thread::sleep(Duration::from_millis(100));
        slow.received().len() == 1
    });
    for _ in 0..20 {
        assert_eq!(get(gate.data, "/y").status, 200);
    }
    assert_eq!((slow.received().len(), asked(&quick, "/y")), (1, 20));
}

#[test]
fn a_client_that_hangs_up_leaves_no_request_in_flight_behind() {
    let hanging = Upstream::start(|socket, request| match request.path() {
        "/hang" => {
            dawdle(Duration::from_secs(20));
            portcullis_testkit::upstream::Then::Close
        }
        _ => answer(socket, "200 OK", "first"),
    });
    let other = moody();
    let gate = gate(&format!("{}, balance: least_requests", targets(&[hanging.address, other.address])));
    let mut gone = 0;
    until("ten clients hung up on the first", || {
        let before = hanging.received().len();
        let mut client = Client::connect(gate.data);
        client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        std::thread::sleep(Duration::from_millis(50));
        gone += hanging.received().len() - before;
        gone >= 10
    });
    // If each had left one behind, the first would look ten requests busier and get none of these.
    until("the first is asked like the other", || {
        let before = (asked(&hanging, "/y"), asked(&other, "/y"));
        for _ in 0..4 {
            assert_eq!(get(gate.data, "/y").status, 200);
        }
        (asked(&hanging, "/y") - before.0, asked(&other, "/y") - before.1) == (2, 2)
    });
}

#[test]
fn a_killed_target_costs_no_request_and_is_used_again_when_it_is_back() {
    let first = free_port(&[Ipv4Addr::LOCALHOST]);
    let mut dying = python((Ipv4Addr::LOCALHOST, first).into(), "dying");
    let staying = moody();
    let mut gate = gate(&format!(
        "{}, outlier_ejection: {{ ejection: 1s, longest: 2s }}, retry: {{ backoff: 1ms }}",
        targets(&[dying.address, staying.address])
    ));
    let who = || get(gate.data, "/who");
    let names: Vec<String> = (0..4).map(|_| who().text()).collect();
    assert_eq!((names.iter().filter(|name| *name == "dying").count(), asked(&staying, "/who")), (2, 2), "{names:?}");
    dying.kill();
    let posted = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    for round in 0..30 {
        assert_eq!(who().status, 200, "round {round}");
        assert_eq!(ask(gate.data, posted).status, 200, "round {round}");
    }
    let series = format!("portcullis_upstream_target_up{{upstream=\"app\",target=\"127.0.0.1:{first}\"}}");
    until("the metric shows it", || gate.metric(&series) == Some(0.0));
    assert_eq!(gate.metric("portcullis_circuit_breaker_state{service=\"app\"}"), Some(0.0), "closed");
    dying.begin();
    until("it is asked again", || get(gate.data, "/who").text() == "dying");
    let ejected = gate.wait_for_event("target_ejected");
    assert_eq!(ejected["target"], format!("127.0.0.1:{first}"));
    gate.wait_for_event("target_returned");
}

#[test]
fn a_target_that_answers_5xx_is_left_alone_but_never_the_last() {
    let failing = Upstream::start(|socket, _| answer(socket, "500 Oops", ""));
    let well = moody();
    let mut gate = gate(&format!(
        "{}, outlier_ejection: {{ most_percent: 100 }}, circuit_breaker: {{ failures: 1000 }}",
        targets(&[failing.address, well.address])
    ));
    for _ in 0..50 {
        let _ = get(gate.data, "/x");
    }
    assert_eq!(failing.received().len(), 3, "three failures in a row, then no more");
    let target = gate.wait_for_event("target_ejected")["target"].clone();
    assert_eq!(target, failing.address.to_string());
    // The other one fails as well, and still is asked: somebody must be.
    for _ in 0..20 {
        assert_eq!(get(gate.data, "/500").status, 500);
    }
    assert_eq!(asked(&well, "/500"), 20);
}

#[test]
fn health_checks_take_a_target_out_before_a_request_meets_it_and_survive_a_reload() {
    let (first, second) = (moody(), moody());
    assert_eq!(get(first.address, "/ill").text(), "ill");
    let check = "health_check: { path: /healthz, interval: 100ms, unhealthy: 2 }";
    let mut gate = gate(&format!("{}, {check}", targets(&[first.address, second.address])));
    let unhealthy = gate.wait_for_event("target_unhealthy");
    assert_eq!((&unhealthy["target"], &unhealthy["why"]), (&first.address.to_string().into(), &"status 503".into()));
    for _ in 0..20 {
        assert_eq!(get(gate.data, "/x").status, 200);
    }
    assert_eq!((asked(&first, "/x"), asked(&second, "/x")), (0, 20));
    let health = get(gate.telemetry, "/health").text();
    assert!(health.contains("\"healthy\":false,\"last\":\"status 503\""), "{health}");

    // A reload that does not touch the upstream forgets nothing: no moment at which the ill one counts as well.
    let text = std::fs::read_to_string(&gate.config).expect("it is there");
    std::fs::write(&gate.config, format!("{text}security_headers: {{ x_frame_options: DENY }}\n")).expect("written");
    gate.signal("HUP");
    gate.wait_for_event("reloaded");
    for _ in 0..20 {
        assert_eq!(get(gate.data, "/x").field("x-frame-options"), Some("DENY"));
    }
    assert_eq!(asked(&first, "/x"), 0);

    assert_eq!(get(first.address, "/well").text(), "well");
    gate.wait_for_event("target_healthy");
    until("it is asked again", || {
        let _ = get(gate.data, "/x");
        asked(&first, "/x") > 0
    });
    // Without the upstream's checks nobody asks any more.
    std::fs::write(&gate.config, text.replace(check, "dns: {}")).expect("written");
    gate.signal("HUP");
    gate.wait_for("the second reload", |line| line["msg"] == "reloaded" && line["generation"] == "3");
    std::thread::sleep(Duration::from_millis(300));
    let before = asked(&first, "/healthz");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(asked(&first, "/healthz"), before);
}

#[test]
fn when_all_targets_are_bad_all_are_used_and_it_is_said() {
    let (first, second) = (moody(), moody());
    for upstream in [&first, &second] {
        assert_eq!(get(upstream.address, "/ill").text(), "ill");
    }
    let mut gate = gate(&format!(
        "{}, health_check: {{ path: /healthz, interval: 100ms, healthy: 1 }}",
        targets(&[first.address, second.address])
    ));
    gate.wait_for_event("upstream_panic");
    let panic = "portcullis_upstream_panic{upstream=\"app\"}";
    assert_eq!(gate.metric(panic), Some(1.0));
    for _ in 0..10 {
        assert_eq!(get(gate.data, "/x").status, 200);
    }
    assert!(asked(&first, "/x") > 0 && asked(&second, "/x") > 0);
    assert_eq!(get(second.address, "/well").text(), "well");
    gate.wait_for_event("upstream_recovered");
    assert_eq!(gate.metric(panic), Some(0.0));
    let before = asked(&first, "/x");
    for _ in 0..10 {
        assert_eq!(get(gate.data, "/x").status, 200);
    }
    assert_eq!(asked(&first, "/x"), before, "the one that is well takes all again");
}

#[test]
fn a_retry_goes_to_another_target() {
    let closing = Upstream::start(|_, _| portcullis_testkit::upstream::Then::Close);
    let well = moody();
    let gate = gate(&format!(
        "targets: [{{ url: \"http://{}\", weight: 5 }}, {{ url: \"http://{}\" }}], outlier_ejection: {{ failures: 0 }}, \
         retry: {{ attempts: 2, backoff: 1ms, budget: 1 }}, circuit_breaker: {{ failures: 1000 }}",
        closing.address, well.address
    ));
    // By its weight the next turn would mostly be the same target's again.
    for round in 0..20 {
        assert_eq!(get(gate.data, "/x").status, 200, "round {round}");
    }
    assert!(closing.received().len() >= 5, "it was tried: {}", closing.received().len());
    let nobody = misbehaving::nobody();
    let posts = self::gate(&targets(&[nobody, well.address]));
    for round in 0..6 {
        let posted = ask(posts.data, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        assert_eq!(posted.status, 200, "round {round}: what was never connected has taken nothing");
    }
}
