//! Too much of everything, against the real binary: connections, requests, descriptors, memory, a starved machine.
//!
//! Clients of their own addresses are made by binding to 127.0.0.x, which Linux allows without any setting.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{Client, PATIENCE, ask, get};
use portcullis_testkit::gate::{Folder, Gate, ON_FREE_PORTS};
use socket2::{Domain, Socket, Type};

use crate::{BINARY, misbehaving};

const HEAD: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

fn config(address: SocketAddr, upstream: &str, more: &str) -> String {
    format!("upstreams: {{ app: {{ url: \"http://{address}\"{upstream} }} }}\ncounters: {{ memory: 64KiB }}\n{more}")
}

fn before(address: SocketAddr, upstream: &str, more: &str) -> Gate {
    Gate::start(BINARY, &config(address, upstream, more))
}

/// A socket from `127.0.0.last`, or `None` when it was reset before it stood.
fn socket_from(last: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).expect("the whole of 127/8 is ours");
    socket.connect(&to.into()).ok()?;
    Some(socket.into())
}

fn client_from(last: u8, to: SocketAddr) -> Client {
    Client::over(socket_from(last, to).expect("the gateway listens"))
}

/// Closes with a reset instead of a farewell.
fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option can be set");
}

/// Tries until it is so.
fn comes_true(mut is_it: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if is_it() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn is_served(client: &mut Client) -> bool {
    client.send(HEAD);
    client.response().is_some_and(|answer| answer.status == 200)
}

#[test]
fn row_130_one_address_has_its_connections_others_theirs_and_a_storm_of_resets_leaves_nothing() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "");
    let open = || gate.metric("portcullis_overload_connections{}").expect("declared");
    let flood: Vec<TcpStream> = (0..1000).filter_map(|_| socket_from(2, gate.data)).collect();
    assert!(comes_true(|| open() == 100.0), "{}", open());
    let refused = || gate.metric("portcullis_overload_connections_refused_total{reason=\"address\"}");
    assert!(comes_true(|| refused().is_some_and(|refused| refused >= 900.0)), "{:?}", refused());
    assert!(is_served(&mut client_from(3, gate.data)), "somebody else is served");
    assert!(!is_served(&mut client_from(2, gate.data)), "this one is closed before it is read");
    flood.into_iter().for_each(reset);
    assert!(comes_true(|| open() == 0.0), "{}", open());
    assert!(is_served(&mut client_from(2, gate.data)));
}

#[test]
fn the_number_of_connections_follows_a_reload_and_trusted_proxies_have_any() {
    let upstream = misbehaving::start();
    let few = "overload: { connections_per_address: 1 }\ntrusted_proxies: [127.0.0.9/32]\n";
    let mut gate = before(upstream.address, "", few);
    let mut proxies: Vec<Client> = (0..5).map(|_| client_from(9, gate.data)).collect();
    assert!(proxies.iter_mut().all(is_served));
    let mut first = client_from(2, gate.data);
    assert!(is_served(&mut first));
    assert!(!is_served(&mut client_from(2, gate.data)));
    let more = config(upstream.address, "", "overload: { connections_per_address: 2 }\n");
    std::fs::write(&gate.config, format!("{ON_FREE_PORTS}{more}")).expect("it can be written");
    gate.signal("HUP");
    gate.wait_for_event("reloaded");
    assert!(is_served(&mut client_from(2, gate.data)), "the first one still counts, and two may be");
    assert!(is_served(&mut first));
}

#[test]
fn requests_above_the_rate_are_shed_and_health_answers() {
    let upstream = misbehaving::start();
    let mut gate = before(upstream.address, "", "overload: { requests_per_second: 1, burst: 3 }\n");
    let answers: Vec<_> = (0..10).map(|_| get(gate.data, "/x")).collect();
    let shed: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!((5..=7).contains(&shed.len()), "{}", shed.len());
    for answer in shed {
        assert!(answer.text().contains("ERR_OVERLOADED"), "{}", answer.text());
        assert_eq!(answer.field("retry-after"), Some("1"));
    }
    assert!(upstream.received().len() <= 5, "what is shed never reaches the upstream");
    for page in ["/livez", "/readyz", "/health", "/metrics"] {
        assert_eq!(get(gate.telemetry, page).status, 200, "{page}");
    }
    let line = gate.wait_for("a shed request", |line| line["code"] == "ERR_OVERLOADED");
    assert_eq!((&line["guard"], &line["rule"]), (&"overload".into(), &"requests_per_second".into()));
}

const TWO_PLACES: &str =
    ", retry: { attempts: 1 }, concurrency: { most: 2, queue: 1, queue_timeout: 300ms }, timeout: { first_byte: 50s }";

fn hang(gate: &Gate) -> Client {
    let mut client = Client::connect(gate.data);
    client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn an_upstream_has_so_many_requests_at_once_and_a_short_queue() {
    let upstream = misbehaving::start();
    let mut gate = before(upstream.address, TWO_PLACES, "");
    let held = [hang(&gate), hang(&gate)];
    assert!(comes_true(
        || gate.metric("portcullis_overload_upstream_requests_in_flight{upstream=\"app\"}") == Some(2.0)
    ));
    let started = Instant::now();
    let mut third = Client::connect(gate.data);
    third.send(HEAD);
    assert!(comes_true(|| gate.metric("portcullis_overload_queue_length{upstream=\"app\"}") == Some(1.0)));
    // The line is full.
    let fourth = get(gate.data, "/full");
    assert_eq!(fourth.status, 503, "{}", fourth.text());
    let waited = third.response().expect("an answer");
    assert_eq!((waited.status, waited.field("retry-after")), (503, Some("1")), "{}", waited.text());
    assert!(started.elapsed() >= Duration::from_millis(280), "{:?}", started.elapsed());
    assert_eq!(upstream.received().len(), 2, "neither reached the upstream");
    assert_eq!(gate.wait_for("the full line", |line| line["path"] == "/full")["rule"], "queue_full");
    assert_eq!(gate.wait_for("the long wait", |line| line["path"] == "/x")["rule"], "queue_timeout");
    // A client that hangs up gives its place to whoever waits.
    let mut fifth = Client::connect(gate.data);
    fifth.send(HEAD);
    drop(held);
    assert_eq!(fifth.response().expect("an answer").status, 200);
    assert!(comes_true(
        || gate.metric("portcullis_overload_upstream_requests_in_flight{upstream=\"app\"}") == Some(0.0)
    ));
    let series = "portcullis_circuit_breaker_requests_total{service=\"app\",result=\"failure\"}";
    assert_eq!(gate.metric(series), Some(0.0), "the breaker learnt nothing bad of it");
}

#[test]
fn a_client_that_hangs_up_leaves_the_queue() {
    let upstream = misbehaving::start();
    let slow = ", retry: { attempts: 1 }, concurrency: { most: 1, queue: 5, queue_timeout: 50s }";
    let gate = before(upstream.address, slow, "");
    let _held = hang(&gate);
    let length = || gate.metric("portcullis_overload_queue_length{upstream=\"app\"}");
    let in_flight = || gate.metric("portcullis_overload_upstream_requests_in_flight{upstream=\"app\"}");
    assert!(comes_true(|| in_flight() == Some(1.0)));
    let waiting: Vec<Client> = (0..3).map(|_| hang(&gate)).collect();
    assert!(comes_true(|| length() == Some(3.0)), "{:?}", length());
    drop(waiting);
    assert!(comes_true(|| length() == Some(0.0)), "{:?}", length());
    assert_eq!(in_flight(), Some(1.0));
}

/// The time the process has spent on processors.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<u64>().ok()).sum();
    // The kernel tells hundredths of a second (USER_HZ).
    Duration::from_millis(ticks * 10)
}

/// The gateway under a limit on descriptors, set by the shell before it starts.
fn with_descriptors(limit: u32, folder: &Folder, config: &str) -> Gate {
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(&file, format!("{ON_FREE_PORTS}{config}")).expect("it can be written");
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit}; exec {BINARY} run --config {}", file.display());
    command.args(["-c", &script]);
    Gate::from_command(command)
}

#[test]
fn row_177_with_64_descriptors_a_flood_is_closed_health_answers_and_service_goes_on() {
    let upstream = misbehaving::start();
    let folder = Folder::new();
    let gate = with_descriptors(64, &folder, &config(upstream.address, "", "workers: 2\n"));
    let spent = processor_time(gate.pid());
    let started = Instant::now();
    let mut flood = Vec::new();
    while started.elapsed() < Duration::from_millis(1500) {
        // From a new address each time, so that no address has too many.
        let last = 10 + (flood.len() % 200) as u8;
        flood.extend(socket_from(last, gate.data));
        if flood.len().is_multiple_of(50) {
            let asked = Instant::now();
            assert_eq!(get(gate.telemetry, "/livez").status, 200);
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let health = get(gate.telemetry, "/health");
    assert!(health.status == 200 && health.text().contains("\"descriptors\""), "{}", health.text());
    let refused = gate.metric("portcullis_overload_connections_refused_total{reason=\"descriptors\"}");
    assert!(refused.is_some_and(|refused| refused > 0.0), "{refused:?} of {}", flood.len());
    // What rests is closed for room: also while the flood's sockets stay open, a new client is served again.
    assert!(comes_true(|| is_served(&mut client_from(3, gate.data))), "{}", get(gate.telemetry, "/health").text());
    drop(flood);
    assert!(comes_true(|| get(gate.telemetry, "/metrics")
        .text()
        .contains("portcullis_overload_pressure{resource=\"descriptors\"} 0")));
    let (spent, wall) = (processor_time(gate.pid()) - spent, started.elapsed());
    assert!(spent < wall, "{spent:?} on processors in {wall:?}: two cores that spin would take twice that");
}

#[test]
fn row_177_without_any_descriptor_accept_waits_telemetry_has_its_own_and_all_recovers() {
    let upstream = misbehaving::start();
    let mut gate = before(upstream.address, "", "workers: 2\n");
    assert_eq!(get(gate.data, "/x").status, 200);
    let numbers = std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).expect("the process is there");
    let taken: Vec<u32> = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let lowest_free = (0..).find(|number| !taken.contains(number)).expect("it has not all numbers there are");
    let pid = gate.pid();
    let limit = move |soft: u32| {
        let limit = format!("--nofile={soft}:20000");
        let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit {limit}");
    };
    limit(lowest_free);
    let mut waiting: Vec<Client> = (0..20).map(|_| Client::connect(gate.data)).collect();
    waiting.iter_mut().for_each(|client| client.send(HEAD));
    gate.wait_for_event("accept_failed");
    let (spent, started) = (processor_time(gate.pid()), Instant::now());
    for _ in 0..5 {
        let asked = Instant::now();
        assert_eq!(get(gate.telemetry, "/livez").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    let (spent, wall) = (processor_time(gate.pid()) - spent, started.elapsed());
    assert!(spent < wall / 2, "{spent:?} on processors in {wall:?}");
    let told = gate.log().iter().filter(|line| line.contains("accept_failed")).count();
    assert!(told < 20, "{told} lines");
    limit(20_000);
    let failures = "portcullis_circuit_breaker_requests_total{service=\"app\",result=\"failure\"}";
    assert_eq!(gate.metric(failures), Some(0.0), "our own shortage is not the upstream's");
    // Who waited was closed or has an answer; nobody is left hanging, and a newcomer is served.
    for client in &mut waiting {
        assert!(client.response().is_none_or(|answer| matches!(answer.status, 200 | 503)));
    }
    assert!(comes_true(|| is_served(&mut client_from(3, gate.data))));
}

/// A value of `/proc/PID/status`, in bytes.
fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn row_178_a_mixed_flood_is_shed_within_the_memory_and_it_ends_by_itself() {
    let upstream = misbehaving::start();
    let probe = before(upstream.address, "", "workers: 2\n");
    assert_eq!(get(probe.data, "/x").status, 200);
    let resting = memory(probe.pid(), "VmRSS");
    drop(probe);
    let room = 64 << 20;
    let allowed = resting + room;
    let more = format!(
        "workers: 2\noverload: {{ memory: {allowed}B, connections_per_address: 1000 }}\nlimits: {{ header_bytes: 256KiB }}\n"
    );
    let mut gate = before(upstream.address, "", &more);
    // Half heads of 300 KiB, bodies that do not come, requests, and sockets that say nothing: some 300 MB if all were kept.
    let half_head = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Large: {}", "a".repeat(300 << 10));
    let mut flood = Vec::new();
    let mut statuses = Vec::new();
    for round in 0..125_u32 {
        for kind in 0..4 {
            let Some(socket) = socket_from(10 + (round % 200) as u8, gate.data) else { continue };
            let mut client = Client::over(socket);
            match kind {
                0 => client.send(half_head.as_bytes()),
                1 => client.send(half_head.as_bytes()),
                2 => client.send(b"POST /read-all HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nsome"),
                _ => {}
            }
            flood.push(client);
        }
        let mut asking = client_from(5, gate.data);
        asking.send(HEAD);
        statuses.push(asking.response().map_or(0, |answer| answer.status));
    }
    let peak = memory(gate.pid(), "VmHWM");
    // The marks are looked at 50 times a second, less often where processors are scarce, as in a test run; what comes in
    // between two looks is above them.
    assert!(
        peak < allowed + allowed / 4,
        "at most {allowed} were allowed, {peak} were used, {resting} at rest; {statuses:?}"
    );
    gate.wait_for("the pressure", |line| line["msg"] == "pressure" && line["resource"] == "memory");
    assert!(statuses.iter().all(|status| matches!(status, 0 | 200 | 503)), "{statuses:?}");
    assert_eq!(get(gate.telemetry, "/livez").status, 200);
    drop(flood);
    assert!(comes_true(|| is_served(&mut client_from(3, gate.data))), "{}", get(gate.telemetry, "/health").text());
    let is_calm = || {
        // Some traffic: it is the allocator that gives memory back, and it does so as it works.
        let _ = is_served(&mut client_from(3, gate.data));
        gate.metric("portcullis_overload_pressure{resource=\"memory\"}") == Some(0.0)
    };
    assert!(comes_true(is_calm), "{}", get(gate.telemetry, "/health").text());
}

/// Processes that do nothing but take processors; ended with the value.
struct Starvation(Vec<Child>);

impl Starvation {
    fn begin(count: usize) -> Starvation {
        let spin = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("a shell")
        };
        Starvation((0..count).map(spin).collect())
    }
}

impl Drop for Starvation {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn row_179_on_a_starved_machine_health_answers_timers_fire_and_no_breaker_opens() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, ", retry: { attempts: 1 }", "limits: { total: 1s }\n");
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let _starvation = Starvation::begin(3 * cores);
    let started = Instant::now();
    let mut answered = 0;
    while started.elapsed() < Duration::from_secs(3) {
        answered += u32::from(get(gate.data, "/x").status == 200);
        let asked = Instant::now();
        assert_eq!(get(gate.telemetry, "/livez").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
    assert!(answered > 0);
    let asked = Instant::now();
    let late = ask(gate.data, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(late.status, 504, "{}", late.text());
    let took = asked.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(gate.metric("portcullis_circuit_breaker_state{service=\"app\"}"), Some(0.0));
}

#[test]
fn requests_on_one_http2_connection_take_the_places_of_no_other_connection() {
    let upstream = misbehaving::start();
    let config = format!(
        "workers: 1\nconnections: {{ most: 3 }}\nupstreams: {{ app: {{ url: \"http://{}\" }} }}\n",
        upstream.address
    );
    let gate = Gate::start(BINARY, &config);
    let mut many = Command::new("h2load")
        .args(["-n", "20", "-c", "1", "-m", "20", &format!("http://{}/hang", gate.data)])
        .stdout(Stdio::null())
        .spawn()
        .expect("h2load runs");
    let began = Instant::now();
    while upstream.received().len() < 20 {
        assert!(began.elapsed() < Duration::from_secs(20), "the requests do not arrive");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(get(gate.data, "/x").status, 200);
    let _ = many.kill();
    let _ = many.wait();
}
