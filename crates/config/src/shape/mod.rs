//! The shape of a config struct: which keys it has, of which kind, within which bounds.
//!
//! Compiled from the JSON Schema that `schemars` derives, and read by everything that walks the config: the checker, the
//! overrides, the reference, the example and the masking of secrets. Nothing else in the crate reads the schema but `publish`.
//!
//! Invariant: holds no value of any config, only what the type says.

mod compile;
mod words;

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// The shapes of a config type and of the types inside it.
#[derive(Debug)]
pub(crate) struct Shapes {
    root: Shape,
    named: BTreeMap<String, Shape>,
}

/// What a value may be.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Whether "nothing" (`null`) is allowed as well.
    pub(crate) is_nullable: bool,
    /// The doc comment.
    pub(crate) description: Option<String>,
    pub(crate) default: Option<Value>,
    pub(crate) examples: Vec<Value>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Anything at all.
    Any,
    /// Nothing but `null`.
    Null,
    Bool,
    Integer(Integer),
    Number(Number),
    Text(Text),
    /// One of these texts.
    Choice(Vec<Choice>),
    List(List),
    Object(Object),
    /// One of several kinds, in the order of declaration.
    Union(Vec<Shape>),
    /// A type of its own; may refer to itself.
    Named(String),
}

/// A whole number, bounds included.
#[derive(Clone, Debug)]
pub(crate) struct Integer {
    pub(crate) min: i128,
    pub(crate) max: i128,
}

/// A number with a fraction, bounds included unless told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Number {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) above: Option<f64>,
    pub(crate) below: Option<f64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub(crate) format: Option<String>,
    /// Bounds in characters.
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) description: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct List {
    /// The shapes of the first items, where these have fixed places.
    pub(crate) first: Vec<Shape>,
    pub(crate) item: Box<Shape>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) is_unique: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    pub(crate) fields: Vec<Field>,
    /// The shape of values under free keys; `None` where only the fields are allowed.
    pub(crate) others: Option<Box<Shape>>,
    /// Whether free keys are whole numbers.
    pub(crate) has_number_keys: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) is_required: bool,
    pub(crate) shape: Shape,
}

/// The JSON Schema of a config type, as it is derived: before it is made ready for publishing.
pub(crate) fn derived_schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

impl Shapes {
    /// The shapes of a config type.
    pub(crate) fn of<T: JsonSchema>() -> Self {
        compile::compile(&derived_schema::<T>())
    }

    pub(crate) fn root(&self) -> &Shape {
        &self.root
    }

    /// The shape behind a name; `shape` itself where it has none.
    pub(crate) fn resolve<'a>(&'a self, shape: &'a Shape) -> &'a Shape {
        const ANY: &Shape = &Shape::new(Kind::Any);
        let mut shape = shape;
        // A name that leads to itself without a list or mapping between has no values; it cannot come from a Rust type.
        for _ in 0..64 {
            match &shape.kind {
                Kind::Named(name) if name == compile::ROOT => shape = &self.root,
                Kind::Named(name) => shape = self.named.get(name).unwrap_or(ANY),
                _ => return shape,
            }
        }
        ANY
    }

    /// Whether "nothing" is allowed by the shape or by what its name stands for.
    pub(crate) fn is_nullable(&self, shape: &Shape) -> bool {
        let resolved = self.resolve(shape);
        shape.is_nullable || resolved.is_nullable || matches!(resolved.kind, Kind::Any | Kind::Null)
    }

    /// All the kinds a value may have: the members of unions, names resolved.
    pub(crate) fn alternatives<'a>(&'a self, shape: &'a Shape) -> Vec<&'a Shape> {
        let mut found = Vec::new();
        let mut waiting = vec![shape];
        while let Some(shape) = waiting.pop() {
            let shape = self.resolve(shape);
            match &shape.kind {
                Kind::Union(members) if found.len() < 256 => waiting.extend(members.iter().rev()),
                _ => found.push(shape),
            }
        }
        found
    }
}

impl Shape {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, is_nullable: false, description: None, default: None, examples: Vec::new() }
    }
}

impl Object {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }
}

impl Text {
    pub(crate) fn is_secret(&self) -> bool {
        self.format.as_deref() == Some(portcullis_core::secret::FORMAT)
    }
}
