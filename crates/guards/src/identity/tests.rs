//! Identity through the runner: what guards below, the service and the client get to see.

mod path;

use http::StatusCode;
use portcullis_core::metric::Registry;
use proptest::prelude::*;
use serde_json::json;

use super::jwt::tests::{self as minted, NOW, claims, issuer, mint, with};
use super::*;
use crate::config::RouteConfig;
use crate::exchange::Exchange;
use crate::path::{Descent, Path};
use crate::rehearsal::{self, Ask, get, values};
use crate::request_path::request_path;

/// The whole path with one route at `/`, on which this holds.
fn path_of(own: OfRoute) -> (Path, Ground) {
    let (ground, _) = rehearsal::ground();
    let jwt = jwt::Config { issuers: vec![issuer()], memory: None };
    let mut route = RouteConfig { name: "api".to_owned(), identity: Some(own), ..RouteConfig::default() };
    route.matches.path = Some("/**".to_owned());
    let config = PathConfig {
        identity: Config { jwt: Some(jwt), ..Config::default() },
        routes: vec![route],
        ..PathConfig::default()
    };
    let path = request_path(&config, &ground).unwrap();
    path.begins();
    (path, ground)
}

fn required() -> OfRoute {
    OfRoute { required: Some(true), ..OfRoute::default() }
}

/// Takes a request down; the exchange, and the answer where it was refused.
fn run(path: &Path, ask: Ask) -> (Exchange, Option<ResponseHead>) {
    let mut exchange = ask.with("host", "service").begin();
    match path.descend(&mut exchange) {
        Descent::Through => (exchange, None),
        Descent::Refused(refusal) => {
            let (head, _) = path.refuse(&mut exchange, "", refusal);
            (exchange, Some(head))
        }
        Descent::Waiting(_) => panic!("nothing waits here"),
    }
}

fn good() -> String {
    let mut told = with("roles", json!(["editor", "viewer"]));
    told["tenant"] = json!("acme");
    format!("Bearer {}", mint(&told, jwt::Algorithm::ES256))
}

#[test]
fn a_good_token_gives_an_identity_and_tells_the_service() {
    let (path, ground) = path_of(required());
    let forged = [("x-portcullis-user", "root"), ("x_portcullis_roles", "admin"), ("X-Portcullis.Auth", "jwt")];
    let ask = forged.into_iter().fold(get("/x"), |ask, (name, value)| ask.with(name, value));
    let (exchange, refused) = run(&path, ask.with("authorization", good()));
    assert!(refused.is_none());
    let identity = exchange.identity.as_ref().unwrap();
    assert_eq!((identity.kind(), identity.user(), identity.tenant()), (CredentialKind::Jwt, "ada", Some("acme")));
    for (name, value) in [
        ("x-portcullis-user", "ada"),
        ("x-portcullis-tenant", "acme"),
        ("x-portcullis-roles", "editor,viewer"),
        ("x-portcullis-auth", "jwt;issuer=\"https://id.example/\""),
    ] {
        assert_eq!(values(&exchange.headers, name), [value]);
    }
    let own =
        exchange.headers.keys().filter(|name| name.as_str().starts_with("x") && name.as_str().contains("portcullis"));
    assert_eq!(own.count(), 4, "what the client wrote under these names is gone, however it is spelt");
    assert_eq!(
        values(&exchange.headers, "authorization"),
        [good_of(&exchange)],
        "kept unless the config says otherwise"
    );
    let text = ground.metrics.render();
    assert!(text.contains("auth_requests_total{method=\"jwt\",status=\"ok\"} 1"), "{text}");
    assert!(text.contains("identity_tokens_total{result=\"verified\"} 1"), "{text}");
}

fn good_of(exchange: &Exchange) -> String {
    String::from_utf8_lossy(exchange.headers["authorization"].as_bytes()).into_owned()
}

#[test]
fn refusals_say_what_to_do_and_by_which_rule() {
    let (path, ground) = path_of(required());
    let expired = format!("Bearer {}", mint(&with("exp", json!(NOW - 100)), jwt::Algorithm::ES256));
    let other = format!("Bearer {}", mint(&with("aud", json!("web")), jwt::Algorithm::ES256));
    let invalid = "Bearer error=\"invalid_token\"";
    for (fields, code, rule, challenge) in [
        (vec![], "ERR_UNAUTHENTICATED", "required", "Bearer"),
        (vec!["Basic YTpi"], "ERR_UNAUTHENTICATED", "required", "Bearer"),
        (vec!["Bearer"], "ERR_TOKEN_INVALID", "form", invalid),
        (vec!["Bearer opaque"], "ERR_TOKEN_INVALID", "form", invalid),
        (vec!["Bearer a.b.c"], "ERR_TOKEN_INVALID", "encoding", invalid),
        (vec![&*other], "ERR_TOKEN_INVALID", "audience", invalid),
        (
            vec![&*expired],
            "ERR_TOKEN_EXPIRED",
            "expired",
            "Bearer error=\"invalid_token\", error_description=\"The token has expired\"",
        ),
        (vec![&*good(), "Basic YTpi"], "ERR_CREDENTIAL_CONFLICT", "several", ""),
    ] {
        let ask = fields.iter().fold(get("/x"), |ask, field| ask.with("authorization", field));
        let (exchange, refused) = run(&path, ask);
        let head = refused.unwrap_or_else(|| panic!("{fields:?} passed"));
        let (step, told) = exchange.trail.refused().unwrap();
        assert_eq!((step.guard, told.entry().name, step.rule.text()), ("identity", code, rule), "{fields:?}");
        assert_eq!(values(&head.headers, "www-authenticate").join(""), challenge, "{fields:?}");
        let status = if code == "ERR_CREDENTIAL_CONFLICT" { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED };
        assert_eq!(head.status, status);
        assert!(exchange.identity.is_none());
    }
    let text = ground.metrics.render();
    for line in [
        "auth_requests_total{method=\"none\",status=\"refused\"} 2",
        "auth_errors_total{method=\"none\",error_type=\"missing\"} 2",
        "auth_errors_total{method=\"jwt\",error_type=\"invalid\"} 4",
        "auth_errors_total{method=\"jwt\",error_type=\"expired\"} 1",
        "auth_errors_total{method=\"jwt\",error_type=\"conflict\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn routes_choose_what_is_required_looked_at_and_passed_on() {
    let bad = "Bearer a.b.c";
    let accept = |list: &[Accepted]| OfRoute { accept: Some(list.to_vec()), ..OfRoute::default() };
    // Optional: nobody is fine, a bad token is not.
    let (path, _) = path_of(OfRoute::default());
    let (exchange, refused) = run(&path, get("/x"));
    assert!(refused.is_none() && exchange.identity.is_none());
    assert!(run(&path, get("/x").with("authorization", bad)).1.is_some());
    assert!(run(&path, get("/x").with("authorization", good())).0.identity.is_some());
    // Another scheme is the service's business.
    let (exchange, refused) = run(&path, get("/x").with("authorization", "Basic YTpi"));
    assert!(refused.is_none() && values(&exchange.headers, "authorization") == ["Basic YTpi"]);
    // Turned off: nothing is looked at.
    let (path, _) = path_of(accept(&[]));
    assert!(run(&path, get("/x").with("authorization", bad)).1.is_none());
    // The token stays here.
    let (path, _) = path_of(OfRoute { authorization: Some(Authorization::Remove), ..required() });
    let (exchange, _) = run(&path, get("/x").with("authorization", good()));
    assert!(exchange.identity.is_some() && !exchange.headers.contains_key("authorization"));
    // A token anywhere else is none.
    let query = format!("/x?access_token={}", &good()[7..]);
    let (exchange, _) = run(&path, get(&query).with("cookie", format!("token={}", &good()[7..])));
    assert_eq!(exchange.trail.refused().map(|(_, code)| code), Some(Code::Unauthenticated));
}

#[test]
fn a_dry_run_says_who_it_would_be_and_counts_nothing() {
    let (path, ground) = path_of(required());
    let mut exchange = get("/x").with("host", "service").with("authorization", good()).dry().begin();
    assert!(matches!(path.descend(&mut exchange), Descent::Through));
    let step = exchange.trail.steps().iter().find(|step| step.guard == "identity").unwrap();
    let detail = step.detail.as_deref().unwrap();
    assert_eq!(detail, "\"ada\" in tenant \"acme\" by jwt of \"https://id.example/\", roles [\"editor\", \"viewer\"]");
    assert!(!ground.metrics.render().contains("status=\"ok\"} 1"));
}

#[test]
fn mistakes_name_their_key() {
    let (ground, _) = rehearsal::ground();
    let mistakes = |identity: Config, route: Option<OfRoute>| {
        let routes = vec![RouteConfig { name: "r".to_owned(), identity: route, ..RouteConfig::default() }];
        match build(&PathConfig { identity, routes, ..PathConfig::default() }, &ground) {
            Ok(_) => Vec::new(),
            Err(found) => found.into_iter().map(|mistake| mistake.path).collect(),
        }
    };
    let of = |issuer: jwt::IssuerConfig| Config {
        jwt: Some(jwt::Config { issuers: vec![issuer], memory: None }),
        ..Config::default()
    };
    use jwt::Algorithm::{ES256, HS256, HS512};
    let secret = |text: &str, algorithms: Vec<jwt::Algorithm>| {
        of(jwt::IssuerConfig { algorithms, jwks: None, secret: Some(text.into()), ..issuer() })
    };
    let at = |key: &str| vec![format!("identity.jwt.issuers[0].{key}")];
    let nowhere = jwt::JwksConfig { file: Some("/nonexistent/keys.json".into()), ..Default::default() };
    let jwks = |jwks: jwt::JwksConfig| jwt::IssuerConfig { jwks: Some(jwks), ..issuer() };
    let url = || jwt::JwksConfig { url: Some("https://id.example.com/keys".to_owned()), ..Default::default() };
    let at_url = |text: &str| jwks(jwt::JwksConfig { url: Some(text.to_owned()), ..Default::default() });
    let day = |days: u64| Some(std::time::Duration::from_secs(days * 86_400).into());
    for (config, expected) in [
        (of(issuer()), vec![]),
        (secret(minted::SECRET, vec![HS512]), vec![]),
        (of(jwt::IssuerConfig { issuer: String::new(), ..issuer() }), at("issuer")),
        (of(jwt::IssuerConfig { audience: vec![], ..issuer() }), at("audience")),
        (of(jwt::IssuerConfig { algorithms: vec![], ..issuer() }), at("algorithms")),
        (of(jwt::IssuerConfig { algorithms: vec![ES256, HS256], ..issuer() }), at("algorithms")),
        (of(jwt::IssuerConfig { jwks: None, ..issuer() }), at("jwks")),
        (of(jwt::IssuerConfig { jwks: Some(jwt::JwksConfig::default()), ..issuer() }), at("jwks.file")),
        (of(jwt::IssuerConfig { jwks: Some(nowhere), ..issuer() }), at("jwks.file")),
        (of(at_url("http://127.0.0.1:1/keys")), vec![]),
        (of(at_url("https://id.example.com/keys?x=1")), vec![]),
        (of(at_url("http://id.example.com/keys")), at("jwks.url")),
        (of(at_url("ftp://id.example.com/keys")), at("jwks.url")),
        (of(at_url("https://user:password@id.example.com/keys")), at("jwks.url")),
        (of(at_url("/keys")), at("jwks.url")),
        (of(jwks(jwt::JwksConfig { refresh: day(2), keep: day(3), ..url() })), at("jwks.refresh")),
        (of(jwks(jwt::JwksConfig { keep: Some(std::time::Duration::from_secs(9).into()), ..url() })), at("jwks.keep")),
        (of(jwks(jwt::JwksConfig { cooldown: day(1), ..url() })), at("jwks.cooldown")),
        (of(jwks(jwt::JwksConfig { ca: Some("/nonexistent/ca.pem".into()), ..url() })), at("jwks.ca")),
        (of(jwks(jwt::JwksConfig { file: Some("keys.json".into()), ..url() })), at("jwks.url")),
        (of(jwt::IssuerConfig { secret: Some(minted::SECRET.into()), ..issuer() }), at("secret")),
        (of(jwt::IssuerConfig { algorithms: vec![HS256], ..issuer() }), at("jwks")),
        (of(jwt::IssuerConfig { algorithms: vec![HS256], jwks: None, ..issuer() }), at("secret")),
        (secret("short", vec![HS256]), at("secret")),
        (secret(&"x".repeat(63), vec![HS256, HS512]), at("secret")),
        (of(jwt::IssuerConfig { leeway: day(1), ..issuer() }), at("leeway")),
        (of(jwt::IssuerConfig { lifetime: day(3661), ..issuer() }), at("lifetime")),
        (of(jwt::IssuerConfig { types: Some(vec![]), ..issuer() }), at("types")),
        (of(jwt::IssuerConfig { required_claims: vec![String::new()], ..issuer() }), at("required_claims")),
        (Config { required: Some(true), ..Config::default() }, vec!["identity.required".to_owned()]),
        (Config { accept: Some(vec![Accepted::Jwt]), ..Config::default() }, vec!["identity.accept[0]".to_owned()]),
    ] {
        assert_eq!(mistakes(config, None), expected);
    }
    let twice = jwt::Config { issuers: vec![issuer(), issuer()], memory: None };
    assert_eq!(mistakes(Config { jwt: Some(twice), ..Config::default() }, None), ["identity.jwt.issuers[1].issuer"]);
    let session = OfRoute { accept: Some(vec![Accepted::Session, Accepted::Jwt]), ..OfRoute::default() };
    assert_eq!(mistakes(of(issuer()), Some(session)), ["routes[0].identity.accept[0]"]);
    let nobody = OfRoute { required: Some(true), accept: Some(vec![]), ..OfRoute::default() };
    assert_eq!(mistakes(of(issuer()), Some(nobody)), ["routes[0].identity.required"]);
}

/// A source that says what it is told to, in the place of sessions and API keys.
struct Says(CredentialKind, fn() -> Found);

impl Source for Says {
    fn kind(&self) -> CredentialKind {
        self.0
    }

    fn takes_bearer(&self, text: &[u8]) -> bool {
        self.0 == CredentialKind::ApiKey && text.starts_with(b"key_")
    }

    fn look(&self, _exchange: &Exchange, _bearer: Option<&str>) -> Found {
        (self.1)()
    }
}

fn person(user: &str) -> Found {
    let claims = portcullis_core::identity::Claims {
        user: user.to_owned(),
        issuer: minted::ISSUER.to_owned(),
        ..Default::default()
    };
    Found::Known(Arc::new(Identity::new(CredentialKind::Session, claims).unwrap()))
}

#[test]
fn several_sources_speak_of_one_person_or_not_at_all() {
    let run_with = |says: fn() -> Found, authorization: Option<&str>| {
        let (mut ground, _) = rehearsal::ground();
        ground.metrics = Arc::new(Registry::new("p"));
        ground.sources.push(Arc::new(Says(CredentialKind::Session, says)));
        ground.sources.push(Arc::new(Says(CredentialKind::ApiKey, || Found::Absent)));
        let jwt = Some(jwt::Config { issuers: vec![issuer()], memory: None });
        let identity = Config { jwt, required: Some(true), ..Config::default() };
        let path = request_path(&PathConfig { identity, ..PathConfig::default() }, &ground).unwrap();
        path.begins();
        let ask = authorization.into_iter().fold(get("/x"), |ask, field| ask.with("authorization", field));
        let (exchange, refused) = run(&path, ask);
        match (exchange.trail.refused(), refused) {
            (Some((step, code)), Some(head)) => {
                let wait = values(&head.headers, "retry-after").join("");
                format!("{} {} {wait}", code.entry().name, step.rule.text())
            }
            _ => exchange.identity.as_ref().map_or("nobody", |identity| identity.user()).to_owned(),
        }
    };
    let token = format!("Bearer {}", mint(&claims(), jwt::Algorithm::ES256));
    let outage = || Found::Unavailable(Code::KeysUnavailable, 4_000_000_001, "store");
    for (says, authorization, expected) in [
        ((|| Found::Absent) as fn() -> Found, None, "ERR_UNAUTHENTICATED required "),
        (|| person("ada"), None, "ada"),
        (|| person("ada"), Some(&*token), "ada"),
        (|| Found::Absent, Some(&*token), "ada"),
        (|| person("eve"), Some(&*token), "ERR_CREDENTIAL_CONFLICT two_people "),
        (|| Found::Refused(Code::TokenInvalid, "gone"), Some(&*token), "ERR_TOKEN_INVALID gone "),
        (|| person("ada"), Some("Bearer a.b.c"), "ERR_TOKEN_INVALID encoding "),
        // An outage is never the client's mistake, and never a way in.
        (outage, None, "ERR_KEYS_UNAVAILABLE store 5"),
        (outage, Some(&*token), "ERR_KEYS_UNAVAILABLE store 5"),
        (outage, Some("Bearer a.b.c"), "ERR_TOKEN_INVALID encoding "),
        // A bearer that another source takes is none of the tokens' business.
        (|| Found::Absent, Some("Bearer key_x"), "ERR_UNAUTHENTICATED required "),
        (|| Found::Absent, Some("Bearer kez_x"), "ERR_TOKEN_INVALID form "),
    ] {
        assert_eq!(run_with(says, authorization), expected, "{authorization:?}");
    }
}

/// Browsers go on sending the cookie of a session that is over, also to the page where people log in.
#[test]
fn a_session_that_is_over_is_nobody_where_nobody_must_be_known() {
    let over = || (CredentialKind::Session, Said::Refused(Code::SessionExpired, "over"));
    let elsewhere = || (CredentialKind::Session, Said::Refused(Code::SessionMismatch, "elsewhere"));
    assert_eq!(decide(false, [over()]), Decision::Anonymous);
    let refused = |code, rule| Decision::Refuse(Some(CredentialKind::Session), code, rule);
    assert_eq!(decide(true, [over()]), refused(Code::SessionExpired, "over"));
    assert_eq!(decide(false, [elsewhere()]), refused(Code::SessionMismatch, "elsewhere"));
    // It frees nobody from what else is wrong.
    let forged = (CredentialKind::Jwt, Said::Refused(Code::TokenInvalid, "x"));
    let expected = Decision::Refuse(Some(CredentialKind::Jwt), Code::TokenInvalid, "x");
    assert_eq!(decide(false, [over(), forged]), expected);
}

proptest! {
    /// Whatever sources say, a request passes as somebody only when one said so and none said otherwise.
    #[test]
    fn nobody_passes_as_somebody_else(words in prop::collection::vec(0..5u8, 0..4), is_required in any::<bool>()) {
        let said = |word: &u8| match word {
            0 => Said::Absent,
            1 | 2 => match person(if *word == 1 { "ada" } else { "eve" }) {
                Found::Known(identity) => Said::Known(identity),
                _ => Said::Absent,
            },
            3 => Said::Refused(Code::TokenInvalid, "x"),
            _ => Said::Unavailable(Code::KeysUnavailable, 1, "x"),
        };
        let decision = decide(is_required, words.iter().map(|word| (CredentialKind::Jwt, said(word))));
        let has = |word: u8| words.contains(&word);
        match decision {
            Decision::Known(identity) => {
                let word = if identity.user() == "ada" { 1 } else { 2 };
                prop_assert!(has(word) && !has(3 - word) && !has(3) && !has(4));
            }
            Decision::Anonymous => prop_assert!(!is_required && words.iter().all(|word| *word == 0)),
            Decision::Unavailable(..) => prop_assert!(has(4) && !has(3)),
            Decision::Refuse(_, code, _) => prop_assert!(
                has(3) || (has(1) && has(2)) || (code == Code::Unauthenticated && words.iter().all(|word| *word == 0))
            ),
        }
    }
}
