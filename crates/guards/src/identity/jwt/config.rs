//! What the operator writes about issuers of tokens, and the rules it becomes.
//!
//! Invariant: an issuer's algorithms are fixed here, symmetric and asymmetric ones never together, so that a token cannot
//! choose how it is checked (RFC 8725, section 3.1).

use std::path::{Path, PathBuf};
use std::time::Duration as StdDuration;

use portcullis_core::identity::ISSUER_BYTES;
use portcullis_core::secret::Secret;
use portcullis_core::units::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::{self, Key};
use crate::config::Mistake;

/// Most issuers.
const MOST_ISSUERS: usize = 16;
/// Most entries of a list.
const MOST_WORDS: usize = 32;

/// JSON Web Tokens: who issues them, and what they must say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who issues tokens. The `iss` of a token chooses one of them. Bounds: at most 16.
    pub issuers: Vec<IssuerConfig>,
    /// Memory for verified tokens, which are remembered until they expire. Default: 32MiB. Bounds: 64KiB to 4GiB.
    pub memory: Option<ByteSize>,
}

/// One issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerConfig {
    /// The `iss` of its tokens, compared exactly. Must be given.
    pub issuer: String,
    /// Names of this service; a token's `aud` must have one of them. Must be given.
    pub audience: Vec<String>,
    /// How its tokens are signed. Must be given: `HS256`, `HS384` and `HS512` need `secret`, the others `jwks`, and the
    /// two kinds do not go together.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub jwks: Option<JwksConfig>,
    /// The key of `HS256` (at least 32 bytes), `HS384` (48) and `HS512` (64). Keep it in a file: `${file:/run/secrets/jwt}`.
    pub secret: Option<Secret>,
    /// Which claims say what.
    pub claims: ClaimsConfig,
    /// Claims that must be there, besides `iss`, `aud`, `exp` and that of the user. Names, or paths with dots.
    /// Default: none. Bounds: at most 32.
    pub required_claims: Vec<String>,
    /// What `typ` in the header must be, without regard to case: `[at+jwt]` (RFC 9068). Default: `JWT`, `at+jwt`, or none.
    pub types: Option<Vec<String>>,
    /// How far clocks may differ. Default: 30s. Bounds: 0s to 5m.
    pub leeway: Option<Duration>,
    /// The longest time that a token may be valid, from `iat` (or now) to `exp`. Default: 24h. Bounds: 1m to 3660d.
    pub lifetime: Option<Duration>,
}

/// Where the public keys of an issuer are (RFC 7517).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwksConfig {
    /// A file with a JSON Web Key Set. Read at start and again when it changes. This or `url`.
    pub file: Option<PathBuf>,
    /// An address that answers with one: `https://`, or `http://` on this machine itself. Redirects are not followed. The
    /// gateway fetches it; a tower layer does not, and answers 503.
    pub url: Option<String>,
    /// With `url`: a PEM file of the authorities that may sign its certificate. Default: the operating system's.
    pub ca: Option<PathBuf>,
    /// With `url`: how often it is fetched; sooner where the issuer's `max-age` says so. Default: 15m. Bounds: 1s to 24h.
    pub refresh: Option<Duration>,
    /// With `url`: the least time between two fetches because tokens name keys that nobody knows; and the first pause after a
    /// failure. Default: 10s. Bounds: 1s to 1h.
    pub cooldown: Option<Duration>,
    /// With `url`: how old the known keys may be while the issuer cannot be reached; after that 503. Default: 24h. Bounds:
    /// `refresh` to 30d.
    pub keep: Option<Duration>,
}

/// Keys at an address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteRules {
    pub(crate) url: String,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) refresh: StdDuration,
    pub(crate) cooldown: StdDuration,
    pub(crate) keep: StdDuration,
}

/// Which claims say what: names, or paths with dots (`realm_access.roles`). A claim whose own name has dots is found first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimsConfig {
    /// Who: a text or a whole number. Default: `sub`.
    pub user: Option<String>,
    /// For whom: a text. Default: none.
    pub tenant: Option<String>,
    /// Roles: a list of texts, or one text. Default: `roles`.
    pub roles: Option<String>,
    /// The plan: a text. Default: none.
    pub plan: Option<String>,
    /// Scopes: texts separated by spaces (RFC 8693), or a list of texts. Default: `scope`.
    pub scopes: Option<String>,
}

/// A way of signing (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 12] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDsa,
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
    ];

    /// The name in `alg`; compared exactly.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
            Algorithm::HS256 => "HS256",
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
        }
    }

    /// The least bytes of a secret, as many as the hash has (RFC 7518, section 3.2); `None` with public keys.
    #[must_use]
    pub fn secret_bytes(self) -> Option<usize> {
        match self {
            Algorithm::HS256 => Some(32),
            Algorithm::HS384 => Some(48),
            Algorithm::HS512 => Some(64),
            _ => None,
        }
    }
}

/// What a token of one issuer must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    /// In lower case and without `application/`; `None`: `jwt`, `at+jwt` or none.
    pub(crate) types: Option<Vec<String>>,
    pub(crate) leeway_seconds: u64,
    pub(crate) lifetime_seconds: u64,
    pub(crate) required: Vec<String>,
    pub(crate) user: String,
    pub(crate) tenant: Option<String>,
    pub(crate) roles: String,
    pub(crate) plan: Option<String>,
    pub(crate) scopes: String,
    /// Claims that rate limits count by.
    pub(crate) kept: Vec<String>,
}

/// An issuer that was checked, with the keys that are there now.
pub(crate) struct Prepared {
    pub(crate) config: IssuerConfig,
    pub(crate) rules: Rules,
    pub(crate) keys: Keys,
}

/// The keys of an issuer.
pub(crate) enum Keys {
    /// Those that are there now.
    Here(Vec<Key>),
    /// To be fetched.
    At(RemoteRules),
}

impl Config {
    /// Checks all issuers and reads their files, which are relative to `folder`. `kept` are the claims that are needed
    /// elsewhere.
    ///
    /// # Errors
    /// Every mistake, with its place below `identity.jwt`.
    pub(crate) fn prepare(&self, folder: &Path, kept: &[String]) -> Result<Vec<Prepared>, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let at = "identity.jwt";
        if self.issuers.len() > MOST_ISSUERS {
            mistakes.push(Mistake::new(
                format!("{at}.issuers"),
                format!("has {} issuers, at most {MOST_ISSUERS} are possible", self.issuers.len()),
            ));
        }
        if !(64 << 10..=4 << 30).contains(&self.memory_bytes()) {
            mistakes.push(Mistake::new(format!("{at}.memory"), "must be between 64KiB and 4GiB"));
        }
        let mut prepared = Vec::new();
        for (index, config) in self.issuers.iter().take(MOST_ISSUERS).enumerate() {
            let mut wrong = |key: &str, message: String| {
                mistakes.push(Mistake::new(format!("{at}.issuers[{index}].{key}"), message));
            };
            if self.issuers[..index].iter().any(|earlier| earlier.issuer == config.issuer) {
                wrong("issuer", format!("`{}` is listed twice", config.issuer));
            }
            let rules = config.rules(kept, &mut wrong);
            if let Some(keys) = config.keys(folder, &mut wrong) {
                prepared.push(Prepared { config: config.clone(), rules, keys });
            }
        }
        if mistakes.is_empty() { Ok(prepared) } else { Err(mistakes) }
    }

    /// Bytes for remembered tokens.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.map_or(32 << 20, |memory| memory.bytes())
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.issuers.iter().filter_map(|issuer| issuer.jwks.as_ref()).flat_map(|jwks| jwks.file.iter().chain(&jwks.ca))
    }
}

impl IssuerConfig {
    /// The longest time that a token which is valid now can go on being so.
    #[must_use]
    pub fn longest_life(&self) -> StdDuration {
        let lifetime = self.lifetime.map_or(StdDuration::from_secs(86_400), |lifetime| *lifetime);
        // Issued up to a leeway ahead of our clock, and taken up to a leeway after its end; one more second for rounding.
        lifetime + 2 * self.leeway.map_or(StdDuration::from_secs(30), |leeway| *leeway) + StdDuration::from_secs(1)
    }

    fn rules(&self, kept: &[String], wrong: &mut impl FnMut(&str, String)) -> Rules {
        if !(1..=ISSUER_BYTES).contains(&self.issuer.len()) {
            wrong("issuer", format!("must be 1 to {ISSUER_BYTES} bytes: the `iss` of its tokens"));
        }
        if !(1..=MOST_WORDS).contains(&self.audience.len()) || self.audience.iter().any(String::is_empty) {
            wrong("audience", format!("must be 1 to {MOST_WORDS} names of this service, as `aud` has them"));
        }
        if self.algorithms.is_empty() {
            wrong("algorithms", "at least one is needed, for example `[ES256]`".to_owned());
        }
        if self.required_claims.len() > MOST_WORDS || self.required_claims.iter().any(String::is_empty) {
            wrong("required_claims", format!("must be at most {MOST_WORDS} names"));
        }
        if self.types.as_ref().is_some_and(|types| !(1..=MOST_WORDS).contains(&types.len())) {
            wrong("types", format!("must be 1 to {MOST_WORDS} types; leave it out for the default"));
        }
        let leeway = self.leeway.map_or(StdDuration::from_secs(30), |leeway| *leeway);
        if leeway > StdDuration::from_secs(300) {
            wrong("leeway", "must be between 0s and 5m".to_owned());
        }
        let lifetime = self.lifetime.map_or(StdDuration::from_secs(86_400), |lifetime| *lifetime);
        if !(StdDuration::from_secs(60)..=StdDuration::from_secs(3660 * 86_400)).contains(&lifetime) {
            wrong("lifetime", "must be between 1m and 3660d".to_owned());
        }
        let ClaimsConfig { user, tenant, roles, plan, scopes } = self.claims.clone();
        for (key, claim) in
            [("user", &user), ("tenant", &tenant), ("roles", &roles), ("plan", &plan), ("scopes", &scopes)]
        {
            if claim.as_ref().is_some_and(String::is_empty) {
                wrong(&format!("claims.{key}"), "must be the name of a claim".to_owned());
            }
        }
        Rules {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            algorithms: self.algorithms.clone(),
            types: self.types.as_ref().map(|types| types.iter().map(|word| super::token::type_of(word)).collect()),
            leeway_seconds: leeway.as_secs(),
            lifetime_seconds: lifetime.as_secs(),
            required: self.required_claims.clone(),
            user: user.unwrap_or_else(|| "sub".to_owned()),
            tenant,
            roles: roles.unwrap_or_else(|| "roles".to_owned()),
            plan,
            scopes: scopes.unwrap_or_else(|| "scope".to_owned()),
            kept: kept.to_vec(),
        }
    }

    /// Its keys; `None` after telling what is wrong.
    fn keys(&self, folder: &Path, wrong: &mut impl FnMut(&str, String)) -> Option<Keys> {
        let least_secret = self.algorithms.iter().filter_map(|algorithm| algorithm.secret_bytes()).max();
        let has_public = self.algorithms.iter().any(|algorithm| algorithm.secret_bytes().is_none());
        if least_secret.is_some() && has_public {
            let message = "a secret and public keys do not go together: whoever knows a public key could sign with it";
            wrong("algorithms", message.to_owned());
            return None;
        }
        match (&self.secret, &self.jwks, least_secret) {
            (Some(secret), None, Some(least)) => {
                if secret.expose().len() < least {
                    wrong("secret", format!("must have at least {least} bytes"));
                    return None;
                }
                Some(Keys::Here(vec![Key::of_secret(secret)]))
            }
            (None, Some(jwks), None) => match (&jwks.file, &jwks.url) {
                (Some(file), None) => {
                    read(&folder.join(file)).map_err(|message| wrong("jwks.file", message)).ok().map(Keys::Here)
                }
                (None, Some(url)) => jwks.remote(url, folder, wrong).map(Keys::At),
                (Some(_), Some(_)) => {
                    wrong("jwks.url", "is given beside `file`: keys come from one place".to_owned());
                    None
                }
                (None, None) => {
                    wrong("jwks.file", "must be given, or `url`: where the key set is".to_owned());
                    None
                }
            },
            (_, Some(_), Some(_)) => {
                wrong("jwks", "HS256, HS384 and HS512 take no key set: write `secret`".to_owned());
                None
            }
            (Some(_), _, None) if has_public => {
                wrong("secret", "only HS256, HS384 and HS512 have a secret".to_owned());
                None
            }
            (None, None, None) if has_public => {
                wrong("jwks", "must be given: where the public keys are".to_owned());
                None
            }
            (None, None, Some(_)) => {
                wrong("secret", "must be given with HS256, HS384 and HS512".to_owned());
                None
            }
            // No algorithm at all, which is told already.
            _ => None,
        }
    }
}

impl JwksConfig {
    /// Checks everything about an address; `None` after telling what is wrong.
    fn remote(&self, url: &str, folder: &Path, wrong: &mut impl FnMut(&str, String)) -> Option<RemoteRules> {
        let mut is_wrong = false;
        let mut wrong = |key: &str, message: String| {
            is_wrong = true;
            wrong(key, message);
        };
        if let Err(message) = check_url(url) {
            wrong("jwks.url", message);
        }
        if let Some(ca) = &self.ca
            && let Err(error) = std::fs::metadata(folder.join(ca))
        {
            wrong("jwks.ca", format!("{} cannot be read: {error}", folder.join(ca).display()));
        }
        let mut time = |key: &str, written: Option<Duration>, default: u64, from: u64, to: u64| {
            let time = written.map_or(StdDuration::from_secs(default), |time| *time);
            let (from, to) = (StdDuration::from_secs(from), StdDuration::from_secs(to));
            if !(from..=to).contains(&time) {
                let (from, to) = (Duration::from(from), Duration::from(to));
                wrong(&format!("jwks.{key}"), format!("must be between {from} and {to}"));
            }
            time
        };
        let refresh = time("refresh", self.refresh, 900, 1, 86_400);
        let cooldown = time("cooldown", self.cooldown, 10, 1, 3600);
        let keep = time("keep", self.keep, 86_400.max(refresh.as_secs()), refresh.as_secs(), 30 * 86_400);
        let rules = RemoteRules { url: url.to_owned(), ca: self.ca.clone(), refresh, cooldown, keep };
        (!is_wrong).then_some(rules)
    }
}

/// Who can change what comes over the wire can let anybody in, so only this machine is spoken to in plain text.
fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("`{url}` is no address: {error}"))?;
    let host = uri.host().unwrap_or_default();
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let has_password = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match uri.scheme_str() {
        _ if host.is_empty() => Err(format!("`{url}` has no host")),
        _ if has_password => Err("a user or password has no place in it".to_owned()),
        Some("https") => Ok(()),
        Some("http") if is_here => Ok(()),
        Some("http") => Err("must be https: over plain http anybody on the way could put in their own keys".to_owned()),
        _ => Err("must begin with https://".to_owned()),
    }
}

/// Reads a key set, bounded.
fn read(path: &Path) -> Result<Vec<Key>, String> {
    use std::io::Read as _;
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(keys::SET_BYTES as u64 + 1).read_to_end(&mut text).map_err(cannot)?;
    keys::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}
