//! Writes a value as YAML: block style, one line per single value, no more quotes than are safe.
//!
//! Used for the effective config and the example. Texts that some YAML reader would take for something else (`no`, `1_000`, a
//! date) are quoted, so that YAML 1.1 tools read the same.
//!
//! Invariant: what is written, the loader's own parser reads back as the same value.

use serde_json::Value;

use crate::tree::scalar::{Meaning, meaning};

/// The value as a YAML document.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut out, value, 0),
        single => {
            out.push_str(&inline(single));
            out.push('\n');
        }
    }
    out
}

/// The lines of a list or mapping that is not empty.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            for (index, (name, child)) in map.iter().enumerate() {
                // The first key of a mapping in a list stands behind the dash.
                if index > 0 || !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str(&key(name));
                out.push(':');
                nested(out, child, indent + 2);
            }
        }
        Value::Array(items) => {
            for item in items {
                if !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push('-');
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        out.push(' ');
                        block(out, item, indent + 2);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push(' ');
                        block(out, item, indent + 2);
                    }
                    single => {
                        out.push(' ');
                        out.push_str(&inline(single));
                        out.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

fn nested(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(out, value, indent);
        }
        Value::Array(items) if !items.is_empty() && !items.iter().all(is_single) => {
            out.push('\n');
            block(out, value, indent);
        }
        single => {
            out.push(' ');
            out.push_str(&inline(single));
            out.push('\n');
        }
    }
}

fn is_single(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

/// A value on one line, with `${` escaped, so that the loader takes it as it is.
pub(crate) fn inline(value: &Value) -> String {
    flow(value, &|plain| text(&plain.replace("${", "$${")))
}

/// A value on one line, whose `${...}` the loader replaces.
pub(crate) fn inline_with_interpolations(value: &Value) -> String {
    flow(value, &text)
}

fn flow(value: &Value, text: &dyn Fn(&str) -> String) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(plain) => text(plain),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| flow(item, text)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let entries = map.iter().map(|(name, child)| format!("{}: {}", key(name), flow(child, text)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A key of a mapping. Keys are never interpolated, so that `${` stands for itself.
pub(crate) fn key(name: &str) -> String {
    text(name)
}

/// A text, in double quotes where it would not be read as this text without them.
pub(crate) fn text(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./+-:@*=".contains(&b))
        && !text.ends_with(':')
        && meaning(text) == Meaning::Text
        && !is_special_elsewhere(text);
    if is_plain {
        return text.to_owned();
    }
    // JSON's escapes are among those of YAML; what JSON leaves as it is but YAML does not take is escaped too.
    let quoted = Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out
}

/// Whether YAML 1.1 readers take the text for a bool, a number with `_` or `:`, or a date.
fn is_special_elsewhere(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    matches!(word.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null")
        || text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_digit() || b"_.:+-eExob".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{FixedEnvironment, Source, load};

    fn read(text: &str) -> Value {
        let loaded = load::<Value>(&Source::new("f", text), &FixedEnvironment::new());
        loaded.unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}")).value
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        let value = json!({
            "text": "http://127.0.0.1:3000", "rate": "200/10s", "like_bool": "no", "like_number": "12", "hex": "0xFF", "date": "2026-01-01",
            "list": ["a", 1, null], "empty": [], "none": {}, "deep": [{ "a": { "b": 1 }, "c": [[1], []] }, {}],
            "two lines": "a\nb", "${KEY}": "${VALUE}",
        });
        let expected = "\
text: http://127.0.0.1:3000
rate: 200/10s
like_bool: \"no\"
like_number: \"12\"
hex: \"0xFF\"
date: \"2026-01-01\"
list: [a, 1, null]
empty: []
none: {}
deep:
  - a:
      b: 1
    c:
      - - 1
      - []
  - {}
\"two lines\": \"a\\nb\"
\"${KEY}\": \"$${VALUE}\"
";
        assert_eq!(yaml(&value), expected);
        assert_eq!(read(expected), value);
        assert_eq!(inline(&value["deep"]), "[{ a: { b: 1 }, c: [[1], []] }, {}]");
    }

    fn values() -> impl Strategy<Value = Value> {
        let texts = prop_oneof![
            "\\PC{0,8}",
            any::<String>().prop_filter("YAML has no character U+0000", |text| !text.contains('\0')),
            "[-+.:_0-9a-fnoxyesTruE~#&*!|>'\"%@`{}\\[\\], $\n\t]{0,8}",
        ];
        let single = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300).prop_map(Value::from),
            texts.clone().prop_map(Value::from),
        ];
        single.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(texts.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in values()) {
            let value = json!({ "root": value });
            prop_assert_eq!(&read(&yaml(&value)), &value);
            prop_assert_eq!(&read(&inline(&value)), &value);
        }
    }
}
