//! Checks a mapping: unknown keys, missing keys, and each value.
//!
//! Invariant: a key that the struct does not have never passes, whatever serde would do with it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Checker;
use crate::{
    mistake::Wrong,
    nearest::{listed, nearest},
    path::Path,
    shape::Object,
    tree::{Entry, Node},
};

impl Checker<'_> {
    pub(super) fn object(&mut self, node: &Node, entries: &[Entry], object: &Object, path: &mut Path) -> Value {
        let mut values = Map::new();
        let given: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        for entry in entries {
            let shape = object.field(&entry.key).map(|field| &field.shape).or(object.others.as_deref());
            path.push_key(&entry.key);
            let is_free = object.field(&entry.key).is_none();
            match shape {
                Some(_) if is_free && object.has_number_keys && entry.key.parse::<i128>().is_err() => {
                    self.mistakes.add(&entry.key_place, path, "the key must be a whole number".to_owned());
                }
                Some(shape) => {
                    let value = self.node(&entry.value, shape, path);
                    values.insert(entry.key.clone(), value);
                }
                None => self.unknown_key(entry, &given, object, path),
            }
            path.pop();
        }
        if self.is_complete {
            for field in object.fields.iter().filter(|field| field.is_required && !given.contains(field.name.as_str()))
            {
                self.mistakes.add(&node.place, &path.with_key(&field.name), "the required key is missing".to_owned());
            }
        }
        Value::Object(values)
    }

    fn unknown_key(&mut self, entry: &Entry, given: &HashSet<&str>, object: &Object, path: &Path) {
        // Thinking about the wording is the costly part: not for mistakes that are only counted.
        if self.mistakes.is_full() {
            self.mistakes.add(&entry.key_place, path, String::new());
            return;
        }
        let is_free = |name: &&str| !given.contains(name);
        let hint = nearest(&entry.key, object.names().filter(is_free)).or_else(|| nearest(&entry.key, object.names()));
        let message = match hint {
            Some(_) => "unknown key".to_owned(),
            None => format!("unknown key; allowed: {}", listed(object.names())),
        };
        self.mistakes.add(&entry.key_place, path, Wrong { message, hint });
    }
}
