//! What the operator writes about failed logins, and the checked form.
//!
//! The general part stands in `ip_block.login_watch`, a route's own in `routes[].login_watch`; what a route leaves out is
//! taken from the general part, and then from the defaults.
//!
//! Invariant: without a section nothing is watched; compiled [`Rules`] always say what a failed login is.

use std::time::Duration as StdDuration;

use http::{HeaderName, HeaderValue};
use portcullis_core::units::Duration;
use portcullis_store::counters::{Algorithm, CompiledQuota, Quota};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Mistake;

/// Fields whose presence makes a request a login.
const CREDENTIALS: [&str; 8] = ["password", "passwd", "pwd", "pass", "passcode", "pin", "otp", "totp"];

/// Watches the answers of the service for failed logins and bans who fails too often. Works in front of a service that knows
/// nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether logins are watched. Default: true where a section is written, here or in general.
    pub enabled: Option<bool>,
    /// Only these paths: `/login`, or `/auth/**` for all below. Compared without regard to case. Default: every path.
    /// Bounds: at most 64.
    pub paths: Option<Vec<String>>,
    /// Which answers of the service are failed logins. Everything written must hold. Default: status 401.
    pub failure: Option<FailureConfig>,
    /// Where the account's name stands in a request, so that failures are counted for address and account together, too.
    /// Default: the user of `Authorization: Basic`.
    pub account: Option<AccountConfig>,
    /// Names of fields in a JSON or form body; a body without any of them is no login, and its failure does not count.
    /// Default: `[password, passwd, pwd, pass, passcode, pin, otp, totp]`. Bounds: 1 to 32.
    pub credentials: Option<Vec<String>>,
    /// Failures from one address, for IPv6 its network, until it is banned. Default: 10. Bounds: 1 to 10000.
    pub failures: Option<u32>,
    /// Failures from one address on one account until the address is banned. Default: as `failures`. Bounds: 1 to 10000.
    pub account_failures: Option<u32>,
    /// In which time. Default: 10m. Bounds: 1s to 24h.
    pub window: Option<Duration>,
    /// How long the first ban lasts; repeats grow by `ip_block.ladder`. Default: 1h. Bounds: 1s to 366d.
    pub ban: Option<Duration>,
}

/// Which answers are failed logins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailureConfig {
    /// The answer has one of these statuses. Default: `[401]` where neither `header` nor `json` is written, else any.
    pub status: Option<Vec<u16>>,
    /// The answer has this header field.
    pub header: Option<HeaderConfig>,
    /// The answer's JSON body has this field. At most 16 KiB of it are read.
    pub json: Option<JsonConfig>,
}

/// A header field of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderConfig {
    /// Its name. Must be given.
    pub name: String,
    /// Its whole value. Default: any.
    pub value: Option<String>,
}

/// A field of an answer's JSON body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JsonConfig {
    /// Where it stands: a name, or a JSON pointer (RFC 6901) as `/error/code`. Must be given.
    pub field: String,
    /// The text of its value: `false`, `42`, `invalid_credentials`. In quotes. Default: any value but `null`.
    pub equals: Option<String>,
}

/// Where the account's name stands in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountConfig {
    /// In a JSON body: a name, or a JSON pointer as `/user/email`. Default: nowhere.
    pub json: Option<String>,
    /// In a form (`application/x-www-form-urlencoded`): the field's name. Default: nowhere.
    pub form: Option<String>,
    /// The user of `Authorization: Basic`. Default: true.
    pub basic: Option<bool>,
}

/// The checked form.
pub(super) struct Rules {
    /// Whether the operator named these requests, by a route or by paths, and did not say "everywhere".
    pub(super) is_named: bool,
    pub(super) paths: Option<Box<[PathRule]>>,
    pub(super) statuses: Box<[u16]>,
    pub(super) header: Option<(HeaderName, Option<HeaderValue>)>,
    pub(super) json: Option<(String, Option<String>)>,
    pub(super) account_json: Option<String>,
    pub(super) account_form: Option<String>,
    pub(super) account_basic: bool,
    pub(super) credentials: Box<[String]>,
    pub(super) quota: CompiledQuota,
    pub(super) account_quota: CompiledQuota,
    pub(super) failures: u32,
    pub(super) account_failures: u32,
    pub(super) window: StdDuration,
    pub(super) ban: StdDuration,
}

/// One of `paths`, in lower case and without a slash at the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathRule {
    path: String,
    is_all_below: bool,
}

impl PathRule {
    fn new(text: &str) -> Result<PathRule, String> {
        let is_all_below = text.ends_with("/**");
        let path = text.strip_suffix("/**").unwrap_or(text).trim_end_matches('/').to_ascii_lowercase();
        if !text.starts_with('/') || path.contains(['*', '?', '#', ';']) {
            return Err(format!("`{text}` is no path: write `/login`, or `/auth/**` for all below"));
        }
        Ok(PathRule { path, is_all_below })
    }

    /// Whether it takes `path`.
    pub(super) fn takes(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/').as_bytes();
        let own = self.path.as_bytes();
        let Some(beginning) = path.get(..own.len()) else { return false };
        let rest = &path[own.len()..];
        beginning.eq_ignore_ascii_case(own) && (rest.is_empty() || (self.is_all_below && rest[0] == b'/'))
    }
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            enabled: Some(true),
            paths: None,
            failure: Some(FailureConfig { status: Some(vec![401]), header: None, json: None }),
            account: Some(AccountConfig { json: None, form: None, basic: Some(true) }),
            credentials: Some(CREDENTIALS.map(str::to_owned).into()),
            failures: Some(10),
            account_failures: None,
            window: Some(StdDuration::from_secs(600).into()),
            ban: Some(StdDuration::from_secs(3600).into()),
        }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            enabled: self.enabled.or(base.enabled),
            paths: self.paths.clone().or_else(|| base.paths.clone()),
            failure: self.failure.clone().or_else(|| base.failure.clone()),
            account: self.account.clone().or_else(|| base.account.clone()),
            credentials: self.credentials.clone().or_else(|| base.credentials.clone()),
            failures: self.failures.or(base.failures),
            account_failures: self.account_failures.or(base.account_failures),
            window: self.window.or(base.window),
            ban: self.ban.or(base.ban),
        }
    }

    /// Checks everything; `None` when logins are not watched. `at` is where this config stands.
    ///
    /// # Errors
    /// Every value out of bounds, and every name that is none.
    pub(super) fn compile(&self, at: &str, is_of_route: bool) -> Result<Option<Rules>, Vec<Mistake>> {
        let whole = self.over(&Config::defaults());
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, message: String| mistakes.push(Mistake::new(format!("{at}.{key}"), message));
        let paths = whole.paths.as_ref().map(|paths| {
            if paths.len() > 64 {
                wrong("paths", format!("has {} paths, at most 64 are possible", paths.len()));
            }
            let compiled = paths.iter().enumerate().filter_map(|(place, path)| {
                PathRule::new(path).map_err(|message| wrong(&format!("paths[{place}]"), message)).ok()
            });
            compiled.collect::<Box<[PathRule]>>()
        });
        let failure = whole.failure.clone().unwrap_or_default();
        let says_more = failure.header.is_some() || failure.json.is_some();
        let statuses = failure.status.unwrap_or_else(|| if says_more { Vec::new() } else { vec![401] });
        for (place, status) in statuses.iter().enumerate() {
            if !(100..=599).contains(status) {
                wrong(&format!("failure.status[{place}]"), format!("{status} is no status: 100 to 599"));
            }
        }
        let header = failure.header.and_then(|HeaderConfig { name, value }| {
            let parsed = name.parse::<HeaderName>();
            let name =
                parsed.map_err(|_| wrong("failure.header.name", format!("`{name}` is no name of a header"))).ok()?;
            let value = value.map(|value| HeaderValue::from_str(&value)).transpose();
            let value = value.map_err(|_| wrong("failure.header.value", "cannot stand in a header".to_owned())).ok()?;
            Some((name, value))
        });
        let mut pointer = |key: &str, field: String| {
            if field.is_empty() {
                wrong(key, "must be a name, or a JSON pointer as `/error/code`".to_owned());
            }
            pointer_of(&field)
        };
        let json = failure.json.map(|json| (pointer("failure.json.field", json.field), json.equals));
        let account = whole.account.clone().unwrap_or_default();
        let account_json = account.json.map(|field| pointer("account.json", field));
        let credentials = whole.credentials.clone().unwrap_or_default();
        if !(1..=32).contains(&credentials.len()) || credentials.iter().any(String::is_empty) {
            wrong("credentials", "must be 1 to 32 names of fields".to_owned());
        }
        let failures = whole.failures.unwrap_or(10);
        let account_failures = whole.account_failures.unwrap_or(failures);
        for (key, value) in [("failures", failures), ("account_failures", account_failures)] {
            if !(1..=10_000).contains(&value) {
                wrong(key, format!("{value} is out of bounds: 1 to 10000"));
            }
        }
        let window = whole.window.map_or(StdDuration::from_secs(600), |window| *window);
        if !(StdDuration::from_secs(1)..=StdDuration::from_secs(86_400)).contains(&window) {
            wrong("window", "must be between 1s and 24h".to_owned());
        }
        let ban = whole.ban.map_or(StdDuration::from_secs(3600), |ban| *ban);
        if !(StdDuration::from_secs(1)..=StdDuration::from_secs(366 * 86_400)).contains(&ban) {
            wrong("ban", "must be between 1s and 366d".to_owned());
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let quota = |failures| quota(failures, window).map_err(|why| vec![Mistake::new(at, why)]);
        Ok((whole.enabled != Some(false)).then_some(Rules {
            is_named: is_of_route || paths.is_some(),
            paths,
            statuses: statuses.into_boxed_slice(),
            header,
            json,
            account_json,
            account_form: account.form,
            account_basic: account.basic.unwrap_or(true),
            credentials: credentials.iter().map(|name| name.to_ascii_lowercase()).collect(),
            quota: quota(failures)?,
            account_quota: quota(account_failures)?,
            failures,
            account_failures,
            window,
            ban,
        }))
    }
}

/// So many failures in a window that begins at fixed moments; the guard counts in four such windows at once.
pub(super) fn quota(failures: u32, window: StdDuration) -> Result<CompiledQuota, String> {
    let period_nanos = portcullis_core::clock::nanos(window);
    let quota = Quota { algorithm: Algorithm::FixedWindow, limit: u64::from(failures), period_nanos, burst: 0 };
    quota.compile().map_err(|error| error.to_string())
}

/// A plain name as a JSON pointer.
fn pointer_of(field: &str) -> String {
    if field.starts_with('/') { field.to_owned() } else { format!("/{}", field.replace('~', "~0").replace('/', "~1")) }
}

/// The text of a JSON value, as `equals` writes it.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
