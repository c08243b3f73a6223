//! `${...}`: what is put in, what it may become, and what it can never do.

use portcullis_config::{FixedEnvironment, Origin};

use crate::sample::{mistakes_in, read_in};

fn world() -> FixedEnvironment {
    FixedEnvironment::new()
        .with_variable("NAME", "from env")
        .with_variable("EMPTY", "")
        .with_variable("NUMBER", "7")
        .with_variable("BAD", "hunter2")
        .with_variable("YES", "true")
        .with_variable("EVIL", "x\nversion: 9 # {[")
        .with_file("/run/secrets/key", "s3cret\n")
        .with_file("/run/secrets/windows", "s3cret\r\n")
        .with_file("/run/secrets/two", "s3cret\n\n")
        .with_file("/run/secrets/latin", vec![0xe9])
        .with_file("/run/secrets/big", vec![b'x'; (1 << 20) + 1])
        .with_file("/run/secrets/limit", vec![b'x'; 1 << 20])
        .with_file("beside.txt", "beside")
}

fn note(text: &str) -> Option<String> {
    read_in(&format!("note: {text}\n"), &world()).expect("the text is right").value.note
}

#[test]
fn values_are_put_in() {
    for (text, expected) in [
        ("${NAME}", "from env"),
        ("\"<${NAME}>\"", "<from env>"),
        ("'${NAME}'", "from env"),
        ("a ${NAME} b ${NUMBER}", "a from env b 7"),
        ("${NUMBER}", "7"),
        ("${YES}", "true"),
        ("${EMPTY}", ""),
        ("${MISSING:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${NAME:-default}", "from env"),
        ("${MISSING:-}", ""),
        ("${MISSING:-a:-b}", "a:-b"),
        ("${file:/run/secrets/key}", "s3cret"),
        ("${file:/run/secrets/windows}", "s3cret"),
        ("${file:/run/secrets/two}", "s3cret\n"),
        ("${file:beside.txt}", "beside"),
        ("$${NAME}", "${NAME}"),
        ("a$${b}$$ $ $c", "a${b}$$ $ $c"),
        ("$$${NAME}", "$${NAME}"),
        // What is put in is not looked at again, and cannot make keys, lists or comments.
        ("${EVIL}", "x\nversion: 9 # {["),
    ] {
        assert_eq!(note(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn relative_secret_files_are_relative_to_the_config() {
    let world = FixedEnvironment::new().with_file("/etc/portcullis/note.txt", "n");
    let source = portcullis_config::Source::new("/etc/portcullis/c.yaml", "note: ${file:note.txt}");
    let loaded = portcullis_config::load::<crate::sample::Config>(&source, &world).unwrap();
    assert_eq!(loaded.value.note.as_deref(), Some("n"));
}

#[test]
fn a_lone_unquoted_interpolation_becomes_what_the_key_wants() {
    let loaded = read_in(
        "limits:\n  workers: ${NUMBER}\n  sample: ${MISSING:-0.25}\n  first_byte: ${MISSING:-5s}\nhide_version: ${YES}\n",
        &world(),
    );
    let guards = loaded.unwrap().value.guards;
    assert_eq!((guards.limits.workers, guards.limits.sample, guards.hide_version), (7, 0.25, true));
    assert_eq!(guards.limits.first_byte.map(|span| span.as_secs()), Some(5));
    // In JSON there is no other way to write it.
    let loaded = read_in("{\"limits\": {\"workers\": \"${NUMBER}\"}, \"hide_version\": \"${YES}\"}", &world());
    let guards = loaded.unwrap().value.guards;
    assert_eq!((guards.limits.workers, guards.hide_version), (7, true));
}

#[test]
fn an_unquoted_interpolation_in_braces_is_explained() {
    assert_eq!(
        mistakes_in("limits: { workers: ${NUMBER} }", &world()),
        "c.yaml:1:21: limits: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; \
         within `{ }` and `[ ]`, put a `${...}` in quotes"
    );
}

#[test]
fn wrong_interpolations_say_what_is_wrong_and_never_show_a_value() {
    for (text, expected) in [
        (
            "note: ${NAM}",
            "c.yaml:1:7: note: the environment variable `NAM` is not set; `${NAM:-...}` gives a default (did you mean `NAME`?)",
        ),
        (
            "note: ${X_Y_Z}",
            "c.yaml:1:7: note: the environment variable `X_Y_Z` is not set; `${X_Y_Z:-...}` gives a default",
        ),
        (
            "note: ${NAME",
            "c.yaml:1:7: note: `${` is not closed by `}`; write `$${` where the two signs themselves are meant",
        ),
        (
            "note: ${}",
            "c.yaml:1:7: note: `${}` is not an interpolation: write `${NAME}`, `${NAME:-default}` or `${file:PATH}`",
        ),
        (
            "note: ${1A}",
            "c.yaml:1:7: note: `${1A}` is not an interpolation: write `${NAME}`, `${NAME:-default}` or `${file:PATH}`",
        ),
        (
            "note: ${A-B}",
            "c.yaml:1:7: note: `${A-B}` is not an interpolation: write `${NAME}`, `${NAME:-default}` or `${file:PATH}`",
        ),
        ("note: \"${A:-${B}}\"", "c.yaml:1:7: note: `${A:-${B}` holds another `${`: interpolations do not nest"),
        ("note: ${file:}", "c.yaml:1:7: note: `${file:}` names no file"),
        ("note: ${file:/none}", "c.yaml:1:7: note: the secret file `/none` cannot be read: entity not found"),
        (
            "note: ${file:/run/secrets/latin}",
            "c.yaml:1:7: note: the secret file `/run/secrets/latin` is not UTF-8 text",
        ),
        ("note: ${file:/run/secrets/big}", "c.yaml:1:7: note: the secret file `/run/secrets/big` is larger than 1 MiB"),
        (
            "limits: { workers: \"${BAD}\" }",
            "c.yaml:1:20: limits.workers: the text with `${BAD}` is not a whole number from 1 to 64",
        ),
        (
            "limits: { workers: \"1${NUMBER}\" }",
            "c.yaml:1:20: limits.workers: the text with `${NUMBER}` is not a whole number from 1 to 64",
        ),
        (
            "limits: { total: \"${NUMBER}\" }",
            "c.yaml:1:18: limits.total: the text with `${NUMBER}` is not a duration such as `30s`",
        ),
        (
            "limits: { total: \"${file:/run/secrets/key}${BAD}\" }",
            "c.yaml:1:18: limits.total: the text with `${file:/run/secrets/key}` and `${BAD}` is not a duration such as `30s`",
        ),
        ("preset: ${BAD}", "c.yaml:1:9: preset: the text with `${BAD}` is not one of `production`, `development`"),
        ("limits: ${BAD}", "c.yaml:1:9: limits: expected a mapping, got a single value"),
        (
            "routes: [{ name: \"${BAD}${BAD}\" }]",
            "c.yaml:1:18: routes[0].name: the text with `${BAD}` and `${BAD}` is not text of 1 to 8 characters",
        ),
        (
            "routes: [{ name: a, on_outage: \"${BAD}\" }]",
            "c.yaml:1:32: routes[0].on_outage: the text with `${BAD}` is not one of `open`, `closed`",
        ),
        (
            "routes: [{ name: a, rate_limit: [{ limit: 1/s, by: [user, \"${BAD}\"] }] }]",
            "c.yaml:1:59: routes[0].rate_limit[0].by[1]: the value is not accepted here (it is not shown, because it may be secret)",
        ),
    ] {
        let said = mistakes_in(text, &world());
        assert_eq!(said, expected, "\n--- of {text}");
        assert!(!said.contains("hunter2") && !said.contains("s3cret"));
    }
}

#[test]
fn a_default_in_the_file_is_no_secret_and_is_shown() {
    let said = mistakes_in("limits: { workers: \"${MISSING:-many}\" }", &world());
    assert_eq!(said, "c.yaml:1:20: limits.workers: expected a whole number from 1 to 64, got the text `many`");
}

#[test]
fn keys_are_never_interpolated() {
    let loaded = read_in("upstreams: { \"${NAME}\": x }", &world()).unwrap();
    assert!(loaded.value.upstreams.contains_key("${NAME}"));
}

#[test]
fn the_text_put_in_is_bounded() {
    let items = "\"${file:/run/secrets/limit}\",".repeat(17);
    let said = mistakes_in(&format!("routes: [{{ name: a, paths: [{items}] }}]"), &world());
    assert_eq!(said.lines().count(), 16, "{said}");
    assert!(said.ends_with("interpolation puts in more than 16 MiB"), "{said}");
}

#[test]
fn origins_are_known() {
    let text = "note: ${NAME}\nlimits: { workers: \"${MISSING:-3}\" }\nstore:\n  url: x${NAME}\n  key: a${NAME}${file:/run/secrets/key}\n";
    let loaded = read_in(text, &world()).unwrap();
    let variable = |line, column| Origin::Variable { name: "NAME".into(), line, column };
    assert_eq!(loaded.origin_of("note"), Some(&variable(1, 7)));
    assert_eq!(loaded.origin_of("limits.workers"), Some(&Origin::File { line: 2, column: 20 }));
    let file = Origin::SecretFile { path: "/run/secrets/key".into(), line: 5, column: 8 };
    assert_eq!(loaded.origin_of("store.key"), Some(&file));
    assert_eq!(loaded.origin_of("limits"), None);
    let paths: Vec<_> = loaded.sources().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["note", "limits.workers", "store.url", "store.key"]);
}
