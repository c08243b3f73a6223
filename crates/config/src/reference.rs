//! The reference of every key, in Markdown: one table per mapping, generated from doc comments, defaults and bounds.
//!
//! `cargo xtask gen` writes it into the docs, so that the docs cannot say anything the structs do not.
//!
//! Invariant: every key is there under every path it can have; a type inside itself is told once.

use std::fmt::Write;

use schemars::JsonSchema;

use crate::{
    emit,
    shape::{Kind, Object, Shape, Shapes},
};

/// The Markdown reference of a config type: a heading and a table for the top, and for each mapping below it.
pub fn reference<T: JsonSchema>() -> String {
    let shapes = Shapes::of::<T>();
    let mut reference = Reference { shapes: &shapes, out: String::new(), inside: Vec::new() };
    reference.below(shapes.root(), "");
    reference.out.trim_end().to_owned() + "\n"
}

struct Reference<'a> {
    shapes: &'a Shapes,
    out: String,
    /// The types around the place that is being told.
    inside: Vec<String>,
}

impl Reference<'_> {
    /// The tables for what is inside of a value at `path`.
    fn below(&mut self, shape: &Shape, path: &str) {
        let name = if let Kind::Named(name) = &shape.kind { Some(name) } else { None };
        if name.is_some_and(|name| self.inside.contains(name)) {
            return;
        }
        self.inside.extend(name.cloned());
        let alternatives = self.shapes.alternatives(shape);
        let forms = alternatives.iter().filter(|shape| matches!(shape.kind, Kind::Object(_))).count();
        let mut form = 0;
        for alternative in alternatives {
            match &alternative.kind {
                Kind::Object(object) => {
                    form += 1;
                    let description = alternative.description.as_deref().or(shape.description.as_deref());
                    let which = if forms > 1 { format!(", form {form} of {forms}") } else { String::new() };
                    self.object(object, description, path, &which);
                }
                Kind::List(list) => {
                    self.below(&list.item, &format!("{path}[]"));
                    for (index, item) in list.first.iter().enumerate() {
                        self.below(item, &format!("{path}[{index}]"));
                    }
                }
                _ => {}
            }
        }
        if name.is_some() {
            self.inside.pop();
        }
    }

    fn object(&mut self, object: &Object, description: Option<&str>, path: &str, which: &str) {
        if !object.fields.is_empty() {
            let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
            self.line(&format!("## {title}{which}\n"));
            if let Some(description) = description {
                self.line(&format!("{description}\n"));
            }
            self.line("| key | type | default | bounds | what it does |\n|---|---|---|---|---|");
            for field in &object.fields {
                let row = self.row(&field.name, &field.shape, field.is_required);
                self.line(&row);
            }
            self.line("");
        }
        let separator = if path.is_empty() { "" } else { "." };
        for field in &object.fields {
            self.below(&field.shape, &format!("{path}{separator}{}", field.name));
        }
        if let Some(other) = &object.others {
            self.below(other, &format!("{path}{separator}<name>"));
        }
    }

    fn row(&self, name: &str, shape: &Shape, is_required: bool) -> String {
        let default = match &shape.default {
            _ if is_required => "required".to_owned(),
            Some(default) if !default.is_null() && !is_long(default) => format!("`{}`", emit::inline(default)),
            Some(default) if is_long(default) => "see below".to_owned(),
            _ => "none".to_owned(),
        };
        let mut about = shape.description.clone().unwrap_or_default();
        for choice in self.choices(shape) {
            about.push_str(&choice);
        }
        let cells = [format!("`{name}`"), self.shapes.type_name(shape), default, self.shapes.bounds(shape), about];
        format!("| {} |", cells.map(|cell| cell_text(&cell)).join(" | "))
    }

    /// The doc comments of an enum's values.
    fn choices(&self, shape: &Shape) -> Vec<String> {
        let mut lines = Vec::new();
        for alternative in self.shapes.alternatives(shape) {
            if let Kind::Choice(choices) = &alternative.kind {
                for choice in choices {
                    if let Some(description) = &choice.description {
                        lines.push(format!("\n`{}`: {description}", choice.value));
                    }
                }
            }
        }
        lines
    }

    fn line(&mut self, line: &str) {
        writeln!(self.out, "{line}").expect("writing to a String cannot fail");
    }
}

/// Defaults of mappings are told key by key.
fn is_long(default: &serde_json::Value) -> bool {
    match default {
        serde_json::Value::Object(map) => !map.is_empty(),
        serde_json::Value::Array(items) => items.iter().any(|item| item.is_object() || item.is_array()),
        _ => false,
    }
}

fn cell_text(text: &str) -> String {
    let text = text.trim().replace("\\|", "|").replace('|', "\\|");
    text.split("\n\n").map(|part| part.replace('\n', "<br>")).collect::<Vec<_>>().join("<br>")
}
