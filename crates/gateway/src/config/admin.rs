//! What the operator writes about the admin listener, and the checked form of its tokens.
//!
//! Invariant: without a token there is no listener; a token itself never stands in a config, only its SHA-256.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_core::clock::Now;
use portcullis_guards::config::Mistake;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Most tokens.
const MOST_TOKENS: usize = 100;
/// Most changes of one token in a second.
const MOST_CHANGES: u64 = 20;

/// The listener for programs and people who manage the gateway: `/api/v1/...`, with a token. Without tokens there is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where. A change needs a restart. Default: 127.0.0.1:9700. Elsewhere than on this machine only with `dangerous_plaintext`.
    pub address: SocketAddr,
    /// Names under which it is reached beside `localhost`, its address and 127.0.0.1: other values of `Host` are refused, so
    /// that no web page can reach it through a name of its own.
    #[schemars(length(max = 32))]
    pub hosts: Vec<String>,
    /// Who may ask what. `portcullis admin-token` makes one.
    #[schemars(length(max = 100))]
    pub tokens: Vec<TokenConfig>,
    /// Take tokens over plain HTTP from other machines, for example behind a proxy that ends TLS. Default: false.
    pub dangerous_plaintext: bool,
}

/// One token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Whose it is, in logs and in the record of acts. Letters, digits, `-`, `_` and `.`; at most 64; unique.
    pub name: String,
    /// The SHA-256 of the token, in hexadecimal, as `portcullis admin-token` prints it.
    pub sha256: String,
    /// What it may do: actions as `bans.add`, all of a kind as `bans.*`, or `*`.
    pub scopes: Vec<String>,
    /// When it ends, as `2027-01-31T00:00:00Z`. Default: never.
    pub expires: Option<String>,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            address: SocketAddr::from(([127, 0, 0, 1], 9700)),
            hosts: Vec::new(),
            tokens: Vec::new(),
            dangerous_plaintext: false,
        }
    }
}

/// A token in its checked form.
pub struct Token {
    /// Whose it is.
    pub name: Box<str>,
    /// The hash of it.
    pub sha256: [u8; 32],
    /// When it ends, in milliseconds since 1970.
    pub expires_unix_millis: Option<u64>,
    scopes: Box<[Box<str>]>,
    /// The last second in which something was changed, and how often.
    changes: AtomicU64,
}

impl Token {
    /// Whether it may do this kind of act.
    #[must_use]
    pub fn may(&self, action: &str) -> bool {
        self.scopes.iter().any(|scope| match scope.strip_suffix('*') {
            Some(kind) => action.starts_with(kind),
            None => **scope == *action,
        })
    }
}

impl Token {
    /// Counts a change; whether it is one of the first [`MOST_CHANGES`] of this second. Otherwise a token that leaked could fill
    /// the record of acts until those of others are forgotten.
    #[must_use]
    pub fn may_change_now(&self, now: &Now) -> bool {
        let second = (now.monotonic_nanos / 1_000_000_000) << 8;
        let counted = self.changes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            let count = if last & !0xff == second { last & 0xff } else { 0 };
            (count < MOST_CHANGES).then_some(second | (count + 1))
        });
        counted.is_ok()
    }
}

impl AdminConfig {
    /// Whether there is a listener.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Checks everything. `knows` says whether there is an action that a scope may name.
    ///
    /// # Errors
    /// Every mistake.
    pub fn compile(&self, knows: impl Fn(&str) -> bool) -> Result<Vec<Token>, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut wrong = |at: String, why: &str| mistakes.push(Mistake::new(format!("admin.{at}"), why));
        if self.is_on() && !self.address.ip().is_loopback() && !self.dangerous_plaintext {
            wrong(
                "address".to_owned(),
                "tokens would cross the network in plain text: listen on 127.0.0.1 (over ssh, or behind a proxy that ends \
                 TLS), or say `dangerous_plaintext: true`",
            );
        }
        if self.tokens.len() > MOST_TOKENS {
            wrong("tokens".to_owned(), "at most 100");
        }
        if self.hosts.len() > 32 || self.hosts.iter().any(|host| !is_name(host)) {
            wrong("hosts".to_owned(), "at most 32 names without a port, of letters, digits, `-`, `_` and `.`");
        }
        let mut tokens = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let at = |key: &str| format!("tokens[{index}].{key}");
            if !is_name(&token.name) {
                wrong(at("name"), "1 to 64 letters, digits, `-`, `_` and `.`");
            }
            if self.tokens[..index].iter().any(|earlier| earlier.name == token.name) {
                wrong(at("name"), "another token has this name");
            }
            let sha256 = hash_of(&token.sha256);
            if self.tokens[..index].iter().any(|earlier| earlier.sha256.eq_ignore_ascii_case(&token.sha256)) {
                wrong(at("sha256"), "another token is the same: one token has one name");
            }
            if sha256.is_none() {
                wrong(at("sha256"), "64 hexadecimal digits, as `portcullis admin-token` prints them");
            }
            if token.scopes.is_empty() {
                wrong(at("scopes"), "what may it do? For example `bans.list`, `bans.*`, or `*`");
            }
            for scope in &token.scopes {
                let is_kind = scope == "*" || scope.ends_with(".*");
                if !knows(scope) || (!is_kind && scope.contains('*')) {
                    wrong(
                        at("scopes"),
                        &format!("`{scope}` is no action of the API; `portcullis admin-token --scopes` lists them"),
                    );
                }
            }
            let expires = token.expires.as_deref().map(unix_millis_of);
            if expires == Some(None) {
                wrong(at("expires"), "a time as 2027-01-31T00:00:00Z");
            }
            tokens.push(Token {
                name: token.name.as_str().into(),
                sha256: sha256.unwrap_or_default(),
                expires_unix_millis: expires.flatten(),
                changes: AtomicU64::new(0),
                scopes: token.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            });
        }
        if mistakes.is_empty() { Ok(tokens) } else { Err(mistakes) }
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}

fn unix_millis_of(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, place) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[place..place + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(scopes: &[&str]) -> TokenConfig {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        TokenConfig { name: "ci".to_owned(), sha256: "ab".repeat(32), scopes, expires: None }
    }

    fn knows(scope: &str) -> bool {
        ["*", "bans.*", "bans.add", "life.read"].contains(&scope)
    }

    #[test]
    fn scopes_allow_what_they_name_and_nothing_else() {
        for (scope, action, expected) in [
            ("bans.add", "bans.add", true),
            ("bans.add", "bans.remove", false),
            ("bans.*", "bans.add", true),
            ("bans.*", "bansx.add", false),
            ("*", "life.read", true),
            ("life.read", "life.rea", false),
        ] {
            let config = AdminConfig { tokens: vec![token(&[scope])], ..AdminConfig::default() };
            let tokens = config.compile(knows).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
            assert_eq!(tokens[0].may(action), expected, "{scope} {action}");
        }
    }

    #[test]
    fn a_token_changes_twenty_things_a_second() {
        let config = AdminConfig { tokens: vec![token(&["*"])], ..AdminConfig::default() };
        let tokens = config.compile(knows).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let at = |second: u64| Now { monotonic_nanos: second * 1_000_000_000 + 7, unix_millis: 0 };
        for second in [5, 6, 900] {
            let counted = (0..50).filter(|_| tokens[0].may_change_now(&at(second))).count();
            assert_eq!(counted, 20, "in second {second}");
        }
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let public = SocketAddr::from(([0, 0, 0, 0], 9700));
        let cases: Vec<(AdminConfig, &str)> = vec![
            (AdminConfig { address: public, tokens: vec![token(&["*"])], ..AdminConfig::default() }, "admin.address"),
            (AdminConfig { tokens: vec![token(&[])], ..AdminConfig::default() }, "admin.tokens[0].scopes"),
            (AdminConfig { tokens: vec![token(&["bans.ad"])], ..AdminConfig::default() }, "admin.tokens[0].scopes"),
            (AdminConfig { tokens: vec![token(&["b*"])], ..AdminConfig::default() }, "admin.tokens[0].scopes"),
            (
                AdminConfig {
                    tokens: vec![token(&["*"]), TokenConfig { sha256: "cd".repeat(32), ..token(&["*"]) }],
                    ..AdminConfig::default()
                },
                "admin.tokens[1].name",
            ),
            (
                AdminConfig {
                    tokens: vec![TokenConfig { sha256: "ab".to_owned(), ..token(&["*"]) }],
                    ..AdminConfig::default()
                },
                "admin.tokens[0].sha256",
            ),
            (
                AdminConfig {
                    tokens: vec![TokenConfig { expires: Some("soon".to_owned()), ..token(&["*"]) }],
                    ..AdminConfig::default()
                },
                "admin.tokens[0].expires",
            ),
            (AdminConfig { hosts: vec!["a:1".to_owned()], ..AdminConfig::default() }, "admin.hosts"),
            (
                AdminConfig {
                    tokens: vec![token(&["*"]), TokenConfig { name: "b".to_owned(), ..token(&["*"]) }],
                    ..AdminConfig::default()
                },
                "admin.tokens[1].sha256",
            ),
        ];
        for (config, at) in cases {
            let mistakes = config.compile(knows).err().unwrap_or_default();
            assert!(mistakes.len() == 1 && mistakes[0].path == at, "{at}: {mistakes:?}");
        }
        assert!(
            AdminConfig { address: public, ..AdminConfig::default() }.compile(knows).is_ok(),
            "nobody listens there"
        );
    }
}
