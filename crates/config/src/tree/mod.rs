//! The config as it is written: scalars, lists and mappings, each with its place.
//!
//! [`parse`] makes the tree from YAML, `interpolate` and `overrides` change scalars in it, `check` reads it beside the shape
//! of the config struct.
//!
//! Invariant: a scalar keeps its text as it was written; nothing here decides that `no` or `1.10` is anything but text.

mod json;
mod parse;
pub(crate) mod scalar;

use crate::mistake::{Place, Position};

pub(crate) use parse::{Parsed, parse};

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// What a [`Node`] holds.
#[derive(Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A mistake was already reported here, so that nothing more is said about it.
    Broken,
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

/// A single value, as text.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that it may mean a number, a bool or nothing.
    pub(crate) is_plain: bool,
    /// Set where `${...}` or an override gave the text, or part of it.
    pub(crate) given: Option<Box<Given>>,
}

/// How a scalar came to text that is not written in the file.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The scalar is one `${...}` and nothing else: it may become a number or a bool where one is wanted.
    pub(crate) is_whole: bool,
    /// Where the text came from; empty where only the default of `${NAME:-default}` was used.
    pub(crate) by: Vec<Giver>,
}

/// Where a part of a scalar came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Giver {
    /// `${NAME}`
    Variable(String),
    /// `${file:PATH}`, with the path as it is written.
    File(String),
    /// `PORTCULLIS__A__B=value`
    Override(String),
}

impl Scalar {
    /// Who gave (part of) the text, if it is not as written in the file.
    pub(crate) fn givers(&self) -> &[Giver] {
        self.given.as_ref().map_or(&[], |given| &given.by)
    }

    /// Whether the text came from a secret file.
    pub(crate) fn is_from_file(&self) -> bool {
        self.givers().iter().any(|giver| matches!(giver, Giver::File(_)))
    }
}

impl Node {
    /// A mapping without keys, which is what an empty file means.
    pub(crate) fn empty_map(position: Position) -> Self {
        Self { place: Place::File(position), content: Content::Map(Vec::new()) }
    }

    /// Whether the file says "nothing" here: an empty value, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar(scalar) if scalar.is_plain && scalar.given.is_none() => scalar::is_null(&scalar.text),
            _ => false,
        }
    }
}
