//! `GET /api/v1/openapi.json`: what can be asked, as OpenAPI 3.1, written from the table itself.
//!
//! Bodies are described in the documentation of each subject; here is what every row has: method, path, action, token, errors.
//!
//! Invariant: every row is in it and nothing else.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::routes::{Answer, Call, Pending, ROUTES, Row};
use crate::life::Gate;

/// The description.
pub(super) fn show(_gate: Arc<Gate>, _call: Call) -> Pending {
    Answer::ok(description()).now()
}

fn description() -> Value {
    let mut paths = Map::new();
    for row in ROUTES {
        let path = row.path.replace("{}", "{name}");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[row.method.as_str().to_ascii_lowercase()] = operation(row);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Portcullis admin API", "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": error() },
        },
    })
}

fn operation(row: &Row) -> Value {
    let failure = json!({
        "description": "A refusal, with its code",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    let mut operation = json!({
        "operationId": row.action,
        "security": [{ "token": [row.action] }],
        "responses": {
            "200": { "description": "Done", "content": { "application/json": { "schema": { "type": "object" } } } },
            "default": failure,
        },
    });
    if row.path.ends_with("{}") {
        operation["parameters"] =
            json!([{ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }]);
    }
    if matches!(row.method.as_str(), "POST" | "PUT" | "PATCH") {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": { "type": "object" } } } });
    }
    operation
}

fn error() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "message", "statusCode", "severity", "timestamp", "requestId", "details"],
            "properties": {
                "code": text, "message": text, "statusCode": { "type": "integer" },
                "severity": { "enum": ["low", "medium", "high", "critical"] },
                "timestamp": { "type": "string", "format": "date-time" }, "requestId": text,
                "details": { "type": "object", "properties": { "reason": text, "retryAfter": { "type": "integer" } } },
            },
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_described() {
        let description = description();
        let paths = description["paths"].as_object().expect("an object");
        let operations: usize = paths.values().filter_map(Value::as_object).map(Map::len).sum();
        assert_eq!(operations, ROUTES.len());
        assert_eq!(description["paths"]["/api/v1/bans/{name}"]["delete"]["operationId"], "bans.remove");
    }
}
