//! A commented example of the whole config, generated from doc comments, defaults and examples.
//!
//! Above each key stand its doc comment, type and bounds. The value is, in this order: what an example around it gives, the
//! default, the example of the key, a value made up from the bounds.
//!
//! Invariant: the example loads without mistakes, as it is and with every `#key` uncommented, where the secrets it names exist.

use portcullis_core::secret::MASK;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::{
    emit,
    shape::{Field, Kind, List, Object, Shape, Shapes},
};

/// What an example shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// Required keys are set, all others are commented out as `#key: value`.
    Commented,
    /// Every key is set.
    Full,
}

/// An example of a config type, as YAML with comments. Comments are `# text`, keys that are commented out `#key: value`.
pub fn example<T: JsonSchema>(form: Example) -> String {
    let shapes = Shapes::of::<T>();
    let mut writer = Writer { shapes: &shapes, form, out: String::new(), inside: Vec::new() };
    let root = shapes.root();
    if form == Example::Commented {
        writer
            .prose(0, "Keys that are commented out as `#key` show their default, or an example where there is none.\n");
    }
    let given = root.examples.first().map(|value| Given { value, is_example: true });
    if let Kind::Object(object) = &shapes.resolve(root).kind {
        writer.fields(object, given, 0, true);
    }
    writer.out
}

/// A value that was given for a place by something around it.
#[derive(Clone, Copy)]
struct Given<'a> {
    value: &'a Value,
    /// From `examples`, and so to be set; else from a default.
    is_example: bool,
}

struct Writer<'a> {
    shapes: &'a Shapes,
    form: Example,
    out: String,
    /// The types around the place that is being written.
    inside: Vec<&'a str>,
}

impl<'a> Writer<'a> {
    fn line(&mut self, indent: usize, is_live: bool, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        if !is_live {
            self.out.push('#');
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn prose(&mut self, indent: usize, text: &str) {
        for line in text.lines() {
            self.line(indent, true, if line.is_empty() { "#".to_owned() } else { format!("# {line}") }.as_str());
        }
    }

    fn fields(&mut self, object: &'a Object, given: Option<Given<'a>>, indent: usize, is_live: bool) {
        for (index, field) in object.fields.iter().enumerate() {
            if indent == 0 && (index > 0 || !self.out.is_empty()) {
                self.out.push('\n');
            }
            self.comments(field, indent);
            let own = given.and_then(|given| Some(Given { value: given.value.get(&field.name)?, ..given }));
            let is_set = field.is_required || own.is_some_and(|own| own.is_example) || self.form == Example::Full;
            self.entry(&emit::key(&field.name), &field.name, &field.shape, own, indent, is_live && is_set);
        }
        if let Some(other) = &object.others {
            self.free_entries(object, other, given, indent, is_live);
        }
    }

    /// Entries under free names: those that are given, else one that is made up.
    fn free_entries(
        &mut self,
        object: &Object,
        shape: &'a Shape,
        given: Option<Given<'a>>,
        indent: usize,
        is_live: bool,
    ) {
        let map = given.and_then(|given| given.value.as_object()).into_iter().flatten();
        let free: Vec<_> = map.filter(|(name, _)| object.field(name).is_none()).collect();
        let is_example = given.is_some_and(|given| given.is_example);
        if free.is_empty() {
            let key = if object.has_number_keys { "1" } else { "name" };
            self.entry(&emit::key(key), key, shape, None, indent, is_live);
        }
        for (name, value) in free {
            let own = Some(Given { value, is_example });
            self.entry(&emit::key(name), name, shape, own, indent, is_live);
        }
    }

    fn comments(&mut self, field: &Field, indent: usize) {
        if let Some(description) = &field.shape.description {
            self.prose(indent, description);
        }
        for shape in self.shapes.alternatives(&field.shape) {
            let Kind::Choice(choices) = &shape.kind else { continue };
            for choice in choices {
                if let Some(description) = &choice.description {
                    self.prose(indent, &format!("  `{}`: {description}", choice.value));
                }
            }
        }
        let mut facts = vec![self.shapes.type_name(&field.shape).replace("\\|", "|")];
        facts.extend(Some(self.shapes.bounds(&field.shape)).filter(|bounds| !bounds.is_empty()));
        match &field.shape.default {
            _ if field.is_required => facts.push("required".to_owned()),
            Some(default) if is_single_or_empty(default) && !default.is_null() => {
                facts.push(format!("default {}", emit::inline(default)));
            }
            _ => {}
        }
        self.prose(indent, &format!("({})", facts.join("; ")));
    }

    /// A key with its value. `head` is the key as it is written, `name` what a made-up value may be called after.
    fn entry(
        &mut self,
        head: &str,
        name: &str,
        shape: &'a Shape,
        given: Option<Given<'a>>,
        indent: usize,
        is_live: bool,
    ) {
        self.value(&format!("{head}:"), name, shape, given, indent, is_live);
    }

    /// A value behind `head`, which is `key:` or `-`.
    fn value(
        &mut self,
        head: &str,
        name: &str,
        shape: &'a Shape,
        given: Option<Given<'a>>,
        indent: usize,
        is_live: bool,
    ) {
        let given = given.filter(|given| is_telling(given.value)).or_else(|| own_value(shape, self.shapes));
        let type_name = if let Kind::Named(type_name) = &shape.kind { Some(type_name.as_str()) } else { None };
        if type_name.is_some_and(|type_name| self.inside.contains(&type_name)) {
            let nothing = if self.shapes.is_nullable(shape) { "null" } else { "{}" };
            self.line(indent, is_live, &format!("{head} {nothing}"));
            return;
        }
        self.inside.extend(type_name);
        let chosen = self.alternative(shape, given.map(|given| given.value));
        match &chosen.kind {
            Kind::Object(object) if !object.fields.is_empty() || object.others.is_some() => {
                self.line(indent, is_live, head);
                self.fields(object, given, indent + 2, is_live);
            }
            Kind::List(list) if self.is_around(list) => self.line(indent, is_live, &format!("{head} []")),
            Kind::List(list) if self.has_parts(list) => self.items(head, name, list, given, (indent, is_live)),
            _ => {
                let made_up;
                let value = match given {
                    Some(given) => given.value,
                    None => {
                        made_up = self.made_up(chosen, name);
                        &made_up
                    }
                };
                self.line(indent, is_live, &format!("{head} {}", emit::inline_with_interpolations(value)));
            }
        }
        if type_name.is_some() {
            self.inside.pop();
        }
    }

    /// Items that take more than a line each.
    fn items(
        &mut self,
        head: &str,
        name: &str,
        list: &'a List,
        given: Option<Given<'a>>,
        (indent, is_live): (usize, bool),
    ) {
        self.line(indent, is_live, head);
        let given_items: Vec<_> = given.and_then(|given| given.value.as_array()).into_iter().flatten().collect();
        let count = given_items.len().max(list.first.len()).max(list.min_items.unwrap_or(0) as usize).max(1);
        for index in 0..count {
            let own = given_items
                .get(index)
                .map(|value| Given { value, is_example: given.is_some_and(|given| given.is_example) });
            let shape = list.first.get(index).unwrap_or(&list.item);
            self.value("-", name, shape, own, indent + 2, is_live);
        }
    }

    /// Whether the items of a list are of a type that is being written.
    fn is_around(&self, list: &List) -> bool {
        matches!(&list.item.kind, Kind::Named(name) if self.inside.contains(&name.as_str()))
    }

    /// Whether the items of a list are mappings or lists.
    fn has_parts(&self, list: &List) -> bool {
        let is_part = |shape: &Shape| {
            self.shapes.alternatives(shape).iter().any(|shape| matches!(shape.kind, Kind::Object(_) | Kind::List(_)))
        };
        list.first.iter().any(is_part) || is_part(&list.item)
    }

    /// The member of a union that the given value is, else the first.
    fn alternative(&self, shape: &'a Shape, given: Option<&Value>) -> &'a Shape {
        let alternatives = self.shapes.alternatives(shape);
        let fitting = given.and_then(|given| {
            alternatives.iter().find(|shape| match (&shape.kind, given) {
                (Kind::Object(object), Value::Object(map)) => {
                    object.others.is_some() || map.keys().all(|key| object.field(key).is_some())
                }
                (Kind::List(_), Value::Array(_)) => true,
                (Kind::Object(_) | Kind::List(_), _) => false,
                (_, value) => !value.is_object() && !value.is_array(),
            })
        });
        fitting.or(alternatives.first()).copied().unwrap_or(shape)
    }

    /// A value within the bounds, for what has neither default nor example.
    fn made_up(&self, shape: &Shape, name: &str) -> Value {
        let shape = self.shapes.resolve(shape);
        if let Some(example) = shape.examples.first().filter(|_| !is_secret(shape)) {
            return example.clone();
        }
        match &shape.kind {
            Kind::Bool => Value::Bool(false),
            Kind::Integer(integer) => {
                let number = 1i128.clamp(integer.min, integer.max);
                i64::try_from(number).map(Value::from).unwrap_or_else(|_| Value::from(number as u64))
            }
            Kind::Number(number) => {
                let tries = [1.0, 0.5, number.min.unwrap_or(0.0), number.max.unwrap_or(0.0)];
                Value::from(tries.into_iter().find(|value| number.admits(*value)).unwrap_or(1.0))
            }
            Kind::Text(text) if text.is_secret() => Value::from(format!("${{file:/run/secrets/{name}}}")),
            Kind::Text(text) => {
                let word = match text.format.as_deref() {
                    Some("uri") => "http://127.0.0.1:3000",
                    Some("ip" | "ipv4") => "192.0.2.7",
                    Some("ipv6") => "2001:db8::7",
                    _ => "text",
                };
                let least = text.min_length.unwrap_or(0) as usize;
                let word = word.chars().cycle().take(least.max(word.len()));
                Value::from(word.take(text.max_length.map_or(usize::MAX, |max| max as usize)).collect::<String>())
            }
            Kind::Choice(choices) => choices.first().map_or(Value::Null, |choice| Value::from(choice.value.as_str())),
            Kind::List(list) => {
                let count = list.first.len().max(list.min_items.unwrap_or(0) as usize).max(1);
                let items = (0..count).map(|index| self.item(list, index, name));
                Value::Array(items.collect())
            }
            Kind::Object(object) => {
                let required = object.fields.iter().filter(|field| field.is_required);
                let map: Map<_, _> =
                    required.map(|field| (field.name.clone(), self.made_up(&field.shape, &field.name))).collect();
                Value::Object(map)
            }
            Kind::Union(members) => members.first().map_or(Value::Null, |member| self.made_up(member, name)),
            Kind::Any | Kind::Null | Kind::Named(_) => Value::Null,
        }
    }

    /// The item at an index: different ones, as long as there are, for lists that want each once.
    fn item(&self, list: &List, index: usize, name: &str) -> Value {
        let shape = self.shapes.resolve(list.first.get(index).unwrap_or(&list.item));
        match &shape.kind {
            Kind::Choice(choices) if index < choices.len() => Value::from(choices[index].value.as_str()),
            _ => shape.examples.get(index).cloned().unwrap_or_else(|| self.made_up(shape, name)),
        }
    }
}

/// What the key itself says: its default where that tells something, else its example.
fn own_value<'a>(shape: &'a Shape, shapes: &'a Shapes) -> Option<Given<'a>> {
    let default = shape.default.as_ref().filter(|default| is_telling(default));
    let default = default.map(|value| Given { value, is_example: false });
    let is_secret = is_secret(shapes.resolve(shape));
    default.or_else(|| shape.examples.first().filter(|_| !is_secret).map(|value| Given { value, is_example: true }))
}

fn is_secret(shape: &Shape) -> bool {
    matches!(&shape.kind, Kind::Text(text) if text.is_secret())
}

/// Whether a value shows how the key is written: not nothing, not empty, not a masked secret.
fn is_telling(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => text != MASK && !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

fn is_single_or_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| !item.is_object() && !item.is_array()),
        Value::Object(map) => map.is_empty(),
        _ => true,
    }
}
