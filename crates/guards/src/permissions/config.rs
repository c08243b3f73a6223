//! What the operator writes about permissions: in general, and what each route asks for.
//!
//! Invariant: a route that asks for permissions has an identity that is required; compiled [`Rules`] name parameters that the
//! route's path has.

use std::time;

use http::HeaderName;
use portcullis_core::clock::nanos;
use portcullis_core::identity::{CredentialKind, Identity};
use portcullis_core::units::Duration;
use portcullis_store::permissions::{Fact, LONGEST_NAME_BYTES, Name, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::config::{Mistake, PathConfig, RouteConfig};
use crate::route::parameters;

const OLDEST: time::Duration = time::Duration::from_secs(300);
/// Roles or permissions that one route asks for.
const MOST_ASKED: usize = 32;

/// How permissions are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How old a remembered decision may be; a change makes it void at once whatever its age. Default: 5m. Bounds: 1s to 5m.
    pub age: Option<Duration>,
    /// Whether roles that a credential carries count beside those granted here. Default: `count`.
    pub carried_roles: Option<Carried>,
    /// Whose users records name plainly: an issuer of tokens, or `accounts` for the gateway's own. Users of others are named
    /// `ISSUER USER`. Needed where there are several; with one, that is meant.
    pub issuer: Option<String>,
}

/// Whether roles that a credential carries count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Carried {
    /// They do.
    Count,
    /// Only roles that were granted here do.
    Ignore,
}

/// What a route asks for. All that is written must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OfRoute {
    /// Roles, of which the user must have at least one. Default: none is asked for. Bounds: at most 32.
    pub roles: Vec<String>,
    /// Permissions, of which the user must have every one. Default: none is asked for. Bounds: at most 32.
    pub permissions: Vec<String>,
    /// The resource that the permissions are asked for on, with parameters of `match.path` (`/documents/{id}`) in it:
    /// `document:{id}`. Entries on it count then. Default: none.
    pub resource: Option<String>,
    /// The tenant as the path names it, as `{tenant}`. Where it is another than the user's, the request is refused.
    /// Default: the path names none.
    pub tenant: Option<String>,
    /// A header field that names the tenant. Where it is sent and names another than the user's, the request is refused.
    /// Default: none.
    pub tenant_header: Option<String>,
}

/// What happens on a route while nobody knows what the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreOutage {
    /// Requests are refused with 503.
    #[default]
    Closed,
    /// Decisions that are remembered hold until they are too old; other requests are refused with 503.
    ReadOnly,
}

/// Whose users are named plainly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    Accounts,
    Issuer(String),
}

/// What holds on every route.
#[derive(Clone, Debug)]
pub(super) struct General {
    pub(super) age_nanos: u64,
    pub(super) carried_count: bool,
    pub(super) plain: Plain,
}

/// What one route asks for.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) roles: Box<[Name]>,
    pub(super) permissions: Box<[Name]>,
    pub(super) resource: Option<Template>,
    pub(super) tenant: Option<Template>,
    pub(super) tenant_header: Option<HeaderName>,
    pub(super) takes_remembered_in_doubt: bool,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config { age: Some(OLDEST.into()), carried_roles: Some(Carried::Count), issuer: None }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            age: self.age.or(base.age),
            carried_roles: self.carried_roles.or(base.carried_roles),
            issuer: self.issuer.clone().or_else(|| base.issuer.clone()),
        }
    }

    /// How old a remembered decision may be, in nanoseconds.
    #[must_use]
    pub fn age_nanos(&self) -> u64 {
        nanos(self.age.map_or(OLDEST, |age| *age))
    }

    /// Checks the bounds. `issuers` are those of tokens; `is_asked`, whether any route asks for permissions.
    pub(super) fn compile(
        &self,
        issuers: &[&str],
        has_accounts: bool,
        is_asked: bool,
    ) -> Result<General, Vec<Mistake>> {
        let own = self.over(&Config::defaults());
        let mut mistakes = Vec::new();
        let age = own.age.map_or(OLDEST, |age| *age);
        if !(time::Duration::from_secs(1)..=OLDEST).contains(&age) {
            mistakes
                .push(Mistake::new("permissions.age", format!("{} is out of bounds: 1s to 5m", Duration::from(age))));
        }
        let plain = match (own.issuer.as_deref(), issuers) {
            (Some("accounts"), _) | (None, []) => Plain::Accounts,
            (Some(named), _) => {
                if !issuers.contains(&named) {
                    let message = format!("`{named}` is no issuer in identity.jwt.issuers; write one, or `accounts`");
                    mistakes.push(Mistake::new("permissions.issuer", message));
                }
                Plain::Issuer(named.to_owned())
            }
            (None, [only]) if !has_accounts => Plain::Issuer((*only).to_owned()),
            (None, _) => {
                if is_asked {
                    let message = "needed, because there are several: whose users do plain names mean? Write an issuer, or `accounts`";
                    mistakes.push(Mistake::new("permissions.issuer", message));
                }
                Plain::Accounts
            }
        };
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(General { age_nanos: own.age_nanos(), carried_count: own.carried_roles != Some(Carried::Ignore), plain })
    }
}

impl OfRoute {
    /// Checks what the route at `index` asks for.
    pub(super) fn compile(
        &self,
        config: &PathConfig,
        route: &RouteConfig,
        index: usize,
    ) -> Result<Rules, Vec<Mistake>> {
        let at = |key: &str| format!("routes[{index}].permissions{key}");
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, message: String| mistakes.push(Mistake::new(at(key), message));
        if !is_identity_required(config, route) {
            wrong(
                "",
                "a route that asks for permissions must know who is asking: set identity.required to true".to_owned(),
            );
        }
        if self.permissions.is_empty() && self.resource.is_some() {
            wrong(".resource", "permissions are asked for on a resource, and none are written".to_owned());
        }
        for (key, names) in [("roles", &self.roles), ("permissions", &self.permissions)] {
            if names.len() > MOST_ASKED {
                wrong(&format!(".{key}"), format!("{} are asked for, at most {MOST_ASKED} are possible", names.len()));
            }
            for (place, name) in names.iter().enumerate() {
                let fact = Fact::Role { role: Name::from(name.as_str()) };
                if name.contains('*') {
                    wrong(
                        &format!(".{key}[{place}]"),
                        "`*` stands in what is granted, not in what is asked for".to_owned(),
                    );
                } else if let Err(error) = (Record { tenant: "".into(), fact }).check() {
                    wrong(&format!(".{key}[{place}]"), error.to_string());
                }
            }
        }
        let parameters = parameters(route.matches.path.as_deref().unwrap_or_default());
        let mut template = |key: &str, text: &Option<String>| {
            let parsed = text.as_ref().map(|text| Template::parse(text, &parameters)).transpose();
            parsed.unwrap_or_else(|message| {
                wrong(key, message);
                None
            })
        };
        let (resource, tenant) = (template(".resource", &self.resource), template(".tenant", &self.tenant));
        let tenant_header = self.tenant_header.as_ref().map(|name| name.parse::<HeaderName>()).transpose();
        let tenant_header = tenant_header.unwrap_or_else(|_| {
            wrong(".tenant_header", "it is not the name of a header field".to_owned());
            None
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let names = |names: &[String]| names.iter().map(|name| Name::from(name.as_str())).collect();
        let outage = route.on_outage.as_ref().and_then(|outage| outage.store).unwrap_or_default();
        Ok(Rules {
            roles: names(&self.roles),
            permissions: names(&self.permissions),
            resource,
            tenant,
            tenant_header,
            takes_remembered_in_doubt: outage == StoreOutage::ReadOnly,
        })
    }
}

/// Whether every request on the route shows who is asking.
fn is_identity_required(config: &PathConfig, route: &RouteConfig) -> bool {
    let own = route.identity.clone().unwrap_or_default();
    let accept = own.accept.as_ref().or(config.identity.accept.as_ref());
    own.required.or(config.identity.required) == Some(true) && accept.is_none_or(|accept| !accept.is_empty())
}

impl Plain {
    /// The name by which records know this user, where it is not the user's own.
    pub(super) fn other_name(&self, identity: &Identity) -> Option<String> {
        let is_plain = match self {
            Plain::Accounts => identity.kind() != CredentialKind::Jwt,
            Plain::Issuer(issuer) => identity.kind() == CredentialKind::Jwt && identity.issuer() == issuer,
        };
        // A plain name never holds a space, and an issuer does not either, so what stands before the first is an issuer.
        let is_plain = is_plain && !identity.user().contains(' ');
        let issuer = || identity.issuer().replace(' ', "%20");
        (!is_plain).then(|| format!("{} {}", issuer(), identity.user()))
    }
}

// The longest name that is asked for is one that can be granted.
const _: () = assert!(LONGEST_NAME_BYTES >= portcullis_core::identity::WORD_BYTES);
