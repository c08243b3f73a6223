//! `PORTCULLIS__A__B`: which values it sets, and what it refuses.

use portcullis_config::{FixedEnvironment, Origin};

use crate::sample::{Upstream, mistakes_in, read_in};

fn world(variables: &[(&str, &str)]) -> FixedEnvironment {
    variables.iter().fold(FixedEnvironment::new(), |world, (name, value)| world.with_variable(name, value))
}

#[test]
fn single_values_are_set_in_the_file_and_beside_it() {
    let text = "limits: { workers: 3 }\nupstreams: { my-app: { url: a } }\nroutes: [{ name: a }]\ntrusted_proxies: [10.0.0.0/8]\n";
    let loaded = read_in(
        text,
        &world(&[
            ("PORTCULLIS__LIMITS__WORKERS", "9"),
            ("PORTCULLIS__limits__Total", "5s"),
            ("PORTCULLIS__HIDE_VERSION", "true"),
            ("PORTCULLIS__NOTE", "${HOME} 5"),
            ("PORTCULLIS__UPSTREAMS__MY_APP__URL", "b"),
            ("PORTCULLIS__UPSTREAMS__OTHER__URL", "c"),
            ("PORTCULLIS__UPSTREAMS__SHORT", "d"),
            ("PORTCULLIS__ROUTES__0__NAME", "b"),
            ("PORTCULLIS__ROUTES__1__NAME", "c"),
            ("PORTCULLIS__TRUSTED_PROXIES__0", "192.0.2.1"),
            ("PORTCULLIS__TRUSTED_PROXIES__1", "192.0.2.2"),
            ("PORTCULLIS__STORE__URL", "s"),
            ("PORTCULLIS__STORE__KEY", "12345"),
            ("PORTCULLIS_CONFIG", "not an override"),
        ]),
    )
    .unwrap();
    let config = &loaded.value;
    assert_eq!((config.guards.limits.workers, config.guards.limits.total.as_secs()), (9, 5));
    assert!(config.guards.hide_version);
    assert_eq!(config.note.as_deref(), Some("${HOME} 5"));
    assert!(matches!(&config.upstreams["my-app"], Upstream::Full(target) if target.url == "b"));
    assert!(matches!(&config.upstreams["other"], Upstream::Full(target) if target.url == "c"));
    assert_eq!(config.upstreams["short"], Upstream::Url("d".into()));
    let names: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    let proxies: Vec<_> = config.guards.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(config.store.as_ref().unwrap().key.expose(), "12345");
    let origin = Origin::Override { name: "PORTCULLIS__LIMITS__WORKERS".into() };
    assert_eq!(loaded.origin_of("limits.workers"), Some(&origin));
    assert_eq!(loaded.position_of("limits.workers"), None);
    assert_eq!(
        loaded.mistake("limits.workers", "too many").to_string(),
        "environment variable PORTCULLIS__LIMITS__WORKERS: limits.workers: too many"
    );
}

#[test]
fn list_items_are_added_in_the_order_of_their_numbers() {
    let names: Vec<String> = (0..12).map(|index| format!("PORTCULLIS__ROUTES__{index}__NAME")).collect();
    let variables: Vec<_> = names.iter().map(|name| (name.as_str(), "r")).collect();
    assert_eq!(read_in("", &world(&variables)).unwrap().value.routes.len(), 12);
}

#[test]
fn wrong_overrides_name_the_variable_and_never_the_value() {
    let text = "limits: { total: 1s }\nupstreams: { a-b: x, a.b: y }\nnote: n\n";
    for (name, expected) in [
        ("LIMITS__WORKER", "limits: unknown key `worker` (did you mean `workers`?)"),
        (
            "QUARK",
            "unknown key `quark`; allowed: `version`, `preset`, `limits`, `trusted_proxies`, `hide_version`, `upstreams`, `routes`, `store`, `note`",
        ),
        ("LIMITS", "limits: only single values can be overridden, this is a mapping"),
        ("TRUSTED_PROXIES", "trusted_proxies: only single values can be overridden, this is a list"),
        ("NOTE__X", "note: has no key `x`: the file gives a single value here"),
        ("ROUTES__1__NAME", "routes: the list has 0 items, so that [1] cannot be set"),
        ("ROUTES__X__NAME", "routes: `X` is not an index: the items of a list are numbered from 0"),
        ("UPSTREAMS__A_B", "upstreams: `A_B` may mean `a-b` or `a.b`"),
        ("LIMITS____WORKERS", "does not name a key: write PORTCULLIS__KEY__KEY"),
        ("", "does not name a key: write PORTCULLIS__KEY__KEY"),
        ("LIMITS__WORKERS", "limits.workers: the value is not a whole number from 1 to 64"),
        ("LIMITS__TOTAL", "limits.total: the value is not a duration such as `30s`"),
        ("PRESET", "preset: the value is not one of `production`, `development`"),
    ] {
        let name = format!("PORTCULLIS__{name}");
        let said = mistakes_in(text, &world(&[(&name, "hunter2")]));
        assert_eq!(said, format!("environment variable {name}: {expected}"));
    }
}

#[test]
fn what_an_override_leaves_open_is_reported_at_the_variable() {
    let said = mistakes_in("", &world(&[("PORTCULLIS__STORE__URL", "x")]));
    assert_eq!(said, "environment variable PORTCULLIS__STORE__URL: store.key: the required key is missing");
}
