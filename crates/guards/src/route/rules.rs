//! The routes in the form that requests are held against.
//!
//! Made by `compile.rs`, read by `decide.rs`.
//!
//! Invariant: nothing in here changes after it was made; a reload makes new rules.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Route;
use super::method::Methods;
use super::trie::{Root, Trie};

/// All of them.
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
    pub(super) headers: Box<[Condition]>,
}

/// What a header field must be.
pub(super) struct Condition {
    pub(super) name: HeaderName,
    /// `None` for any value.
    pub(super) value: Option<HeaderValue>,
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
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let exact = self.headers.iter().filter(|condition| condition.value.is_some()).count();
        (usize::MAX - exact, usize::MAX - self.headers.len(), self.methods.count())
    }

    /// Whether some request could be taken by both.
    pub(super) fn meets(&self, other: &Candidate) -> bool {
        let contradicts = |one: &Condition, two: &Condition| {
            one.name == two.name && matches!((&one.value, &two.value), (Some(one), Some(two)) if one != two)
        };
        let are_compatible = !self.headers.iter().any(|one| other.headers.iter().any(|two| contradicts(one, two)));
        are_compatible && self.methods.meets(&other.methods)
    }
}
