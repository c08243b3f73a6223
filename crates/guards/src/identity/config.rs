//! What the operator writes about identity, and the checked form of a route's part. Issuers are checked in `jwt/config.rs`.
//!
//! The general part stands in `identity`, a route's own in `routes[].identity`, field by field over it.
//!
//! Invariant: a route accepts only what something here can check; a credential that nobody checks is never asked for.

use portcullis_core::identity::CredentialKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jwt;
use crate::config::{Mistake, RouteConfig};

/// Who may ask, and how they show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether requests without a credential are refused. A credential that is sent must be valid either way.
    /// Default: false.
    pub required: Option<bool>,
    /// Which credentials are looked at: `jwt`, `session`, `api_key`. Others are left to the service. Default: everything that is configured;
    /// an empty list turns identity off.
    pub accept: Option<Vec<Accepted>>,
    /// Whether the service gets the `Authorization` field that was checked here. Default: `keep`.
    pub authorization: Option<Authorization>,
    /// JSON Web Tokens: who issues them, and what they must say.
    pub jwt: Option<jwt::Config>,
}

/// Who may ask here, where it differs from the general rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OfRoute {
    /// Whether requests without a credential are refused. A credential that is sent must be valid either way.
    /// Default: what `identity.required` says.
    pub required: Option<bool>,
    /// Which credentials are looked at: `jwt`, `session`, `api_key`. Others are left to the service. Default: what `identity.accept` says; an
    /// empty list turns identity off here.
    pub accept: Option<Vec<Accepted>>,
    /// Whether the service gets the `Authorization` field that was checked here. Default: what `identity.authorization` says.
    pub authorization: Option<Authorization>,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accepted {
    /// A JSON Web Token in `Authorization: Bearer`.
    Jwt,
    /// A session of the gateway.
    Session,
    /// An API key of the gateway.
    ApiKey,
}

impl Accepted {
    /// The same in the words of the house.
    #[must_use]
    pub fn kind(self) -> CredentialKind {
        match self {
            Accepted::Jwt => CredentialKind::Jwt,
            Accepted::Session => CredentialKind::Session,
            Accepted::ApiKey => CredentialKind::ApiKey,
        }
    }
}

/// What becomes of the `Authorization` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Authorization {
    /// The service gets it.
    Keep,
    /// The service gets only the `X-Portcullis` fields.
    Remove,
}

/// What holds on one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) is_required: bool,
    /// Places in the guard's sources, in their order.
    pub(super) accept: Vec<usize>,
    pub(super) removes_authorization: bool,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config { required: Some(false), accept: None, authorization: Some(Authorization::Keep), jwt: None }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            required: self.required.or(base.required),
            accept: self.accept.clone().or_else(|| base.accept.clone()),
            authorization: self.authorization.or(base.authorization),
            jwt: self.jwt.clone().or_else(|| base.jwt.clone()),
        }
    }

    /// The general rules: those of requests without a route, and what routes fall back to.
    pub(super) fn compile(&self, sources: &[CredentialKind]) -> Result<Rules, Vec<Mistake>> {
        let own = OfRoute { required: self.required, accept: self.accept.clone(), authorization: self.authorization };
        compile(&own, &Config::defaults(), sources, "identity")
    }

    /// The rules of a route.
    pub(super) fn compile_route(
        &self,
        route: &RouteConfig,
        index: usize,
        sources: &[CredentialKind],
    ) -> Result<Rules, Vec<Mistake>> {
        let own = route.identity.clone().unwrap_or_default();
        compile(&own, &self.over(&Config::defaults()), sources, &format!("routes[{index}].identity"))
    }
}

fn compile(own: &OfRoute, base: &Config, sources: &[CredentialKind], at: &str) -> Result<Rules, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    // What a route inherits was told where it stands.
    let is_own = own.accept.is_some();
    let accept = match own.accept.as_ref().or(base.accept.as_ref()) {
        None => (0..sources.len()).collect(),
        Some(list) => {
            let mut places = Vec::new();
            for (index, accepted) in list.iter().enumerate() {
                match sources.iter().position(|kind| *kind == accepted.kind()) {
                    Some(place) if !places.contains(&place) => places.push(place),
                    Some(_) => {}
                    None if is_own => {
                        mistakes.push(Mistake::new(format!("{at}.accept[{index}]"), missing(accepted.kind())));
                    }
                    None => {}
                }
            }
            places.sort_unstable();
            places
        }
    };
    let is_required = own.required.or(base.required).unwrap_or(false);
    if is_required && accept.is_empty() && mistakes.is_empty() && (own.required == Some(true) || is_own) {
        let message = "nobody could ever ask: nothing that shows who is asking is configured or accepted here";
        mistakes.push(Mistake::new(format!("{at}.required"), message));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let authorization = own.authorization.or(base.authorization);
    Ok(Rules { is_required, accept, removes_authorization: authorization == Some(Authorization::Remove) })
}

fn missing(kind: CredentialKind) -> String {
    match kind {
        CredentialKind::Jwt => "`jwt` needs issuers (identity.jwt.issuers)".to_owned(),
        CredentialKind::Session | CredentialKind::ApiKey => format!("`{}` is not available here", kind.name()),
    }
}
