//! Config: any text is a config or a list of mistakes with places, and what is printed of it is a config again.
//!
//! Invariant: no text makes it panic, loop, or tell what came from a secret file.

use portcullis_config::{FixedEnvironment, Loaded, MAX_MISTAKES, Source, effective, load};
use portcullis_gateway::config::Config;
use portcullis_gateway::running::Running;

const SECRET: &str = "never-to-be-told-7f3a";

/// Any bytes as a config file.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let environment =
        FixedEnvironment::new().with_variable("PORT", "8080").with_variable("NAME", "app").with_every_file(SECRET);
    let source = Source::new("c.yaml", text);
    let lines = text.split(['\r', '\n']).count();
    let loaded: Loaded<Config> = match load(&source, &environment) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            assert!(!mistakes.is_empty() && mistakes.len() <= MAX_MISTAKES + 1, "{} mistakes", mistakes.len());
            for mistake in &mistakes {
                assert!(mistake.line <= lines, "{mistake} is behind the end");
                assert!(!mistake.to_string().contains(SECRET), "{mistake} tells a secret");
            }
            return;
        }
    };
    let printed = effective(&loaded);
    assert!(!printed.contains(SECRET), "a secret is printed");
    // A secret is printed as a word that no config may hold.
    if !text.contains("${") && !printed.contains("[secret]") {
        let again: Loaded<Config> = load(&Source::new("c.yaml", printed.as_str()), &environment)
            .unwrap_or_else(|mistakes| panic!("what is printed is no config: {mistakes:?}\n{printed}"));
        assert_eq!(effective(&again), printed, "printed twice");
    }
    let standing = crate::standing();
    if let Err(mistakes) = Running::compile(loaded.value.clone(), standing.ground(), None) {
        assert!(!mistakes.is_empty());
        for mistake in mistakes {
            let told = loaded.mistake(&mistake.path, mistake.message.clone());
            assert!(told.line <= lines, "{told} is behind the end");
        }
    }
}
