//! Where an upstream is: `url` or `targets`, read into places.
//!
//! Invariant: all places of one upstream speak the same scheme, so that no failure can turn TLS into plain text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::UpstreamConfig;

/// Most targets of one upstream.
pub const MOST_TARGETS: usize = 256;
/// The largest weight.
pub const MOST_WEIGHT: u32 = 1000;

/// One of several places where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Where it is: `http://HOST[:PORT]` or `https://HOST[:PORT]`, without a path. All targets have the same scheme.
    #[schemars(extend("examples" = ["http://127.0.0.1:3000"]))]
    pub url: String,
    /// Its share of the requests, beside the weights of the others. Default: 1. Bounds: 1 to 1000.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// How a target is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, spread evenly by weight. Each worker keeps its own turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight for its weight, counted over all workers.
    LeastRequests,
}

/// What is spoken with an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2, many requests on one connection: by ALPN on https, with prior knowledge on http. There is no way back to
    /// HTTP/1.1 when the upstream does not speak it.
    Http2,
}

/// A place in its checked form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `https`.
    pub is_tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// 1 to 1000.
    pub weight: u32,
}

impl Place {
    /// How it is named to people: `host:port`.
    #[must_use]
    pub fn label(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What `Host` says: without the port that the scheme implies.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.is_tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    fn parse(url: &str, weight: u32) -> Result<Place, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("`{url}` is not a URL: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("`{url}` must start with http:// or https://")),
        };
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(format!("`{url}` must not have a path: requests keep their own"));
        }
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        if authority.contains('@') {
            return Err("a url must not carry a user or password".to_owned());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("`{url}` has no host"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match uri.port_u16() {
            Some(0) => return Err("port 0 cannot be connected to".to_owned()),
            Some(port) => port,
            None if authority.ends_with(|last: char| last == ':' || last.is_ascii_digit())
                && authority
                    .rsplit_once(':')
                    .is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']')) =>
            {
                return Err(format!("`{url}` has a port that is not 1 to 65535"));
            }
            None if is_tls => 443,
            None => 80,
        };
        if !(1..=MOST_WEIGHT).contains(&weight) {
            return Err(format!("weight {weight} is not 1 to {MOST_WEIGHT}"));
        }
        Ok(Place { is_tls, host: host.to_owned(), port, weight })
    }
}

impl UpstreamConfig {
    /// Every place, in the order of the config.
    ///
    /// # Errors
    /// Each key with what is wrong with it, for the operator.
    pub fn places(&self) -> Result<Vec<Place>, Vec<(String, String)>> {
        let mut wrong = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        let mut add = |key: String, url: &str, weight| match Place::parse(url, weight) {
            Ok(place) if places.iter().any(|other| other.label() == place.label()) => {
                wrong.push((key, format!("{} is listed twice; give it a weight instead", place.label())));
            }
            Ok(place) if places.first().is_some_and(|first| first.is_tls != place.is_tls) => wrong.push((
                key,
                "http and https cannot be mixed: a failure of the one would send requests over the other".to_owned(),
            )),
            Ok(place) => places.push(place),
            Err(message) => wrong.push((key, message)),
        };
        match (self.url.is_empty(), self.targets.is_empty()) {
            (true, true) => {
                let message = "an upstream needs a url, for example http://127.0.0.1:3000, or targets";
                return Err(vec![("url".to_owned(), message.to_owned())]);
            }
            (false, false) => {
                return Err(vec![("targets".to_owned(), "either url or targets, not both".to_owned())]);
            }
            (false, true) => add("url".to_owned(), &self.url, 1),
            (true, false) if self.targets.len() > MOST_TARGETS => {
                return Err(vec![("targets".to_owned(), format!("at most {MOST_TARGETS} targets"))]);
            }
            (true, false) => {
                for (index, target) in self.targets.iter().enumerate() {
                    add(format!("targets[{index}].url"), &target.url, target.weight);
                }
            }
        }
        if wrong.is_empty() { Ok(places) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(urls: &[&str]) -> Result<Vec<Place>, Vec<(String, String)>> {
        let targets = urls.iter().map(|url| TargetConfig { url: (*url).to_owned(), weight: 1 }).collect();
        UpstreamConfig { targets, ..UpstreamConfig::default() }.places()
    }

    fn one_url(url: &str) -> Result<Vec<Place>, Vec<(String, String)>> {
        UpstreamConfig { url: url.to_owned(), ..UpstreamConfig::default() }.places()
    }

    #[test]
    fn a_url_gives_host_port_and_authority() {
        for (url, host, port, authority) in [
            ("http://127.0.0.1:3000", "127.0.0.1", 3000, "127.0.0.1:3000"),
            ("http://app", "app", 80, "app"),
            ("http://app.internal:8080/", "app.internal", 8080, "app.internal:8080"),
            ("http://[::1]:3000", "::1", 3000, "[::1]:3000"),
            ("http://[::1]", "::1", 80, "[::1]"),
            ("https://app", "app", 443, "app"),
            ("https://app:80", "app", 80, "app:80"),
        ] {
            let place = one_url(url).expect(url).remove(0);
            assert_eq!((place.host.as_str(), place.port), (host, port), "{url}");
            assert_eq!(place.authority(), authority, "{url}");
            assert_eq!(place.is_tls, url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_told_what_is_wrong() {
        for (url, part) in [
            ("", "needs a url"),
            ("127.0.0.1:3000", "must start with http://"),
            ("ftp://app", "must start with http://"),
            ("http://app/api", "must not have a path"),
            ("http://user:secret@app", "must not carry a user"),
            ("http://app:0", "port 0"),
            ("http://app:99999", "port"),
            ("http://", "not a URL"),
        ] {
            let wrong = one_url(url).expect_err(url);
            assert!(wrong[0].0 == "url" && wrong[0].1.contains(part), "{url}: {wrong:?}");
            assert!(!wrong[0].1.contains("secret"), "{wrong:?}");
        }
    }

    #[test]
    fn every_target_is_told_what_is_wrong_with_it() {
        let wrong = places(&["http://a", "http://a:80", "https://b", "nonsense"]).expect_err("three mistakes");
        let keys: Vec<&str> = wrong.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["targets[1].url", "targets[2].url", "targets[3].url"]);
        assert!(wrong[0].1.contains("listed twice") && wrong[1].1.contains("mixed"), "{wrong:?}");
        let both = UpstreamConfig {
            url: "http://a".to_owned(),
            targets: vec![TargetConfig { url: "http://b".to_owned(), weight: 1 }],
            ..UpstreamConfig::default()
        };
        assert!(both.places().expect_err("both")[0].1.contains("not both"));
    }

    #[test]
    fn weights_and_numbers_of_targets_are_bounded() {
        for (weight, is_fine) in [(0, false), (1, true), (1000, true), (1001, false)] {
            let targets = vec![TargetConfig { url: "http://a".to_owned(), weight }];
            let config = UpstreamConfig { targets, ..UpstreamConfig::default() };
            assert_eq!(config.places().is_ok(), is_fine, "{weight}");
        }
        let urls: Vec<String> = (0..=MOST_TARGETS).map(|index| format!("http://host-{index}")).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        assert_eq!(places(&urls[1..]).map(|places| places.len()), Ok(MOST_TARGETS));
        assert!(places(&urls).is_err());
    }
}
