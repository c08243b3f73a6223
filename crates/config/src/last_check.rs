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

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    /// A number below ten; its refusal does not say which one it was.
    #[derive(Deserialize)]
    #[serde(try_from = "u32")]
    struct Digit;

    impl TryFrom<u32> for Digit {
        type Error = &'static str;
        fn try_from(number: u32) -> Result<Self, Self::Error> {
            if number < 10 { Ok(Self) } else { Err("not a digit") }
        }
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "it is only read, never looked at")]
    struct Top {
        first: Option<u8>,
        #[serde(flatten)]
        rest: Rest,
    }

    /// Behind `flatten`, serde reports no place at all.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "it is only read, never looked at")]
    struct Rest {
        #[serde(default)]
        lists: Vec<Vec<Digit>>,
        needed: Option<Needed>,
        whole: Option<Whole>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "it is only read, never looked at")]
    struct Needed {
        digit: Digit,
    }

    /// Refuses a combination, and nothing in it.
    #[derive(Deserialize)]
    #[serde(try_from = "Map<String, Value>")]
    struct Whole;

    impl TryFrom<Map<String, Value>> for Whole {
        type Error = &'static str;
        fn try_from(map: Map<String, Value>) -> Result<Self, Self::Error> {
            match (map.contains_key("a"), map.contains_key("b")) {
                (true, true) => Err("give a or b, not both"),
                (false, false) => Err("give a or b"),
                _ => Ok(Self),
            }
        }
    }

    fn refusals(value: Value) -> Vec<(String, String)> {
        let refused = deserialize::<Top>(&value).err().unwrap_or_default();
        refused.into_iter().map(|refusal| (refusal.path.to_string(), refusal.message)).collect()
    }

    fn each(message: &str, paths: &[&str]) -> Vec<(String, String)> {
        paths.iter().map(|path| ((*path).to_owned(), message.to_owned())).collect()
    }

    #[test]
    fn every_place_is_found_where_serde_reports_none() {
        assert_eq!(refusals(json!({ "first": 1, "lists": [[1], []] })), []);
        let value = json!({ "first": 1, "lists": [[1, 2], [3, 10, 4, 11], [], [12], [5]], "needed": { "digit": 1 } });
        assert_eq!(refusals(value), each("not a digit", &["lists[1][1]", "lists[1][3]", "lists[3][0]"]));
    }

    #[test]
    fn what_is_missing_only_because_it_was_left_out_is_not_reported() {
        let value = json!({ "needed": { "digit": 10 }, "lists": [[10]] });
        let mut found = refusals(value);
        found.sort();
        assert_eq!(found, each("not a digit", &["lists[0][0]", "needed.digit"]));
    }

    #[test]
    fn a_combination_is_refused_at_the_part_that_completes_it_or_as_a_whole() {
        assert_eq!(
            refusals(json!({ "whole": { "a": [1], "b": [2], "c": 3 } })),
            each("give a or b, not both", &["whole.b"])
        );
        assert_eq!(refusals(json!({ "whole": { "c": 3 } })), each("give a or b", &["whole"]));
    }

    #[test]
    fn a_large_config_is_searched_less() {
        let items: Vec<u32> = (0..200_000).map(|index| if index % 2 == 0 { 1 } else { 10 }).collect();
        let mut search = Search { value: &json!({ "lists": [items] }), left_out: BTreeSet::new(), tries_left: 3 };
        let refusal = Refusal { path: Path::default(), message: "not a digit".to_owned() };
        search.narrow::<Top>(&refusal);
        assert_eq!(search.tries_left, 0);
        assert!(MAX_WORK / size(search.value) < 10);
    }
}
