//! HTTP/2 to upstreams: one connection for many, and what becomes of requests when the upstream leaves or refuses.

use std::collections::HashSet;

use portcullis_testkit::client::{Client, ask, get};

use super::gate;
use super::servers::{Authority, directives, nginx};

const SAYS: &str = "location / { return 200 \"$server_protocol $connection $host $request_method $content_length\"; }";

#[test]
fn prior_knowledge_and_alpn_carry_many_requests_on_one_connection() {
    let authority = Authority::new();
    let plain = nginx(&format!("listen LISTEN http2; {SAYS}"));
    let secure = nginx(&format!("listen LISTEN ssl http2; {} {SAYS}", directives(&authority.sign("localhost", 90))));
    let ca = authority.file();
    for upstream in [
        format!("url: \"http://{}\"", plain.address),
        format!("url: \"https://localhost:{}\", tls: {{ ca: \"{}\" }}", secure.address.port(), ca.display()),
    ] {
        let gate = gate(&format!("{upstream}, protocol: http2"));
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(gate.data)).collect();
        for client in &mut clients {
            client.send(b"GET /x HTTP/1.1\r\nHost: shop.test:81\r\n\r\n");
        }
        let answers: HashSet<String> =
            clients.iter_mut().map(|client| client.response().expect("an answer").text()).collect();
        assert_eq!(answers.len(), 1, "one connection: {answers:?}");
        let answer = answers.into_iter().next().unwrap_or_default();
        assert!(answer.starts_with("HTTP/2.0 ") && answer.ends_with(" shop.test GET "), "{answer}");
        let posted = ask(gate.data, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        assert!(posted.text().ends_with(" a POST 2"), "{}", posted.text());
    }
}

#[test]
fn an_upstream_that_does_not_agree_on_http2_is_502_and_not_asked_otherwise() {
    let authority = Authority::new();
    let server = nginx(&format!("listen LISTEN ssl; {} {SAYS}", directives(&authority.sign("localhost", 90))));
    let port = server.address.port();
    let tls = format!("tls: {{ ca: \"{}\" }}", authority.file().display());
    let refused = get(gate(&format!("url: \"https://localhost:{port}\", {tls}, protocol: http2")).data, "/");
    assert_eq!(refused.status, 502, "{}", refused.text());
}

#[test]
fn an_upstream_that_leaves_after_every_few_requests_loses_none() {
    // nginx says GOAWAY when a connection has had its number.
    let server = nginx(&format!("listen LISTEN http2; keepalive_requests 5; {SAYS}"));
    let gate = gate(&format!("url: \"http://{}\", protocol: http2", server.address));
    let mut connections = HashSet::new();
    for round in 0..60 {
        let response = get(gate.data, "/x");
        assert_eq!(response.status, 200, "round {round}: {}", response.text());
        connections.extend(response.text().split(' ').nth(1).map(str::to_owned));
    }
    assert!(connections.len() >= 10, "{connections:?}");
}
