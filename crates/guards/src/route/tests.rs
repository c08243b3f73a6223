//! Tests of the route guard: tables by hand, properties against a model of an upstream, and the guard in the runner.
//!
//! "Row" numbers are those of the list of attacks the project is tested against (24 to 27 and 53 to 65).
//!
//! Invariant: the model shares no code with what it checks.

mod hosts;
mod matching;
mod mistakes;
mod paths;
mod properties;
mod runner;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::compile::compile;
use super::decide::{Decision, Facts, decide};
use super::rules::Rules;
use crate::config::{Mistake, PathConfig, RouteConfig};

/// Routes as they are written in the config, as JSON. Names are given where they are left out.
fn path_config(routes: serde_json::Value) -> PathConfig {
    let mut routes: Vec<RouteConfig> = serde_json::from_value(routes).expect("routes of a test are well-formed");
    for (index, route) in routes.iter_mut().enumerate().filter(|(_, route)| route.name.is_empty()) {
        route.name = format!("r{index}");
    }
    PathConfig { routes, upstreams: vec!["app".to_owned()], ..PathConfig::default() }
}

fn rules(routes: serde_json::Value) -> Rules {
    compile(&path_config(routes)).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn mistakes(config: &PathConfig) -> Vec<Mistake> {
    compile(config).err().unwrap_or_default()
}

/// A request as a test writes it.
struct Asked {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl Asked {
    /// With `Host: h`.
    fn new(method: &str, target: &str) -> Asked {
        let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("h"))]);
        let method = Method::from_bytes(method.as_bytes()).expect("a token");
        Asked { method, uri: target.parse().expect("a target"), version: Version::HTTP_11, headers }
    }

    /// With these fields instead of the one `Host`.
    fn with(mut self, fields: &[(&'static str, &[u8])]) -> Asked {
        self.headers.clear();
        for (name, value) in fields {
            self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a field value"));
        }
        self
    }

    fn decide<'r>(&self, rules: &'r Rules) -> Decision<'r> {
        let facts = Facts { method: &self.method, uri: &self.uri, version: self.version, headers: &self.headers };
        decide(rules, &facts)
    }

    /// The name of the route, or the status and the reason or the allowed methods.
    fn outcome(&self, rules: &Rules) -> String {
        match self.decide(rules).answer {
            Ok(chosen) => chosen.target.route.name.to_string(),
            Err(refused) => {
                let refusal = refused.refusal;
                let more = refusal.allow.as_deref().or(refusal.reason).unwrap_or_default();
                format!("{} {more}", refusal.code.entry().status).trim_end().to_owned()
            }
        }
    }

    /// The path as rules see it and as it is forwarded, of a request that a route takes.
    fn paths(&self, rules: &Rules) -> (String, String) {
        let decision = self.decide(rules);
        assert!(decision.answer.is_ok(), "{} is refused", self.uri);
        let path = decision.path.expect("given with a route");
        (path.matched(&self.uri).to_owned(), path.forwarded(&self.uri).to_string())
    }
}
