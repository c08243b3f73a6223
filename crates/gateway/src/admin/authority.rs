//! Who is asking over the admin listener, and whether they may: the name they reached it by, their token, its scopes.
//!
//! Invariant: which token nearly matched cannot be told from the time an answer takes; a token is never kept or logged.

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Uri};
use portcullis_core::clock::Now;
use portcullis_core::refusal::{Code, Refusal};
use subtle::ConstantTimeEq;

use crate::config::admin::{AdminConfig, Token};

/// No token that was made here is longer.
const LONGEST_TOKEN_BYTES: usize = 256;

/// All tokens, and the names that the listener goes by.
pub(super) struct Authority {
    tokens: Vec<Token>,
    hosts: Vec<String>,
}

impl Authority {
    pub(super) fn new(tokens: Vec<Token>, config: &AdminConfig) -> Authority {
        let own = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        let address = match config.address {
            std::net::SocketAddr::V4(address) => address.ip().to_string(),
            std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let named = config.hosts.iter().map(|host| host.to_ascii_lowercase());
        Authority { tokens, hosts: own.into_iter().chain([address]).chain(named).collect() }
    }

    /// Whether it was reached by a name of its own. A web page that has its name lead to this machine sends that name.
    pub(super) fn is_own_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let named = uri.authority().map(|authority| authority.as_str());
        let sent = headers.get(HOST).and_then(|host| host.to_str().ok());
        // Where both are there, the route guard has seen to it that they say the same.
        named.or(sent).is_some_and(|host| {
            let name = host.rsplit_once(':').map_or(host, |(name, port)| {
                if port.bytes().all(|digit| digit.is_ascii_digit()) { name } else { host }
            });
            self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
        })
    }

    /// The token that the request carries.
    pub(super) fn token(&self, headers: &HeaderMap, now: &Now) -> Result<&Token, Refusal> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let token = match (fields.next(), fields.next()) {
            (Some(field), None) => bearer(field).ok_or_else(|| Refusal::new(Code::TokenInvalid))?,
            (None, _) => return Err(Refusal::new(Code::Unauthenticated)),
            (Some(_), Some(_)) => return Err(Refusal::new(Code::TokenInvalid)),
        };
        let hash = digest(&SHA256, token);
        let mut found = None;
        for known in &self.tokens {
            // All are looked at, so that the place of a match does not show.
            if bool::from(known.sha256.as_slice().ct_eq(hash.as_ref())) {
                found = Some(known);
            }
        }
        let found = found.ok_or_else(|| Refusal::new(Code::TokenInvalid))?;
        match found.expires_unix_millis {
            Some(ends) if now.unix_millis >= ends => Err(Refusal::new(Code::TokenExpired)),
            _ => Ok(found),
        }
    }
}

/// RFC 6750, section 2.1.
fn bearer(field: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = field.as_bytes().split_at_checked(7)?;
    let is_token = !token.is_empty() && token.len() <= LONGEST_TOKEN_BYTES && token.iter().all(u8::is_ascii_graphic);
    (scheme.eq_ignore_ascii_case(b"bearer ") && is_token).then_some(token)
}
