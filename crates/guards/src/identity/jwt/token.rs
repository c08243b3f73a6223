//! The outside of a token: three parts of base64url, and a header that may say which key, never how it is checked.
//!
//! Only the compact form of a signed token is read (RFC 7515, section 7.1). An encrypted one, one whose header must be
//! understood further (`crit`, `b64`), and everything that is encoded in a second way is refused. `jku`, `x5u`, `jwk` and
//! `x5c` are never looked at.
//!
//! Invariant: no algorithm is taken from a token, it is only compared; reading costs time linear in a bounded length.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::config::{Algorithm, Rules};
use super::json;

/// The longest token, in bytes.
pub(crate) const TOKEN_BYTES: usize = 8 * 1024;
/// The longest `kid`, in bytes.
const KID_BYTES: usize = 256;

/// A token that was taken apart and not yet believed.
pub(super) struct Token<'a> {
    /// What is signed.
    pub(super) message: &'a str,
    /// The signature, as it was encoded.
    pub(super) signature: &'a str,
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// `typ` as it is compared.
    pub(super) type_name: Option<String>,
    /// The claims.
    pub(super) claims: Map<String, Value>,
}

/// `typ` as it is compared: in lower case, and without `application/` (RFC 7515, section 4.1.9).
pub(super) fn type_of(written: &str) -> String {
    let lower = written.to_ascii_lowercase();
    lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
}

/// Takes a token apart.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn parse(text: &str) -> Result<Token<'_>, &'static str> {
    if text.len() > TOKEN_BYTES {
        return Err("too_long");
    }
    let (message, signature) = text.rsplit_once('.').ok_or("form")?;
    let (header, payload) = message.split_once('.').ok_or("form")?;
    if payload.contains('.') || signature.is_empty() {
        return Err("form");
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "encoding");
    // The verifier decodes it once more; here only its form counts.
    decode(signature)?;
    let header = json::object(&decode(header)?).ok_or("header")?;
    for name in ["crit", "b64", "enc", "zip"] {
        if header.contains_key(name) {
            return Err(if name == "enc" { "encrypted" } else { "critical" });
        }
    }
    let named = header.get("alg").and_then(Value::as_str).ok_or("algorithm")?;
    let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == named).ok_or("algorithm")?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=KID_BYTES).contains(&kid.len()) => Some(kid.clone()),
        Some(_) => return Err("kid"),
    };
    let type_name = match header.get("typ") {
        None => None,
        Some(Value::String(name)) => Some(type_of(name)),
        Some(_) => return Err("type"),
    };
    let claims = json::object(&decode(payload)?).ok_or("payload")?;
    Ok(Token { message, signature, algorithm, kid, type_name, claims })
}

impl Token<'_> {
    /// The `iss` that it claims.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Whether its header is one that this issuer writes.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn suits(&self, rules: &Rules) -> Result<(), &'static str> {
        if !rules.algorithms.contains(&self.algorithm) {
            return Err("algorithm");
        }
        let is_wanted = match (&rules.types, &self.type_name) {
            (None, None) => true,
            (None, Some(name)) => matches!(name.as_str(), "jwt" | "at+jwt"),
            (Some(_), None) => false,
            (Some(types), Some(name)) => types.contains(name),
        };
        if is_wanted { Ok(()) } else { Err("type") }
    }
}
