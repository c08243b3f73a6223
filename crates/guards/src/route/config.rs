//! What the operator writes under `match` of a route. `compile.rs` checks it.
//!
//! Invariant: what is not written has the value of [`Config::defaults`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::method::Methods;

/// What a route takes. All that is written must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host: a name (`app.example.com`), all names below one (`*.example.com`), an address, or `*` for any, also
    /// none. Compared without case, port and trailing dot. Default: `*`.
    pub host: Option<String>,
    /// The path: begins with `/`; `*` stands for one segment, `{name}` for one that `permissions` can name, `**` at the end
    /// for everything below and for the path itself, so `/api/**` takes `/api` and `/api/x`, never `/apiadmin`. A trailing slash makes no difference.
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
