//! Every kind of mistake, with the exact line that the operator reads.

use crate::sample::{Outage, Preset, Upstream, mistakes, read};

/// Text, and the mistakes it must give.
type Case = (&'static str, &'static str);

#[track_caller]
fn all(cases: &[Case]) {
    for (text, expected) in cases {
        assert_eq!(mistakes(text), *expected, "\n--- of\n{text}");
    }
}

#[test]
fn a_right_config_reads() {
    let loaded = read(
        "version: 1\npreset: development\nlimits: { body_bytes: 10MiB, total: 1h30m, sample: 1, offset: -3 }\n\
         trusted_proxies: [10.0.0.0/8, \"::1\"]\nhide_version: true\nnote: no\n\
         upstreams:\n  a: http://a\n  b: { url: http://b, weight: 0x10 }\n\
         routes:\n- name: api\n  rate_limit:\n  - { limit: 200/10s, by: [user, header:X], algorithm: { type: sliding_window, parts: 4 } }\n  \
         on_outage: { stale: 5m }\n- { name: b, on_outage: open }\n",
    )
    .unwrap();
    let config = loaded.value;
    assert_eq!((config.version, config.preset), (1, Preset::Development));
    assert_eq!(config.guards.limits.total.as_secs(), 5400);
    assert_eq!((config.guards.limits.sample, config.guards.limits.workers, config.guards.limits.offset), (1.0, 2, -3));
    assert_eq!(config.guards.trusted_proxies.len(), 2);
    assert_eq!(config.note.as_deref(), Some("no"));
    assert_eq!(config.upstreams["a"], Upstream::Url("http://a".into()));
    assert!(matches!(&config.upstreams["b"], Upstream::Full(target) if target.weight == 16));
    assert_eq!(config.routes[0].on_outage, Some(Outage::Stale("5m".parse().unwrap())));
    assert_eq!(config.routes[1].on_outage, Some(Outage::Open));
}

#[test]
fn an_empty_file_is_all_defaults_and_json_is_yaml() {
    for text in ["", "# nothing\n", "---\n", "{}", "\u{feff}", "null"] {
        assert_eq!(read(text).unwrap().value.guards.limits.workers, 2, "{text:?}");
    }
    let json = "\u{feff}{\r\n\t\"version\": 1,\r\n\t\"routes\": [{\"name\":\"a\\u00e9\\/\", \"paths\":[\"/\\n\"]}],\r\n\t\"note\": null\r\n}\r\n";
    let config = read(json).unwrap().value;
    assert_eq!(config.routes[0].name, "aé/");
    assert!(config.routes[0].paths.contains("/\n"));
}

#[test]
fn syntax() {
    all(&[
        (
            "version: 1\nlimits: [1, 2",
            "c.yaml:2:9: limits: expected a mapping, got a list\nc.yaml:2:14: limits[2]: not valid YAML: while parsing a flow sequence, expected ',' or ']'",
        ),
        ("version: 1\n---\nversion: 1\n", "c.yaml:2:1: a second document begins here: a config is one YAML document"),
        ("? [a]\n: 1\n", "c.yaml:1:3: a key must be a single text, not a list or a mapping"),
        ("note: &a x\n", "c.yaml:1:7: note: anchors (`&name`) are not supported: write the value out where it is used"),
        (
            "limits: &a {}\nnote: *a\n",
            "c.yaml:1:9: limits: anchors (`&name`) are not supported: write the value out where it is used\n\
             c.yaml:2:7: note: aliases (`*name`) are not supported: write the value out",
        ),
        ("note: !!str 5\n", "c.yaml:1:7: note: tags (`!name`) are not supported: quotes make a text"),
        ("- a\n", "c.yaml:1:1: expected a mapping, got a list"),
        ("just text\n", "c.yaml:1:1: expected a mapping, got the text `just text`"),
    ]);
}

#[test]
fn what_is_before_a_syntax_error_is_checked_too() {
    all(&[(
        "verson: 1\nroutes:\n- paths: [a]\n  rate_limit: 5\nlimits: {\n",
        "c.yaml:1:1: verson: unknown key (did you mean `version`?)\n\
         c.yaml:4:15: routes[0].rate_limit: expected a list, got the number `5`\n\
         c.yaml:5:10: limits: not valid YAML: while parsing a node, did not find expected node content",
    )]);
}

#[test]
fn keys() {
    all(&[
        ("version: 1\nversion: 1\n", "c.yaml:2:1: version: the key is already given at line 1"),
        (
            "limits:\n  total: 1s\n  workers: 1\n  total: 2s\n",
            "c.yaml:4:3: limits.total: the key is already given at line 2",
        ),
        ("limits: { bodyBytes: 1MiB }\n", "c.yaml:1:11: limits.bodyBytes: unknown key (did you mean `body_bytes`?)"),
        (
            "upstreams:\n  a: { url: x, frequency: 1 }\n",
            "c.yaml:2:16: upstreams.a.frequency: unknown key; allowed: `url`, `weight`, `password`",
        ),
        // Both keys are near, but `total` is already there.
        ("limits: { total: 1s, totol: 1s }\n", "c.yaml:1:22: limits.totol: unknown key (did you mean `total`?)"),
        ("upstreams:\n  a: { weight: 2 }\n", "c.yaml:2:6: upstreams.a.url: the required key is missing"),
        (
            "routes:\n  - paths: []\n  -\n    paths: []\n",
            "c.yaml:2:5: routes[0].name: the required key is missing\n\
             c.yaml:4:5: routes[1].name: the required key is missing",
        ),
        (
            "store: {}\n",
            "c.yaml:1:8: store.url: the required key is missing\nc.yaml:1:8: store.key: the required key is missing",
        ),
        (
            "upstreams:\n  a.b: 1\n",
            "c.yaml:2:8: upstreams[\"a.b\"]: expected text, got the number `1` (did you mean `\"1\"`?)",
        ),
    ]);
}

#[test]
fn types() {
    all(&[
        ("limits: 5\n", "c.yaml:1:9: limits: expected a mapping, got the number `5`"),
        ("limits:\n", "c.yaml:1:7: limits: expected a mapping, got nothing"),
        ("routes: { a: 1 }\n", "c.yaml:1:9: routes: expected a list, got a mapping"),
        ("note: [a]\n", "c.yaml:1:7: note: expected text, got a list"),
        ("note: 12\n", "c.yaml:1:7: note: expected text, got the number `12` (did you mean `\"12\"`?)"),
        ("note: true\n", "c.yaml:1:7: note: expected text, got `true` (did you mean `\"true\"`?)"),
        (
            "hide_version: yes\n",
            "c.yaml:1:15: hide_version: expected `true` or `false`, got the text `yes` (did you mean `true`?)",
        ),
        (
            "hide_version: off\n",
            "c.yaml:1:15: hide_version: expected `true` or `false`, got the text `off` (did you mean `false`?)",
        ),
        (
            "hide_version: ture\n",
            "c.yaml:1:15: hide_version: expected `true` or `false`, got the text `ture` (did you mean `true`?)",
        ),
        (
            "hide_version: \"true\"\n",
            "c.yaml:1:15: hide_version: expected `true` or `false`, got the text `true`; leave the quotes away",
        ),
        (
            "limits: { workers: many }\n",
            "c.yaml:1:20: limits.workers: expected a whole number from 1 to 64, got the text `many`",
        ),
        (
            "limits: { workers: \"5\" }\n",
            "c.yaml:1:20: limits.workers: expected a whole number from 1 to 64, got the text `5`; leave the quotes away",
        ),
        (
            "limits: { workers: 1.5 }\n",
            "c.yaml:1:20: limits.workers: expected a whole number from 1 to 64, got the number `1.5`",
        ),
        (
            "limits: { workers: 010 }\n",
            "c.yaml:1:20: limits.workers: `010` has a leading zero, which is read in two ways: write `10`, or `0o...` for octal",
        ),
        (
            "limits: { sample: half }\n",
            "c.yaml:1:19: limits.sample: expected a number from 0 to 1, got the text `half`",
        ),
        (
            "note: \"a\\u0007b\"\nlimits: \"a\\u0007b\"\n",
            "c.yaml:2:9: limits: expected a mapping, got the text `a\\u{7}b`",
        ),
    ]);
}

#[test]
fn bounds() {
    all(&[
        ("version: 2\n", "c.yaml:1:10: version: `2` is out of range: must be 1 to 1"),
        ("limits: { workers: 0 }\n", "c.yaml:1:20: limits.workers: `0` is out of range: must be 1 to 64"),
        ("limits: { offset: -129 }\n", "c.yaml:1:19: limits.offset: `-129` is out of range: must be -128 to 127"),
        ("limits: { sample: 1.01 }\n", "c.yaml:1:19: limits.sample: `1.01` is out of range: must be 0 to 1"),
        ("limits: { sample: .inf }\n", "c.yaml:1:19: limits.sample: `.inf` is out of range: must be 0 to 1"),
        (
            "limits: { workers: 99999999999999999999999999999999999999999999 }\n",
            "c.yaml:1:20: limits.workers: `99999999999999999999999999999999999999999999` is out of range: must be 1 to 64",
        ),
        ("routes: [{ name: \"\" }]\n", "c.yaml:1:18: routes[0].name: `` has 0 characters, must have 1 to 8 characters"),
        (
            "routes: [{ name: ninechars }]\n",
            "c.yaml:1:18: routes[0].name: `ninechars` has 9 characters, must have 1 to 8 characters",
        ),
        (
            "routes: [{ name: a, paths: [/x, /y, /x] }]\n",
            "c.yaml:1:37: routes[0].paths[2]: the same value is already given as item [0]",
        ),
        (
            "routes: [{ name: a, rate_limit: [{limit: 1/s}, {limit: 1/s}, {limit: 1/s}] }]\n",
            "c.yaml:1:33: routes[0].rate_limit: has 3 items, must have at most 2 items",
        ),
    ]);
}

#[test]
fn formats() {
    all(&[
        (
            "limits: { total: 30 }\n",
            "c.yaml:1:18: limits.total: `30` has no unit: write `30s` for seconds or `30ms` for milliseconds",
        ),
        (
            "limits: { total: \"30\" }\n",
            "c.yaml:1:18: limits.total: `30` has no unit: write `30s` for seconds or `30ms` for milliseconds",
        ),
        (
            "limits: { total: 5 minutes }\n",
            "c.yaml:1:18: limits.total: `5 minutes` is not a duration: write whole numbers with a unit, for example `1500ms` or `1h30m`",
        ),
        ("limits: { total: }\n", "c.yaml:1:16: limits.total: expected a duration such as `30s`, got nothing"),
        (
            "limits: { first_byte: true }\n",
            "c.yaml:1:23: limits.first_byte: expected a duration such as `30s`, got `true` (did you mean `\"true\"`?)",
        ),
        (
            "limits: { body_bytes: 1024 }\n",
            "c.yaml:1:23: limits.body_bytes: `1024` has no unit: write `1024B` for bytes, `1024KiB` or `1024MiB`",
        ),
        (
            "routes: [{ name: a, rate_limit: [{ limit: 200 }] }]\n",
            "c.yaml:1:43: routes[0].rate_limit[0].limit: `200` is not a rate: write COUNT/DURATION, for example `200/10s` or `100/m`",
        ),
        (
            "trusted_proxies: [10.1.0.0/8]\n",
            "c.yaml:1:19: trusted_proxies[0]: `10.1.0.0/8` has bits set behind its prefix: write `10.0.0.0/8` for the network",
        ),
    ]);
}

#[test]
fn enums() {
    all(&[
        ("preset: prod\n", "c.yaml:1:9: preset: `prod` is not allowed here; allowed: `production`, `development`"),
        ("preset: Production\n", "c.yaml:1:9: preset: `Production` is not allowed here (did you mean `production`?)"),
        ("preset:\n", "c.yaml:1:7: preset: expected one of `production`, `development`, got nothing"),
        ("preset: 1\n", "c.yaml:1:9: preset: `1` is not allowed here; allowed: `production`, `development`"),
        // Untagged: a text or a mapping.
        ("upstreams: { a: [1] }\n", "c.yaml:1:17: upstreams.a: expected text or a mapping, got a list"),
        (
            "upstreams: { a: { url: x, weight: -1 } }\n",
            "c.yaml:1:35: upstreams.a.weight: `-1` is out of range: must be 0 to 65535",
        ),
        // Externally tagged: a text, or a mapping with one key.
        (
            "routes: [{ name: a, on_outage: opn }]\n",
            "c.yaml:1:32: routes[0].on_outage: `opn` is not allowed here (did you mean `open`?)",
        ),
        (
            "routes: [{ name: a, on_outage: { stael: 5m } }]\n",
            "c.yaml:1:34: routes[0].on_outage.stael: unknown key (did you mean `stale`?)",
        ),
        (
            "routes: [{ name: a, on_outage: { stale: 5 } }]\n",
            "c.yaml:1:41: routes[0].on_outage.stale: `5` has no unit: write `5s` for seconds or `5ms` for milliseconds",
        ),
        (
            "routes: [{ name: a, on_outage: { serve: { sta: 1 } } }]\n",
            "c.yaml:1:41: routes[0].on_outage.serve.status: the required key is missing\nc.yaml:1:43: routes[0].on_outage.serve.sta: unknown key; allowed: `status`",
        ),
        (
            "routes: [{ name: a, on_outage: { stale: 5m, serve: {} } }]\n",
            "c.yaml:1:32: routes[0].on_outage: expected exactly one of the keys `stale`, `serve`, got 2",
        ),
    ]);
    let with = |algorithm: &str| {
        mistakes(&format!("routes: [{{name: a, rate_limit: [{{limit: 1/s, algorithm: {algorithm} }}]}}]"))
    };
    let at = "c.yaml:1:57: routes[0].rate_limit[0].algorithm";
    assert_eq!(
        with("{ burst: 1 }"),
        format!("{at}.type: the required key is missing; allowed: `token_bucket`, `sliding_window`")
    );
    assert_eq!(
        with("{ type: token_buckt }"),
        "c.yaml:1:65: routes[0].rate_limit[0].algorithm.type: `token_buckt` is not allowed here (did you mean `token_bucket`?)"
    );
    assert_eq!(with("{ type: sliding_window }"), format!("{at}.parts: the required key is missing"));
    assert_eq!(
        with("{ type: sliding_window, parts: 1, burst: 2 }"),
        "c.yaml:1:91: routes[0].rate_limit[0].algorithm.burst: unknown key; allowed: `type`, `parts`"
    );
    assert_eq!(with("token_bucket"), format!("{at}: expected a mapping, got the text `token_bucket`"));
}

#[test]
fn secrets_are_not_in_messages() {
    for (text, expected) in [
        ("store: { url: a, key: 123456 }\n", "c.yaml:1:23: store.key: write the value in quotes"),
        ("store: { url: a, key: }\n", "c.yaml:1:21: store.key: expected text, got nothing"),
        ("store: { url: a, key: [hunter2] }\n", "c.yaml:1:23: store.key: expected text, got a list"),
        (
            "store: { url: a, key: \"[secret]\" }\n",
            "c.yaml:1:23: store.key: `[secret]` only stands for a secret in printed config: give the secret itself",
        ),
    ] {
        assert_eq!(mistakes(text), expected);
    }
}

#[test]
fn all_at_once_and_in_the_order_of_the_file() {
    all(&[(
        "routes:\n- nam: a\n  on_outage: 7\nlimits:\n  total: 5\n  workers: 0\npreset: x\nversion: one\nversion: 1\n",
        "c.yaml:2:3: routes[0].nam: unknown key (did you mean `name`?)\n\
         c.yaml:2:3: routes[0].name: the required key is missing\n\
         c.yaml:3:14: routes[0].on_outage: `7` is not allowed here; allowed: `open`, `closed`\n\
         c.yaml:5:10: limits.total: `5` has no unit: write `5s` for seconds or `5ms` for milliseconds\n\
         c.yaml:6:12: limits.workers: `0` is out of range: must be 1 to 64\n\
         c.yaml:7:9: preset: `x` is not allowed here; allowed: `production`, `development`\n\
         c.yaml:8:10: version: expected a whole number from 1 to 1, got the text `one`\n\
         c.yaml:9:1: version: the key is already given at line 8",
    )]);
}

#[test]
fn what_only_the_type_knows_is_said_at_its_place_and_all_at_once() {
    all(&[
        (
            "routes:\n- name: a\n  rate_limit:\n  - limit: 1/s\n    by: [user, usr, tenant]\n",
            "c.yaml:5:16: routes[0].rate_limit[0].by[1]: `usr` is not user, tenant or header:NAME",
        ),
        (
            "routes:\n- name: a\n  rate_limit:\n  - limit: 1/s\n    by: [usr, user, usr]\n  - limit: 1/s\n    by:\n    - ten\n- name: b\n  rate_limit: [{ limit: 1/s, by: [x] }]\n",
            "c.yaml:5:10: routes[0].rate_limit[0].by[0]: `usr` is not user, tenant or header:NAME\n\
             c.yaml:5:21: routes[0].rate_limit[0].by[2]: `usr` is not user, tenant or header:NAME\n\
             c.yaml:8:7: routes[0].rate_limit[1].by[0]: `ten` is not user, tenant or header:NAME\n\
             c.yaml:10:35: routes[1].rate_limit[0].by[0]: `x` is not user, tenant or header:NAME",
        ),
    ]);
}
