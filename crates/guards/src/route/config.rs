//! What the operator writes under `match` of a route, and the checked form that requests are held against.
//!
//! Names, upstreams, costs and prefixes of the routes are checked here too, because a route is what this guard gives.
//!
//! Invariant: two routes that could both take a request without one being more specific never get past [`compile`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Route;
use super::host::{canonical, name_of};
use super::method::Methods;
use super::pattern::{self, Piece};
use super::trie::{Root, Trie, TrieBuilder};
use crate::config::{Mistake, PathConfig, RouteConfig};

/// The name of the only route when none is written.
pub const IMPLICIT: &str = "default";
/// The name of the upstream where none is configured at all: the tower layer, whose path ends in the inner service.
const INNER: &str = "default";
/// Most bytes of a route's name.
const MAX_NAME_BYTES: usize = 64;
/// Most that a request may take from a rate limit.
const MAX_COST: u32 = 1_000_000;
/// Most routes that share host and path and differ by methods or header fields only. Bounds the cost of a look-up.
const MAX_SHARED: usize = 128;

/// What a route takes. All that is written must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host: a name (`app.example.com`), all names below one (`*.example.com`), an address, or `*` for any, also
    /// none. Compared without case, port and trailing dot. Default: `*`.
    pub host: Option<String>,
    /// The path: begins with `/`; `*` stands for one segment, `**` at the end for everything below and for the path
    /// itself, so `/api/**` takes `/api` and `/api/x`, never `/apiadmin`. A trailing slash makes no difference.
    /// Default: `/**`. Bounds: 64 segments.
    pub path: Option<String>,
    /// The methods, in upper case; GET brings HEAD. Others get 405. CONNECT and TRACE cannot be allowed.
    /// Default: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS.
    pub methods: Option<Vec<String>>,
    /// Header fields, each with the exact value that its only line must have, or `*` for any value. Default: none.
    pub headers: Option<BTreeMap<String, String>>,
    /// Whether `/Admin` is the same path as `/admin` (ASCII letters only). Set it for upstreams that see it so.
    /// Default: false.
    pub case_insensitive: Option<bool>,
    /// What happens to a path that holds an escaped slash, `%2F`. Default: refuse.
    pub encoded_slash: Option<EncodedSlash>,
}

/// What happens to a path that holds an escaped slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodedSlash {
    /// The request is refused with 400.
    Refuse,
    /// The escape is kept as part of its segment and forwarded. Still refused where reading it as a slash would lead to
    /// another route, because some upstreams read it so.
    Keep,
}

impl Config {
    /// What holds for fields that are not written.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            host: Some("*".to_owned()),
            path: Some("/**".to_owned()),
            methods: Some(Methods::standard().names().map(str::to_owned).collect()),
            headers: Some(BTreeMap::new()),
            case_insensitive: Some(false),
            encoded_slash: Some(EncodedSlash::Refuse),
        }
    }

    /// This, and `base` where this says nothing.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            host: self.host.clone().or_else(|| base.host.clone()),
            path: self.path.clone().or_else(|| base.path.clone()),
            methods: self.methods.clone().or_else(|| base.methods.clone()),
            headers: self.headers.clone().or_else(|| base.headers.clone()),
            case_insensitive: self.case_insensitive.or(base.case_insensitive),
            encoded_slash: self.encoded_slash.or(base.encoded_slash),
        }
    }
}

/// The routes in the form that requests are held against.
pub(super) struct Rules {
    pub(super) trie: Trie<Candidate>,
    pub(super) hosts: Hosts,
    pub(super) targets: Box<[Target]>,
    /// Whether any route keeps escaped slashes.
    pub(super) keeps_encoded_slash: bool,
}

/// Where the patterns of each host begin.
pub(super) struct Hosts {
    /// By name.
    pub(super) exact: HashMap<Box<str>, Root, ahash::RandomState>,
    /// By what follows the `*`, with its dot.
    pub(super) below: HashMap<Box<str>, Root, ahash::RandomState>,
    /// The longest key of `below`, in bytes.
    pub(super) longest_below: usize,
    /// For every host, and for none.
    pub(super) any: Root,
}

impl Hosts {
    /// Whether any route names a host.
    pub(super) fn are_named(&self) -> bool {
        !self.exact.is_empty() || !self.below.is_empty()
    }

    /// The roots for `host`, most specific first: its own, those of the names above it, the one for any host.
    pub(super) fn roots(&self, host: &str) -> impl Iterator<Item = Root> {
        let dots = host.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(place, _)| place);
        let suffixes = dots.map(|dot| &host[dot..]).filter(|suffix| suffix.len() <= self.longest_below);
        let below = suffixes.filter_map(|suffix| self.below.get(suffix));
        self.exact.get(host).into_iter().chain(below).copied().chain([self.any])
    }
}

/// A route as it is carried out.
pub(super) struct Target {
    pub(super) route: Arc<Route>,
    /// How many segments are taken off the forwarded path.
    pub(super) strip_segments: usize,
    pub(super) keeps_encoded_slash: bool,
}

/// A route at the end of its pattern: what must hold besides host and path.
pub(super) struct Candidate {
    /// Its place in [`Rules::targets`].
    pub(super) target: u32,
    pub(super) methods: Methods,
    headers: Box<[Condition]>,
}

#[derive(PartialEq, Eq)]
struct Condition {
    name: HeaderName,
    /// `None` for any value.
    value: Option<HeaderValue>,
}

impl Candidate {
    /// Whether the conditions on header fields hold.
    pub(super) fn takes(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|condition| {
            let mut lines = headers.get_all(&condition.name).iter();
            match (lines.next(), &condition.value) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(line), Some(value)) => line == value && lines.next().is_none(),
            }
        })
    }

    /// Less is more specific: more exact conditions, then more conditions, then fewer methods.
    fn rank(&self) -> impl Ord + use<> {
        let exact = self.headers.iter().filter(|condition| condition.value.is_some()).count();
        (usize::MAX - exact, usize::MAX - self.headers.len(), self.methods.count())
    }

    /// Whether some request could be taken by both.
    fn meets(&self, other: &Candidate) -> bool {
        let contradicts = |one: &Condition, two: &Condition| {
            one.name == two.name && matches!((&one.value, &two.value), (Some(one), Some(two)) if one != two)
        };
        let are_compatible = !self.headers.iter().any(|one| other.headers.iter().any(|two| contradicts(one, two)));
        are_compatible && self.methods.meets(&other.methods)
    }
}

/// Checks all routes and puts them in order.
///
/// # Errors
/// Every mistake in every route.
pub(super) fn compile(config: &PathConfig) -> Result<Rules, Vec<Mistake>> {
    let implicit = [RouteConfig { name: IMPLICIT.to_owned(), ..RouteConfig::default() }];
    let routes = if config.routes.is_empty() { &implicit } else { config.routes.as_slice() };
    let mut trie = TrieBuilder::new();
    let any = trie.root();
    let mut hosts = Hosts { exact: HashMap::default(), below: HashMap::default(), longest_below: 0, any };
    let mut mistakes = Vec::new();
    let mut names = HashMap::new();
    let mut targets = Vec::with_capacity(routes.len());
    let upstreams: HashMap<&str, Arc<str>> =
        config.upstreams.iter().map(|name| (&**name, Arc::from(&**name))).collect();
    for (index, route) in routes.iter().enumerate() {
        let mut mistake =
            |field: &str, message: String| mistakes.push(Mistake::new(format!("routes[{index}]{field}"), message));
        if let Err(message) = check_name(&route.name) {
            mistake(".name", message);
        } else if let Some(first) = names.insert(&*route.name, index) {
            mistake(".name", format!("`{}` is the name of routes[{first}] already", route.name));
        }
        let cost = route.cost.unwrap_or(1);
        if !(1..=MAX_COST).contains(&cost) {
            mistake(".cost", format!("{cost} is out of bounds: 1 to {MAX_COST}"));
        }
        let upstream = upstream(route.upstream.as_deref(), &upstreams).unwrap_or_else(|message| {
            mistake(".upstream", message);
            Arc::from(INNER)
        });
        let matches = route.matches.over(&Config::defaults());
        let is_case_insensitive = matches.case_insensitive.unwrap_or_default();
        let keeps_encoded_slash = matches.encoded_slash == Some(EncodedSlash::Keep);
        let host = host(matches.host.as_deref().unwrap_or("*")).map_err(|message| mistake(".match.host", message));
        let pattern =
            pattern::parse(matches.path.as_deref().unwrap_or("/**")).map_err(|message| mistake(".match.path", message));
        let methods = methods(&matches.methods.unwrap_or_default(), |place, message| {
            mistake(&format!(".match.methods{place}"), message);
        });
        let headers = headers(&matches.headers.unwrap_or_default(), |name, message| {
            mistake(&format!(".match.headers.{name}"), message);
        });
        let mut strip_segments = 0;
        if let (Some(prefix), Ok(pattern)) = (&route.strip_prefix, &pattern) {
            match strip(prefix, pattern, is_case_insensitive) {
                Ok(segments) => strip_segments = segments,
                Err(message) => mistake(".strip_prefix", message),
            }
        }
        targets.push(Target {
            route: Arc::new(Route { index, name: Arc::from(&*route.name), upstream, cost }),
            strip_segments,
            keeps_encoded_slash,
        });
        if let (Ok(host), Ok(pattern)) = (host, pattern) {
            let root = match host {
                HostRule::Any => any,
                HostRule::Exact(name) => *hosts.exact.entry(name).or_insert_with(|| trie.root()),
                HostRule::Below(suffix) => {
                    hosts.longest_below = hosts.longest_below.max(suffix.len());
                    *hosts.below.entry(suffix).or_insert_with(|| trie.root())
                }
            };
            let target = u32::try_from(index).expect("a config file holds fewer than 2^32 routes");
            trie.leaf(root, &pattern, is_case_insensitive).push(Candidate { target, methods, headers });
        }
    }
    for leaf in trie.leaves() {
        leaf.sort_by_key(Candidate::rank);
        if leaf.len() > MAX_SHARED {
            let names = (name_at(routes, &leaf[0]), leaf.len());
            let message =
                format!("{} routes share host and path with `{}`, at most {MAX_SHARED} may", names.1, names.0);
            mistakes.push(Mistake::new(format!("routes[{}].match", leaf[0].target), message));
            continue;
        }
        for (place, one) in leaf.iter().enumerate() {
            let rivals = leaf[place + 1..].iter().take_while(|two| two.rank() == one.rank());
            for two in rivals.filter(|two| one.meets(two)) {
                let (first, second) = (name_at(routes, one), name_at(routes, two));
                let message = format!(
                    "`{second}` and `{first}` (routes[{}]) take the same requests and neither is more specific",
                    one.target
                );
                mistakes.push(Mistake::new(format!("routes[{}].match", two.target), message));
            }
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let keeps_encoded_slash = targets.iter().any(|target| target.keeps_encoded_slash);
    Ok(Rules { trie: trie.build(), hosts, targets: targets.into_boxed_slice(), keeps_encoded_slash })
}

fn name_at<'a>(routes: &'a [RouteConfig], candidate: &Candidate) -> &'a str {
    &routes[candidate.target as usize].name
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

fn upstream(name: Option<&str>, known: &HashMap<&str, Arc<str>>) -> Result<Arc<str>, String> {
    match name {
        Some(name) if known.is_empty() => Ok(Arc::from(name)),
        Some(name) => known.get(name).cloned().ok_or_else(|| {
            let nearest = known.keys().max_by(|a, b| {
                strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)).then_with(|| b.cmp(a))
            });
            format!("there is no upstream `{name}`, did you mean `{}`?", nearest.unwrap_or(&""))
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

fn methods(names: &[String], mut mistake: impl FnMut(&str, String)) -> Methods {
    if names.is_empty() {
        mistake("", "a route that takes no method takes nothing: name at least one, or leave `methods` out".to_owned());
    }
    Methods::named(names).unwrap_or_else(|wrong| {
        for (place, message) in wrong {
            mistake(&format!("[{place}]"), message);
        }
        Methods::standard()
    })
}

fn headers(written: &BTreeMap<String, String>, mut mistake: impl FnMut(&str, String)) -> Box<[Condition]> {
    let mut conditions: Vec<Condition> = Vec::with_capacity(written.len());
    for (name, value) in written {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Err(_), _) => mistake(name, format!("`{name}` is not the name of a header field")),
            (Ok(HOST), _) => mistake(name, "use `host`, which is compared without case and port".to_owned()),
            (Ok(header), _) if conditions.iter().any(|known| known.name == header) => {
                mistake(name, format!("`{header}` is written twice, the case of letters makes no difference"));
            }
            (_, Ok(text)) if text.as_bytes().trim_ascii() != text.as_bytes() => {
                mistake(name, format!("`{value}` has space around it, which values of header fields never have"));
            }
            (_, Err(_)) => mistake(name, format!("`{}` cannot be the value of a header field", value.escape_debug())),
            (Ok(name), Ok(text)) => conditions.push(Condition { name, value: (value != "*").then_some(text) }),
        }
    }
    conditions.into_boxed_slice()
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
