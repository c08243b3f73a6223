//! Decides which route takes a request, or why none does. Pure.
//!
//! The order: the form of the target, the host, the path, then the most specific route.
//!
//! Invariant: a request that is refused by its method never falls to a less specific path, so that an unforeseen method
//! cannot get around the rules of the path it names.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use portcullis_core::refusal::{Code, Refusal};

use super::host::{self, HostName, canonical};
use super::method::Methods;
use super::normal_path::{ENCODED_SLASH, NormalPath, Reason, normalise};
use super::rules::{Rules, Target};
use super::trie::Root;

const ASTERISK: Reason = "the target may only be an asterisk with OPTIONS";
const NOT_A_PATH: Reason = "the target must be a path or an http URI";

/// What is known of a request before it is routed.
pub(super) struct Facts<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
}

/// What was decided.
pub(super) struct Decision<'r> {
    /// The path, also of a request that is refused, when it could be read.
    pub(super) path: Option<NormalPath>,
    pub(super) answer: Result<Chosen<'r>, Refused>,
}

/// The route that takes the request.
pub(super) struct Chosen<'r> {
    pub(super) target: &'r Target,
    /// What `Host` must become.
    pub(super) host: Option<HeaderValue>,
}

/// No route does.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// For the trail.
    pub(super) rule: &'static str,
}

enum Found<'r> {
    Target(&'r Target),
    WrongMethod(Methods),
    Nothing,
}

/// Chooses the route.
pub(super) fn decide<'r>(rules: &'r Rules, facts: &Facts) -> Decision<'r> {
    let mut path = None;
    let answer = choose(rules, facts, &mut path);
    Decision { path, answer }
}

fn choose<'r>(rules: &'r Rules, facts: &Facts, kept: &mut Option<NormalPath>) -> Result<Chosen<'r>, Refused> {
    check_form(facts)?;
    let host = host::of_request(facts.uri, facts.version, facts.headers)
        .map_err(|reason| refused("host", Refusal::new(Code::InvalidHost).because(reason)))?;
    let path = kept.insert(NormalPath::of(facts.uri).map_err(invalid_path)?);
    if path.has_encoded_slash() && !rules.keeps_encoded_slash {
        return Err(invalid_path(ENCODED_SLASH));
    }
    let target = match find(rules, host.name, path.matched(facts.uri), facts) {
        Found::Target(target) => target,
        Found::WrongMethod(methods) => return Err(method_not_allowed(&methods.allow())),
        Found::Nothing if *facts.method == Method::TRACE => return Err(method_not_allowed("")),
        Found::Nothing if host.name.is_none() && rules.hosts.are_named() => {
            return Err(refused("host", Refusal::new(Code::InvalidHost).because(host::MISSING)));
        }
        Found::Nothing => return Err(refused("no_route", Refusal::not_found())),
    };
    if path.has_encoded_slash() {
        check_encoded_slash(rules, target, host.name, path.matched(facts.uri), facts).map_err(invalid_path)?;
    }
    if target.strip_segments > 0 {
        path.strip(facts.uri, target.strip_segments).map_err(invalid_path)?;
    }
    Ok(Chosen { target, host: host.rewritten })
}

/// Lets only paths and `http` URIs through: never a tunnel (RFC 9112, section 3.2).
fn check_form(facts: &Facts) -> Result<(), Refused> {
    if *facts.method == Method::CONNECT {
        // What follows may be meant for a tunnel that there is not (RFC 9931).
        let mut refused = method_not_allowed("");
        refused.refusal.must_close = true;
        return Err(refused);
    }
    let Some(target) = facts.uri.path_and_query() else { return Err(invalid_target(NOT_A_PATH)) };
    if facts.uri.authority().is_none() && target.as_str() == "*" {
        return Err(match *facts.method {
            Method::OPTIONS => method_not_allowed(""),
            _ => invalid_target(ASTERISK),
        });
    }
    match facts.uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(invalid_target(NOT_A_PATH)),
    }
}

/// The most specific route: by host, then by path, then as the candidates of a leaf are sorted.
fn find<'r>(rules: &'r Rules, host: Option<&str>, path: &str, facts: &Facts) -> Found<'r> {
    let mut visit = |root: Root| {
        rules.trie.visit(root, path, &mut |leaf| {
            let mut others: Option<Methods> = None;
            for candidate in leaf.iter().filter(|candidate| candidate.takes(facts.headers)) {
                if candidate.methods.has(facts.method) {
                    return ControlFlow::Break(Found::Target(&rules.targets[candidate.target as usize]));
                }
                others.get_or_insert_default().add(&candidate.methods);
            }
            match others {
                Some(methods) => ControlFlow::Break(Found::WrongMethod(methods)),
                None => ControlFlow::Continue(()),
            }
        })
    };
    let visited = match host {
        Some(host) if rules.hosts.are_named() => {
            let host: HostName = canonical(host);
            rules.hosts.roots(&host).try_for_each(&mut visit)
        }
        _ => visit(rules.hosts.any),
    };
    match visited {
        ControlFlow::Break(found) => found,
        ControlFlow::Continue(()) => Found::Nothing,
    }
}

/// Lets an escaped slash through where the route keeps it and both readings of it lead to that route.
fn check_encoded_slash(
    rules: &Rules,
    target: &Target,
    host: Option<&str>,
    path: &str,
    facts: &Facts,
) -> Result<(), Reason> {
    let decoded = normalise(path.replace("%2F", "/").as_bytes())?;
    match find(rules, host, &decoded.matched, facts) {
        Found::Target(other) if target.keeps_encoded_slash && Arc::ptr_eq(&other.route, &target.route) => Ok(()),
        _ => Err(ENCODED_SLASH),
    }
}

fn refused(rule: &'static str, refusal: Refusal) -> Refused {
    Refused { refusal, rule }
}

fn invalid_path(reason: Reason) -> Refused {
    refused("path", Refusal::new(Code::InvalidPath).because(reason))
}

fn invalid_target(reason: Reason) -> Refused {
    refused("target", Refusal::new(Code::InvalidPath).because(reason))
}

fn method_not_allowed(allow: &str) -> Refused {
    refused("method", Refusal::method_not_allowed(Arc::from(allow)))
}
