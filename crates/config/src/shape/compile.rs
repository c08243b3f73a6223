//! From the derived JSON Schema to [`Shapes`].
//!
//! Understands what `schemars` writes for structs, flattened structs, maps, lists, tuples, `Option`, and enums in all of
//! serde's representations. What it does not know becomes [`Kind::Any`], which the deserializer then judges alone.
//!
//! Invariant: an object that names its keys is closed, whether or not the struct asked for it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Choice, Field, Integer, Kind, List, Number, Object, Shape, Shapes, Text};

/// The name under which a type refers to the config type itself.
pub(super) const ROOT: &str = "#";

type Schema = Map<String, Value>;

pub(super) fn compile(schema: &Value) -> Shapes {
    let named = schema.get("$defs").and_then(Value::as_object);
    let named = named.into_iter().flatten().map(|(name, schema)| (name.clone(), shape(schema))).collect();
    Shapes { root: shape(schema), named }.with_fields_resolved()
}

fn shape(schema: &Value) -> Shape {
    let Value::Object(schema) = schema else { return Shape::new(Kind::Any) };
    let mut shape = bare(schema);
    if let Some(description) = text(schema, "description") {
        shape.description = Some(description.to_owned());
    }
    if let Some(default) = schema.get("default") {
        shape.default = Some(default.clone());
    }
    if let Some(Value::Array(examples)) = schema.get("examples") {
        shape.examples = examples.clone();
    }
    shape
}

fn text<'a>(schema: &'a Schema, key: &str) -> Option<&'a str> {
    schema.get(key)?.as_str()
}

fn array<'a>(schema: &'a Schema, key: &str) -> Option<&'a Vec<Value>> {
    schema.get(key)?.as_array()
}

/// The shape without the annotations beside it.
fn bare(schema: &Schema) -> Shape {
    if let Some(target) = text(schema, "$ref") {
        let name = target.strip_prefix("#/$defs/").unwrap_or(ROOT);
        return Shape::new(Kind::Named(name.replace("~1", "/").replace("~0", "~")));
    }
    if let Some(parts) = array(schema, "allOf") {
        return all_of(schema, parts);
    }
    if let Some(members) = array(schema, "anyOf").or_else(|| array(schema, "oneOf")) {
        return any_of(schema, members);
    }
    if let Some(value) = text(schema, "const") {
        return choice([value]);
    }
    if let Some(values) = array(schema, "enum") {
        let mut shape = choice(values.iter().filter_map(Value::as_str));
        shape.is_nullable = values.contains(&Value::Null);
        return if values.iter().all(|value| value.is_string() || value.is_null()) {
            shape
        } else {
            Shape::new(Kind::Any)
        };
    }
    match schema.get("type") {
        Some(Value::String(name)) => Shape::new(typed(schema, name)),
        Some(Value::Array(names)) => {
            let kinds = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            let mut members: Vec<_> = kinds.map(|name| Shape::new(typed(schema, name))).collect();
            let mut shape = if members.len() == 1 { members.remove(0) } else { Shape::new(Kind::Union(members)) };
            shape.is_nullable = names.iter().any(|name| name == "null");
            shape
        }
        _ if schema.contains_key("properties") => Shape::new(typed(schema, "object")),
        _ => Shape::new(Kind::Any),
    }
}

fn choice<'a>(values: impl IntoIterator<Item = &'a str>) -> Shape {
    let choices = values.into_iter().map(|value| Choice { value: value.to_owned(), description: None });
    Shape::new(Kind::Choice(choices.collect()))
}

fn typed(schema: &Schema, name: &str) -> Kind {
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    match name {
        "null" => Kind::Null,
        "boolean" => Kind::Bool,
        "integer" => Kind::Integer(integer(schema)),
        "number" => {
            let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
            Kind::Number(Number {
                min: bound("minimum"),
                max: bound("maximum"),
                above: bound("exclusiveMinimum"),
                below: bound("exclusiveMaximum"),
            })
        }
        "string" => Kind::Text(Text {
            format: text(schema, "format").map(str::to_owned),
            min_length: count("minLength"),
            max_length: count("maxLength"),
        }),
        "array" => Kind::List(List {
            first: array(schema, "prefixItems").into_iter().flatten().map(shape).collect(),
            item: Box::new(schema.get("items").map_or_else(|| Shape::new(Kind::Any), shape)),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            is_unique: schema.get("uniqueItems") == Some(&Value::Bool(true)),
        }),
        "object" => Kind::Object(object(schema)),
        _ => Kind::Any,
    }
}

/// The bounds of a whole number: those that are declared, within those of the Rust type that `format` names.
fn integer(schema: &Schema) -> Integer {
    let (min, max) = match text(schema, "format") {
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, u64::MAX.into()),
        // JSON numbers of serde_json: `i64` below zero, `u64` above.
        _ => (i64::MIN.into(), u64::MAX.into()),
    };
    let max = if matches!(text(schema, "format"), Some("int64" | "int")) { i64::MAX.into() } else { max };
    let bound = |key: &str, step: i128| -> Option<i128> {
        let value = schema.get(key)?;
        // A bound beyond the integers of JSON may be written with a fraction: it is cut, which is exact for whole numbers.
        let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        whole.or_else(|| value.as_f64().map(|number| number as i128)).map(|number| number + step)
    };
    let min = [bound("minimum", 0), bound("exclusiveMinimum", 1)].into_iter().flatten().fold(min, i128::max);
    let max = [bound("maximum", 0), bound("exclusiveMaximum", -1)].into_iter().flatten().fold(max, i128::min);
    Integer { min, max }
}

fn object(schema: &Schema) -> Object {
    let required: Vec<_> = array(schema, "required").into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields: Vec<_> = properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| Field {
            name: name.clone(),
            is_required: required.contains(&name.as_str()),
            shape: shape(schema),
        })
        .collect();
    let by_pattern = schema.get("patternProperties").and_then(Value::as_object).and_then(|all| all.values().next());
    let others = match schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties")) {
        Some(Value::Bool(false)) => by_pattern.map(shape),
        None if properties.is_some() => by_pattern.map(shape),
        None | Some(Value::Bool(true)) => Some(by_pattern.map_or_else(|| Shape::new(Kind::Any), shape)),
        Some(schema) => Some(shape(schema)),
    };
    // `schemars` writes a pattern of keys for maps with keys of a number type, and for nothing else.
    Object { fields, others: others.map(Box::new), has_number_keys: by_pattern.is_some() }
}

/// `allOf`: one part stands for itself; several objects are one object with the keys of all.
fn all_of(schema: &Schema, parts: &[Value]) -> Shape {
    let mut rest = schema.clone();
    rest.remove("allOf");
    let mut members: Vec<_> = parts.iter().map(shape).collect();
    if rest.contains_key("properties") {
        members.insert(0, bare(&rest));
    }
    if members.len() == 1 { members.remove(0) } else { merged(members) }
}

/// Objects as one object; anything else among them makes the whole unknown.
fn merged(members: Vec<Shape>) -> Shape {
    let mut whole = Object::default();
    for member in members {
        let Kind::Object(object) = member.kind else { return Shape::new(Kind::Any) };
        whole.fields.extend(object.fields);
        whole.others = whole.others.or(object.others);
        whole.has_number_keys |= object.has_number_keys;
    }
    Shape::new(Kind::Object(whole))
}

/// `anyOf` and `oneOf`: `Option`, and enums in all representations.
fn any_of(schema: &Schema, members: &[Value]) -> Shape {
    let mut base = schema.clone();
    base.remove("anyOf");
    base.remove("oneOf");
    let mut members: Vec<_> = members.iter().map(shape).collect();
    let is_nullable = members.iter().any(|member| matches!(member.kind, Kind::Null));
    members.retain(|member| !matches!(member.kind, Kind::Null));
    if base.contains_key("properties") {
        // A flattened enum: the keys around it belong to each of its forms.
        let around = bare(&base);
        members = members.into_iter().map(|member| merged(vec![around.clone(), member])).collect();
    }
    let mut shape = if members.len() == 1 { members.remove(0) } else { union(members) };
    shape.is_nullable |= is_nullable;
    shape
}

/// Several kinds; plain texts among them become one choice.
fn union(members: Vec<Shape>) -> Shape {
    let mut choices = Vec::new();
    let mut others = Vec::new();
    for member in members {
        match member.kind {
            Kind::Choice(several) => choices.extend(several.into_iter().map(|choice| Choice {
                description: choice.description.or_else(|| member.description.clone()),
                value: choice.value,
            })),
            _ => others.push(member),
        }
    }
    if choices.is_empty() {
        return Shape::new(Kind::Union(others));
    }
    let choice = Shape::new(Kind::Choice(choices));
    if others.is_empty() {
        return choice;
    }
    others.insert(0, choice);
    Shape::new(Kind::Union(others))
}

impl Shapes {
    /// Gives fields without a doc comment, and without examples, those of the type they have.
    fn with_fields_resolved(mut self) -> Self {
        let named: BTreeMap<String, Annotations> = self
            .named
            .iter()
            .map(|(name, shape)| (name.clone(), Annotations(shape.description.clone(), shape.examples.clone())))
            .collect();
        annotate(&mut self.root, &named);
        for shape in self.named.values_mut() {
            annotate(shape, &named);
        }
        self
    }
}

/// Doc comment and examples of a named type.
struct Annotations(Option<String>, Vec<Value>);

fn annotate(shape: &mut Shape, named: &BTreeMap<String, Annotations>) {
    match &mut shape.kind {
        Kind::Named(name) => {
            if let Some(Annotations(description, examples)) = named.get(name) {
                shape.description = shape.description.take().or_else(|| description.clone());
                if shape.examples.is_empty() {
                    shape.examples.clone_from(examples);
                }
            }
        }
        Kind::List(list) => {
            list.first.iter_mut().for_each(|item| annotate(item, named));
            annotate(&mut list.item, named);
        }
        Kind::Object(object) => {
            object.fields.iter_mut().for_each(|field| annotate(&mut field.shape, named));
            object.others.iter_mut().for_each(|other| annotate(other, named));
        }
        Kind::Union(members) => members.iter_mut().for_each(|member| annotate(member, named)),
        _ => {}
    }
}
