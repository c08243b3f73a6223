//! Hostile input: nothing panics, everything is bounded, and the answer comes quickly.
//!
//! Time is the processor time of the thread where the system tells it, so that a busy machine does not fail the test.

use std::fmt::Write;

use portcullis_config::{FixedEnvironment, MAX_FILE_BYTES, MAX_MISTAKES, Mistake, Source, load};
use proptest::prelude::*;

use crate::sample::{Config, mistakes};

fn all_mistakes(text: impl Into<String>) -> Vec<Mistake> {
    load::<Config>(&Source::new("c.yaml", text), &FixedEnvironment::new()).err().unwrap_or_default()
}

/// Processor time of this thread in milliseconds.
fn used_ms() -> u128 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<u128>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_millis(), |nanoseconds| nanoseconds / 1_000_000)
}

#[test]
fn a_billion_laughs_are_refused_before_they_are_told() {
    let mut text = "a0: &a0 [ha, ha]\n".to_owned();
    for level in 1..50 {
        let previous = level - 1;
        writeln!(text, "a{level}: &a{level} [*a{previous}, *a{previous}, *a{previous}, *a{previous}]").unwrap();
    }
    let found = all_mistakes(text);
    assert_eq!(found.len(), MAX_MISTAKES + 1);
    assert!(
        found.iter().any(|mistake| mistake.message.starts_with("aliases (`*name`) are not supported")),
        "{found:?}"
    );
}

#[test]
fn size_nesting_and_number_of_values_are_bounded() {
    let text = |bytes: u64| " ".repeat(usize::try_from(bytes).unwrap());
    assert!(all_mistakes(text(MAX_FILE_BYTES)).is_empty());
    assert_eq!(mistakes(&text(MAX_FILE_BYTES + 1)), "c.yaml: is larger than 10 MiB");

    let nested = |depth: usize| format!("note: {}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(mistakes(&nested(63)), "c.yaml:1:7: note: expected text, got a list");
    assert_eq!(
        mistakes(&nested(64)),
        "c.yaml:1:7: note: expected text, got a list\nc.yaml:1:70: nested deeper than 64 lists and mappings"
    );
    // Deeper than what the parser itself counts.
    assert!(mistakes(&nested(100_000)).contains("not valid YAML: recursion limit exceeded"));

    let many = |count: usize| format!("trusted_proxies: [{}]", "10.0.0.1,".repeat(count));
    assert!(all_mistakes(many(100_000)).is_empty());
    assert!(mistakes(&many(500_001)).ends_with("more than 500000 values"));
}

#[test]
fn only_so_many_mistakes_are_told() {
    let found = all_mistakes(format!("trusted_proxies: [{}]", "x,".repeat(1000)));
    assert_eq!(found.len(), MAX_MISTAKES + 1);
    assert_eq!(found[MAX_MISTAKES].to_string(), "c.yaml: 900 further mistakes are left out");
}

/// A quarter of a mebibyte of a repeated text.
fn repeated(unit: &str) -> String {
    unit.repeat((1 << 18) / unit.len())
}

#[test]
fn hostile_texts_are_answered_quickly() {
    let mut texts: Vec<String> = [
        "[", "{", "{a: ", "- ", "? ", "\"", "'", "&a ", "!a ", "#\n", " ", "\n", "\t", ": ", "a: 1\n", "a\n", "%A\n",
        "---\n", "*a ", "<<: *a\n", "[[]],", "\r", "-\n", "|\n", "?:", "[{", "{?", "- [\n", "a: - ", "!<", "\0", "😀",
        "\u{feff}", "\\",
    ]
    .map(repeated)
    .into();
    texts.push((0..20_000).fold(String::new(), |text, n| text + &format!("workers{n}: 1\n")));
    texts.push((0..2_000).fold(String::new(), |text, n| text + &format!("{}a:\n", " ".repeat(n))));
    for (before, unit, after) in [
        ("", "a", ": 1"),
        ("\"", "a", "\": 1"),
        ("preset: ", "a", ""),
        ("note: |\n", " \n", ""),
        ("note: >\n", " a\n\n", ""),
        ("note: \"", "\n", "\""),
        ("note: '", "${A:-}", "'"),
        ("note: '", "${", "'"),
        ("note: '", "$${", "'"),
        ("note: '", "$", "'"),
        ("{\"note\": \"", "\\ud83d\\ude00", "\"}"),
        ("routes:\n", "- name: a\n", ""),
        ("trusted_proxies: [", "1,", "]"),
        ("routes: [{name: a, paths: [", "x,", "]}]"),
        ("routes: [{name: a, rate_limit: [{limit: 1/s, by: [", "usr,", "]}]}]"),
        ("routes: [{name: a, rate_limit: [{limit: 1/s, by: [", "user,", "usr]}]}]"),
    ] {
        texts.push(format!("{before}{}{after}", repeated(unit)));
    }
    for text in texts {
        let start: String = text.chars().take(60).collect();
        let before = used_ms();
        all_mistakes(text);
        let used = used_ms() - before;
        // Without optimization the slowest takes a fifth of this. What grows with the square of the text takes far more.
        assert!(used < 5_000, "{used} ms for {start:?}");
    }
}

/// Pieces of config and YAML, so that chance finds more than syntax errors.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\n  ".to_owned()),
        Just("\n    ".to_owned()),
        "(version|limits|routes|upstreams|store|note|preset|total|workers|name|by|url|rate_limit|on_outage|stale)",
        "(: |- |\\? |, |\\[|\\]|\\{|\\}|\"|'|#|&a|\\*a|!t| \\||>|%|---|\\.\\.\\.|\\$\\{A\\}|\\$\\{|\\}|~|@|`|\t|\r)",
        "(1|0640|30s|1MiB|200/10s|10\\.0\\.0\\.0/8|true|no|null|\\.inf|user|x)",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        all_mistakes(String::from_utf8_lossy(&bytes).into_owned());
    }

    #[test]
    fn random_pieces_of_yaml_never_panic_and_mistakes_are_in_the_text(text in yaml_like()) {
        for mistake in all_mistakes(text.clone()) {
            // In YAML, a CR alone ends a line too.
            let lines = text.replace("\r\n", "\n").replace('\r', "\n");
            let line = lines.lines().nth(mistake.line.max(1) - 1);
            prop_assert!(mistake.line >= 1 && (line.is_some() || mistake.line == 1), "{mistake} in {text:?}");
            let width = line.unwrap_or_default().chars().count();
            prop_assert!(mistake.column >= 1 && mistake.column <= width + 1, "{mistake} in {text:?}");
        }
    }

    #[test]
    fn random_text_in_a_value_stays_that_text(text in "\\PC{0,20}") {
        let quoted = serde_json::Value::from(text.replace("${", "$${")).to_string();
        let loaded = crate::sample::read(&format!("{{\"note\": {quoted}}}"));
        prop_assert_eq!(loaded.map(|loaded| loaded.value.note), Ok(Some(text)));
    }

    #[test]
    fn random_variables_never_change_the_structure(value in "\\PC{0,20}|[\\n :#,{}\\[\\]'\"&*!|>%-]{0,10}") {
        let world = FixedEnvironment::new().with_variable("V", &value).with_variable("PORTCULLIS__STORE__URL", &value);
        let loaded = crate::sample::read_in("note: ${V}\nstore: { url: u, key: '${V}' }\n", &world);
        let config = loaded.map_err(TestCaseError::fail)?.value;
        prop_assert_eq!(config.note.as_deref(), Some(value.as_str()));
        let store = config.store.expect("the file has a store");
        prop_assert_eq!((store.url.as_str(), store.key.expose()), (value.as_str(), value.as_str()));
        prop_assert!(config.routes.is_empty() && config.upstreams.is_empty());
    }
}
