//! Positions and mistakes of a config that was read, the config in force, and differences.

use portcullis_config::{FixedEnvironment, Loaded, diff, effective, effective_value};

use crate::sample::{Config, read, read_in};

const TEXT: &str = "\
version: 1
limits:
  workers: 3
routes:
  - name: a
    rate_limit:
      - limit: 1/s
        by: [user]
upstreams: { b.c: { url: x } }
";

#[test]
fn positions_of_what_is_in_the_file() {
    let loaded = read(TEXT).unwrap();
    for (path, expected) in [
        ("", Some((1, 1))),
        ("version", Some((1, 10))),
        ("limits", Some((3, 3))),
        ("limits.workers", Some((3, 12))),
        ("routes[0]", Some((5, 5))),
        ("routes[0].rate_limit[0].limit", Some((7, 16))),
        ("routes[0].rate_limit[0].by[0]", Some((8, 14))),
        ("upstreams[\"b.c\"].url", Some((9, 26))),
        ("limits.total", None),
        ("routes[1]", None),
        ("routes.name", None),
        ("version.x", None),
        ("..", None),
    ] {
        assert_eq!(loaded.position_of(path), expected, "{path}");
    }
    assert_eq!(loaded.file(), "c.yaml");
}

#[test]
fn later_mistakes_stand_at_the_value_or_around_it() {
    let loaded = read(TEXT).unwrap();
    for (path, expected) in [
        ("routes[0].name", "c.yaml:5:11: routes[0].name: no"),
        ("routes[0].on_outage.stale", "c.yaml:5:5: routes[0].on_outage.stale: no"),
        ("limits.total", "c.yaml:3:3: limits.total: no"),
        ("preset", "c.yaml:1:1: preset: no"),
        ("not a path[", "c.yaml:1:1: not a path[: no"),
        ("", "c.yaml:1:1: no"),
    ] {
        assert_eq!(loaded.mistake(path, "no").to_string(), expected);
    }
    let mapped = loaded.map(|config| config.version);
    assert_eq!((mapped.value, mapped.position_of("version")), (1, Some((1, 10))));
}

fn world() -> FixedEnvironment {
    FixedEnvironment::new()
        .with_file("/key", "s3cret-key")
        .with_file("/pin", "12")
        .with_variable("HOST", "db.internal")
        .with_variable("PASSWORD", "hunter2")
}

fn with_secrets(world: &FixedEnvironment) -> Loaded<Config> {
    read_in(
        "note: \"pin ${file:/pin}\"\n\
         limits: { workers: \"${file:/pin}\" }\n\
         store: { url: \"db://${HOST}?k=${file:/key}\", key: \"${PASSWORD}\" }\n\
         upstreams:\n  a: { url: \"$${x}\", password: written }\n  b: u\n\
         routes: [{ name: no, paths: [\"12\", s3cret-key-too, at 12] }]\n",
        world,
    )
    .expect("the text is right")
}

#[test]
fn the_config_in_force_has_all_defaults_and_no_secrets() {
    let shown = effective(&with_secrets(&world()));
    assert_eq!(
        shown,
        "\
version: 1
preset: production
limits:
  body_bytes: 1MiB
  total: 30s
  sample: 0.5
  workers: \"[secret]\"
  first_byte: null
  offset: 0
trusted_proxies: []
hide_version: false
upstreams:
  a:
    url: \"$${x}\"
    weight: 1
    password: \"[secret]\"
  b: u
routes:
  - name: \"no\"
    paths: [\"[secret]\", \"at 12\", s3cret-key-too]
    rate_limit: []
    on_outage: null
store:
  url: \"[secret]\"
  key: \"[secret]\"
note: \"[secret]\"
"
    );
}

#[test]
fn what_is_shown_without_secrets_reads_as_the_same_config() {
    let before = read(TEXT).unwrap();
    let after = read(&effective(&before)).unwrap();
    assert_eq!(effective_value(&before), effective_value(&after));
}

#[test]
fn a_secret_that_is_moved_or_repeated_is_masked_by_its_text() {
    let text = "store: { url: \"pre-${file:/key}\", key: \"s3cret-key\" }\nnote: my s3cret-key!\n";
    let shown = effective_value(&read_in(text, &world()).unwrap());
    assert_eq!(shown["note"], "[secret]");
}

#[test]
fn differences_name_keys_and_mask_secrets() {
    let changes =
        |a: &Loaded<Config>, b: &Loaded<Config>| diff(a, b).iter().map(ToString::to_string).collect::<Vec<_>>();
    let old = read(TEXT).unwrap();
    assert_eq!(changes(&old, &read(TEXT).unwrap()), Vec::<String>::new());
    let new = "version: 1\nlimits: { workers: 4 }\nroutes: [{ name: b }, { name: c }]\nnote: ${\n".replace("${", "a b");
    let new = read(&new).unwrap();
    assert_eq!(
        changes(&old, &new),
        [
            "limits.workers: 3 -> 4",
            "upstreams[\"b.c\"]: removed { url: x, weight: 1, password: null }",
            "routes[0].name: a -> b",
            "routes[0].rate_limit[0]: removed { limit: 1/1s, by: [user], algorithm: null }",
            "routes[1]: added { name: c, paths: [], rate_limit: [], on_outage: null }",
            "note: null -> \"a b\"",
        ]
    );
    let other = world().with_variable("PASSWORD", "other").with_file("/key", "other-key");
    assert_eq!(
        changes(&with_secrets(&world()), &with_secrets(&other)),
        ["store.url: \"[secret]\" -> \"[secret]\"", "store.key: \"[secret]\" -> \"[secret]\""]
    );
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", with_secrets(&world()));
    assert!(!shown.contains("hunter2"), "{shown}");
}
