//! What the operator writes about who is kept out, and the checked form.
//!
//! Files named here are read when the config is compiled, never later; the gateway compiles again when one of them changes.
//!
//! Invariant: a line that is no network is a mistake and never skipped, because a list that is half read is a gate half open.

use std::path::{Path, PathBuf};
use std::time::Duration as StdDuration;

use portcullis_core::units::{Cidr, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ladder::Ladder;
use crate::config::{Mistake, PathConfig};
use crate::login_watch;
use crate::networks::Networks;

/// The largest list file, in bytes.
const MOST_FILE_BYTES: u64 = 32 << 20;
/// Networks in one file after which reading stops.
const MOST_NETWORKS: usize = 1_000_000;
/// Wrong lines of one file that are told one by one.
const MOST_TOLD: usize = 5;
const YEAR: StdDuration = StdDuration::from_secs(366 * 86_400);

/// Who is kept out because of where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Networks that always pass this guard: neither the deny list nor a ban holds for them, and none of them is ever
    /// banned. Default: none.
    pub allow: Option<Vec<Cidr>>,
    /// Networks that are refused. Default: none.
    pub deny: Option<Vec<Cidr>>,
    /// Files with more networks to allow, one a line; what follows a `#` or `;` is a comment. Read again when they change.
    /// Default: none. Bounds: 32 MiB and 1000000 networks each.
    pub allow_files: Option<Vec<PathBuf>>,
    /// Files with more networks to refuse, as `allow_files`.
    pub deny_files: Option<Vec<PathBuf>>,
    /// How long the second ban of the same network lasts at least, the third, and so on; further ones last as long as the
    /// last. Holds for bans that the gateway places, not for a person's. Default: `[4h, 24h, 7d]`. Bounds: at most 16, each
    /// 1s to 366d and no shorter than the one before; an empty list lets bans never grow.
    pub ladder: Option<Vec<Duration>>,
    /// How far back a ban may have begun to count as a repeat; ended bans are forgotten after it. Default: 30d. Bounds: 1m to
    /// 366d.
    pub repeat_within: Option<Duration>,
    /// When many networks of one wider IPv6 network are banned, all of it is.
    pub ipv6_wide: Option<WideConfig>,
    /// Most networks that are remembered, banned now or before; those that are only remembered give way first. When all are
    /// banned, no further one is, and a metric and the log say so. Default: 65536. Bounds: 1 to 1000000.
    pub most_bans: Option<u32>,
    /// Bans addresses after failed logins, on all routes or those with these paths. Default: off; `{}` turns it on.
    pub login_watch: Option<login_watch::Config>,
}

/// When all of a wider IPv6 network is banned, because providers give a customer many networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WideConfig {
    /// How many leading bits make the wider network. Default: 56. Bounds: 32 to 127, and less than
    /// `client_address.ipv6_prefix`; where that is not so and nothing is written, there is no wider network.
    pub prefix: Option<u8>,
    /// How many different networks inside it must be banned. Default: 4. Bounds: 2 to 1000; 0 turns it off.
    pub networks: Option<u32>,
    /// How far back their bans may have begun. Default: 24h. Bounds: 1m to 366d.
    pub within: Option<Duration>,
}

/// When all of a wider IPv6 network is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    pub(crate) prefix: u8,
    pub(crate) networks: u32,
    pub(crate) within: StdDuration,
}

/// The checked form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) allow: Networks,
    pub(super) deny: Networks,
    pub(super) trusted: Networks,
    pub(super) ladder: Ladder,
    pub(super) wide: Option<Wide>,
    /// How many leading bits make one client.
    pub(super) ipv6_prefix: u8,
    pub(super) most: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            allow: Networks::default(),
            deny: Networks::default(),
            trusted: Networks::default(),
            ladder: Ladder {
                rungs: [4, 24, 7 * 24].map(|hours| StdDuration::from_secs(hours * 3600)).into(),
                repeat_within: StdDuration::from_secs(30 * 86_400),
            },
            wide: Some(Wide { prefix: 56, networks: 4, within: StdDuration::from_secs(86_400) }),
            ipv6_prefix: 64,
            most: 65_536,
        }
    }
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        let rules = Rules::default();
        Config {
            allow: Some(Vec::new()),
            deny: Some(Vec::new()),
            allow_files: Some(Vec::new()),
            deny_files: Some(Vec::new()),
            ladder: Some(rules.ladder.rungs.iter().map(|rung| (*rung).into()).collect()),
            repeat_within: Some(rules.ladder.repeat_within.into()),
            ipv6_wide: None,
            most_bans: u32::try_from(rules.most).ok(),
            login_watch: None,
        }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            allow: self.allow.clone().or_else(|| base.allow.clone()),
            deny: self.deny.clone().or_else(|| base.deny.clone()),
            allow_files: self.allow_files.clone().or_else(|| base.allow_files.clone()),
            deny_files: self.deny_files.clone().or_else(|| base.deny_files.clone()),
            ladder: self.ladder.clone().or_else(|| base.ladder.clone()),
            repeat_within: self.repeat_within.or(base.repeat_within),
            ipv6_wide: self.ipv6_wide.clone().or_else(|| base.ipv6_wide.clone()),
            most_bans: self.most_bans.or(base.most_bans),
            login_watch: self.login_watch.clone().or_else(|| base.login_watch.clone()),
        }
    }

    /// The files it names, as written.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.allow_files.iter().chain(&self.deny_files).flatten()
    }
}

/// Checks the bounds and reads the files.
///
/// # Errors
/// Every value out of bounds; every file that cannot be read, with its first wrong lines.
pub(super) fn compile(config: &PathConfig) -> Result<Rules, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let own = &config.ip_block;
    let default = Rules::default();
    let mut wrong = |key: &str, message: String| mistakes.push(Mistake::new(format!("ip_block.{key}"), message));
    let ipv6_prefix = config.client_address.ipv6_prefix.unwrap_or(default.ipv6_prefix);
    let rungs: Box<[StdDuration]> = match &own.ladder {
        Some(rungs) => rungs.iter().map(|rung| **rung).collect(),
        None => default.ladder.rungs,
    };
    if rungs.len() > 16 {
        wrong("ladder", format!("has {} rungs, at most 16 are possible", rungs.len()));
    }
    for (place, rung) in rungs.iter().enumerate() {
        if !(StdDuration::from_secs(1)..=YEAR).contains(rung) {
            wrong(&format!("ladder[{place}]"), "must be between 1s and 366d".to_owned());
        } else if place > 0 && *rung < rungs[place - 1] {
            wrong(&format!("ladder[{place}]"), "must not be shorter than the one before".to_owned());
        }
    }
    let minute_to_year = StdDuration::from_secs(60)..=YEAR;
    let repeat_within = own.repeat_within.map_or(default.ladder.repeat_within, |time| *time);
    if !minute_to_year.contains(&repeat_within) {
        wrong("repeat_within", "must be between 1m and 366d".to_owned());
    }
    let most = own.most_bans.unwrap_or(65_536);
    if !(1..=1_000_000).contains(&most) {
        wrong("most_bans", format!("{most} is out of bounds: 1 to 1000000"));
    }
    let wide = wide(own.ipv6_wide.as_ref(), ipv6_prefix, &mut wrong);
    let mut list = |key: &str, networks: &Option<Vec<Cidr>>, files: &Option<Vec<PathBuf>>| {
        let mut all = networks.clone().unwrap_or_default();
        for (place, file) in files.iter().flatten().enumerate() {
            for message in read(&config.folder.join(file), &mut all).err().into_iter().flatten() {
                wrong(&format!("{key}_files[{place}]"), message);
            }
        }
        Networks::new(&all)
    };
    let allow = list("allow", &own.allow, &own.allow_files);
    let deny = list("deny", &own.deny, &own.deny_files);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Rules {
        allow,
        deny,
        trusted: Networks::new(&config.trusted_proxies),
        ladder: Ladder { rungs, repeat_within },
        wide,
        ipv6_prefix,
        most: most as usize,
    })
}

fn wide(own: Option<&WideConfig>, ipv6_prefix: u8, wrong: &mut impl FnMut(&str, String)) -> Option<Wide> {
    let default = WideConfig::default();
    let own = own.unwrap_or(&default);
    let prefix = own.prefix.unwrap_or(56);
    let networks = own.networks.unwrap_or(4);
    let within = own.within.map_or(StdDuration::from_secs(86_400), |time| *time);
    if own.prefix.is_some() && (!(32..=127).contains(&prefix) || prefix >= ipv6_prefix) {
        wrong(
            "ipv6_wide.prefix",
            format!("{prefix} must be 32 to 127 and less than client_address.ipv6_prefix, {ipv6_prefix}"),
        );
    }
    if networks == 1 || networks > 1000 {
        wrong("ipv6_wide.networks", format!("{networks} is out of bounds: 2 to 1000, or 0 for off"));
    }
    if !(StdDuration::from_secs(60)..=YEAR).contains(&within) {
        wrong("ipv6_wide.within", "must be between 1m and 366d".to_owned());
    }
    (networks > 1 && prefix < ipv6_prefix).then_some(Wide { prefix, networks, within })
}

/// Adds the networks of a file to `all`.
fn read(path: &Path, all: &mut Vec<Cidr>) -> Result<(), Vec<String>> {
    let told = |why: String| vec![format!("{}: {why}", path.display())];
    let length = std::fs::metadata(path).map_err(|error| told(error.to_string()))?.len();
    if length > MOST_FILE_BYTES {
        return Err(told(format!("has {length} bytes, at most {MOST_FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for (place, line) in text.lines().enumerate() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match line.parse() {
            Ok(network) => all.push(network),
            Err(error) => wrong.push(format!("{}:{}: {error}", path.display(), place + 1)),
        }
        count += 1;
        if count > MOST_NETWORKS {
            return Err(told(format!("has more than {MOST_NETWORKS} networks")));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let left = wrong.len().saturating_sub(MOST_TOLD);
    wrong.truncate(MOST_TOLD);
    if left > 0 {
        wrong.push(format!("{}: {left} more wrong lines", path.display()));
    }
    Err(wrong)
}
