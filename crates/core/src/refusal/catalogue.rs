//! The catalogue itself: one row a code. Numbers and names are part of the interface and are never reused.
//!
//! A row whose last column is empty is reserved: its number is promised to a guard that is not built yet, and nothing
//! may say it. The test run checks both: what is said is reached by a test, what is reserved is said nowhere.
//!
//! Invariant: statuses stay within the category's set (CONVENTIONS, "Errors").

use super::{Entry, LogLevel, Severity};

macro_rules! catalogue {
    ($($code:ident = $number:literal $name:literal $status:literal $severity:ident $level:ident $said_by:literal $message:literal;)*) => {
        /// Every "no" that a client can hear.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`, ", stringify!($status), ": ", $message)] $code,)*
        }

        /// All rows, in the order of [`Code`].
        pub const CATALOGUE: &[Entry] = &[
            $(Entry {
                code: Code::$code,
                number: $number,
                name: $name,
                status: $status,
                severity: Severity::$severity,
                message: $message,
                level: LogLevel::$level,
                said_by: $said_by,
            },)*
        ];
    };
}

catalogue! {
    // 1xxx authentication and what a caller may not do: 401, 403, 429
    Unauthenticated = 1001 "ERR_UNAUTHENTICATED" 401 Low Info "identity" "Authentication is required.";
    TokenInvalid = 1002 "ERR_TOKEN_INVALID" 401 Medium Info "identity" "The access token is not valid.";
    TokenExpired = 1003 "ERR_TOKEN_EXPIRED" 401 Low Info "identity" "The access token has expired.";
    TokenRevoked = 1004 "ERR_TOKEN_REVOKED" 401 Medium Warn "identity" "The access token has been revoked.";
    CredentialsInvalid = 1005 "ERR_CREDENTIALS_INVALID" 401 Medium Info "accounts" "The credentials are not valid.";
    SessionExpired = 1006 "ERR_SESSION_EXPIRED" 401 Low Info "accounts" "The session has ended. Log in again.";
    SessionMismatch = 1007 "ERR_SESSION_MISMATCH" 401 High Warn "accounts" "The session does not belong to this client.";
    ApiKeyInvalid = 1008 "ERR_API_KEY_INVALID" 401 Medium Info "accounts" "The API key is not valid.";
    SecondFactorRequired = 1009 "ERR_SECOND_FACTOR_REQUIRED" 401 Low Info "accounts" "A second factor is required.";
    SignatureInvalid = 1010 "ERR_SIGNATURE_INVALID" 401 High Warn "" "The signature is not valid.";
    Forbidden = 1101 "ERR_FORBIDDEN" 403 Medium Info "permissions, admin" "You may not do this.";
    AddressBlocked = 1102 "ERR_ADDRESS_BLOCKED" 403 High Warn "ip_block" "Requests from this address are blocked.";
    AccountLocked = 1103 "ERR_ACCOUNT_LOCKED" 403 High Warn "" "The account is locked for a while.";
    TenantMismatch = 1104 "ERR_TENANT_MISMATCH" 403 High Warn "permissions" "The request names another tenant.";
    CrossSiteRequest = 1105 "ERR_CROSS_SITE_REQUEST" 403 High Warn "accounts" "The request came from another site.";
    RateLimited = 1201 "ERR_RATE_LIMITED" 429 Low Info "rate_limit" "Too many requests. Try again later.";
    LoginRateLimited = 1202 "ERR_LOGIN_RATE_LIMITED" 429 Medium Warn "login_watch" "Too many attempts. Try again later.";

    // 2xxx what arrived is not acceptable as it is: 400, 408, 413, 414, 415, 417, 431
    MalformedRequest = 2001 "ERR_MALFORMED_REQUEST" 400 Low Info "listen" "The request is not valid HTTP.";
    AmbiguousFraming = 2002 "ERR_AMBIGUOUS_FRAMING" 400 High Warn "limits" "The length of the request body is ambiguous.";
    InvalidPath = 2003 "ERR_INVALID_PATH" 400 Medium Info "route" "The request path is not valid.";
    InvalidHost = 2004 "ERR_INVALID_HOST" 400 Medium Info "route" "The Host of the request is missing or not valid.";
    BodyMalformed = 2006 "ERR_BODY_MALFORMED" 400 Medium Info "proxy" "The request body is broken or ended early.";
    CredentialConflict = 2007 "ERR_CREDENTIAL_CONFLICT" 400 Medium Warn "identity" "The request carries credentials that disagree.";
    InvalidValue = 2008 "ERR_INVALID_VALUE" 400 Low Info "admin" "A value in the request is missing or not valid.";
    HeaderTimeout = 2101 "ERR_HEADER_TIMEOUT" 408 Low Info "listen" "The request head did not arrive in time.";
    BodyTimeout = 2102 "ERR_BODY_TIMEOUT" 408 Low Info "proxy" "The request body did not arrive in time.";
    BodyTooLarge = 2201 "ERR_BODY_TOO_LARGE" 413 Low Info "limits" "The request body is too large.";
    UriTooLong = 2202 "ERR_URI_TOO_LONG" 414 Low Info "limits" "The request target is too long.";
    HeadersTooLarge = 2203 "ERR_HEADERS_TOO_LARGE" 431 Low Info "limits" "The request headers are too large.";
    TooManyHeaders = 2204 "ERR_TOO_MANY_HEADERS" 431 Low Info "limits" "The request has too many headers.";
    UnsupportedMediaType = 2301 "ERR_UNSUPPORTED_MEDIA_TYPE" 415 Low Info "limits" "This content type is not accepted here.";
    ExpectationFailed = 2302 "ERR_EXPECTATION_FAILED" 417 Low Info "limits" "The expectation cannot be met.";

    // 3xxx the thing asked for: 404, 405, 409, 410
    RouteNotFound = 3001 "ERR_ROUTE_NOT_FOUND" 404 Low Info "route" "There is nothing here.";
    ResourceNotFound = 3002 "ERR_RESOURCE_NOT_FOUND" 404 Low Info "admin" "The resource does not exist.";
    MethodNotAllowed = 3101 "ERR_METHOD_NOT_ALLOWED" 405 Low Info "route" "This method is not allowed here.";
    Conflict = 3201 "ERR_CONFLICT" 409 Low Info "admin" "The resource was changed by someone else, or exists already.";
    Gone = 3301 "ERR_GONE" 410 Low Info "" "The resource is gone for good.";

    // 4xxx business rules: 422
    RuleViolated = 4001 "ERR_RULE_VIOLATED" 422 Low Info "accounts" "The request breaks a rule of this service.";
    PasswordRefused = 4002 "ERR_PASSWORD_REFUSED" 422 Low Info "accounts" "The password does not meet the policy.";
    LastAdministrator = 4003 "ERR_LAST_ADMINISTRATOR" 422 Medium Warn "" "The last administrator cannot be removed.";

    // 5xxx what we depend on: 502, 503
    UpstreamUnreachable = 5001 "ERR_UPSTREAM_UNREACHABLE" 502 High Error "proxy" "The service cannot be reached.";
    UpstreamUnresolved = 5002 "ERR_UPSTREAM_UNRESOLVED" 502 High Error "proxy" "The service cannot be found.";
    UpstreamClosed = 5003 "ERR_UPSTREAM_CLOSED" 502 High Error "proxy" "The service closed the connection before it answered.";
    UpstreamMalformed = 5004 "ERR_UPSTREAM_MALFORMED" 502 High Error "proxy" "The service gave an answer that is not valid.";
    UpstreamHeadTooLarge = 5005 "ERR_UPSTREAM_HEAD_TOO_LARGE" 502 High Error "proxy" "The service gave an answer with too large headers.";
    UpstreamUntrusted = 5006 "ERR_UPSTREAM_UNTRUSTED" 502 Critical Error "proxy" "The service could not prove who it is.";
    StoreUnavailable = 5101 "ERR_STORE_UNAVAILABLE" 503 Critical Error "permissions, admin" "A part that this request needs is not available.";
    SharedStateUnavailable = 5102 "ERR_SHARED_STATE_UNAVAILABLE" 503 Critical Error "" "A part that this request needs is not available.";
    KeysUnavailable = 5103 "ERR_KEYS_UNAVAILABLE" 503 High Error "identity" "A part that this request needs is not available.";
    ReadOnly = 5104 "ERR_READ_ONLY" 503 High Warn "read_only" "Only reading is possible at the moment.";
    Overloaded = 5105 "ERR_OVERLOADED" 503 High Warn "proxy" "The service has too much to do at the moment.";

    // 6xxx circuit breaker and time: 503, 504
    CircuitOpen = 6001 "ERR_CIRCUIT_OPEN" 503 High Warn "breaker" "The service is failing and is left alone for a while.";
    UpstreamTimeout = 6101 "ERR_UPSTREAM_TIMEOUT" 504 High Error "proxy" "The service did not answer in time.";
    UpstreamConnectTimeout = 6102 "ERR_UPSTREAM_CONNECT_TIMEOUT" 504 High Error "proxy" "The service could not be reached in time.";
    DeadlineExceeded = 6103 "ERR_DEADLINE_EXCEEDED" 504 High Error "proxy" "The request took longer than it may.";

    // 9xxx our own trouble: 500, 501
    Internal = 9001 "ERR_INTERNAL" 500 Critical Error "listen" "Something went wrong on our side.";
    NotImplemented = 9002 "ERR_NOT_IMPLEMENTED" 501 Low Info "limits" "This way of sending a request is not supported.";
}

impl Code {
    /// Its row.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_the_order_of_the_enum_and_names_are_unique() {
        let mut names = std::collections::HashSet::new();
        let mut numbers = std::collections::HashSet::new();
        for (index, entry) in CATALOGUE.iter().enumerate() {
            assert_eq!(entry.code as usize, index);
            assert!(names.insert(entry.name), "{} twice", entry.name);
            assert!(numbers.insert(entry.number), "{} twice", entry.number);
            assert!(entry.name.starts_with("ERR_") && entry.message.ends_with('.'), "{}", entry.name);
        }
        assert!(CATALOGUE.len() >= 40, "{} codes", CATALOGUE.len());
    }

    #[test]
    fn each_status_belongs_to_its_category() {
        for entry in CATALOGUE {
            let allowed: &[u16] = match entry.number / 1000 {
                1 => &[401, 403, 429],
                2 => &[400, 408, 413, 414, 415, 417, 431],
                3 => &[404, 405, 409, 410],
                4 => &[422],
                5 => &[502, 503],
                6 => &[503, 504],
                9 => &[500, 501],
                other => panic!("category {other}"),
            };
            assert!(allowed.contains(&entry.status), "{} has {}", entry.name, entry.status);
        }
    }
}
