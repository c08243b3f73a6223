//! Lets serde judge what the schema cannot say, and finds out where the trouble is.
//!
//! Config types may refuse values in their own way (`#[serde(try_from)]`, hand-written `Deserialize`). Serde reports the first
//! such refusal only, and behind `flatten`, tags and untagged enums it has lost the place. Here the place is found by leaving
//! out more and more of the config until the refusal goes away, and the next refusal by leaving out what was found.
//!
//! Invariant: at most [`MAX_TRIES`] deserializations, fewer for a large config, and only one where the value is accepted.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::path::{Path, Segment};

/// How often the config is deserialized while looking for places.
const MAX_TRIES: usize = 500;

/// How many values all these deserializations may look at together.
const MAX_WORK: usize = 1_000_000;

/// A value that its type refuses, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) path: Path,
    pub(crate) message: String,
}

/// The value as `T`, or everything that `T` refuses in it, at least one.
pub(crate) fn deserialize<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<Refusal>> {
    let first = match attempt::<T>(value) {
        Ok(read) => return Ok(read),
        Err(refusal) => refusal,
    };
    let tries_left = (MAX_WORK / size(value)).min(MAX_TRIES);
    let mut search = Search { value, left_out: BTreeSet::new(), tries_left };
    let mut found = Vec::new();
    let mut next = Some(first);
    while let Some(refusal) = next {
        let path = search.narrow::<T>(&refusal);
        // What is refused only because something in it was left out before is no mistake of the operator.
        if !search.left_out.iter().any(|out| path.holds(out)) {
            found.push(Refusal { path: path.clone(), message: refusal.message });
        }
        if path.is_empty() || !search.left_out.insert(path) || search.tries_left == 0 {
            break;
        }
        next = search.attempt::<T>(&search.left_out.clone()).err();
    }
    Err(found)
}

fn attempt<T: DeserializeOwned>(value: &Value) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut path = Path::default();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => path.push_index(*index),
                serde_path_to_error::Segment::Map { key } => path.push_key(key),
                // A variant is no step in the JSON; below an unknown step the place is found by leaving out.
                serde_path_to_error::Segment::Enum { .. } => {}
                serde_path_to_error::Segment::Unknown => break,
            }
        }
        let message = error.into_inner().to_string();
        // serde_json reads number keys as texts of their own, and names the place in them.
        let message = match message.rsplit_once(" at line ") {
            Some((before, place)) if place.bytes().all(|b| b.is_ascii_digit() || b" column".contains(&b)) => {
                before.to_owned()
            }
            _ => message,
        };
        Refusal { path, message }
    })
}

/// How many values there are, at least 1.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

struct Search<'a> {
    value: &'a Value,
    left_out: BTreeSet<Path>,
    tries_left: usize,
}

impl Search<'_> {
    /// Deserializes without the given parts. A refusal's path is that of the whole value.
    fn attempt<T: DeserializeOwned>(&mut self, left_out: &BTreeSet<Path>) -> Result<T, Refusal> {
        self.tries_left = self.tries_left.saturating_sub(1);
        let reduced = without(self.value, left_out, &mut Path::default());
        attempt(&reduced).map_err(|refusal| Refusal { path: restored(&refusal.path, self.value, left_out), ..refusal })
    }

    /// The smallest part of the value at the refusal's path that must be there for the refusal to come.
    fn narrow<T: DeserializeOwned>(&mut self, refusal: &Refusal) -> Path {
        let mut left_out = self.left_out.clone();
        let mut path = existing(&refusal.path, self.value);
        loop {
            let mut children = children(self.value, &path);
            children.retain(|child| !left_out.contains(child));
            // How many of the first children must be there. Deserialization goes in order, so that the refusal, once there,
            // stays when more are added.
            let (mut low, mut high) = (0, children.len());
            while low < high {
                if self.tries_left == 0 {
                    return path;
                }
                let middle = (low + high) / 2;
                let mut tried = left_out.clone();
                tried.extend(children[middle..].iter().cloned());
                if self.attempt::<T>(&tried).err().is_some_and(|other| other.message == refusal.message) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            // Refused even without children (or no longer refused in the same words): it is about the whole.
            if low == 0 || low > children.len() || children.is_empty() {
                return path;
            }
            left_out.extend(children[low..].iter().cloned());
            path = children[low - 1].clone();
        }
    }
}

fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.segments().iter().try_fold(value, |value, segment| match segment {
        Segment::Key(key) => value.get(key),
        Segment::Index(index) => value.get(index),
    })
}

/// The longest part of the path that is in the value.
fn existing(path: &Path, value: &Value) -> Path {
    let mut path = path.clone();
    while at(value, &path).is_none() && !path.is_empty() {
        path.pop();
    }
    path
}

fn children(value: &Value, path: &Path) -> Vec<Path> {
    let below = |segment: Segment| {
        let mut child = path.clone();
        child.push(segment);
        child
    };
    match at(value, path) {
        Some(Value::Array(items)) => (0..items.len()).map(|index| below(Segment::Index(index))).collect(),
        Some(Value::Object(map)) => map.keys().map(|key| below(Segment::Key(key.clone()))).collect(),
        _ => Vec::new(),
    }
}

/// A copy of the value without the given parts.
fn without(value: &Value, left_out: &BTreeSet<Path>, path: &mut Path) -> Value {
    match value {
        Value::Array(items) => {
            let mut kept = Vec::new();
            for (index, item) in items.iter().enumerate() {
                path.push_index(index);
                if !left_out.contains(path) {
                    kept.push(without(item, left_out, path));
                }
                path.pop();
            }
            Value::Array(kept)
        }
        Value::Object(map) => {
            let mut kept = Map::new();
            for (key, item) in map {
                path.push_key(key);
                if !left_out.contains(path) {
                    kept.insert(key.clone(), without(item, left_out, path));
                }
                path.pop();
            }
            Value::Object(kept)
        }
        single => single.clone(),
    }
}

/// The path in the whole value of a path in the value without the given parts: list indexes count what was left out.
fn restored(path: &Path, value: &Value, left_out: &BTreeSet<Path>) -> Path {
    let mut restored = Path::default();
    for segment in path.segments() {
        match segment {
            Segment::Key(key) => restored.push_key(key),
            Segment::Index(index) => {
                let kept = |child: &Path| !left_out.contains(child);
                match children(value, &restored).into_iter().filter(kept).nth(*index) {
                    Some(child) => restored = child,
                    None => return restored,
                }
            }
        }
    }
    restored
}
