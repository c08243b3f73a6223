//! Tests of the limits guard: tables of heads, edges of every bound, the written config, and the guard in the runner.
//!
//! "Row" numbers are those of the list of attacks the project is tested against (1 to 32, 119, 131 and 132).
//!
//! Invariant: no test reads a clock; the deadline is counted from a made-up moment.

mod framing;
mod mistakes;
mod runner;
mod sizes;

use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::config::{Config, Listener, Rules};
use super::decide::{Facts, Refused, decide};
use super::survey::Survey;
use crate::exchange::{Body, Bounds};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 7 * SECOND;

/// A head as a test writes it.
struct Head {
    version: Version,
    target: String,
    headers: HeaderMap,
    body: Body,
}

impl Head {
    /// `POST /` over HTTP/1.1 with these fields and this body.
    fn new(body: Body, fields: &[(&'static str, &[u8])]) -> Head {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a field value"));
        }
        Head { version: Version::HTTP_11, target: "/".to_owned(), headers, body }
    }

    fn decide(&self, config: &Config) -> Result<Bounds, Refused> {
        let listener = Listener::compile(config).expect("within bounds");
        let survey = Survey::of(&self.headers, self.headers.len(), listener.header_bytes);
        let uri = self.target.parse().expect("a target");
        let facts = Facts { version: self.version, uri: &uri, survey: &survey, body: self.body, now_nanos: NOW };
        decide(&listener, &rules(config), &facts)
    }

    /// The code of the refusal, with `close` when the connection ends with it; `ok` for none.
    fn outcome(&self, config: &Config) -> String {
        match self.decide(config) {
            Ok(_) => "ok".to_owned(),
            Err(refused) => {
                let entry = refused.refusal.code.entry();
                format!("{} {}{}", entry.status, entry.name, if refused.refusal.must_close { " close" } else { "" })
            }
        }
    }
}

fn rules(config: &Config) -> Rules {
    config.compile("limits").expect("within bounds")
}

fn config(written: serde_json::Value) -> Config {
    serde_json::from_value(written).expect("well-formed")
}
