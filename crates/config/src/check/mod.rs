//! Walks the tree of the file beside the shape of the config struct, and says everything that does not fit.
//!
//! What fits is turned into JSON on the way, with numbers and bools typed as the shape wants them; the deserializer gets that
//! JSON only where no mistake was found.
//!
//! Invariant: never stops at the first mistake, and takes at most [`MAX_NESTED_STEPS`] more steps however unions are nested.

mod object;
mod scalar;
mod union;

use std::collections::HashMap;

use portcullis_core::secret::Secret;
use serde_json::{Map, Value};

use crate::{
    mistake::{Mistakes, Place},
    path::Path,
    shape::{Kind, List, Shape, Shapes},
    tree::{Content, Node, Scalar},
};

/// How many values are looked at while one union is tried inside of another. Outside of that, a value is looked at once for
/// each member of its own union.
const MAX_NESTED_STEPS: usize = 100_000;

/// A text that must not be shown, and where it stands.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) path: Path,
    pub(crate) text: Secret,
    /// Whether it is secret in printed config too: from a file, or under a secret key.
    pub(crate) is_secret: bool,
}

/// What the walk found.
pub(crate) struct Checked {
    /// The config as JSON; right only where no mistake was added.
    pub(crate) value: Value,
    /// Texts that messages and printed config must not hold.
    pub(crate) hidden: Vec<Hidden>,
}

/// Checks `root` against the shapes. Where the tree is not complete, missing keys are not reported.
pub(crate) fn check(root: &Node, is_complete: bool, shapes: &Shapes, mistakes: &mut Mistakes) -> Checked {
    let mut checker = Checker {
        shapes,
        is_complete,
        mistakes: mistakes.fresh(),
        hidden: Vec::new(),
        unions_tried: 0,
        nested_steps: 0,
        stopped_at: None,
    };
    let value = checker.node(root, shapes.root(), &mut Path::default());
    mistakes.append(checker.mistakes);
    if let Some((place, path)) = checker.stopped_at {
        let message = "too many nested alternatives to try them all, further mistakes may not be reported".to_owned();
        mistakes.add(&place, &path, message);
    }
    Checked { value, hidden: checker.hidden }
}

struct Checker<'a> {
    shapes: &'a Shapes,
    is_complete: bool,
    mistakes: Mistakes,
    hidden: Vec<Hidden>,
    /// How many unions are being tried around the value.
    unions_tried: usize,
    nested_steps: usize,
    /// Where the steps were used up. Kept apart from the mistakes, because those of a member that does not fit are dropped.
    stopped_at: Option<(Place, Path)>,
}

impl Checker<'_> {
    fn node(&mut self, node: &Node, shape: &Shape, path: &mut Path) -> Value {
        self.nested_steps += usize::from(self.unions_tried > 1);
        if self.nested_steps >= MAX_NESTED_STEPS {
            self.stopped_at.get_or_insert_with(|| (node.place.clone(), path.clone()));
            return Value::Null;
        }
        if matches!(node.content, Content::Broken) {
            return Value::Null;
        }
        if node.is_null() && self.shapes.is_nullable(shape) {
            return Value::Null;
        }
        let shape = self.shapes.resolve(shape);
        match (&shape.kind, &node.content) {
            (Kind::Any, _) => self.any(node, path),
            (Kind::Union(members), _) => self.union(node, members, path),
            (Kind::Object(object), Content::Map(entries)) => self.object(node, entries, object, path),
            (Kind::List(list), Content::List(items)) => self.list(node, items, list, path),
            (Kind::Object(_) | Kind::List(_), _) | (_, Content::List(_) | Content::Map(_)) => {
                let message = format!("expected {}, got {}", self.shapes.expected(shape), scalar::got(node));
                self.mistakes.add(&node.place, path, message);
                Value::Null
            }
            (_, Content::Scalar(scalar)) => self.scalar(node, scalar, shape, path),
            (_, Content::Broken) => Value::Null,
        }
    }

    fn scalar(&mut self, node: &Node, scalar: &Scalar, shape: &Shape, path: &Path) -> Value {
        self.note_hidden(scalar, &shape.kind, path);
        let is_nullable = self.shapes.is_nullable(shape);
        match scalar::read(scalar, &shape.kind, is_nullable, || self.shapes.expected(shape)) {
            Ok(value) => value,
            Err(wrong) => {
                self.mistakes.add(&node.place, path, wrong);
                Value::Null
            }
        }
    }

    /// Remembers texts that messages must not hold: all that is not written in the file, and what is secret by its key.
    fn note_hidden(&mut self, scalar: &Scalar, kind: &Kind, path: &Path) {
        let is_secret_key = matches!(kind, Kind::Text(text) if text.is_secret());
        if is_secret_key || !scalar.givers().is_empty() {
            self.hidden.push(Hidden {
                path: path.clone(),
                text: Secret::new(scalar.text.as_str()),
                is_secret: is_secret_key || scalar.is_from_file(),
            });
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], list: &List, path: &mut Path) -> Value {
        let mut values = Vec::with_capacity(items.len());
        let mut seen = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            path.push_index(index);
            let shape = list.first.get(index).unwrap_or(&list.item);
            let before = self.mistakes.len();
            let value = self.node(item, shape, path);
            if list.is_unique
                && before == self.mistakes.len()
                && let Some(first) = seen.insert(value.to_string(), index)
            {
                let message = format!("the same value is already given as item [{first}]");
                self.mistakes.add(&item.place, path, message);
            }
            path.pop();
            values.push(value);
        }
        let count = items.len() as u64;
        let too_few = self.is_complete && list.min_items.is_some_and(|min| count < min);
        if too_few || list.max_items.is_some_and(|max| count > max) {
            let message = format!("has {count} items, must have {}", list.count_bounds());
            self.mistakes.add(&node.place, path, message);
        }
        Value::Array(values)
    }

    /// A value whose shape is not known: as YAML means it.
    fn any(&mut self, node: &Node, path: &mut Path) -> Value {
        match &node.content {
            Content::Broken => Value::Null,
            Content::Scalar(scalar) => self.scalar(node, scalar, &Shape::new(Kind::Any), path),
            Content::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push_index(index);
                    values.push(self.any(item, path));
                    path.pop();
                }
                Value::Array(values)
            }
            Content::Map(entries) => {
                let mut values = Map::new();
                for entry in entries {
                    path.push_key(&entry.key);
                    values.insert(entry.key.clone(), self.any(&entry.value, path));
                    path.pop();
                }
                Value::Object(values)
            }
        }
    }
}
