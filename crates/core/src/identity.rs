//! Who is asking: the one answer of a session, a JSON Web Token or an API key, as every guard below reads it.
//!
//! Whoever checks a credential makes an [`Identity`] once and may remember it; requests share it. A person is issuer and
//! user together (ASVS 6.8.1): the same user of two issuers is two people. The fields for the upstream are rendered when
//! it is made, because remembered identities are written into many requests.
//!
//! Invariant: it never holds a credential or a part of one that could be used; every text in it is bounded, and no field
//! holds a byte that could end it or pass for another value.

use std::fmt;

use http::HeaderValue;

/// The longest user, in bytes.
pub const USER_BYTES: usize = 256;
/// The longest tenant, plan, role, scope or public credential id, in bytes.
pub const WORD_BYTES: usize = 128;
/// The longest issuer, in bytes.
pub const ISSUER_BYTES: usize = 512;
/// The longest text of a kept claim, in bytes.
pub const CLAIM_BYTES: usize = 256;
/// Most roles, and most scopes.
pub const MOST_WORDS: usize = 64;
/// Most bytes of all roles together, as `X-Portcullis-Roles` has them.
pub const ROLES_BYTES: usize = 4096;

/// By what somebody showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A JSON Web Token (RFC 7519).
    Jwt,
    /// A session of the gateway.
    Session,
    /// An API key of the gateway.
    ApiKey,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [CredentialKind; 3] = [CredentialKind::Jwt, CredentialKind::Session, CredentialKind::ApiKey];

    /// The word in config, logs, metrics and `X-Portcullis-Auth`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CredentialKind::Jwt => "jwt",
            CredentialKind::Session => "session",
            CredentialKind::ApiKey => "api_key",
        }
    }
}

/// What a checked credential says, before its texts are held against their bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Who, unique within the issuer.
    pub user: String,
    /// Who says so: the `iss` of a token, or the name of the gateway's own accounts.
    pub issuer: String,
    /// For whom the user acts.
    pub tenant: Option<String>,
    /// What the user is called upon to do.
    pub roles: Vec<String>,
    /// What the user pays for.
    pub plan: Option<String>,
    /// What the credential is good for.
    pub scopes: Vec<String>,
    /// Further claims that the config asks for, by name.
    pub others: Vec<(String, String)>,
    /// What names the credential and is no secret: a token's `jti`, a key's prefix, a hash's beginning.
    pub credential: Option<String>,
    /// When the credential ends, in milliseconds since 1970.
    pub expires_unix_millis: Option<u64>,
}

/// A text of a credential that cannot be used: empty or too long, or there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable(pub &'static str);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is empty or out of bounds", self.0)
    }
}

impl std::error::Error for Unusable {}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    kind: CredentialKind,
    claims: Claims,
    fields: Fields,
}

/// What the upstream is told, as `X-Portcullis-User`, `-Tenant`, `-Roles` and `-Auth`. Bytes that are not visible ASCII
/// are percent-encoded, and so are `%` everywhere and `,` in roles, so that a value can be read back exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// `X-Portcullis-User`.
    pub user: HeaderValue,
    /// `X-Portcullis-Tenant`; left out where there is none.
    pub tenant: Option<HeaderValue>,
    /// `X-Portcullis-Roles`, separated by commas; left out where there are none.
    pub roles: Option<HeaderValue>,
    /// `X-Portcullis-Auth`: `jwt;issuer="https://id.example.com/"`.
    pub auth: HeaderValue,
}

impl Identity {
    /// Checks the bounds and renders the fields.
    ///
    /// # Errors
    /// The first text that cannot be used.
    pub fn new(kind: CredentialKind, claims: Claims) -> Result<Identity, Unusable> {
        let word = |name, text: &Option<String>| match text {
            Some(text) => within(name, text, WORD_BYTES),
            None => Ok(()),
        };
        within("user", &claims.user, USER_BYTES)?;
        within("issuer", &claims.issuer, ISSUER_BYTES)?;
        word("tenant", &claims.tenant)?;
        word("plan", &claims.plan)?;
        word("credential", &claims.credential)?;
        for (name, list) in [("roles", &claims.roles), ("scopes", &claims.scopes)] {
            if list.len() > MOST_WORDS {
                return Err(Unusable(name));
            }
            list.iter().try_for_each(|text| within(name, text, WORD_BYTES))?;
        }
        if claims.others.len() > MOST_WORDS {
            return Err(Unusable("claims"));
        }
        claims.others.iter().try_for_each(|(_, text)| within("claims", text, CLAIM_BYTES))?;
        let roles = claims.roles.iter().map(|role| plain(role, b",")).collect::<Vec<_>>().join(",");
        if roles.len() > ROLES_BYTES {
            return Err(Unusable("roles"));
        }
        let fields = Fields {
            user: value(&plain(&claims.user, b"")),
            tenant: claims.tenant.as_ref().map(|tenant| value(&plain(tenant, b""))),
            roles: (!roles.is_empty()).then(|| value(&roles)),
            auth: value(&format!("{};issuer=\"{}\"", kind.name(), plain(&claims.issuer, b"\"\\"))),
        };
        Ok(Identity { kind, claims, fields })
    }

    /// By what it was shown.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// Who, unique within the issuer.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.claims.user
    }

    /// Who says so.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.claims.issuer
    }

    /// For whom the user acts.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.claims.tenant.as_deref()
    }

    /// The roles, in the order of the credential.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.claims.roles
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> Option<&str> {
        self.claims.plan.as_deref()
    }

    /// The scopes, in the order of the credential.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.claims.scopes
    }

    /// The text of a claim that the config asked for.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.others.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// What names the credential, and is no secret.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.claims.credential.as_deref()
    }

    /// When the credential ends, in milliseconds since 1970.
    #[must_use]
    pub fn expires_unix_millis(&self) -> Option<u64> {
        self.claims.expires_unix_millis
    }

    /// What the upstream is told.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Whether two credentials speak of the same person in the same tenant.
    #[must_use]
    pub fn is_same_person(&self, other: &Identity) -> bool {
        (self.issuer(), self.user(), self.tenant()) == (other.issuer(), other.user(), other.tenant())
    }

    /// Roughly how much memory it takes, in bytes.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let claims = &self.claims;
        let texts = claims.roles.iter().chain(&claims.scopes).map(|text| text.len() + size_of::<String>());
        let others = claims.others.iter().map(|(name, text)| name.len() + text.len() + 2 * size_of::<String>());
        // What the fields hold is about as long as what they were made from.
        let named = claims.user.len() + claims.issuer.len() + claims.tenant.as_ref().map_or(0, String::len);
        let fields = named + claims.roles.iter().map(String::len).sum::<usize>();
        let rest = claims.plan.as_ref().map_or(0, String::len) + claims.credential.as_ref().map_or(0, String::len);
        size_of::<Identity>() + named + fields + rest + texts.chain(others).sum::<usize>()
    }
}

fn within(name: &'static str, text: &str, most: usize) -> Result<(), Unusable> {
    if (1..=most).contains(&text.len()) { Ok(()) } else { Err(Unusable(name)) }
}

/// `text` with everything percent-encoded that is not visible ASCII, is `%`, or is one of `also`.
fn plain(text: &str, also: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut plain = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && !also.contains(&byte) {
            plain.push(char::from(byte));
        } else {
            let digits = [byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)]));
            plain.push('%');
            plain.extend(digits);
        }
    }
    plain
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("`plain` leaves visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims { user: "ada".to_owned(), issuer: "https://id.example/".to_owned(), ..Claims::default() }
    }

    #[test]
    fn fields_can_be_read_back_and_never_pass_for_others() {
        let told = Claims {
            user: "Jörg 100%\r\nX-Evil: 1".to_owned(),
            tenant: Some("a,b".to_owned()),
            roles: vec!["editor".to_owned(), "a,admin".to_owned()],
            issuer: "https://id.example/\"x".to_owned(),
            ..Claims::default()
        };
        let identity = Identity::new(CredentialKind::Jwt, told).unwrap();
        let fields = identity.fields();
        assert_eq!(fields.user, "J%C3%B6rg%20100%25%0D%0AX-Evil:%201");
        assert_eq!(fields.tenant.as_ref().unwrap(), "a,b");
        assert_eq!(fields.roles.as_ref().unwrap(), "editor,a%2Cadmin");
        assert_eq!(fields.auth, "jwt;issuer=\"https://id.example/%22x\"");
        let bare = Identity::new(CredentialKind::ApiKey, claims()).unwrap();
        assert_eq!((&bare.fields().tenant, &bare.fields().roles), (&None, &None));
    }

    #[test]
    fn what_is_empty_or_out_of_bounds_is_refused_by_name() {
        let long = |bytes: usize| "x".repeat(bytes);
        let role = |role: String| Claims { roles: vec![role], ..claims() };
        for (wrong, name) in [
            (Claims { user: String::new(), ..claims() }, "user"),
            (Claims { user: long(USER_BYTES + 1), ..claims() }, "user"),
            (Claims { issuer: String::new(), ..claims() }, "issuer"),
            (Claims { tenant: Some(String::new()), ..claims() }, "tenant"),
            (Claims { plan: Some(long(WORD_BYTES + 1)), ..claims() }, "plan"),
            (role(String::new()), "roles"),
            (role(long(WORD_BYTES + 1)), "roles"),
            (Claims { roles: vec![long(1); MOST_WORDS + 1], ..claims() }, "roles"),
            (Claims { roles: vec!["\u{1}".repeat(WORD_BYTES); MOST_WORDS], ..claims() }, "roles"),
            (Claims { scopes: vec![long(1); MOST_WORDS + 1], ..claims() }, "scopes"),
            (Claims { others: vec![("org".to_owned(), long(CLAIM_BYTES + 1))], ..claims() }, "claims"),
            (Claims { credential: Some(long(WORD_BYTES + 1)), ..claims() }, "credential"),
        ] {
            assert_eq!(Identity::new(CredentialKind::Jwt, wrong), Err(Unusable(name)));
        }
        let most = Claims { user: long(USER_BYTES), roles: vec![long(60); MOST_WORDS], ..claims() };
        assert!(Identity::new(CredentialKind::Jwt, most).unwrap().weight_bytes() > USER_BYTES + 60 * MOST_WORDS);
    }

    #[test]
    fn a_person_is_issuer_user_and_tenant_together() {
        let of = |issuer: &str, user: &str, tenant: Option<&str>, kind| {
            let (issuer, user) = (issuer.to_owned(), user.to_owned());
            let claims = Claims { issuer, user, tenant: tenant.map(str::to_owned), ..Claims::default() };
            Identity::new(kind, claims).unwrap()
        };
        let ada = of("a", "ada", Some("t"), CredentialKind::Jwt);
        assert!(ada.is_same_person(&of("a", "ada", Some("t"), CredentialKind::Session)));
        for other in [("b", "ada", Some("t")), ("a", "eve", Some("t")), ("a", "ada", None)] {
            assert!(!ada.is_same_person(&of(other.0, other.1, other.2, CredentialKind::Jwt)), "{other:?}");
        }
    }
}
