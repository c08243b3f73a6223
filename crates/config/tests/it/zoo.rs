//! Kinds of types that the sample does not have: types inside themselves, numbers at their ends, tuples, flattened enums.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    num::NonZeroU32,
};

use portcullis_config::{Example, FixedEnvironment, Loaded, Source, effective, example, load, reference, schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Zoo {
    lowest: Option<i64>,
    highest: Option<u64>,
    tiny: Option<NonZeroU32>,
    float: Option<f32>,
    #[schemars(extend("exclusiveMinimum" = 0))]
    above: Option<f64>,
    sign: Option<char>,
    #[schemars(extend("examples" = ["192.0.2.7"]))]
    address: Option<IpAddr>,
    pair: Option<(u8, String)>,
    bytes: [u8; 2],
    by_number: BTreeMap<u16, String>,
    by_kind: BTreeMap<Kind, u8>,
    by_name: HashMap<String, BTreeMap<String, Vec<u8>>>,
    free: serde_json::Value,
    tree: Option<Tree>,
    kind: Option<Kind>,
    either: Option<Either>,
    #[schemars(length(min = 2))]
    kinds: Option<std::collections::BTreeSet<Kind>>,
    unit: (),
    shape: Option<Shape>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Big,
    Small,
}

/// A tree.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tree {
    /// Its name.
    name: String,
    /// What grows on it.
    #[serde(default)]
    branches: Vec<Tree>,
    #[serde(default)]
    left: Option<Box<Tree>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Either {
    Number(u8),
    Flag(bool),
    Kind(Kind),
    Many(Vec<u8>),
    Left { left: u8 },
    Right { right: u8, more: Option<u8> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Shape {
    name: String,
    #[serde(flatten)]
    form: Form,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "form", rename_all = "snake_case")]
enum Form {
    Round { radius: u8 },
    Square { side: u8 },
}

fn read<T: DeserializeOwned + JsonSchema>(text: &str) -> Result<Loaded<T>, String> {
    load(&Source::new("z.yaml", text), &FixedEnvironment::new())
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn says(text: &str) -> String {
    read::<Zoo>(text).map(|loaded| format!("{:?}", loaded.value)).expect_err("the text has mistakes")
}

#[test]
fn every_kind_reads() {
    let text = "\
lowest: -9223372036854775808
highest: 18446744073709551615
tiny: 1
float: 1.5
above: 0.1
sign: é
address: \"::1\"
pair: [1, a]
bytes: [1, 2]
by_number: { 80: http }
by_kind: { big: 1 }
by_name: { a: { b: [1] } }
free: { a: [1, null, text, 1.5, no] }
tree: { name: a, branches: [{ name: b, branches: [{ name: c }] }], left: { name: d } }
kind: big
either: { right: 1, more: 2 }
kinds: [big, small]
unit: null
shape: { name: s, form: round, radius: 2 }
";
    let zoo = read::<Zoo>(text).unwrap();
    assert_eq!(read::<Zoo>(&effective(&zoo)).unwrap().value, zoo.value);
    let zoo = zoo.value;
    assert_eq!((zoo.lowest, zoo.highest), (Some(i64::MIN), Some(u64::MAX)));
    assert_eq!(zoo.free, serde_json::json!({ "a": [1, null, "text", 1.5, "no"] }));
    assert_eq!(zoo.tree.unwrap().branches[0].branches[0].name, "c");
    assert_eq!(zoo.shape, Some(Shape { name: "s".into(), form: Form::Round { radius: 2 } }));
    for (text, expected) in [
        ("7", Either::Number(7)),
        ("true", Either::Flag(true)),
        ("small", Either::Kind(Kind::Small)),
        ("[1]", Either::Many(vec![1])),
        ("{ left: 1 }", Either::Left { left: 1 }),
    ] {
        assert_eq!(read::<Zoo>(&format!("either: {text}")).unwrap().value.either, Some(expected));
    }
}

#[test]
fn every_kind_says_what_is_wrong() {
    for (text, expected) in [
        (
            "lowest: -9223372036854775809",
            "lowest: `-9223372036854775809` is out of range: must be -9223372036854775808 to 9223372036854775807",
        ),
        (
            "highest: 18446744073709551616",
            "highest: `18446744073709551616` is out of range: must be 0 to 18446744073709551615",
        ),
        ("tiny: 0", "tiny: `0` is out of range: must be at least 1"),
        ("above: 0", "above: `0` is out of range: must be more than 0"),
        ("float: .nan", "float: `.nan` is not a finite number"),
        ("sign: ab", "sign: `ab` has 2 characters, must have exactly 1 character"),
        ("pair: [1]", "pair: has 1 items, must have exactly 2 items"),
        (
            "pair: [a, 1]",
            "pair[0]: expected a whole number from 0 to 255, got the text `a`\npair[1]: expected text, got the number `1` (did you mean `\"1\"`?)",
        ),
        ("by_number: { http: x }", "by_number.http: the key must be a whole number"),
        ("by_kind: { bigg: 1 }", "by_kind.bigg: unknown key (did you mean `big`?)"),
        ("by_name: { a: { b: [x] } }", "by_name.a.b[0]: expected a whole number from 0 to 255, got the text `x`"),
        (
            "tree: { name: a, left: { nam: b } }",
            "tree.left.name: the required key is missing\ntree.left.nam: unknown key (did you mean `name`?)",
        ),
        (
            "either: 300",
            "either: expected a whole number from 0 to 255 or `true` or `false` or one of `big`, `small`, got the number `300`",
        ),
        ("either: { right: x }", "either.right: expected a whole number from 0 to 255, got the text `x`"),
        (
            "either: { lef: 1 }",
            "either.left: the required key is missing\neither.lef: unknown key (did you mean `left`?)",
        ),
        ("unit: 1", "unit: expected nothing, got the number `1`"),
        (
            "shape: { name: s, form: round, side: 1 }",
            "shape.radius: the required key is missing\nshape.side: unknown key; allowed: `name`, `form`, `radius`",
        ),
        ("shape: { name: s, form: rond }", "shape.form: `rond` is not allowed here (did you mean `round`?)"),
        ("free: 1e400", "free: `1e400` is not a number that can be held"),
        // What only the types know.
        ("address: localhost", "address: invalid IP address syntax"),
        ("by_number: { 65536: x }", "by_number.65536: invalid value: integer `65536`, expected u16"),
    ] {
        let said = says(text);
        let without_places: Vec<_> =
            said.lines().map(|line| line.splitn(4, ':').nth(3).unwrap_or(line).trim()).collect();
        assert_eq!(without_places.join("\n"), expected, "\n--- of {text}\n{said}");
    }
}

/// A secret that is held as plain text, and texts in forms that must be tried.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Hiding {
    #[schemars(extend("format" = "secret"))]
    password: String,
    /// Names of passwords.
    #[schemars(extend("items" = { "type": "string", "format": "secret" }))]
    several: Vec<String>,
    form: Option<Sides>,
}

impl Default for Hiding {
    fn default() -> Self {
        Self { password: "built-in".into(), several: vec!["one".into()], form: None }
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Sides {
    Left { left: String, number: u8 },
    Right { right: String, number: u8 },
}

#[test]
fn what_is_secret_by_its_format_or_in_a_form_that_was_tried_is_masked() {
    let world = FixedEnvironment::new().with_file("/key", "5");
    let source = Source::new("h.yaml", "form: { right: \"${file:/key}\", number: 1 }");
    let shown = effective(&load::<Hiding>(&source, &world).unwrap());
    assert_eq!(shown, "password: \"[secret]\"\nseveral: [\"[secret]\"]\nform:\n  right: \"[secret]\"\n  number: 1\n");
}

#[test]
fn documents_of_every_kind_are_true() {
    for form in [Example::Commented, Example::Full] {
        let text = example::<Zoo>(form);
        if let Err(mistakes) = read::<Zoo>(&text) {
            panic!("{mistakes}\n{text}");
        }
    }
    let reference = reference::<Zoo>();
    assert_eq!(reference.matches("| `branches` |").count(), 1, "a type inside itself is told once\n{reference}");
    assert!(schema::<Zoo>()["$defs"]["Tree"]["additionalProperties"] == false);
}

/// Each level may be one of two, so that a level more doubles the ways to read it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only read, never looked at")]
enum Doubling {
    A { next: Option<Box<Doubling>>, a: u8 },
    B { next: Option<Box<Doubling>>, b: u8 },
}

#[test]
fn alternatives_inside_alternatives_are_bounded() {
    let text = (0..40).fold("x".to_owned(), |inner, _| format!("{{ next: {inner}, a: 1, b: 1 }}"));
    let said = read::<Doubling>(&text).map(drop).expect_err("the innermost is wrong");
    assert!(said.contains("too many nested alternatives"), "{said}");
}
