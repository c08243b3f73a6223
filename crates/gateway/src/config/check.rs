//! What no single key can know: names that must exist, sums that must fit, and what each preset refuses.
//!
//! Invariant: every finding names the key that must change and what it should be.

use std::time::Duration;

use portcullis_guards::config::Mistake;
use portcullis_guards::security_headers::Treatment;

use super::{Config, Preset};

impl Config {
    /// Every mistake that concerns more than one guard.
    #[must_use]
    pub fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut wrong = |path: &str, message: String| mistakes.push(Mistake::new(path, message));
        if self.version != 1 {
            wrong("version", format!("this binary reads version 1, not {}", self.version));
        }
        if self.upstreams.is_empty() {
            wrong(
                "upstreams",
                "at least one upstream is needed, for example `app: { url: http://127.0.0.1:3000 }`".to_owned(),
            );
        }
        if self.listen.is_empty() {
            wrong("listen", "at least one address is needed".to_owned());
        }
        for (index, listen) in self.listen.iter().enumerate() {
            let is_listed = self.listen[..index].iter().any(|earlier| earlier.address == listen.address);
            // Port 0 is any free one, each time another.
            if is_listed && listen.address.port() != 0 {
                wrong(&format!("listen[{index}].address"), format!("{} is listed twice", listen.address));
            }
            if listen.address == self.telemetry.address && listen.address.port() != 0 {
                wrong("telemetry.address", format!("{} is a data listener", listen.address));
            }
        }
        if let Err(message) = self.store.place() {
            wrong("store.url", message);
        }
        if let Some(accounts) = &self.accounts
            && let Err(found) = portcullis_accounts::config::compile(accounts, &self.sessions)
        {
            for (key, message) in found {
                wrong(&key, message);
            }
        }
        let idle = *self.connections.idle;
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&idle) {
            wrong("connections.idle", "must be between 1s and 1h".to_owned());
        }
        let tunnel_idle = *self.connections.tunnel_idle;
        if !(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&tunnel_idle) {
            wrong("connections.tunnel_idle", "must be between 1s and 24h".to_owned());
        }
        if self.shutdown.total < self.shutdown.drain_delay {
            wrong("shutdown.total", "must be at least shutdown.drain_delay".to_owned());
        }
        if !(64 * 1024..=16 << 30).contains(&self.counters.memory.bytes()) {
            wrong("counters.memory", "must be between 64KiB and 16GiB".to_owned());
        }
        let prefix = &self.telemetry.prefix;
        let is_name = prefix.starts_with(|first: char| first.is_ascii_alphabetic())
            && prefix.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !is_name {
            wrong(
                "telemetry.prefix",
                format!("`{prefix}` must be letters, digits and underscores and start with a letter"),
            );
        }
        for (name, upstream) in &self.upstreams {
            for (field, message) in upstream.concurrency.mistakes() {
                wrong(&format!("upstreams.{name}.concurrency.{field}"), message.to_owned());
            }
            if upstream.timeout.connect.is_some_and(|time| time.is_zero()) {
                wrong(&format!("upstreams.{name}.timeout.connect"), "must be more than 0".to_owned());
            }
            if upstream.timeout.first_byte.is_some_and(|time| time.is_zero()) {
                wrong(&format!("upstreams.{name}.timeout.first_byte"), "must be more than 0".to_owned());
            }
            if upstream.keep_alive.streams.is_some_and(|streams| !(1..=1000).contains(&streams)) {
                wrong(&format!("upstreams.{name}.keep_alive.streams"), "must be between 1 and 1000".to_owned());
            }
        }
        if self.preset == Preset::Production {
            self.check_production(&mut mistakes);
        }
        mistakes
    }

    /// Settings that are fine on a desk and not before the internet.
    fn check_production(&self, mistakes: &mut Vec<Mistake>) {
        let mut weak = |path: &str, why: &str| {
            mistakes.push(Mistake::new(
                path,
                format!("{why}; the production preset refuses this (preset: development takes it)"),
            ));
        };
        if self.telemetry.address.ip().is_unspecified() {
            weak("telemetry.address", "metrics and health would be open to every network");
        }
        if self.path.trusted_proxies.iter().any(|network| network.prefix() == 0) {
            weak("trusted_proxies", "trusting every address lets every client choose its own address");
        }
        if self.path.rate_limit.as_ref().is_some_and(Vec::is_empty) {
            weak("rate_limit", "no rate limit at all");
        }
        let headers = &self.path.security_headers;
        for (key, treatment) in [
            ("x_content_type_options", &headers.x_content_type_options),
            ("strict_transport_security", &headers.strict_transport_security),
        ] {
            if *treatment == Some(Treatment::Off) {
                weak(&format!("security_headers.{key}"), "a protection of every route is turned off");
            }
        }
        for (name, upstream) in &self.upstreams {
            if !upstream.circuit_breaker.enabled {
                weak(&format!("upstreams.{name}.circuit_breaker.enabled"), "no circuit breaker");
            }
            if upstream.tls.as_ref().is_some_and(|tls| tls.dangerous_skip_verification) {
                weak(
                    &format!("upstreams.{name}.tls.dangerous_skip_verification"),
                    "whoever can reach the wire could pretend to be the upstream",
                );
            }
        }
    }
}
