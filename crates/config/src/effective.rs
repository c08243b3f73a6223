//! The config as it is in force, with all defaults, and without secrets.
//!
//! `portcullis config show --effective` prints it; `config diff` compares two of them.
//!
//! Invariant: a value under a secret key, or one that came from a file by `${file:...}`, is shown as `[secret]` wherever the
//! config struct puts it.

use std::fmt;

use portcullis_core::secret::MASK;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Loaded, emit,
    loaded::Held,
    path::{Path, Segment},
    shape::{Kind, Shape, Shapes},
};

/// A secret as short as this is only masked where it is the whole text: it would be found in every word.
const SHORT_SECRET_BYTES: usize = 4;

/// The config in force as YAML: every key with its value or default, secrets masked.
///
/// # Panics
/// The type cannot be written as JSON, because its `Serialize` fails or has keys that are no text. That depends on the type
/// and not on the config.
pub fn effective<T: Serialize + JsonSchema>(loaded: &Loaded<T>) -> String {
    emit::yaml(&effective_value(loaded))
}

/// The config in force as JSON, secrets masked. Panics as [`effective`] does.
pub fn effective_value<T: Serialize + JsonSchema>(loaded: &Loaded<T>) -> Value {
    let mut value = serde_json::to_value(&loaded.value).expect("a config type writes itself as JSON");
    let shapes = Shapes::of::<T>();
    mask_by_shape(&mut value, shapes.root(), &shapes);
    for secret in loaded.secrets() {
        mask_at(&mut value, secret.path.segments());
    }
    mask_by_text(&mut value, loaded.secrets());
    value
}

/// Masks what is secret by its key.
fn mask_by_shape(value: &mut Value, shape: &Shape, shapes: &Shapes) {
    for shape in shapes.alternatives(shape) {
        match (&shape.kind, &mut *value) {
            (Kind::Text(text), Value::String(shown)) if text.is_secret() => MASK.clone_into(shown),
            (Kind::List(list), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    mask_by_shape(item, list.first.get(index).unwrap_or(&list.item), shapes);
                }
            }
            (Kind::Object(object), Value::Object(map)) => {
                for (name, child) in map {
                    let field = object.field(name).map(|field| &field.shape);
                    if let Some(shape) = field.or(object.others.as_deref()) {
                        mask_by_shape(child, shape, shapes);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Masks what stands where the file had a secret.
fn mask_at(value: &mut Value, path: &[Segment]) {
    let Some((segment, rest)) = path.split_first() else {
        if !value.is_null() {
            *value = Value::from(MASK);
        }
        return;
    };
    let child = match segment {
        Segment::Key(key) => value.get_mut(key),
        Segment::Index(index) => value.get_mut(index),
    };
    if let Some(child) = child {
        mask_at(child, rest);
    }
}

/// Masks secrets that the struct has put elsewhere, alone or inside a longer text.
fn mask_by_text(value: &mut Value, secrets: &[Held]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mask_by_text(item, secrets)),
        Value::Object(map) => map.values_mut().for_each(|child| mask_by_text(child, secrets)),
        Value::String(text) => {
            let holds = |secret: &Held| {
                let secret = secret.text.expose();
                text == secret || secret.len() >= SHORT_SECRET_BYTES && text.contains(secret)
            };
            if !text.is_empty() && secrets.iter().any(holds) {
                MASK.clone_into(text);
            }
        }
        _ => {}
    }
}

/// A key whose value differs between two configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `routes[0].rate_limit[1].limit`.
    pub path: String,
    /// The value before, on one line; `None` where the key was not there.
    pub before: Option<String>,
    /// The value after, on one line; `None` where the key is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: {before} -> {after}", self.path),
            (None, Some(after)) => write!(f, "{}: added {after}", self.path),
            (Some(before), None) => write!(f, "{}: removed {before}", self.path),
            (None, None) => write!(f, "{}: unchanged", self.path),
        }
    }
}

/// What differs between two configs in force, in the order of the keys. List items are compared by their index.
///
/// A changed secret is a change from `[secret]` to `[secret]`. Panics as [`effective`] does.
pub fn diff<T: Serialize + JsonSchema>(before: &Loaded<T>, after: &Loaded<T>) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&effective_value(before), &effective_value(after), &mut Path::default(), &mut changes);
    let find =
        |secrets: &[Held], path: &Path| secrets.iter().find(|held| held.path == *path).map(|held| held.text.clone());
    for old in before.secrets() {
        let path = old.path.to_string();
        let is_changed = find(after.secrets(), &old.path).is_some_and(|new| new != old.text);
        if is_changed && !changes.iter().any(|change| change.path == path) {
            let mask = || Some(emit::text(MASK));
            changes.push(Change { path, before: mask(), after: mask() });
        }
    }
    changes
}

fn compare(before: &Value, after: &Value, path: &mut Path, changes: &mut Vec<Change>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                path.push_key(key);
                compare_optional(old.get(key), new.get(key), path, changes);
                path.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                path.push_index(index);
                compare_optional(old.get(index), new.get(index), path, changes);
                path.pop();
            }
        }
        _ => changes.push(change(path, Some(before), Some(after))),
    }
}

fn compare_optional(before: Option<&Value>, after: Option<&Value>, path: &mut Path, changes: &mut Vec<Change>) {
    match (before, after) {
        (Some(before), Some(after)) => compare(before, after, path, changes),
        _ => changes.push(change(path, before, after)),
    }
}

fn change(path: &Path, before: Option<&Value>, after: Option<&Value>) -> Change {
    Change { path: path.to_string(), before: before.map(emit::inline), after: after.map(emit::inline) }
}
