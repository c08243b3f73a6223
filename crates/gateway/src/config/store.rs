//! What the operator writes about the durable store.
//!
//! Invariant: what is written is understood whole or refused; there is no store by accident.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is remembered beyond the process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite:portcullis.db` for a file, beside the config file or with a whole path (`sqlite:///var/lib/portcullis/portcullis.db`);
    /// `memory:` for nothing beyond the process: bans and permissions are then forgotten at a restart, and the start says so.
    /// Default: `memory:`.
    pub url: String,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig { url: "memory:".to_owned() }
    }
}

/// Where things are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// In this process.
    Memory,
    /// In this file, as it is written.
    Sqlite(PathBuf),
}

impl StoreConfig {
    /// Reads the URL.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn place(&self) -> Result<StorePlace, String> {
        let url = &self.url;
        let example = "write `sqlite:portcullis.db` or `memory:`";
        match url.split_once(':') {
            Some(("memory", "")) => Ok(StorePlace::Memory),
            Some(("sqlite", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.ends_with('/') || path.starts_with(':') || path.contains(['?', '#']) {
                    return Err(format!("`{url}` names no file: {example}"));
                }
                Ok(StorePlace::Sqlite(PathBuf::from(path)))
            }
            Some(("postgres" | "postgresql", _)) => Err(format!("Postgres is not available yet: {example}")),
            _ => Err(format!("`{url}` is no store: {example}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_or_say_what_would() {
        let place = |url: &str| StoreConfig { url: url.to_owned() }.place();
        let file = |path: &str| Ok(StorePlace::Sqlite(PathBuf::from(path)));
        assert_eq!(place("memory:"), Ok(StorePlace::Memory));
        assert_eq!(place("sqlite:a.db"), file("a.db"));
        assert_eq!(place("sqlite:///var/a.db"), file("/var/a.db"));
        assert_eq!(place("sqlite:/var/a.db"), file("/var/a.db"));
        for wrong in [
            "",
            "a.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a/",
            "sqlite:a.db?mode=ro",
            "postgres://a",
            "memory:x",
            "mysql:a",
        ] {
            assert!(place(wrong).is_err_and(|why| why.contains("sqlite:portcullis.db")), "{wrong}");
        }
    }
}
