//! What a request carries: cookies and tokens, where it comes from, and whether another site made the browser send it.
//!
//! Invariant: one reading of each; what could be read in two ways is refused.

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, HOST, ORIGIN, USER_AGENT};
use http::{HeaderMap, HeaderName, Method};
use portcullis_accounts::config::FingerprintOf;
use portcullis_accounts::register::Client;
use portcullis_accounts::token;
use portcullis_core::refusal::{Code, Refusal};
use portcullis_guards::exchange::Exchange;
use portcullis_store::sessions::LONGEST_AGENT_BYTES;

/// The cookie of a session. `__Host-`: this host's alone, over TLS alone, for every path (RFC 6265bis, section 4.1.3.2).
pub(super) const SESSION: &str = "__Host-portcullis";
/// The cookie of a device that has logged in before.
pub(super) const DEVICE: &str = "__Host-portcullis-device";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The value of a cookie.
///
/// # Errors
/// When it is there twice: a subdomain may have tossed one in, and which of them is meant is not known.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"'));
    let value = values.next();
    if values.next().is_some() { Err(Refusal::new(Code::CredentialConflict)) } else { Ok(value) }
}

/// The session's token: of the cookie, or of `Authorization: Bearer`.
///
/// # Errors
/// When there are two that differ.
pub(super) fn session_token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let cookie = cookie(headers, SESSION)?;
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().and_then(|field| field.to_str().ok());
    if fields.next().is_some() {
        return Err(Refusal::new(Code::CredentialConflict));
    }
    let bearer =
        field.and_then(|field| field.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match (cookie, bearer.map(|(_, token)| token.trim())) {
        (Some(cookie), Some(bearer)) if cookie != bearer => Err(Refusal::new(Code::CredentialConflict)),
        (cookie, bearer) => Ok(cookie.or(bearer)),
    }
}

/// Whether another site made the browser send this. `Sec-Fetch-Site` says so in every browser of today; where it is absent,
/// `Origin` must be this host. A request with neither comes from no browser (OWASP, CSRF Prevention Cheat Sheet).
pub(super) fn is_cross_site(exchange: &Exchange) -> bool {
    if matches!(exchange.method, Method::GET | Method::HEAD) {
        return false;
    }
    let headers = &exchange.headers;
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let own = own.or_else(|| exchange.uri.authority().map(http::uri::Authority::as_str));
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    !matches!((own, origin), (Some(own), Some((_, origin))) if own.eq_ignore_ascii_case(origin))
}

/// Where a request comes from.
pub(super) fn client(exchange: &Exchange, of: FingerprintOf) -> Client {
    let network = exchange.client.map_or(exchange.peer.ip(), |client| client.group);
    let field = |name: HeaderName| {
        exchange.headers.get(name).map_or(String::new(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let agent = field(USER_AGENT);
    let print = match of {
        FingerprintOf::Browser => [family(&agent).to_owned(), field(ACCEPT_LANGUAGE), String::new()],
        FingerprintOf::Exact => [agent.clone(), field(ACCEPT_LANGUAGE), field(ACCEPT_ENCODING)],
    };
    Client { network, fingerprint: token::hash(&print.join("\n")), agent: shown(&agent) }
}

/// The kind of a browser, which stays the same when it is updated; for other programs the name before the version.
fn family(agent: &str) -> &str {
    // In this order: Edge and Opera say that they are Chrome, and Chrome says that it is Safari.
    const FAMILIES: [(&str, &str); 8] = [
        ("Edg", "edge"),
        ("OPR/", "opera"),
        ("Firefox/", "firefox"),
        ("FxiOS/", "firefox"),
        ("CriOS/", "chrome"),
        ("Chrome/", "chrome"),
        ("Safari/", "safari"),
        ("MSIE ", "msie"),
    ];
    let known = FAMILIES.iter().find(|(part, _)| agent.contains(part)).map(|(_, name)| *name);
    known.unwrap_or_else(|| agent.split(['/', ' ']).next().unwrap_or_default())
}

/// What is kept of a description for people.
fn shown(agent: &str) -> String {
    let mut kept = String::new();
    for letter in agent.chars().filter(|letter| !letter.is_control()) {
        if kept.len() + letter.len_utf8() > LONGEST_AGENT_BYTES {
            break;
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Uri, Version};
    use portcullis_core::clock::Now;
    use portcullis_guards::exchange::{Arrival, Body, Touch};

    use super::*;

    fn exchange(method: Method, fields: &[(&'static str, &'static str)]) -> Exchange {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let arrival = Arrival {
            method,
            uri: Uri::from_static("/auth/login"),
            version: Version::HTTP_11,
            headers,
            body: Body::Absent,
            peer: "192.0.2.1:5".parse().unwrap(),
            is_secure: false,
        };
        Exchange::new(arrival, Now { monotonic_nanos: 0, unix_millis: 0 }, Touch::Take)
    }

    /// Row 100: one reading of a cookie.
    #[test]
    fn row_100_a_session_cookie_has_one_reading() {
        let read = |fields: &[(&'static str, &'static str)]| {
            session_token(&exchange(Method::GET, fields).headers).map(|token| token.map(str::to_owned)).ok()
        };
        let token = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&[("cookie", "a=b; __Host-portcullis=x; c=d")]), token("x"));
        assert_eq!(read(&[("cookie", "__Host-portcullis-device=y; portcullis=z; __host-portcullis=z")]), Some(None));
        assert_eq!(read(&[("cookie", "__Host-portcullis=x; __Host-portcullis=x")]), None);
        assert_eq!(read(&[("cookie", "__Host-portcullis=x"), ("cookie", "__Host-portcullis=y")]), None);
        assert_eq!(read(&[("authorization", "bearer x")]), token("x"));
        assert_eq!(read(&[("authorization", "Basic x")]), Some(None));
        assert_eq!(read(&[("authorization", "Bearer x"), ("authorization", "Bearer x")]), None);
        assert_eq!(read(&[("authorization", "Bearer x"), ("cookie", "__Host-portcullis=y")]), None);
        assert_eq!(read(&[("authorization", "Bearer x"), ("cookie", "__Host-portcullis=x")]), token("x"));
    }

    #[test]
    fn what_another_site_made_a_browser_send_is_told_from_the_rest() {
        let post = |fields: &[(&'static str, &'static str)]| is_cross_site(&exchange(Method::POST, fields));
        for (fields, expected) in [
            (vec![], false),
            (vec![("sec-fetch-site", "same-origin")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "cross-site")], true),
            (vec![("sec-fetch-site", "same-site")], true),
            (vec![("sec-fetch-site", "whatever")], true),
            (vec![("host", "app.example"), ("origin", "https://app.example")], false),
            (vec![("host", "APP.example:8443"), ("origin", "https://app.example:8443")], false),
            (vec![("host", "app.example"), ("origin", "https://evil.example")], true),
            (vec![("host", "app.example"), ("origin", "https://app.example.evil.example")], true),
            (vec![("host", "app.example"), ("origin", "null")], true),
            (vec![("origin", "https://app.example")], true),
            (vec![("sec-fetch-site", "cross-site"), ("host", "a.b"), ("origin", "https://a.b")], true),
        ] {
            assert_eq!(post(&fields), expected, "{fields:?}");
        }
        assert!(!is_cross_site(&exchange(Method::GET, &[("sec-fetch-site", "cross-site")])));
    }

    /// Rows 97 and 98: one browser, many kinds of requests, and an update.
    #[test]
    fn rows_97_and_98_one_browser_has_one_fingerprint_through_requests_and_updates() {
        const OLD: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        const NEW: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0";
        const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36";
        let of = |of, agent: &'static str, accept: &'static str, encoding: &'static str| {
            let fields =
                [("user-agent", agent), ("accept", accept), ("accept-language", "de"), ("accept-encoding", encoding)];
            client(&exchange(Method::GET, &fields), of).fingerprint
        };
        let (page, image) = ("text/html", "image/avif,image/webp");
        use FingerprintOf::{Browser, Exact};
        assert_eq!(of(Browser, OLD, page, "gzip"), of(Browser, NEW, image, "identity"));
        assert_ne!(of(Browser, OLD, page, "gzip"), of(Browser, CHROME, page, "gzip"));
        assert_eq!(of(Exact, OLD, page, "gzip"), of(Exact, OLD, image, "gzip"));
        assert_ne!(of(Exact, OLD, page, "gzip"), of(Exact, NEW, page, "gzip"));
        assert_eq!(family("curl/8.5.0"), "curl");
        assert_eq!(shown(&"\u{1f98a}".repeat(100)).len(), LONGEST_AGENT_BYTES);
    }
}
