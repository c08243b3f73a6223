//! What the operator writes about bounds on size and time, and the checked forms.
//!
//! Two readers: the listener, which holds the head of a request against [`Listener`] before there is a route, and this
//! guard, which holds the rest against the route's [`Rules`].
//!
//! Invariant: what the listener enforces exists once, in the general part; a route cannot widen it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time;

use portcullis_core::clock::nanos;
use portcullis_core::units::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::media_type::MediaType;
use super::total::Total;
use crate::config::{Mistake, PathConfig};
use crate::exchange::PerRoute;

const BODY_BYTES: RangeInclusive<ByteSize> = ByteSize::from_bytes(0)..=ByteSize::from_kib(1 << 30);
const HEADER_BYTES: RangeInclusive<ByteSize> = ByteSize::from_kib(1)..=ByteSize::from_mib(1);
const HEADERS: RangeInclusive<u32> = 8..=1000;
const URI_BYTES: RangeInclusive<ByteSize> = ByteSize::from_bytes(256)..=ByteSize::from_kib(32);
const HEADER_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const TOTAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
/// Most entries of `content_types`. Bounds the cost of a request.
const MAX_CONTENT_TYPES: usize = 64;

/// Bounds on the size and time of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest body of a request; one byte more is refused with 413, at once when `Content-Length` says so, else
    /// where it is reached. Default: 1MiB. Bounds: 0B to 1TiB.
    pub body_bytes: Option<ByteSize>,
    /// The largest sum of header names and values; more is refused with 431. In the general part only.
    /// Default: 32KiB. Bounds: 1KiB to 1MiB.
    pub header_bytes: Option<ByteSize>,
    /// The most header lines; more is refused with 431. A route may lower it. Default: 100. Bounds: 8 to 1000.
    pub headers: Option<u32>,
    /// The longest target (path and query); a longer one is refused with 414. In the general part only.
    /// Default: 8KiB. Bounds: 256B to 32KiB.
    pub uri_bytes: Option<ByteSize>,
    /// How long the head of a request may take from its first byte, and how long a new connection may take to send one;
    /// slower ones are answered 408 and closed. In the general part only. Default: 10s. Bounds: 100ms to 5m.
    pub header_timeout: Option<Duration>,
    /// How long a request may take in all, from its head to the last byte of the answer; longer ones are answered 504,
    /// or cut when the answer has begun. `off` for event streams and the like. Default: 30s. Bounds: 100ms to 24h.
    pub total: Option<Total>,
    /// The media types that a body may have (`application/json`, `image/*`), without parameters; others, and a body
    /// without `Content-Type`, are refused with 415. Empty for any. Default: []. Bounds: 64 entries.
    pub content_types: Option<Vec<String>>,
}

impl Config {
    /// What holds for fields that are not written.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            body_bytes: Some(ByteSize::from_mib(1)),
            header_bytes: Some(ByteSize::from_kib(32)),
            headers: Some(100),
            uri_bytes: Some(ByteSize::from_kib(8)),
            header_timeout: Some(Duration::from_secs(10)),
            total: Some(Total::After(Duration::from_secs(30))),
            content_types: Some(Vec::new()),
        }
    }

    /// This, and `base` where this says nothing.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            body_bytes: self.body_bytes.or(base.body_bytes),
            header_bytes: self.header_bytes.or(base.header_bytes),
            headers: self.headers.or(base.headers),
            uri_bytes: self.uri_bytes.or(base.uri_bytes),
            header_timeout: self.header_timeout.or(base.header_timeout),
            total: self.total.or(base.total),
            content_types: self.content_types.clone().or_else(|| base.content_types.clone()),
        }
    }

    /// The checked form of what a route is held against. `at` is where this stands in the config.
    ///
    /// # Errors
    /// Every value that is out of bounds or no media type.
    pub(super) fn compile(&self, at: &str) -> Result<Rules, Vec<Mistake>> {
        let mut found = Found { at, mistakes: Vec::new() };
        let own = self.over(&Config::defaults());
        let body_bytes = own.body_bytes.unwrap_or_default();
        found.bounds("body_bytes", body_bytes, &BODY_BYTES);
        let headers = own.headers.unwrap_or_default();
        found.bounds("headers", headers, &HEADERS);
        let total_nanos = match own.total {
            Some(Total::After(total)) => {
                found.bounds("total", total, &TOTAL);
                Some(nanos(total.get()))
            }
            Some(Total::Off) | None => None,
        };
        let written = own.content_types.unwrap_or_default();
        if written.len() > MAX_CONTENT_TYPES {
            found.mistake(
                "content_types",
                format!("{} entries, at most {MAX_CONTENT_TYPES} are possible", written.len()),
            );
        }
        let mut content_types = Vec::with_capacity(written.len());
        for (place, text) in written.iter().enumerate() {
            match MediaType::parse(text) {
                Ok(media_type) => content_types.push(media_type),
                Err(message) => found.mistake(&format!("content_types[{place}]"), message),
            }
        }
        let headers = headers as usize;
        found.or(Rules { body_bytes: body_bytes.bytes(), headers, total_nanos, content_types: content_types.into() })
    }
}

/// What a request is held against once its route is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) body_bytes: u64,
    /// Most header lines.
    pub(super) headers: usize,
    /// `None` for no limit.
    pub(super) total_nanos: Option<u64>,
    /// Empty for any.
    pub(super) content_types: Box<[MediaType]>,
}

/// What the listener holds the head of a request against, before there is a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Most bytes of all header names and values together.
    pub header_bytes: usize,
    /// Most header lines.
    pub header_count: usize,
    /// Most bytes of the target.
    pub uri_bytes: usize,
    /// Longest time for the head.
    pub header_timeout: time::Duration,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener::compile(&Config::defaults()).expect("the defaults are within bounds, a test compiles them")
    }
}

impl Listener {
    /// The checked form of the general part.
    ///
    /// # Errors
    /// Every value of the head's that is out of bounds.
    pub fn compile(config: &Config) -> Result<Listener, Vec<Mistake>> {
        let mut found = Found { at: "limits", mistakes: Vec::new() };
        let own = config.over(&Config::defaults());
        let header_bytes = own.header_bytes.unwrap_or_default();
        found.bounds("header_bytes", header_bytes, &HEADER_BYTES);
        let headers = own.headers.unwrap_or_default();
        found.bounds("headers", headers, &HEADERS);
        let uri_bytes = own.uri_bytes.unwrap_or_default();
        found.bounds("uri_bytes", uri_bytes, &URI_BYTES);
        let header_timeout = own.header_timeout.unwrap_or_default();
        found.bounds("header_timeout", header_timeout, &HEADER_TIMEOUT);
        found.or(Listener {
            header_bytes: header_bytes.as_usize(),
            header_count: headers as usize,
            uri_bytes: uri_bytes.as_usize(),
            header_timeout: header_timeout.get(),
        })
    }
}

/// Checks the general part and every route's.
///
/// # Errors
/// Every mistake in them.
pub(super) fn compile(config: &PathConfig) -> Result<(Listener, PerRoute<Arc<Rules>>), Vec<Mistake>> {
    let general = config.limits.over(&Config::defaults());
    let most_headers = general.headers.unwrap_or_default();
    let mut mistakes = Vec::new();
    for (index, route) in config.routes.iter().enumerate() {
        let Some(own) = &route.limits else { continue };
        let at = format!("routes[{index}].limits");
        let mut found = Found { at: &at, mistakes: Vec::new() };
        for (field, is_written) in [
            ("header_bytes", own.header_bytes.is_some()),
            ("uri_bytes", own.uri_bytes.is_some()),
            ("header_timeout", own.header_timeout.is_some()),
        ] {
            if is_written {
                found.mistake(field, "holds before a route is known: set it in the general `limits`".to_owned());
            }
        }
        if let Some(headers) = own.headers.filter(|headers| *headers > most_headers) {
            found.mistake("headers", format!("{headers} is more than the general `limits.headers`, {most_headers}"));
        }
        mistakes.extend(found.mistakes);
    }
    let listener = Listener::compile(&general).map_err(|found| mistakes.extend(found));
    let routes = config.routes.iter().map(|route| route.limits.as_ref().map(|own| own.over(&general)));
    let rules = PerRoute::shared("limits", general.clone(), routes, Config::compile).map_err(|found| {
        // The general number of headers is the listener's too and was told with it.
        mistakes.extend(found.into_iter().filter(|mistake| mistake.path != "limits.headers"));
    });
    match (listener, rules) {
        (Ok(listener), Ok(rules)) if mistakes.is_empty() => Ok((listener, rules)),
        _ => Err(mistakes),
    }
}

/// Mistakes as they are found in one part of the config.
struct Found<'a> {
    at: &'a str,
    mistakes: Vec<Mistake>,
}

impl Found<'_> {
    fn mistake(&mut self, field: &str, message: String) {
        self.mistakes.push(Mistake::new(format!("{}.{field}", self.at), message));
    }

    fn bounds<T: PartialOrd + std::fmt::Display>(&mut self, field: &str, value: T, bounds: &RangeInclusive<T>) {
        if !bounds.contains(&value) {
            self.mistake(field, format!("{value} is out of bounds: {} to {}", bounds.start(), bounds.end()));
        }
    }

    fn or<T>(self, compiled: T) -> Result<T, Vec<Mistake>> {
        if self.mistakes.is_empty() { Ok(compiled) } else { Err(self.mistakes) }
    }
}
