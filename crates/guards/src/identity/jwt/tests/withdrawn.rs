//! Tokens that were withdrawn: at once, by id and by user, under any signature, and for as long as they could be valid.

use super::super::revoked::{MOST_REVOCATIONS, NotRevoked, Revocation, Revocations, Subject};
use super::*;

fn by_id(id: &str) -> Revocation {
    let subject = Subject::Token(id.to_owned());
    Revocation { issuer: ISSUER.to_owned(), subject, issued_until: NOW, expires: NOW + 1000 }
}

fn by_user(user: &str, issued_until: u64) -> Revocation {
    let subject = Subject::User(user.to_owned());
    Revocation { issuer: ISSUER.to_owned(), subject, issued_until, expires: NOW + 1000 }
}

fn code(source: &JwtSource, token: &str, now: u64) -> &'static str {
    ask(source, token, now).err().map_or("good", |(code, _)| code.entry().name)
}

#[test]
fn row_80_a_withdrawn_id_is_withdrawn_under_every_signature_and_remembered_or_not() {
    let tokens = Arc::default();
    let source = source_on(&tokens, vec![issuer()]);
    let claims = with("jti", json!("id-1"));
    let (one, two) = (mint(&claims, Algorithm::ES256), mint(&claims, Algorithm::ES256));
    let other = mint(&with("jti", json!("id-2")), Algorithm::ES256);
    assert_ne!(one, two, "signatures by ES256 have a random part");
    assert_eq!((code(&source, &one, NOW), code(&source, &other, NOW)), ("good", "good"));
    tokens.revocations().add(by_id("id-1"), NOW).unwrap();
    assert_eq!(code(&source, &one, NOW), "ERR_TOKEN_REVOKED", "though it was remembered");
    assert_eq!(code(&source, &one, NOW), "ERR_TOKEN_REVOKED", "and checked anew");
    assert_eq!(code(&source, &two, NOW), "ERR_TOKEN_REVOKED");
    assert_eq!(code(&source, &mint(&claims, Algorithm::RS256), NOW), "ERR_TOKEN_REVOKED");
    assert_eq!(code(&source, &other, NOW), "good");
    assert_eq!(code(&source, &mint(&self::claims(), Algorithm::ES256), NOW), "good", "a token without an id");
    // The same id of another issuer is another token.
    let elsewhere = IssuerConfig { issuer: "https://other/".to_owned(), ..issuer() };
    let mut told = claims.clone();
    told["iss"] = json!("https://other/");
    assert_eq!(code(&source_on(&tokens, vec![elsewhere]), &mint(&told, Algorithm::ES256), NOW), "good");
}

#[test]
fn a_users_tokens_are_withdrawn_up_to_a_moment_and_new_ones_are_good() {
    let tokens = Arc::default();
    let source = source_on(&tokens, vec![issuer()]);
    let issued = |at: u64| mint(&with("iat", json!(at)), Algorithm::ES256);
    let (old, new) = (issued(NOW - 10), issued(NOW + 1));
    let unsaid = mint(&without("iat"), Algorithm::ES256);
    assert_eq!(code(&source, &old, NOW), "good");
    tokens.revocations().add(by_user("ada", NOW), NOW).unwrap();
    assert_eq!(code(&source, &old, NOW), "ERR_TOKEN_REVOKED");
    assert_eq!(code(&source, &issued(NOW), NOW), "ERR_TOKEN_REVOKED", "issued in the same second");
    assert_eq!(code(&source, &unsaid, NOW), "ERR_TOKEN_REVOKED", "who does not say when may have been before");
    assert_eq!(code(&source, &new, NOW), "good");
    assert_eq!(code(&source, &mint(&with("sub", json!("eve")), Algorithm::ES256), NOW), "good");
    // An earlier moment takes nothing back.
    tokens.revocations().add(by_user("ada", NOW - 100), NOW).unwrap();
    assert_eq!(code(&source, &old, NOW), "ERR_TOKEN_REVOKED");
    assert_eq!(tokens.revocations().len(), 1);
}

#[test]
fn records_end_by_themselves_and_their_number_is_bounded() {
    let revocations = Revocations::default();
    for wrong in [by_id(""), by_id(&"x".repeat(129)), by_user("", NOW), Revocation { expires: NOW, ..by_id("a") }] {
        assert_eq!(revocations.add(wrong, NOW), Err(NotRevoked::Wrong));
    }
    for number in 0..MOST_REVOCATIONS {
        revocations.add(by_id(&number.to_string()), NOW).unwrap();
    }
    assert_eq!(revocations.add(by_id("one more"), NOW), Err(NotRevoked::Full));
    revocations.add(by_id("7"), NOW).unwrap();
    // When they are over there is room again, also before anybody tidied up.
    revocations.add(Revocation { expires: NOW + 5000, ..by_id("one more") }, NOW + 1000).unwrap();
    assert_eq!((revocations.len(), revocations.list(None, 9, NOW + 1000).len()), (1, 1));
    revocations.tick(NOW + 5000);
    assert!(revocations.is_empty());
}

#[test]
fn listed_in_pages() {
    let revocations = Revocations::default();
    for name in ["b", "a", "c"] {
        revocations.add(by_id(name), NOW).unwrap();
    }
    revocations.add(by_user("a", NOW), NOW).unwrap();
    let first = revocations.list(None, 3, NOW);
    assert_eq!(
        first.iter().map(|record| &record.subject).collect::<Vec<_>>(),
        [&Subject::Token("a".to_owned()), &Subject::Token("b".to_owned()), &Subject::Token("c".to_owned()),]
    );
    let after = revocations.list(Some((ISSUER, &first[2].subject)), 3, NOW);
    assert_eq!(after.iter().map(|record| &record.subject).collect::<Vec<_>>(), [&Subject::User("a".to_owned())]);
}
