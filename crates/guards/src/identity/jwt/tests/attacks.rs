//! The rows of ATTACKS.md, section D, that are about the form of a token and its keys, and mutations of every kind.

use proptest::prelude::*;
use serde_json::json;

use super::super::keys::{WrongSet, parse};
use super::*;

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token whose header is this text, signed by the key on P-256.
fn headed(header: &Value) -> String {
    sign(&header.to_string(), &claims().to_string(), Algorithm::ES256)
}

#[test]
fn rows_66_and_67_no_signature_and_no_algorithm() {
    let source = source_of(vec![issuer()]);
    let good = mint(&claims(), Algorithm::ES256);
    let (message, _) = good.rsplit_once('.').unwrap();
    for (header, expected) in [
        (json!({ "alg": "none" }), "algorithm"),
        (json!({ "alg": "None" }), "algorithm"),
        (json!({ "alg": "nOnE" }), "algorithm"),
        (json!({ "alg": "" }), "algorithm"),
        (json!({ "alg": null }), "algorithm"),
        (json!({ "alg": ["ES256"] }), "algorithm"),
        (json!({ "alg": "es256" }), "algorithm"),
        (json!({ "alg": "ES256 " }), "algorithm"),
        (json!({ "alg": "ES512" }), "algorithm"),
        (json!({ "typ": "JWT" }), "algorithm"),
    ] {
        let parts = format!("{}.{}", encode(&header.to_string()), encode(&claims().to_string()));
        assert_eq!(rule(&source, &format!("{parts}.")), "form", "{header}");
        assert_eq!(rule(&source, &format!("{parts}.AAAA")), expected, "{header}");
        assert_eq!(rule(&source, &headed(&header)), expected, "{header}");
    }
    assert_eq!(rule(&source, &format!("{message}.")), "form");
    assert_eq!(rule(&source, message), "form");
    for empty in ["AA", "AAAA", &"A".repeat(86)] {
        assert_eq!(rule(&source, &format!("{message}.{empty}")), "signature");
    }
}

#[test]
fn row_68_a_public_key_is_no_secret() {
    let source = source_of(vec![issuer()]);
    let jwk = json!({ "kty": "RSA", "kid": "rsa", "n": keys::RSA_N, "e": "AQAB" }).to_string();
    let n = URL_SAFE_NO_PAD.decode(keys::RSA_N).unwrap();
    for secret in [jwk.as_bytes(), keys::RSA_N.as_bytes(), &n] {
        for (algorithm, kid) in [(Algorithm::HS256, "rsa"), (Algorithm::HS512, "p256")] {
            let header = json!({ "alg": algorithm.name(), "kid": kid });
            let message = format!("{}.{}", encode(&header.to_string()), encode(&claims().to_string()));
            let key = EncodingKey::from_secret(secret);
            let signature =
                jsonwebtoken::crypto::sign(message.as_bytes(), &key, super::super::keys::bought(algorithm)).unwrap();
            assert_eq!(rule(&source, &format!("{message}.{signature}")), "algorithm");
        }
    }
    // A secret in a key set is passed over, also beside public keys.
    let oct = json!({ "kty": "oct", "kid": "oct", "k": encode(SECRET), "alg": "HS256" });
    assert_eq!(parse(json!({ "keys": [oct] }).to_string().as_bytes()).unwrap_err(), WrongSet::Empty);
    let mut set = key_set();
    set["keys"].as_array_mut().unwrap().push(oct);
    assert_eq!(parse(set.to_string().as_bytes()).unwrap().len(), 4);
}

#[test]
fn rows_69_70_74_75_and_82_headers_that_ask_for_something() {
    let source = source_of(vec![issuer()]);
    let with = |name: &str, value: Value| {
        let mut header = json!({ "alg": "ES256", "kid": "p256" });
        header[name] = value;
        headed(&header)
    };
    let foreign = json!({ "kty": "EC", "crv": "P-256", "x": keys::P256_X, "y": keys::P256_Y });
    for (name, value, expected) in [
        // Keys that the token brings are not looked at: the right key has signed, so it passes ...
        ("jwk", foreign.clone(), "good"),
        ("jku", json!("http://127.0.0.1:1/keys"), "good"),
        ("x5u", json!("file:///etc/passwd"), "good"),
        ("x5c", json!(["AAAA"]), "good"),
        ("kid", json!("../../dev/null"), "unknown_key"),
        ("kid", json!("p256' OR '1'='1"), "unknown_key"),
        ("kid", json!("p256\u{0}"), "unknown_key"),
        ("kid", json!(""), "kid"),
        ("kid", json!(7), "kid"),
        ("kid", Value::Null, "kid"),
        ("kid", json!("x".repeat(257)), "kid"),
        ("crit", json!(["exp"]), "critical"),
        ("crit", json!([]), "critical"),
        ("b64", json!(false), "critical"),
        ("b64", json!(true), "critical"),
        ("zip", json!("DEF"), "critical"),
        ("enc", json!("A256GCM"), "encrypted"),
        ("typ", json!("at+jwt"), "good"),
        ("typ", json!("application/AT+JWT"), "good"),
        ("typ", json!("logout+jwt"), "type"),
        ("typ", json!("dpop+jwt"), "type"),
        ("typ", json!(1), "type"),
    ] {
        assert_eq!(rule(&source, &with(name, value.clone())), expected, "{name}: {value}");
    }
    // ... and where another key has signed, the one that the token brings does not help it.
    let stranger = IssuerConfig {
        jwks: Some(JwksConfig {
            file: Some(file_of(&json!({ "keys": [{ "kty": "RSA", "n": keys::RSA_N, "e": "AQAB" },
                { "kty": "EC", "crv": "P-256", "x": keys::P384_X.get(..0), "y": "" , "use": "enc" }] }))),
            ..JwksConfig::default()
        }),
        ..issuer()
    };
    assert_eq!(rule(&source_of(vec![stranger]), &with("jwk", foreign)), "unknown_key");
    let access = source_of(vec![IssuerConfig { types: Some(vec!["application/at+jwt".to_owned()]), ..issuer() }]);
    for (name, expected) in [(json!("AT+jwt"), "good"), (json!("JWT"), "type"), (json!("id+jwt"), "type")] {
        assert_eq!(rule(&access, &with("typ", name)), expected);
    }
    assert_eq!(rule(&access, &headed(&json!({ "alg": "ES256" }))), "type");
    for encrypted in ["a.b.c.d.e", &format!("{}....", encode("{\"alg\":\"PBES2-HS256+A128KW\",\"p2c\":2147483648}"))] {
        assert_eq!(rule(&source, encrypted), "form");
    }
}

#[test]
fn rows_76_and_77_signatures_that_are_no_numbers_or_have_another_form() {
    let source = source_of(vec![issuer()]);
    let token = mint(&claims(), Algorithm::ES256);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let n = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let n: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&n[2 * at..2 * at + 2], 16).unwrap()).collect();
    let above: Vec<u8> = n.iter().enumerate().map(|(at, byte)| if at == 31 { byte + 1 } else { *byte }).collect();
    let zero = [0u8; 32];
    let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
    let padded = [&[0][..], r, &[0], s].concat();
    for forged in [
        [&zero[..], s].concat(),
        [r, &zero].concat(),
        [&zero[..], &zero].concat(),
        [&n[..], s].concat(),
        [r, &n].concat(),
        [&above[..], s].concat(),
        [r, &above].concat(),
        der,
        padded,
        [s, r].concat(),
        raw[..63].to_vec(),
    ] {
        assert_eq!(rule(&source, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&forged))), "signature");
    }
    // A key on one curve checks nothing of the other, whatever the header says.
    let mixed = sign(&json!({ "alg": "ES384", "kid": "p256" }).to_string(), &claims().to_string(), Algorithm::ES256);
    assert_eq!(rule(&source, &mixed), "unknown_key");
    let token = mint(&claims(), Algorithm::EdDsa);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // S + L, with which lax verifiers take a second signature for the same message.
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let mut carry = 0u16;
    for at in 0..32 {
        let sum = u16::from(raw[32 + at]) + u16::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap() + carry;
        raw[32 + at] = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(rule(&source, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&raw))), "signature");
}

#[test]
fn rows_77_and_78_keys_that_anybody_could_sign_with_are_refused_when_they_are_read() {
    let refused = |key: Value| parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap_err();
    let rsa = |n: &str, e: &str| json!({ "kty": "RSA", "n": n, "e": e });
    let small = "is an RSA key below 2048 or above 8192 bits, or an even one";
    let exponent = "is an RSA key with an exponent that is even, below 3, or above 32 bits";
    let long = URL_SAFE_NO_PAD.encode([vec![0xff; 1024], vec![0xff]].concat());
    let padded = URL_SAFE_NO_PAD.encode([vec![0; 200], URL_SAFE_NO_PAD.decode(keys::RSA_1024_N).unwrap()].concat());
    let ec = |crv: &str, x: &str, y: &str| json!({ "kty": "EC", "crv": crv, "x": x, "y": y });
    let ed = |x: &[u8]| json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(x) });
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    let mut one = [0; 32];
    one[0] = 1;
    for (key, what) in [
        (rsa(keys::RSA_1024_N, "AQAB"), small),
        (rsa(&padded, "AQAB"), small),
        (rsa(&long, "AQAB"), small),
        (rsa(keys::RSA_N, "AQ"), exponent),
        (rsa(keys::RSA_N, "AAAC"), exponent),
        (rsa(keys::RSA_N, "AQAAAAE"), exponent),
        (rsa(keys::RSA_N, ""), "has no `e` in base64url"),
        (rsa("a b", "AQAB"), "has no `n` in base64url"),
        (ec("P-256", keys::P256_X, keys::P256_X), "is no point on its curve"),
        (ec("P-256", keys::P384_X, keys::P384_Y), "has coordinates of a wrong length"),
        (ec("P-384", keys::P256_X, keys::P256_Y), "has coordinates of a wrong length"),
        (ed(&[0; 32]), "is no key of Ed25519"),
        (ed(&one), "is no key of Ed25519"),
        (ed(&order_two), "is no key of Ed25519"),
        (ed(&[9; 31]), "is no key of Ed25519"),
    ] {
        assert_eq!(refused(key.clone()), WrongSet::Key(0, what), "{key}");
    }
    // Of other uses, algorithms and kinds: passed over.
    for key in [
        json!({ "kty": "RSA", "n": keys::RSA_N, "e": "AQAB", "use": "enc" }),
        json!({ "kty": "RSA", "n": keys::RSA_N, "e": "AQAB", "key_ops": ["encrypt"] }),
        json!({ "kty": "RSA", "n": keys::RSA_N, "e": "AQAB", "alg": "RSA-OAEP-256" }),
        json!({ "kty": "RSA", "n": keys::RSA_N, "e": "AQAB", "alg": "ES256" }),
        json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }),
        json!({ "kty": "OKP", "crv": "Ed448", "x": "AA" }),
        json!({ "kty": "unheard-of" }),
    ] {
        assert_eq!(refused(key), WrongSet::Empty);
    }
    assert_eq!(refused(json!({ "kid": "no kind" })), WrongSet::Key(0, "is not a JSON Web Key"));
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":["] {
        assert_eq!(parse(text.as_bytes()).unwrap_err(), WrongSet::NoSet);
    }
    assert_eq!(parse(&vec![b' '; super::super::keys::SET_BYTES + 1]).unwrap_err(), WrongSet::TooLarge);
    // A key that says its algorithm is for no other.
    let only = json!({ "keys": [{ "kty": "RSA", "n": keys::RSA_N, "e": "AQAB", "alg": "RS256" }] });
    let source = source_of(vec![IssuerConfig {
        jwks: Some(JwksConfig { file: Some(file_of(&only)), ..JwksConfig::default() }),
        ..issuer()
    }]);
    assert_eq!(rule(&source, &mint(&claims(), Algorithm::RS256)), "good");
    assert_eq!(rule(&source, &mint(&claims(), Algorithm::PS256)), "unknown_key");
}

#[test]
fn rows_79_and_81_every_token_has_one_form() {
    let source = source_of(vec![issuer()]);
    let token = mint(&claims(), Algorithm::ES256);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    assert_eq!(rule(&source, &token), "good");
    // 64 bytes end in two bits that mean nothing: a second text for the same signature.
    let mut last = signature.as_bytes().to_vec();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.iter().position(|byte| Some(byte) == last.last()).unwrap();
    *last.last_mut().unwrap() = alphabet[at | 1];
    let twin = String::from_utf8(last).unwrap();
    for (text, expected) in [
        (format!("{message}.{twin}"), "encoding"),
        (format!("{message}.{signature}=="), "encoding"),
        (format!("{message}.{}", signature.replace('-', "+").replace('_', "/") + "+/"), "encoding"),
        (format!("{header}=.{payload}.{signature}"), "encoding"),
        (format!("{header}.{payload}"), "form"),
        (format!("{token}."), "form"),
        (format!("{token}.x"), "form"),
        (format!(".{payload}.{signature}"), "header"),
        (format!("{header}..{signature}"), "payload"),
        ("..".to_owned(), "form"),
        (".".repeat(100), "form"),
    ] {
        assert_eq!(rule(&source, &text), expected, "{text}");
    }
    let twice = |header: &str, payload: &str| rule(&source, &sign(header, payload, Algorithm::ES256));
    let plain = claims().to_string();
    let header = "{\"alg\":\"ES256\",\"kid\":\"p256\"}";
    assert_eq!(twice(header, &plain), "good");
    assert_eq!(twice("{\"alg\":\"ES256\",\"alg\":\"ES256\"}", &plain), "header");
    assert_eq!(twice(header, &plain.replace("{", "{\"sub\":\"eve\",")), "payload");
    assert_eq!(twice(header, &plain.replace("{", "{\"x\":{\"a\":1,\"a\":1},")), "payload");
    assert_eq!(twice(header, &plain.replace("{", "{\"\\u0073ub\":\"eve\",")), "payload");
    assert_eq!(twice(header, &plain.replace("{", "{\"x\":1e400,")), "payload");
    assert_eq!(twice(header, &format!("{{\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000))), "payload");
    assert_eq!(twice(header, &format!("{plain} x")), "payload");
    assert_eq!(twice(header, "[]"), "payload");
    assert_eq!(twice(header, "\"text\""), "payload");
    let long = mint(&with("x", json!("y".repeat(token::TOKEN_BYTES))), Algorithm::ES256);
    assert_eq!(rule(&source, &long), "too_long");
}

#[test]
fn row_80_the_same_claims_under_another_signature_are_another_token_of_the_same_id() {
    // Signatures by ES256 have a random part: the id is what names a token, never its text.
    let source = source_of(vec![issuer()]);
    let claims = with("jti", json!("id-1"));
    let (one, two) = (mint(&claims, Algorithm::ES256), mint(&claims, Algorithm::ES256));
    assert_ne!(one, two);
    let ids = [one, two].map(|token| ask(&source, &token, NOW).unwrap().credential().unwrap().to_owned());
    assert_eq!(ids, ["id-1", "id-1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No change of a byte, of its place or of the length leaves a token that is taken, and what is taken by us is taken
    /// by the library alone as well.
    #[test]
    fn mutated_tokens_never_verify(at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..4, by_ed in any::<bool>()) {
        use std::sync::LazyLock;
        static SOURCE: LazyLock<JwtSource> = LazyLock::new(|| source_of(vec![issuer()]));
        let token = mint(&claims(), if by_ed { Algorithm::EdDsa } else { Algorithm::ES256 });
        prop_assert_eq!(rule(&SOURCE, &token), "good");
        let mut bytes = token.clone().into_bytes();
        let place = at.index(bytes.len());
        match how {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
        if let Ok(mutated) = String::from_utf8(bytes)
            && mutated != token
        {
            prop_assert_ne!(rule(&SOURCE, &mutated), "good", "{} from {}", mutated, token);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,400}", parts in prop::collection::vec("[A-Za-z0-9_{}\":,-]{0,40}", 0..5)) {
        use std::sync::LazyLock;
        static SOURCE: LazyLock<JwtSource> = LazyLock::new(|| source_of(vec![issuer()]));
        prop_assert_ne!(rule(&SOURCE, &text), "good");
        let encoded: Vec<String> = parts.iter().map(|part| encode(part)).collect();
        prop_assert_ne!(rule(&SOURCE, &encoded.join(".")), "good");
    }
}
