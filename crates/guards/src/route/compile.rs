//! Checks the routes as the operator wrote them and puts them into the form that requests are held against.
//!
//! Names, upstreams, costs and prefixes are checked here too, because a route is what this guard gives.
//!
//! Invariant: two routes that could both take a request without one being more specific never get past [`compile`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderName, HeaderValue};

use super::Route;
use super::config::{Config, EncodedSlash};
use super::host::{canonical, name_of};
use super::method::Methods;
use super::pattern::{self, Piece};
use super::rules::{Candidate, Condition, Hosts, Rules, Target};
use super::trie::{Root, TrieBuilder};
use crate::config::{Mistake, PathConfig, RouteConfig};

/// The name of the only route when none is written.
pub const IMPLICIT: &str = "default";
/// The name of the upstream where there is none: the tower layer, whose path ends in the inner service, and the gateway's own.
const INNER: &str = "default";
/// Most bytes of a route's name.
const MAX_NAME_BYTES: usize = 64;
/// Most that a request may take from a rate limit.
const MAX_COST: u32 = 1_000_000;
/// Most routes that share host and path and differ by methods or header fields only. Bounds the cost of a look-up.
const MAX_SHARED: usize = 128;

/// Checks all routes and puts them in order.
///
/// # Errors
/// Every mistake in every route.
pub(super) fn compile(config: &PathConfig) -> Result<Rules, Vec<Mistake>> {
    let implicit = [RouteConfig { name: IMPLICIT.to_owned(), ..RouteConfig::default() }];
    let is_implicit = config.routes.is_empty();
    let routes = if is_implicit { &implicit } else { config.routes.as_slice() };
    let mut compiler = Compiler::new(config);
    let mut names = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        compiler.at = if is_implicit { "routes".to_owned() } else { format!("routes[{index}]") };
        if let Err(message) = check_name(&route.name) {
            compiler.mistake(".name", message);
        } else if let Some(first) = names.insert(&*route.name, index) {
            compiler.mistake(".name", format!("`{}` is the name of routes[{first}] already", route.name));
        }
        compiler.route(index, route);
    }
    compiler.order(routes);
    compiler.finish()
}

/// The rules while they grow.
struct Compiler {
    defaults: Config,
    upstreams: HashMap<String, Arc<str>>,
    trie: TrieBuilder<Candidate>,
    hosts: Hosts,
    targets: Vec<Target>,
    /// Where the route in work stands.
    at: String,
    mistakes: Vec<Mistake>,
}

impl Compiler {
    fn new(config: &PathConfig) -> Compiler {
        let mut trie = TrieBuilder::new();
        let any = trie.root();
        Compiler {
            defaults: Config::defaults(),
            upstreams: config.upstreams.iter().map(|name| (name.clone(), Arc::from(&**name))).collect(),
            trie,
            hosts: Hosts { exact: HashMap::default(), below: HashMap::default(), longest_below: 0, any },
            targets: Vec::new(),
            at: String::new(),
            mistakes: Vec::new(),
        }
    }

    fn mistake(&mut self, field: &str, message: String) {
        self.mistakes.push(Mistake::new(format!("{}{field}", self.at), message));
    }

    /// The value, or its mistake noted and `None`.
    fn noted<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.mistake(field, message)).ok()
    }

    fn route(&mut self, index: usize, route: &RouteConfig) {
        let matches = route.matches.over(&self.defaults);
        let cost = route.cost.unwrap_or(1);
        if !(1..=MAX_COST).contains(&cost) {
            self.mistake(".cost", format!("{cost} is out of bounds: 1 to {MAX_COST}"));
        }
        let upstream = match route.is_inner {
            true => Ok(Arc::from(INNER)),
            false => upstream(route.upstream.as_deref(), &self.upstreams),
        };
        let upstream = self.noted(".upstream", upstream);
        let host = self.noted(".match.host", host(matches.host.as_deref().unwrap_or("*")));
        let pattern = self.noted(".match.path", pattern::parse(matches.path.as_deref().unwrap_or("/**")));
        let methods = self.methods(&matches.methods.unwrap_or_default());
        let headers = self.headers(&matches.headers.unwrap_or_default());
        let is_case_insensitive = matches.case_insensitive.unwrap_or_default();
        let strip_segments = match (&route.strip_prefix, &pattern) {
            (Some(prefix), Some(pattern)) => self.noted(".strip_prefix", strip(prefix, pattern, is_case_insensitive)),
            _ => None,
        };
        self.targets.push(Target {
            route: Arc::new(Route {
                index,
                name: Arc::from(&*route.name),
                upstream: upstream.unwrap_or_else(|| Arc::from(INNER)),
                cost,
            }),
            strip_segments: strip_segments.unwrap_or_default(),
            keeps_encoded_slash: matches.encoded_slash == Some(EncodedSlash::Keep),
        });
        if let (Some(host), Some(pattern)) = (host, pattern) {
            let root = self.root(host);
            let target = u32::try_from(index).expect("a config file holds fewer than 2^32 routes");
            self.trie.leaf(root, &pattern, is_case_insensitive).push(Candidate { target, methods, headers });
        }
    }

    fn root(&mut self, host: HostRule) -> Root {
        match host {
            HostRule::Any => self.hosts.any,
            HostRule::Exact(name) => *self.hosts.exact.entry(name).or_insert_with(|| self.trie.root()),
            HostRule::Below(suffix) => {
                self.hosts.longest_below = self.hosts.longest_below.max(suffix.len());
                *self.hosts.below.entry(suffix).or_insert_with(|| self.trie.root())
            }
        }
    }

    fn methods(&mut self, names: &[String]) -> Methods {
        if names.is_empty() {
            let message = "a route that takes no method takes nothing: name at least one, or leave `methods` out";
            self.mistake(".match.methods", message.to_owned());
        }
        Methods::named(names).unwrap_or_else(|wrong| {
            for (place, message) in wrong {
                self.mistake(&format!(".match.methods[{place}]"), message);
            }
            Methods::standard()
        })
    }

    fn headers(&mut self, written: &BTreeMap<String, String>) -> Box<[Condition]> {
        let mut conditions: Vec<Condition> = Vec::with_capacity(written.len());
        for (name, value) in written {
            let condition = self.noted(&format!(".match.headers.{name}"), condition(name, value));
            match condition {
                Some(new) if conditions.iter().any(|known| known.name == new.name) => {
                    let message = format!("`{}` is written twice, the case of letters makes no difference", new.name);
                    self.mistake(&format!(".match.headers.{name}"), message);
                }
                Some(new) => conditions.push(new),
                None => {}
            }
        }
        conditions.into_boxed_slice()
    }

    /// Sorts routes that share host and path, and notes those that tie.
    fn order(&mut self, routes: &[RouteConfig]) {
        let name = |candidate: &Candidate| &routes[candidate.target as usize].name;
        for leaf in self.trie.leaves() {
            leaf.sort_by_key(Candidate::rank);
            if leaf.len() > MAX_SHARED {
                let (count, first) = (leaf.len(), name(&leaf[0]));
                let message = format!("{count} routes share host and path with `{first}`, at most {MAX_SHARED} may");
                self.mistakes.push(Mistake::new(format!("routes[{}].match", leaf[0].target), message));
                continue;
            }
            for (place, one) in leaf.iter().enumerate() {
                let rivals = leaf[place + 1..].iter().take_while(|two| two.rank() == one.rank());
                for two in rivals.filter(|two| one.meets(two)) {
                    let message = format!(
                        "`{}` and `{}` (routes[{}]) take the same requests and neither is more specific",
                        name(two),
                        name(one),
                        one.target
                    );
                    self.mistakes.push(Mistake::new(format!("routes[{}].match", two.target), message));
                }
            }
        }
    }

    fn finish(self) -> Result<Rules, Vec<Mistake>> {
        if !self.mistakes.is_empty() {
            return Err(self.mistakes);
        }
        let keeps_encoded_slash = self.targets.iter().any(|target| target.keeps_encoded_slash);
        let (trie, targets) = (self.trie.build(), self.targets.into_boxed_slice());
        Ok(Rules { trie, hosts: self.hosts, targets, keeps_encoded_slash })
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    // Names that begin with `_` are taken by metrics (`_other`).
    if is_plain && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(format!(
        "`{name}` is no name for a route: 1 to {MAX_NAME_BYTES} letters, digits, `-` and `_`, the first a letter or digit"
    ))
}

fn upstream(name: Option<&str>, known: &HashMap<String, Arc<str>>) -> Result<Arc<str>, String> {
    match name {
        Some(name) if known.is_empty() => Ok(Arc::from(name)),
        Some(name) => known.get(name).cloned().ok_or_else(|| {
            let nearest = known.keys().max_by(|a, b| {
                strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)).then_with(|| b.cmp(a))
            });
            format!("there is no upstream `{name}`, did you mean `{}`?", nearest.map_or("", String::as_str))
        }),
        None if known.is_empty() => Ok(Arc::from(INNER)),
        None if known.len() == 1 => Ok(known.values().next().cloned().unwrap_or_else(|| Arc::from(INNER))),
        None => {
            let mut names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
            names.sort();
            names.truncate(10);
            Err(format!("needed, because there is more than one upstream: {}", names.join(", ")))
        }
    }
}

enum HostRule {
    Any,
    Exact(Box<str>),
    Below(Box<str>),
}

fn host(written: &str) -> Result<HostRule, String> {
    if written == "*" {
        return Ok(HostRule::Any);
    }
    let name = written.strip_prefix("*.").unwrap_or(written);
    let is_wrong = || format!("`{written}` is no host: write `app.example.com`, `*.example.com`, an address, or `*`");
    let plain = name_of(name.as_bytes()).map_err(|_| is_wrong())?;
    let has_port = name.strip_suffix('.').unwrap_or(name) != plain;
    if has_port {
        return Err(format!("`{written}` holds a port: hosts are compared without it, write `{plain}`"));
    }
    let canonical = canonical(plain);
    if name.len() == written.len() {
        return Ok(HostRule::Exact(canonical.as_str().into()));
    }
    if canonical.starts_with('[') {
        return Err(is_wrong());
    }
    Ok(HostRule::Below(format!(".{canonical}").into_boxed_str()))
}

fn condition(name: &str, value: &str) -> Result<Condition, String> {
    let header = HeaderName::try_from(name).map_err(|_| format!("`{name}` is not the name of a header field"))?;
    if header == HOST {
        return Err("use `host`, which is compared without case and port".to_owned());
    }
    let text = HeaderValue::try_from(value)
        .map_err(|_| format!("`{}` cannot be the value of a header field", value.escape_debug()))?;
    if value.trim() != value {
        return Err(format!("`{value}` has space around it, which values of header fields never have"));
    }
    Ok(Condition { name: header, value: (value != "*").then_some(text) })
}

/// How many segments `prefix` takes off every path of `pattern`.
fn strip(prefix: &str, pattern: &[Piece], is_case_insensitive: bool) -> Result<usize, String> {
    let pieces = pattern::parse(prefix)?;
    let is_same = |(one, two): (&Piece, &Piece)| match (one, two) {
        (Piece::Literal(one), Piece::Literal(two)) if is_case_insensitive => one.eq_ignore_ascii_case(two),
        (Piece::Literal(one), Piece::Literal(two)) => one == two,
        _ => false,
    };
    if pieces.is_empty() {
        return Err(format!("`{prefix}` takes nothing off, leave it out"));
    }
    if pieces.len() > pattern.len() || !pieces.iter().zip(pattern).all(is_same) {
        return Err(format!("`{prefix}` must be whole segments with which `match.path` begins"));
    }
    Ok(pieces.len())
}
