//! What the operator writes about security headers, and the rendered form.
//!
//! Invariant: [`Rules`] hold only values that can stand in a header field, and never touch framing or the request id.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, DATE, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY,
    TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decide::{ByConnection, Changes};
use crate::config::Mistake;

mod treatment;
pub use treatment::Treatment;

/// The longest value, in bytes. Clients refuse responses with much larger heads.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// The most names in `remove`.
const REMOVE_MAX: usize = 32;

/// Header fields that browsers act on.
///
/// Each takes a value (set on every answer), `{ when_absent: VALUE }` (set where the upstream sends none), `keep` (left to
/// the upstream) or `off` (removed). The gateway's own answers take the value where one is set for all answers, go
/// without where it is `off`, and else have a fixed strict one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `Strict-Transport-Security`, only sent to clients that speak TLS.
    /// Default: `{ when_absent: "max-age=63072000; includeSubDomains" }`, two years.
    pub strict_transport_security: Option<Treatment>,
    /// Whether a trusted proxy that says `https` is enough for `Strict-Transport-Security`. Default: true.
    pub hsts_behind_proxy: Option<bool>,
    /// `Content-Security-Policy`. The default leaves scripts and styles alone. For an API, set
    /// `default-src 'none'; frame-ancestors 'none'`; for pages without `<base>`, tighten `base-uri` to `'none'`.
    /// Default: `{ when_absent: "object-src 'none'; base-uri 'self'; frame-ancestors 'self'" }`.
    pub content_security_policy: Option<Treatment>,
    /// `Referrer-Policy`. Default: `{ when_absent: strict-origin-when-cross-origin }`.
    pub referrer_policy: Option<Treatment>,
    /// `X-Content-Type-Options`. Default: `nosniff`.
    pub x_content_type_options: Option<Treatment>,
    /// `X-Frame-Options`, for browsers that do not know `frame-ancestors`. Default: `{ when_absent: SAMEORIGIN }`.
    pub x_frame_options: Option<Treatment>,
    /// `X-XSS-Protection`: the filters it steered did more harm than good. Default: `"0"`.
    pub x_xss_protection: Option<Treatment>,
    /// `Cross-Origin-Opener-Policy`. `same-origin` breaks pages that log in through a window of another site.
    /// Default: `keep`.
    pub cross_origin_opener_policy: Option<Treatment>,
    /// `Cross-Origin-Resource-Policy`. `same-origin` breaks pictures and scripts that other sites include. Default: `keep`.
    pub cross_origin_resource_policy: Option<Treatment>,
    /// `Permissions-Policy`: what pages may ask the browser for. Default: `keep`.
    pub permissions_policy: Option<Treatment>,
    /// `Server`, which tells attackers what to try. Default: `off`.
    pub server: Option<Treatment>,
    /// `X-Powered-By`, which tells attackers what to try. Default: `off`.
    pub x_powered_by: Option<Treatment>,
    /// More fields to take away from the upstream's answers, for example `x-aspnet-version`. Default: none. Bounds: at
    /// most 32 names.
    pub remove: Option<Vec<String>>,
}

static CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
static CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
static PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
static X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

/// What the gateway's own answers carry where the operator neither sets nor removes a field: they are data for programs,
/// hold nothing that a page needs, and are never framed.
pub const STRICT: &[(HeaderName, &str)] = &[
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (X_XSS_PROTECTION, "0"),
    (STRICT_TRANSPORT_SECURITY, HSTS),
];

const HSTS: &str = "max-age=63072000; includeSubDomains";

/// The rendered form.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub(super) own: ByConnection,
    pub(super) upstream: ByConnection,
    pub(super) hsts_behind_proxy: bool,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        let when_absent = |value: &str| Some(Treatment::WhenAbsent(value.to_owned()));
        let set = |value: &str| Some(Treatment::Set(value.to_owned()));
        Config {
            strict_transport_security: when_absent(HSTS),
            hsts_behind_proxy: Some(true),
            content_security_policy: when_absent("object-src 'none'; base-uri 'self'; frame-ancestors 'self'"),
            referrer_policy: when_absent("strict-origin-when-cross-origin"),
            x_content_type_options: set("nosniff"),
            x_frame_options: when_absent("SAMEORIGIN"),
            x_xss_protection: set("0"),
            cross_origin_opener_policy: Some(Treatment::Keep),
            cross_origin_resource_policy: Some(Treatment::Keep),
            permissions_policy: Some(Treatment::Keep),
            server: Some(Treatment::Off),
            x_powered_by: Some(Treatment::Off),
            remove: Some(Vec::new()),
        }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        fn pick<T: Clone>(own: &Option<T>, base: &Option<T>) -> Option<T> {
            own.as_ref().or(base.as_ref()).cloned()
        }
        Config {
            strict_transport_security: pick(&self.strict_transport_security, &base.strict_transport_security),
            hsts_behind_proxy: self.hsts_behind_proxy.or(base.hsts_behind_proxy),
            content_security_policy: pick(&self.content_security_policy, &base.content_security_policy),
            referrer_policy: pick(&self.referrer_policy, &base.referrer_policy),
            x_content_type_options: pick(&self.x_content_type_options, &base.x_content_type_options),
            x_frame_options: pick(&self.x_frame_options, &base.x_frame_options),
            x_xss_protection: pick(&self.x_xss_protection, &base.x_xss_protection),
            cross_origin_opener_policy: pick(&self.cross_origin_opener_policy, &base.cross_origin_opener_policy),
            cross_origin_resource_policy: pick(&self.cross_origin_resource_policy, &base.cross_origin_resource_policy),
            permissions_policy: pick(&self.permissions_policy, &base.permissions_policy),
            server: pick(&self.server, &base.server),
            x_powered_by: pick(&self.x_powered_by, &base.x_powered_by),
            remove: pick(&self.remove, &base.remove),
        }
    }

    /// Each field with its config key and how it is treated.
    fn fields(&self) -> [(&'static str, HeaderName, &Option<Treatment>); 11] {
        [
            ("content_security_policy", CONTENT_SECURITY_POLICY, &self.content_security_policy),
            ("referrer_policy", REFERRER_POLICY, &self.referrer_policy),
            ("x_content_type_options", X_CONTENT_TYPE_OPTIONS, &self.x_content_type_options),
            ("x_frame_options", X_FRAME_OPTIONS, &self.x_frame_options),
            ("x_xss_protection", X_XSS_PROTECTION, &self.x_xss_protection),
            ("cross_origin_opener_policy", CROSS_ORIGIN_OPENER_POLICY.clone(), &self.cross_origin_opener_policy),
            ("cross_origin_resource_policy", CROSS_ORIGIN_RESOURCE_POLICY.clone(), &self.cross_origin_resource_policy),
            ("permissions_policy", PERMISSIONS_POLICY.clone(), &self.permissions_policy),
            ("server", SERVER, &self.server),
            ("x_powered_by", X_POWERED_BY.clone(), &self.x_powered_by),
            ("strict_transport_security", STRICT_TRANSPORT_SECURITY, &self.strict_transport_security),
        ]
    }

    /// Checks and renders. `at` is where this config stands; fields that are not written have their default.
    ///
    /// # Errors
    /// Every value that cannot stand in a header field, and every name that cannot be removed.
    pub fn compile(&self, at: &str) -> Result<Rules, Vec<Mistake>> {
        let whole = self.over(&Config::defaults());
        let mut mistakes = Vec::new();
        let mut own = Draft::default();
        let mut upstream = Draft::default();
        for (key, name, treatment) in whole.fields() {
            let treatment = treatment.as_ref().unwrap_or(&Treatment::Keep);
            let value = match treatment {
                Treatment::Set(value) | Treatment::WhenAbsent(value) => match render(value) {
                    Ok(value) => Some(value),
                    Err(reason) => {
                        mistakes.push(Mistake::new(format!("{at}.{key}"), reason));
                        continue;
                    }
                },
                Treatment::Keep | Treatment::Off => None,
            };
            own.add_own(&name, treatment, value.clone());
            upstream.add_upstream(name, treatment, value);
        }
        for (index, name) in whole.remove.iter().flatten().enumerate() {
            match removable(name) {
                Ok(name) if index < REMOVE_MAX => upstream.remove.push(name),
                Ok(_) => mistakes.push(Mistake::new(format!("{at}.remove"), format!("more than {REMOVE_MAX} names"))),
                Err(reason) => mistakes.push(Mistake::new(format!("{at}.remove[{index}]"), reason)),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Rules {
            own: own.render(),
            upstream: upstream.render(),
            hsts_behind_proxy: whole.hsts_behind_proxy.unwrap_or(true),
        })
    }
}

/// Changes while they are put together.
#[derive(Default)]
struct Draft {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    when_absent: Vec<(HeaderName, HeaderValue)>,
}

impl Draft {
    fn add_own(&mut self, name: &HeaderName, treatment: &Treatment, value: Option<HeaderValue>) {
        let strict = STRICT.iter().find(|(strict, _)| strict == name);
        let value = match treatment {
            Treatment::Off => None,
            Treatment::Set(_) => value,
            // The gateway's own words about TLS are those it has for everybody.
            Treatment::WhenAbsent(_) if *name == STRICT_TRANSPORT_SECURITY => value,
            Treatment::WhenAbsent(_) | Treatment::Keep => strict.map(|(_, value)| HeaderValue::from_static(value)),
        };
        if let Some(value) = value {
            self.set.push((name.clone(), value));
        }
    }

    fn add_upstream(&mut self, name: HeaderName, treatment: &Treatment, value: Option<HeaderValue>) {
        match (treatment, value) {
            (Treatment::Off, _) => self.remove.push(name),
            (Treatment::Set(_), Some(value)) => self.set.push((name, value)),
            (Treatment::WhenAbsent(_), Some(value)) => self.when_absent.push((name, value)),
            (Treatment::Keep, _) | (_, None) => {}
        }
    }

    /// On a plain connection `Strict-Transport-Security` is never written (RFC 6797, section 7.2). What an upstream says
    /// there is left alone: it may know of a proxy in front that the gateway was not told of.
    fn render(self) -> ByConnection {
        let without_hsts = |fields: &[(HeaderName, HeaderValue)]| {
            fields.iter().filter(|(name, _)| *name != STRICT_TRANSPORT_SECURITY).cloned().collect()
        };
        ByConnection {
            plain: Changes {
                remove: self.remove.clone().into(),
                set: without_hsts(&self.set),
                when_absent: without_hsts(&self.when_absent),
            },
            secure: Changes { remove: self.remove.into(), set: self.set.into(), when_absent: self.when_absent.into() },
        }
    }
}

fn render(value: &str) -> Result<HeaderValue, String> {
    if value.trim().is_empty() {
        return Err("an empty value: write `off` to remove the field, `keep` to leave it to the upstream".to_owned());
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("{} bytes are too many for a header field: at most {VALUE_BYTES_MAX}", value.len()));
    }
    match HeaderValue::from_str(value.trim()) {
        Ok(value) if value.to_str().is_ok() => Ok(value),
        _ => Err(format!("`{}` has characters that cannot stand in a header field", value.escape_debug())),
    }
}

fn removable(name: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| format!("`{}` is no header field's name", name.escape_debug()))?;
    let is_needed = matches!(name, CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING | DATE) || name == "x-request-id";
    if is_needed { Err(format!("`{name}` frames or names the answer and cannot be removed")) } else { Ok(name) }
}
