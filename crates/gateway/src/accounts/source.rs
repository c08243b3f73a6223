//! Sessions and API keys as the identity guard asks for them: answered from memory, on the way of every request.
//!
//! Invariant: nothing is waited for, and a dry run uses nothing.

use std::sync::Arc;

use portcullis_accounts::config::FingerprintOf;
use portcullis_accounts::register::{Owner, Refused, Register};
use portcullis_accounts::token::Kind;
use portcullis_core::identity::{Claims, CredentialKind, Identity};
use portcullis_core::refusal::Code;
use portcullis_guards::exchange::{Exchange, Touch};
use portcullis_guards::identity::{Found, Source};

use super::client;

/// Who says who somebody is, where it is the gateway itself.
const ISSUER: &str = "portcullis";
const API_KEY: http::HeaderName = http::HeaderName::from_static("x-api-key");

/// Sessions.
pub(super) struct Sessions {
    pub(super) register: Arc<Register>,
    pub(super) headers: FingerprintOf,
}

/// API keys.
pub(super) struct ApiKeys {
    pub(super) register: Arc<Register>,
}

impl Source for Sessions {
    fn kind(&self) -> CredentialKind {
        CredentialKind::Session
    }

    fn takes_bearer(&self, text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| Kind::Session.is_of(text))
    }

    fn look(&self, exchange: &Exchange, bearer: Option<&str>) -> Found {
        let cookie = match client::cookie(&exchange.headers, client::SESSION) {
            Ok(cookie) => cookie,
            Err(_) => return Found::Refused(Code::CredentialConflict, "several"),
        };
        let token = match (cookie, bearer) {
            (Some(cookie), Some(bearer)) if cookie != bearer => {
                return Found::Refused(Code::CredentialConflict, "cookie_and_field");
            }
            (cookie, bearer) => cookie.or(bearer),
        };
        let Some(token) = token else { return Found::Absent };
        let client = client::client(exchange, self.headers);
        let found = match exchange.touch {
            Touch::Take => self.register.session(token, &client, &exchange.now),
            Touch::Peek => self.register.peek_session(token, &exchange.now),
        };
        match found {
            Ok(session) => {
                let expires = Some(session.record.until_unix_millis);
                known(CredentialKind::Session, &session.owner, &[], session.short_id(), expires)
            }
            Err(Refused::Unknown | Refused::Over) => Found::Refused(Code::SessionExpired, "over"),
            Err(Refused::Elsewhere) => Found::Refused(Code::SessionMismatch, "elsewhere"),
        }
    }
}

impl Source for ApiKeys {
    fn kind(&self) -> CredentialKind {
        CredentialKind::ApiKey
    }

    fn takes_bearer(&self, text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| Kind::ApiKey.is_of(text))
    }

    fn look(&self, exchange: &Exchange, bearer: Option<&str>) -> Found {
        let mut fields = exchange.headers.get_all(API_KEY).iter();
        let field = match (fields.next(), fields.next()) {
            (None, _) => None,
            // A key of somebody else's, for the service, is none of ours.
            (Some(field), None) => field.to_str().ok().filter(|text| text.starts_with(Kind::ApiKey.prefix())),
            (Some(_), Some(_)) => return Found::Refused(Code::CredentialConflict, "several"),
        };
        let text = match (field, bearer) {
            (Some(field), Some(bearer)) if field != bearer => {
                return Found::Refused(Code::CredentialConflict, "two_fields");
            }
            (field, bearer) => field.or(bearer),
        };
        let Some(text) = text else { return Found::Absent };
        let found = match exchange.touch {
            Touch::Take => self.register.key(text, &exchange.now),
            Touch::Peek => self.register.peek_key(text, &exchange.now),
        };
        match found {
            Ok(key) => {
                let record = &key.record;
                let expires = record.until_unix_millis;
                known(CredentialKind::ApiKey, &key.owner, &record.scopes, record.id.clone(), expires)
            }
            Err(_) => Found::Refused(Code::ApiKeyInvalid, "unknown"),
        }
    }
}

fn known(
    kind: CredentialKind,
    owner: &Owner,
    scopes: &[String],
    credential: String,
    expires_unix_millis: Option<u64>,
) -> Found {
    let account = owner.now();
    let claims = Claims {
        user: account.name.clone(),
        issuer: ISSUER.to_owned(),
        tenant: Some(account.tenant.clone()).filter(|tenant| !tenant.is_empty()),
        roles: account.roles.clone(),
        scopes: scopes.to_vec(),
        credential: Some(credential),
        expires_unix_millis,
        ..Claims::default()
    };
    match Identity::new(kind, claims) {
        Ok(identity) => Found::Known(Arc::new(identity)),
        // An account's texts are shorter than an identity's may be.
        Err(_) => Found::Refused(Code::CredentialsInvalid, "texts"),
    }
}
