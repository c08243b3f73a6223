//! What the operator writes about one upstream.
//!
//! Invariant: what is left out has the default that the doc comment states; `filled` is the only place that knows them.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use portcullis_core::secret::Secret;
use portcullis_core::units::Duration;
use portcullis_guards::breaker;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Header fields in their compiled form.
pub type Fields = Vec<(HeaderName, HeaderValue)>;

/// Most `request_headers` of one upstream.
const MOST_FIELDS: usize = 32;

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Where it is: `http://HOST[:PORT]`, without a path.
    pub url: String,
    /// What `Host` it sees. Default: the client's.
    pub host: Option<HostChoice>,
    /// Fields that every request to it carries, for example a key that only the gateway knows. They replace the client's.
    /// Bounds: at most 32. Example: `Authorization: "Bearer ${file:/run/secrets/app}"`.
    pub request_headers: BTreeMap<String, Secret>,
    /// How long it may take.
    pub timeout: TimeoutConfig,
    /// Whether it is asked again.
    pub retry: RetryConfig,
    /// When it is left alone.
    pub circuit_breaker: breaker::Config,
    /// Connections that are kept open to it.
    pub keep_alive: KeepAliveConfig,
}

/// Which `Host` the upstream sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostChoice {
    /// The one the client sent.
    #[default]
    Client,
    /// The one in `url`.
    Upstream,
}

/// How long an upstream may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutConfig {
    /// For a new connection. Default: 2s.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the first of the answer. Default: 15s.
    pub first_byte: Option<Duration>,
    /// For everything, retries included. Default: the route's `limits.total`, which holds in any case.
    pub total: Option<Duration>,
}

/// Whether an upstream is asked again. Only what is safe to repeat is repeated: see the documentation of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Attempts in all, the first included. Default: 3. Bounds: 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: Option<u32>,
    /// Wait before the second attempt; it doubles with each further one and is jittered. Default: 100ms.
    pub backoff: Option<Duration>,
    /// The share of requests that may be retries, so that retries cannot multiply an outage. Default: 0.2. Bounds: 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub budget: Option<f64>,
}

/// Connections that are kept open to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepAliveConfig {
    /// How long one may rest. Default: 30s.
    pub idle: Option<Duration>,
    /// Most connections, for each worker; more requests at once get 503. Default: 1024. Bounds: 1 to 65536.
    #[schemars(range(min = 1, max = 65536))]
    pub connections: Option<usize>,
}

/// An upstream's settings with nothing left out.
pub struct Filled {
    /// `host: upstream`.
    pub own_host: bool,
    /// `timeout.connect`.
    pub connect: StdDuration,
    /// `timeout.first_byte`.
    pub first_byte: StdDuration,
    /// `timeout.total`.
    pub total: Option<StdDuration>,
    /// `retry.attempts`.
    pub attempts: u32,
    /// `retry.backoff`.
    pub backoff: StdDuration,
    /// `retry.budget`.
    pub budget: f64,
    /// `keep_alive.connections`.
    pub connections: usize,
    /// `keep_alive.idle`.
    pub idle: StdDuration,
}

impl UpstreamConfig {
    /// All settings.
    #[must_use]
    pub fn filled(&self) -> Filled {
        let or = |given: Option<Duration>, default_ms: u64| {
            given.map_or(StdDuration::from_millis(default_ms), |given| *given)
        };
        Filled {
            own_host: self.host == Some(HostChoice::Upstream),
            connect: or(self.timeout.connect, 2_000),
            first_byte: or(self.timeout.first_byte, 15_000),
            total: self.timeout.total.map(|total| *total),
            attempts: self.retry.attempts.unwrap_or(3),
            backoff: or(self.retry.backoff, 100),
            budget: self.retry.budget.unwrap_or(0.2),
            connections: self.keep_alive.connections.unwrap_or(1024),
            idle: or(self.keep_alive.idle, 30_000),
        }
    }

    /// `request_headers` as they are sent.
    ///
    /// # Errors
    /// Each name with what is wrong with it or its value. The value itself is never told.
    pub fn fields(&self) -> Result<Fields, Vec<(String, String)>> {
        let mut fields = Vec::new();
        let mut wrong = Vec::new();
        if self.request_headers.len() > MOST_FIELDS {
            wrong.push((String::new(), format!("at most {MOST_FIELDS} fields")));
        }
        for (text, value) in &self.request_headers {
            let mut refuse = |what: &str| wrong.push((text.clone(), what.to_owned()));
            match (text.parse::<HeaderName>(), HeaderValue::from_str(value.expose())) {
                (Ok(CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING), _) => {
                    refuse("frames the message, which is the gateway's own")
                }
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    fields.push((name, value));
                }
                (Err(_), _) => refuse("is not a valid field name"),
                (_, Err(_)) => refuse("has a value that cannot stand in a header field"),
            }
        }
        if wrong.is_empty() { Ok(fields) } else { Err(wrong) }
    }

    /// Host and port of `url`.
    ///
    /// # Errors
    /// What is wrong with `url`, for the operator.
    pub fn target(&self) -> Result<(String, u16), String> {
        if self.url.is_empty() {
            return Err("an upstream needs a url, for example http://127.0.0.1:3000".to_owned());
        }
        let uri: http::Uri = self.url.parse().map_err(|error| format!("`{}` is not a URL: {error}", self.url))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "TLS to upstreams is not available in this version; use http:// over a trusted network".to_owned()
                );
            }
            _ => return Err(format!("`{}` must start with http://", self.url)),
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(format!("`{}` must not have a path: requests keep their own", self.url));
        }
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        if authority.contains('@') {
            return Err("a url must not carry a user or password".to_owned());
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("`{}` has no host", self.url))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match uri.port_u16() {
            Some(0) => return Err("port 0 cannot be connected to".to_owned()),
            Some(port) => port,
            None if authority.ends_with(|last: char| last == ':' || last.is_ascii_digit())
                && authority
                    .rsplit_once(':')
                    .is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']')) =>
            {
                return Err(format!("`{}` has a port that is not 1 to 65535", self.url));
            }
            None => 80,
        };
        Ok((host.to_owned(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamConfig;

    fn target(url: &str) -> Result<(String, u16), String> {
        UpstreamConfig { url: url.to_owned(), ..UpstreamConfig::default() }.target()
    }

    #[test]
    fn a_url_gives_host_and_port() {
        for (url, host, port) in [
            ("http://127.0.0.1:3000", "127.0.0.1", 3000),
            ("http://app", "app", 80),
            ("http://app.internal:8080/", "app.internal", 8080),
            ("http://[::1]:3000", "::1", 3000),
            ("http://[::1]", "::1", 80),
        ] {
            assert_eq!(target(url), Ok((host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_told_what_is_wrong() {
        for (url, part) in [
            ("", "needs a url"),
            ("127.0.0.1:3000", "must start with http://"),
            ("ftp://app", "must start with http://"),
            ("https://app", "TLS to upstreams"),
            ("http://app/api", "must not have a path"),
            ("http://user:secret@app", "must not carry a user"),
            ("http://app:0", "port 0"),
            ("http://app:99999", "port"),
            ("http://", "not a URL"),
        ] {
            let message = target(url).expect_err(url);
            assert!(message.contains(part), "{url}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
