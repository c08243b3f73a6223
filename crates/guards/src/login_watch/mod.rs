//! Watches the answers of the service for failed logins, and bans who fails too often.
//!
//! # What it does
//! On watched requests that carry credentials it looks at the answer: its status, a header field, a field of its JSON body.
//! Failures are counted for the client's address (for IPv6 its network), for address and account together, and for the wider
//! IPv6 network; 10 of them in 10 minutes ban the address for an hour, and longer when it comes back (`ip_block.ladder`).
//! The service needs to know nothing of it. Requests without credentials never count: an expired session, a preflight. Of
//! bodies up to 16 KiB are read beside the way, and only where logins are watched. A success resets nothing.
//!
//! # Refuses when
//! As many different guesses from one address are on their way as it has failures left, on routes and paths that the operator
//! named; or none is left and the ban could not be placed: 429 `ERR_LOGIN_RATE_LIMITED`. Who is banned is refused by
//! `ip_block`.
//!
//! # Remembers
//! Failures, in the store's counters of fixed size, under hashed keys: no account and no password is kept. Guesses on their
//! way, as long as they are. A reload keeps the failures; they begin anew when a ban ends or is lifted.
//!
//! # If a dependency fails
//! An answer that the gateway gives itself is no failed login, except where `identity` refuses a credential that never was
//! good (a forged token, not an expired one). Where the list of bans is full, logins from the address are
//! refused until its window is over.
//!
//! # Cost
//! Nothing where logins are not watched, a look at two header fields where they are. A login costs four looks at the
//! counters, a failed one up to twelve more; the bodies that are read are copied once.
//!
//! Invariant: an allowed address and a trusted proxy are never counted; credentials are never kept, logged or compared.

mod config;
mod decide;
pub mod metrics;
mod state;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION};
use portcullis_core::refusal::{Code, Refusal};
use portcullis_core::units::Cidr;
use portcullis_store::bans::Origin;

pub use config::{AccountConfig, Config, FailureConfig, HeaderConfig, JsonConfig};

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Body, Exchange, PerRoute, Seen, Tap, Touch};
use crate::guard::{Fact, Guard, Outcome, ResponseHead, Verdict};
use crate::ip_block::{Bans, Order};
use crate::request_path::Ground;
use crate::trail::Rule;
use config::Rules;
use decide::{Authorization, Credentials, Form, may_have_failed};
use metrics::Counts;
use state::{Bound, Failures, InFlight, Place, Subject};

const NAME: &str = "login_watch";
/// How much of a body is read.
const TAP_BYTES: usize = 16 * 1024;
/// What `identity` says of credentials that never were good; one that has expired or was withdrawn is no guess.
const FORGED: [&str; 3] = ["ERR_TOKEN_INVALID", "ERR_CREDENTIALS_INVALID", "ERR_API_KEY_INVALID"];
/// How long a refused guess waits where another one's answer may make room at any moment.
const SOON_NANOS: u64 = 1_000_000_000;

/// The guard.
pub struct LoginWatch {
    rules: PerRoute<Arc<Option<Rules>>>,
    failures: Failures,
    bans: Arc<Bans>,
    in_flight: Arc<InFlight>,
    /// Hides what is compared; two guesses are the same when they hash alike.
    hasher: RandomState,
    next_guess: AtomicU64,
    counts: Counts,
}

/// What is known of a login on its way.
pub(crate) struct Attempt {
    rules: Arc<Option<Rules>>,
    network: Cidr,
    authorization: Authorization,
    /// The hash of the `Authorization` field.
    token: u64,
    has_body: bool,
    form: Form,
    /// Whether the body of the answer decides.
    waits_for_body: bool,
    _place: Option<Place>,
}

/// One place where the config says something, for sharing equal ones.
#[derive(PartialEq, Eq, Hash)]
struct Section {
    config: Option<Config>,
    is_of_route: bool,
}

/// Builds the guard from `ip_block.login_watch` and the part of every route.
///
/// # Errors
/// Every value out of bounds, and every name that is none.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<LoginWatch, Vec<Mistake>> {
    let general = config.ip_block.login_watch.clone();
    let base = general.clone().unwrap_or_default();
    let routes = config.routes.iter().map(|route| {
        let own = route.login_watch.as_ref()?;
        Some(Section { config: Some(own.over(&base)), is_of_route: true })
    });
    let compile = |section: &Section, at: &str| match &section.config {
        None => Ok(None),
        Some(config) if section.is_of_route => config.compile(at, true),
        Some(config) => config.compile("ip_block.login_watch", false),
    };
    let rules = PerRoute::shared(NAME, Section { config: general, is_of_route: false }, routes, compile)?;
    Ok(LoginWatch {
        rules,
        failures: Failures { counters: Arc::clone(&ground.counters), keys: ground.keys.policy(NAME) },
        bans: Arc::clone(&ground.bans),
        in_flight: Arc::default(),
        hasher: RandomState::new(),
        next_guess: AtomicU64::new(0),
        counts: Counts::new(&ground.metrics),
    })
}

impl Guard for LoginWatch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::ClientAddress, Fact::Route]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let shared = Arc::clone(self.rules.of(exchange));
        let (Some(rules), Some(client)) = (&*shared, exchange.client) else { return Verdict::Skip };
        if !takes(rules, exchange) {
            exchange.by_rule(Rule::Fixed("path"));
            return Verdict::Skip;
        }
        let authorization = decide::authorization(&exchange.headers);
        let has_body = exchange.body != Body::Absent;
        if authorization == Authorization::Absent && !has_body {
            exchange.by_rule(Rule::Fixed("no_credentials"));
            return Verdict::Skip;
        }
        if self.bans.is_exempt(client.address) {
            exchange.by_rule(Rule::Fixed("exempt"));
            return Verdict::Skip;
        }
        let network = self.bans.client_network(client.address);
        let token = exchange.headers.get(AUTHORIZATION).map_or(0, |value| self.hasher.hash_one(value.as_bytes()));
        let entered = self.enter(rules, &network, &authorization, token, exchange.touch);
        let bound = Bound { quota: &rules.quota, window: rules.window, epoch: self.bans.epoch(&network) };
        let (left, wait_nanos) = self.failures.left(Subject::Client(&network), &bound, &exchange.now);
        exchange.explain(|_| {
            let used = u64::from(rules.failures).saturating_sub(left);
            format!("{network} has {used} of {} failures within {} s", rules.failures, rules.window.as_secs())
        });
        let different = entered.as_ref().map_or(0, |(_, different)| *different as u64);
        if left == 0 || different > left {
            if exchange.touch == Touch::Take {
                self.counts.refused.inc();
            }
            exchange.by_rule(Rule::Fixed(if left == 0 { "failures" } else { "in_flight" }));
            let wait = if left == 0 { wait_nanos } else { SOON_NANOS };
            return Verdict::Refuse(Refusal::new(Code::LoginRateLimited).retry_after(wait));
        }
        if exchange.touch == Touch::Peek {
            return Verdict::Pass;
        }
        let form = decide::form(&exchange.headers);
        if has_body && form != Form::Unknown {
            exchange.request_tap = Some(Arc::new(Tap::new(TAP_BYTES)));
        }
        if rules.json.is_some() {
            // What is compressed cannot be read on its way.
            exchange.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        exchange.login = Some(Box::new(Attempt {
            rules: Arc::clone(&shared),
            network,
            authorization,
            token,
            has_body,
            form,
            waits_for_body: false,
            _place: entered.map(|(place, _)| place),
        }));
        Verdict::Pass
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        let Some(mut attempt) = exchange.login.take() else { return };
        let Some(rules) = &*attempt.rules else { return };
        // The gateway's own "no" says nothing about the credentials, unless it is about a credential that never was good.
        if let Some((_, code)) = exchange.trail.refused() {
            if FORGED.contains(&code.entry().name) {
                self.failed(exchange, &attempt);
            }
            return;
        }
        if !may_have_failed(rules, head) {
            return;
        }
        if rules.json.is_some() {
            exchange.answer_tap = Some(Arc::new(Tap::new(TAP_BYTES)));
            attempt.waits_for_body = true;
            exchange.login = Some(attempt);
        } else {
            self.failed(exchange, &attempt);
        }
    }

    fn finish(&self, exchange: &Exchange, _outcome: &Outcome) {
        let Some(attempt) = exchange.login.as_ref().filter(|attempt| attempt.waits_for_body) else { return };
        let (Some(rules), Some(tap)) = (&*attempt.rules, &exchange.answer_tap) else { return };
        match decide::has_failed(rules, &tap.seen()) {
            Some(true) => self.failed(exchange, attempt),
            Some(false) => {}
            None => {
                self.counts.unread.inc();
            }
        }
    }
}

/// Whether the paths that are watched include this request's.
fn takes(rules: &Rules, exchange: &Exchange) -> bool {
    let Some(paths) = &rules.paths else { return true };
    let path = exchange.path.as_ref().map_or(exchange.uri.path(), |path| path.matched(&exchange.uri));
    paths.iter().any(|rule| rule.takes(path))
}

impl LoginWatch {
    /// Lets a guess in where guesses are counted: on requests that the operator named. A bearer token is no guess worth it.
    fn enter(
        &self,
        rules: &Rules,
        network: &Cidr,
        authorization: &Authorization,
        token: u64,
        touch: Touch,
    ) -> Option<(Place, usize)> {
        if !rules.is_named || *authorization == Authorization::Bearer || touch == Touch::Peek {
            return None;
        }
        let guess = match authorization {
            // Each body may be another guess.
            Authorization::Absent => self.next_guess.fetch_add(1, Ordering::Relaxed),
            _ => token,
        };
        Some(self.in_flight.enter(self.hasher.hash_one(network), guess))
    }

    /// A failed login, if the request was one at all.
    fn failed(&self, exchange: &Exchange, attempt: &Attempt) {
        let Some(rules) = &*attempt.rules else { return };
        let (network, now) = (&attempt.network, &exchange.now);
        let carried = carried(rules, exchange, attempt);
        if !carried.are_there {
            self.counts.no_credentials.inc();
            return;
        }
        let epoch = self.bans.epoch(network);
        let bound = |quota| Bound { quota, window: rules.window, epoch };
        let is_bearer = attempt.authorization == Authorization::Bearer;
        if is_bearer && !attempt.has_body && self.is_repeated(rules, attempt, epoch, exchange) {
            self.counts.repeated_token.inc();
            return;
        }
        self.counts.failed.inc();
        let mut is_reached = self.failures.take(Subject::Client(network), &bound(&rules.quota), now);
        if let Some(account) = &carried.account {
            is_reached |= self.failures.take(Subject::Account(network, account), &bound(&rules.account_quota), now);
        }
        if is_reached {
            self.ban(exchange, rules, *network, rules.failures.min(rules.account_failures));
        }
        self.count_wider(exchange, rules, network);
    }

    /// Whether this bearer token has failed before within the window.
    fn is_repeated(&self, rules: &Rules, attempt: &Attempt, epoch: u64, exchange: &Exchange) -> bool {
        let Ok(once) = config::quota(1, rules.window) else { return false };
        let bound = Bound { quota: &once, window: rules.window, epoch };
        let subject = Subject::Token(&attempt.network, attempt.token);
        let is_known = self.failures.left(subject, &bound, &exchange.now).0 == 0;
        self.failures.take(subject, &bound, &exchange.now);
        is_known
    }

    /// Who changes its network inside a wider one with every guess is met by the wider one's count.
    fn count_wider(&self, exchange: &Exchange, rules: &Rules, network: &Cidr) {
        let Some((around, networks)) = self.bans.wider(network.address()) else { return };
        let failures = rules.failures.saturating_mul(networks);
        let Ok(quota) = config::quota(failures, rules.window) else { return };
        let bound = Bound { quota: &quota, window: rules.window, epoch: self.bans.epoch(&around) };
        if self.failures.take(Subject::Wider(&around), &bound, &exchange.now) {
            self.ban(exchange, rules, around, failures);
        }
    }

    fn ban(&self, exchange: &Exchange, rules: &Rules, network: Cidr, failures: u32) {
        let route = exchange.route.as_ref().map_or("", |route| &*route.name);
        let seconds = rules.window.as_secs();
        let order = Order {
            network,
            origin: Origin::LoginWatch,
            reason: format!("{failures} failed logins within {seconds} s, the last on route {route}"),
            time: Some(rules.ban),
        };
        // Why it was not placed is counted and logged there; the counters go on refusing meanwhile.
        let _ = self.bans.add(order, &exchange.now);
    }
}

/// What the request carried: in its `Authorization` field, in its body, or both.
fn carried(rules: &Rules, exchange: &Exchange, attempt: &Attempt) -> Credentials {
    let seen: Option<Seen> = exchange.request_tap.as_ref().map(|tap| tap.seen());
    let of_body =
        if attempt.has_body { decide::of_body(rules, attempt.form, seen.as_ref()) } else { Credentials::default() };
    match &attempt.authorization {
        Authorization::Absent => of_body,
        Authorization::Basic(user) => {
            let user = user.clone().filter(|_| rules.account_basic);
            Credentials { are_there: true, account: of_body.account.or(user) }
        }
        Authorization::Bearer | Authorization::Other => Credentials { are_there: true, account: of_body.account },
    }
}
