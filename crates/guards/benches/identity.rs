//! What it costs to check a token: remembered, new, and by the library `jsonwebtoken` alone.
//!
//! `cargo bench -p portcullis-guards --bench identity`, about 10 s. `new` gets another token each time, made outside the
//! measurement; `plain` decodes such tokens with the library, key and rules prepared, and maps no claims.
//!
//! Invariant: every token is good, so every iteration takes the whole way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use divan::{Bencher, black_box};
use http::{HeaderMap, Method, Version};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_guards::access_log::LogSink;
use portcullis_guards::config::PathConfig;
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_guards::guard::{Guard, Verdict};
use portcullis_guards::identity::{self, Identify};
use portcullis_guards::request_path::Ground;
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::counters::{BYTES_MIN, MemoryCounters};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// 2100-01-01, so that the library, which reads the clock of the machine, takes the tokens as well.
const EXPIRES: u64 = 4_102_444_800;
const NOW: Now = Now { monotonic_nanos: 0, unix_millis: (EXPIRES - 300) * 1000 };
const SECRET: &str = "a secret of benches that has enough bytes";

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &[u8]) {}
}

struct Stage {
    guard: Identify,
    algorithm: Algorithm,
    signs: EncodingKey,
    checks: DecodingKey,
}

impl Stage {
    fn new(algorithm: Algorithm) -> Stage {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("there is randomness");
        let point = pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..65]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let file = std::env::temp_dir().join(format!("portcullis-bench-{}.json", std::process::id()));
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y }] });
        std::fs::write(&file, set.to_string()).expect("a file can be written");
        let mut issuer = json!({ "issuer": "https://id.example/", "audience": ["api"] });
        let (signs, checks) = if algorithm == Algorithm::ES256 {
            issuer["algorithms"] = json!(["ES256"]);
            issuer["jwks"] = json!({ "file": file });
            let der = pair.to_pkcs8v1().expect("it was generated");
            (EncodingKey::from_ec_der(der.as_ref()), DecodingKey::from_ec_der(point))
        } else {
            issuer["algorithms"] = json!(["HS256"]);
            issuer["secret"] = json!(SECRET);
            (EncodingKey::from_secret(SECRET.as_bytes()), DecodingKey::from_secret(SECRET.as_bytes()))
        };
        let config = json!({ "identity": { "required": true, "jwt": { "issuers": [issuer] } } });
        let config: PathConfig = serde_json::from_value(config).expect("a config");
        let metrics = Arc::new(Registry::new("p"));
        let counters = Arc::new(MemoryCounters::new(BYTES_MIN).expect("the least is enough"));
        let ground = Ground::new(metrics, counters, KeyHasher::from_seed([7; 16]), Arc::new(NoLog));
        let guard = identity::build(&config, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        guard.begins();
        // What is read is read.
        let _ = std::fs::remove_file(&file);
        Stage { guard, algorithm, signs, checks }
    }

    /// Another token each time.
    fn token(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let claims = json!({
            "iss": "https://id.example/", "aud": "api", "sub": "ada", "iat": EXPIRES - 310, "exp": EXPIRES,
            "jti": NEXT.fetch_add(1, Ordering::Relaxed).to_string(), "roles": ["editor", "viewer"],
        });
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.signs).expect("it signs")
    }

    fn exchange(&self, token: &str) -> Exchange {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().expect("a value"));
        let arrival = Arrival {
            method: Method::GET,
            uri: "/".parse().expect("a target"),
            version: Version::HTTP_11,
            headers,
            body: Body::Absent,
            peer: SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), 4711),
            is_secure: false,
        };
        Exchange::new(arrival, NOW, Touch::Take)
    }

    fn pass(&self, exchange: &mut Exchange) {
        assert!(matches!(self.guard.request(black_box(exchange)), Verdict::Pass), "every token is good");
    }
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::ES256, Algorithm::HS256];

#[divan::bench(args = ALGORITHMS)]
fn remembered(bencher: Bencher, algorithm: Algorithm) {
    let stage = Stage::new(algorithm);
    let token = stage.token();
    stage.pass(&mut stage.exchange(&token));
    bencher.with_inputs(|| stage.exchange(&token)).bench_local_refs(|exchange| stage.pass(exchange));
}

#[divan::bench(args = ALGORITHMS)]
fn new(bencher: Bencher, algorithm: Algorithm) {
    let stage = Stage::new(algorithm);
    bencher.with_inputs(|| stage.exchange(&stage.token())).bench_local_refs(|exchange| stage.pass(exchange));
}

#[divan::bench(args = ALGORITHMS)]
fn plain(bencher: Bencher, algorithm: Algorithm) {
    let stage = Stage::new(algorithm);
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["api"]);
    validation.set_issuer(&["https://id.example/"]);
    bencher.with_inputs(|| stage.token()).bench_local_refs(|token| {
        jsonwebtoken::decode::<Value>(black_box(&*token), &stage.checks, &validation).expect("every token is good")
    });
}
