//! JSON Web Tokens for a load, and the keys that proxies check them with.
//!
//! Signed here with the same library that TLS uses, and by nothing of the gateway's, so that what it accepts was not made by it.
//!
//! Invariant: every token differs from every other one in its `jti`, so also in its signature.
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Who issued them, for whom.
const ISSUER: &str = "https://issuer.test/";
const AUDIENCE: &str = "bench";

/// How many, and how signed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// ES256, RS256 or HS256.
    #[arg(long)]
    algorithm: String,
    /// How many tokens.
    #[arg(long)]
    count: u32,
    /// Where `tokens` (a line each), `jwks.json` and `public.pem`, or `secret`, are written.
    #[arg(long)]
    folder: PathBuf,
}

/// Something that signs.
enum Signer {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
    Hmac(Box<hmac::Key>),
}

/// Makes keys and tokens.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let write = |name: &str, text: &str| {
        let path = arguments.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    let signer = match arguments.algorithm.as_str() {
        "ES256" => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("making a key")?;
            let point = key.public_key().as_ref();
            ensure!(point.len() == 65 && point[0] == 4, "a point that is not in its plain form");
            let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
            write(
                "jwks.json",
                &jwks(&serde_json::json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256" })),
            )?;
            write("public.pem", &pem(AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())?.as_ref()))?;
            Signer::Ecdsa(Box::new(key))
        }
        "RS256" => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).context("making a key")?;
            let (n, e) = numbers(key.public_key().as_ref()).context("a public key that cannot be read")?;
            let jwk = serde_json::json!({ "kty": "RSA", "n": encoded(n), "e": encoded(e), "alg": "RS256" });
            write("jwks.json", &jwks(&jwk))?;
            write("public.pem", &pem(AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())?.as_ref()))?;
            Signer::Rsa(Box::new(key))
        }
        "HS256" => {
            let mut bytes = [0; 32];
            rand::fill(&mut bytes).context("no randomness")?;
            let secret = encoded(&bytes);
            write("secret", &secret)?;
            Signer::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
        }
        other => bail!("{other}: ES256, RS256 or HS256"),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut tokens = String::new();
    for number in 0..arguments.count {
        tokens.push_str(&token(&signer, &arguments.algorithm, number, now)?);
        tokens.push('\n');
    }
    write("tokens", &tokens)
}

fn token(signer: &Signer, algorithm: &str, number: u32, now: u64) -> anyhow::Result<String> {
    let header = serde_json::json!({ "alg": algorithm, "typ": "JWT", "kid": "bench" });
    let claims = serde_json::json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": format!("user-{number}"), "jti": format!("t{number}"),
        "iat": now, "exp": now + 6 * 3600, "roles": ["reader", "editor"], "role_list": "reader,editor", "tenant": "bench",
    });
    let message = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
    let random = SystemRandom::new();
    let signature = match signer {
        Signer::Ecdsa(key) => key.sign(&random, message.as_bytes()).context("signing")?.as_ref().to_vec(),
        Signer::Rsa(key) => {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).context("signing")?;
            signature
        }
        Signer::Hmac(key) => hmac::sign(key, message.as_bytes()).as_ref().to_vec(),
    };
    Ok(format!("{message}.{}", encoded(&signature)))
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks(key: &serde_json::Value) -> String {
    let mut key = key.clone();
    key["kid"] = "bench".into();
    key["use"] = "sig".into();
    serde_json::json!({ "keys": [key] }).to_string()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1) of 2048 bits, whose lengths are known.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00])?;
    let (modulus, rest) = rest.split_at_checked(256)?;
    Some((modulus, rest.strip_prefix(&[0x02, 0x03])?))
}

#[cfg(test)]
mod tests {
    use super::{Arguments, run};

    #[test]
    fn tokens_are_three_parts_and_all_different() {
        for algorithm in ["ES256", "RS256", "HS256"] {
            let folder = std::env::temp_dir().join(format!("bench-tokens-{}-{algorithm}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            run(&Arguments { algorithm: algorithm.to_owned(), count: 3, folder: folder.clone() }).unwrap();
            let text = std::fs::read_to_string(folder.join("tokens")).unwrap();
            let tokens: std::collections::BTreeSet<&str> = text.lines().collect();
            assert!(tokens.len() == 3 && tokens.iter().all(|token| token.split('.').count() == 3));
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
