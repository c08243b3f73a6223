//! The JSON Schema (draft 2020-12) that editors and pipelines use.
//!
//! The derived schema made ready for the world: objects are closed, and texts with `${...}` are allowed wherever the loader
//! allows them. Formats of our own are turned into patterns, because `duration` means ISO 8601 in JSON Schema.
//!
//! Invariant: what the published schema refuses, the loader refuses too; but for a `${...}` that gives the tag of a tagged enum,
//! which only the loader can follow.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::shape::derived_schema;

/// Formats with the meaning that JSON Schema 2020-12 gives them (validation, section 7.3).
const STANDARD_FORMATS: [&str; 8] = ["date", "date-time", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"];

/// A text that holds an interpolation.
const INTERPOLATION: &str = r"\$\{";

/// The JSON Schema of a config type, for publishing: draft 2020-12, unknown keys refused everywhere.
pub fn schema<T: JsonSchema>() -> Value {
    let mut schema = derived_schema::<T>();
    publish(&mut schema, true);
    schema
}

/// Makes a schema and what is below it ready. A part of a composition must stay open for the keys of the other parts.
fn publish(schema: &mut Value, may_be_closed: bool) {
    let Value::Object(schema) = schema else { return };
    // Members of `oneOf` may overlap once each of them takes interpolations.
    if let Some(members) = schema.remove("oneOf") {
        schema.insert("anyOf".to_owned(), members);
    }
    let has_keys = schema.contains_key("properties");
    for (key, below) in schema.iter_mut() {
        match (key.as_str(), below) {
            ("properties" | "patternProperties" | "$defs", Value::Object(map)) => {
                map.values_mut().for_each(|below| publish(below, true));
            }
            ("anyOf", Value::Array(items)) => {
                items.iter_mut().for_each(|below| publish(below, may_be_closed && !has_keys))
            }
            ("allOf", Value::Array(items)) => items.iter_mut().for_each(|below| publish(below, false)),
            ("prefixItems", Value::Array(items)) => items.iter_mut().for_each(|below| publish(below, true)),
            ("items" | "additionalProperties" | "unevaluatedProperties", below) => publish(below, true),
            _ => {}
        }
    }
    open_to_interpolation(schema);
    if may_be_closed {
        close(schema);
    } else if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
}

/// Refuses unknown keys where keys are named.
fn close(schema: &mut Map<String, Value>) {
    let is_composed = ["anyOf", "allOf"].iter().any(|key| schema.contains_key(*key));
    if !schema.contains_key("properties") && !schema.contains_key("allOf") {
        return;
    }
    if is_composed {
        // The keys of the parts count as well, and only `unevaluatedProperties` sees those.
        schema.remove("additionalProperties");
        schema.entry("unevaluatedProperties").or_insert(Value::Bool(false));
    } else {
        schema.entry("additionalProperties").or_insert(Value::Bool(false));
    }
}

/// Lets texts with `${...}` through, which the loader judges after it has put the values in.
fn open_to_interpolation(schema: &mut Map<String, Value>) {
    let format = schema.get("format").and_then(Value::as_str).map(str::to_owned);
    if format.as_deref().is_some_and(|format| !STANDARD_FORMATS.contains(&format)) {
        schema.remove("format");
    }
    if let Some(Value::Array(members)) = schema.get_mut("anyOf")
        && members.iter().any(|member| member.get("const").is_some_and(Value::is_string))
    {
        members.push(json!({ "type": "string", "pattern": INTERPOLATION }));
    }
    if let Some(values) = schema.get("enum").cloned() {
        schema.remove("enum");
        schema.remove("type");
        let values = json!([{ "enum": values }, { "type": "string", "pattern": INTERPOLATION }]);
        schema.insert("anyOf".to_owned(), values);
        return;
    }
    let types: Vec<String> = match schema.get("type") {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return,
    };
    let has = |name: &str| types.iter().any(|other| other == name);
    if has("string") {
        if let Some(Value::String(pattern)) = schema.get_mut("pattern") {
            *pattern = format!("({pattern})|{INTERPOLATION}");
        }
    } else if has("integer") || has("number") || has("boolean") {
        let types: Vec<_> = types.into_iter().chain(["string".to_owned()]).collect();
        schema.insert("type".to_owned(), json!(types));
        schema.insert("pattern".to_owned(), json!(INTERPOLATION));
    }
}
