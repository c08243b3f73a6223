//! Finds out which member of a union a value is meant to be, and checks it as that one.
//!
//! Enums reach the config in four forms: a text or an object (untagged), an object with a tag key, an object whose only key is
//! the variant, and plain texts. The mistake is reported for the member that was meant, not for all of them.
//!
//! Invariant: each member is tried at most once per value.

use serde_json::Value;

use super::{Checker, Hidden, scalar};
use crate::{
    mistake::{Mistakes, Wrong},
    nearest::{listed, nearest},
    path::Path,
    shape::{Kind, Object, Shape},
    tree::{Content, Entry, Node},
};

/// What came of checking a value as one member.
struct Trial {
    value: Value,
    mistakes: Mistakes,
    hidden: Vec<Hidden>,
}

impl Checker<'_> {
    pub(super) fn union(&mut self, node: &Node, members: &[Shape], path: &mut Path) -> Value {
        let shapes = self.shapes;
        let all: Vec<&Shape> = members.iter().flat_map(|member| shapes.alternatives(member)).collect();
        let fitting: Vec<&Shape> =
            all.iter().copied().filter(|shape| has_class_of(&shape.kind, &node.content)).collect();
        match (fitting.as_slice(), &node.content) {
            ([], _) => {
                let message = format!("expected {}, got {}", shapes.expected_of_any(all), scalar::got(node));
                self.mistakes.add(&node.place, path, message);
                Value::Null
            }
            ([only], _) => self.node(node, only, path),
            (_, Content::Map(entries)) => self.map_of(node, entries, &fitting, path),
            _ => self.best_of(node, &fitting, path),
        }
    }

    /// An object that may be one of several: by its tag, by its only key, or by what fits best.
    fn map_of(&mut self, node: &Node, entries: &[Entry], members: &[&Shape], path: &mut Path) -> Value {
        let objects: Vec<&Object> = members.iter().filter_map(|shape| object_of(shape)).collect();
        if objects.len() == members.len() {
            if let Some(tag) = tag_of(&objects) {
                return self.tagged(node, entries, members, &tag, path);
            }
            if objects.iter().all(|object| object.fields.len() == 1 && object.fields[0].is_required) {
                return self.keyed(node, entries, &objects, path);
            }
        }
        self.best_of(node, members, path)
    }

    fn tagged(&mut self, node: &Node, entries: &[Entry], members: &[&Shape], tag: &str, path: &mut Path) -> Value {
        let of =
            |shape: &Shape| object_of(shape).and_then(|object| tag_value(object, tag)).unwrap_or_default().to_owned();
        let values: Vec<String> = members.iter().map(|shape| of(shape)).collect();
        let allowed = || values.iter().map(String::as_str);
        let Some(entry) = entries.iter().find(|entry| entry.key == tag) else {
            if self.is_complete {
                let message = format!("the required key is missing; allowed: {}", listed(allowed()));
                self.mistakes.add(&node.place, &path.with_key(tag), message);
            }
            return Value::Null;
        };
        let Content::Scalar(given) = &entry.value.content else {
            let message = format!("expected one of {}, got {}", listed(allowed()), scalar::got(&entry.value));
            self.mistakes.add(&entry.value.place, &path.with_key(tag), message);
            return Value::Null;
        };
        match values.iter().position(|value| *value == given.text) {
            Some(index) => self.node(node, members[index], path),
            None => {
                let choices =
                    allowed().map(|value| crate::shape::Choice { value: value.to_owned(), description: None });
                let choice = Shape::new(Kind::Choice(choices.collect()));
                let mut path = path.with_key(tag);
                self.node(&entry.value, &choice, &mut path)
            }
        }
    }

    /// An object whose only key says which one it is.
    fn keyed(&mut self, node: &Node, entries: &[Entry], objects: &[&Object], path: &mut Path) -> Value {
        let names = || objects.iter().map(|object| object.fields[0].name.as_str());
        let find = |key: &str| objects.iter().find(|object| object.fields[0].name == key);
        match entries {
            [entry] => match find(&entry.key) {
                Some(object) => self.object(node, entries, object, path),
                None => {
                    let hint = nearest(&entry.key, names());
                    let message = match hint {
                        Some(_) => "unknown key".to_owned(),
                        None => format!("unknown key; allowed: {}", listed(names())),
                    };
                    self.mistakes.add(&entry.key_place, &path.with_key(&entry.key), Wrong { message, hint });
                    Value::Null
                }
            },
            _ => {
                let message = format!("expected exactly one of the keys {}, got {}", listed(names()), entries.len());
                self.mistakes.add(&node.place, path, message);
                Value::Null
            }
        }
    }

    /// The first member that fits, else the mistakes of the one with the fewest.
    fn best_of(&mut self, node: &Node, members: &[&Shape], path: &mut Path) -> Value {
        let mut best: Option<Trial> = None;
        for member in members {
            let trial = self.trial(node, member, path);
            let is_better = best.as_ref().is_none_or(|best| trial.mistakes.len() < best.mistakes.len());
            if is_better {
                best = Some(trial);
            }
            if best.as_ref().is_some_and(|best| best.mistakes.is_empty()) {
                break;
            }
        }
        let Some(best) = best else { return Value::Null };
        self.hidden.extend(best.hidden);
        let may_be_secret = members.iter().any(|member| matches!(&member.kind, Kind::Text(text) if text.is_secret()));
        match &node.content {
            // Which of several single values was meant cannot be told: say them all.
            Content::Scalar(given) if !best.mistakes.is_empty() && given.givers().is_empty() && !may_be_secret => {
                let expected = self.shapes.expected_of_any(members.iter().copied());
                let message = format!("expected {expected}, got {}", scalar::got(node));
                self.mistakes.add(&node.place, path, message);
            }
            _ => self.mistakes.append(best.mistakes),
        }
        best.value
    }

    fn trial(&mut self, node: &Node, member: &Shape, path: &mut Path) -> Trial {
        let fresh = self.mistakes.fresh();
        let mistakes = std::mem::replace(&mut self.mistakes, fresh);
        let hidden = std::mem::take(&mut self.hidden);
        self.unions_tried += 1;
        let value = self.node(node, member, path);
        self.unions_tried -= 1;
        Trial {
            value,
            mistakes: std::mem::replace(&mut self.mistakes, mistakes),
            hidden: std::mem::replace(&mut self.hidden, hidden),
        }
    }
}

/// Whether a value of this kind is written like the content: as a single value, a list or a mapping.
fn has_class_of(kind: &Kind, content: &Content) -> bool {
    match kind {
        Kind::Any | Kind::Union(_) | Kind::Named(_) => true,
        Kind::List(_) => matches!(content, Content::List(_)),
        Kind::Object(_) => matches!(content, Content::Map(_)),
        _ => matches!(content, Content::Scalar(_)),
    }
}

fn object_of(shape: &Shape) -> Option<&Object> {
    match &shape.kind {
        Kind::Object(object) => Some(object),
        _ => None,
    }
}

/// The key that every member requires with one text of its own.
fn tag_of(objects: &[&Object]) -> Option<String> {
    let first = objects.first()?;
    let is_tag = |name: &str| objects.iter().all(|object| tag_value(object, name).is_some());
    first.names().find(|name| is_tag(name)).map(str::to_owned)
}

fn tag_value<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    let field = object.field(name).filter(|field| field.is_required)?;
    match &field.shape.kind {
        Kind::Choice(choices) if choices.len() == 1 => Some(&choices[0].value),
        _ => None,
    }
}
