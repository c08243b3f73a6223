//! What is read of requests and answers, and that hostile bytes are only ever taken for more of a login, never for less.

use proptest::prelude::*;

use super::*;
use crate::login_watch::decide::{authorization, form, has_failed, of_body};

fn rules(value: Value) -> Rules {
    let config: Config = serde_json::from_value(value).unwrap();
    config.compile("x", true).unwrap().unwrap()
}

fn seen(text: &str) -> Seen {
    Seen { bytes: text.as_bytes().to_vec(), is_cut: false }
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

#[test]
fn authorization_is_read_as_services_read_it() {
    let user = |name: &str| Authorization::Basic(Some(name.to_owned()));
    for (value, expected) in [
        ("Basic YWRhOnJpZ2h0", user("ada")),
        ("basic  QWRhOng6eQ==", user("ada")),
        ("Basic !!!", Authorization::Basic(None)),
        ("Basic", Authorization::Basic(None)),
        ("Bearer abc", Authorization::Bearer),
        ("BEARER abc", Authorization::Bearer),
        ("Digest username=\"ada\"", Authorization::Other),
        ("", Authorization::Absent),
    ] {
        assert_eq!(authorization(&fields(&[("authorization", value)])), expected, "{value}");
    }
    assert_eq!(authorization(&HeaderMap::new()), Authorization::Absent);
}

#[test]
fn forms_of_bodies() {
    for (lines, expected) in [
        (vec![("content-type", "application/json; charset=utf-8")], Form::Json),
        (vec![("content-type", "APPLICATION/vnd.api+JSON")], Form::Json),
        (vec![("content-type", "application/x-www-form-urlencoded")], Form::UrlEncoded),
        (vec![("content-type", "text/json")], Form::Unknown),
        (vec![], Form::Unknown),
        (vec![("content-type", "application/json"), ("content-encoding", "gzip")], Form::Unknown),
    ] {
        assert_eq!(form(&fields(&lines)), expected, "{lines:?}");
    }
    let mut twice = fields(&[("content-type", "application/json")]);
    twice.append("content-type", "text/plain".parse().unwrap());
    assert_eq!(form(&twice), Form::Unknown);
}

#[test]
fn credentials_and_accounts_in_bodies() {
    let rules = rules(json!({ "account": { "json": "/user/email", "form": "login" } }));
    for (kind, body, are_there, account) in [
        (Form::Json, r#"{"password":"x"}"#, true, None),
        (Form::Json, r#"{"user":{"email":" Ada@Example.com ","Password":"x"}}"#, true, Some("ada@example.com")),
        (Form::Json, r#"{"user":{"email":"ada"}}"#, true, Some("ada")),
        (Form::Json, r#"[{"a":{"pin":1234}}]"#, true, None),
        (Form::Json, r#"{"password":"","otp":null}"#, false, None),
        (Form::Json, r#"{"page":2}"#, false, None),
        (Form::Json, "", false, None),
        (Form::Json, r#"{"password":"#, true, None),
        (Form::UrlEncoded, "login=Ada&password=x", true, Some("ada")),
        (Form::UrlEncoded, "login=a%20d%61&x=1", true, Some("a da")),
        (Form::UrlEncoded, "user%5Bpassword%5D=x", true, None),
        (Form::UrlEncoded, "user.passwd=x", true, None),
        (Form::UrlEncoded, "password=&page=2&&=", false, None),
        (Form::Unknown, "page=2", true, None),
        (Form::Unknown, "", false, None),
    ] {
        let expected = Credentials { are_there, account: account.map(str::to_owned) };
        assert_eq!(of_body(&rules, kind, Some(&seen(body))), expected, "{body}");
    }
    let cut = Seen { is_cut: true, ..seen(r#"{"page":2}"#) };
    assert!(of_body(&rules, Form::Json, Some(&cut)).are_there, "a padded body is no way around");
    assert!(of_body(&rules, Form::Json, None).are_there, "what nobody looked at counts");
}

#[test]
fn fields_of_answers() {
    for (json, body, expected) in [
        (json!({ "field": "error" }), r#"{"error":"x"}"#, Some(true)),
        (json!({ "field": "error" }), r#"{"error":null}"#, Some(false)),
        (json!({ "field": "ok", "equals": "false" }), r#"{"ok":false}"#, Some(true)),
        (json!({ "field": "ok", "equals": "false" }), r#"{"ok":true}"#, Some(false)),
        (json!({ "field": "/error/code", "equals": "42" }), r#"{"error":{"code":42}}"#, Some(true)),
        (json!({ "field": "a/b", "equals": "x" }), "{}", Some(false)),
        (json!({ "field": "ok" }), "<html>", None),
    ] {
        let rules = rules(json!({ "failure": { "json": json } }));
        assert_eq!(has_failed(&rules, &seen(body)), expected, "{body}");
    }
    let rules = rules(json!({ "failure": { "json": { "field": "ok" } } }));
    assert_eq!(has_failed(&rules, &Seen { is_cut: true, ..seen("{\"ok\":1}") }), None);
}

#[test]
fn the_body_of_the_answer_decides_at_its_end() {
    let stage = Stage::named(json!({ "failures": 2, "failure": { "json": { "field": "ok", "equals": "false" } } }));
    let login = |answer: &str| {
        let exchange =
            stage.begin("203.0.113.9", "/login", &[("content-type", "application/json")], "{\"password\":\"x\"}", NOW);
        let Ok(exchange) = exchange else { panic!("not banned yet") };
        assert_eq!(exchange.headers["accept-encoding"], "identity");
        stage.answer(exchange, 200, answer);
    };
    login("{\"ok\":true}");
    login("{\"ok\":false}");
    login("<html>");
    assert!(stage.counted("unread"));
    login("{\"ok\":false}");
    assert_eq!(stage.guess("203.0.113.9", "a", NOW), 403);
}

#[test]
fn a_tap_keeps_its_bound_and_says_that_it_was_cut() {
    let tap = Tap::new(5);
    tap.feed(b"abc");
    tap.feed(b"");
    assert_eq!(tap.seen(), seen("abc"));
    tap.feed(b"de");
    assert_eq!(tap.seen(), seen("abcde"));
    tap.feed(b"f");
    tap.feed(&[0; 100_000]);
    assert_eq!(tap.seen(), Seen { is_cut: true, ..seen("abcde") });
}

proptest! {
    #[test]
    fn no_bytes_panic_and_a_password_is_never_overlooked(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
        let rules = rules(json!({ "account": { "json": "user", "form": "user" } }));
        for kind in [Form::Json, Form::UrlEncoded, Form::Unknown] {
            let _ = of_body(&rules, kind, Some(&Seen { bytes: noise.clone(), is_cut: false }));
        }
        let mut pairs = noise.clone();
        pairs.splice(at.min(noise.len())..at.min(noise.len()), b"&password=x&".iter().copied());
        let spliced = of_body(&rules, Form::UrlEncoded, Some(&Seen { bytes: pairs, is_cut: false }));
        prop_assert!(spliced.are_there);
        if let Ok(value) = http::HeaderValue::from_bytes(&noise) {
            let _ = authorization(&HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]));
        }
    }
}
