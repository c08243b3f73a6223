//! The published JSON Schema: closed, standard, and in agreement with the loader.

use portcullis_config::schema;
use serde_json::Value;

use crate::sample::Config;

fn walk(schema: &Value, visit: &mut dyn FnMut(&serde_json::Map<String, Value>)) {
    match schema {
        Value::Object(map) => {
            visit(map);
            // Defaults and examples are values, not schemas.
            map.iter()
                .filter(|(key, _)| !["default", "examples", "enum"].contains(&key.as_str()))
                .for_each(|(_, below)| walk(below, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

#[test]
fn every_object_is_closed() {
    let mut closed = 0;
    walk(&schema::<Config>(), &mut |schema| {
        if schema.get("properties").is_some_and(|properties| properties.is_object()) && schema.contains_key("type") {
            let additional = schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties"));
            assert!(additional.is_some_and(|additional| additional != &Value::Bool(true)), "{schema:?}");
            closed += 1;
        }
    });
    assert!(closed > 8, "{closed} objects were seen");
}

#[test]
fn formats_that_mean_something_else_in_json_schema_are_patterns() {
    let schema = schema::<Config>();
    walk(&schema, &mut |schema| assert_eq!(schema.get("format").filter(|format| format.is_string()), None));
    let limits = &schema["$defs"]["Limits"]["properties"];
    assert_eq!(limits["total"]["pattern"], r"(^([0-9]+(d|h|ms|m|s|us|ns))+$)|\$\{");
    assert_eq!(limits["workers"]["type"], serde_json::json!(["integer", "string"]));
    assert_eq!(limits["workers"]["maximum"], 64);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}
