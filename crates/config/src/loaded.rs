//! A config that was read, with the origin of each value, so that later checks can point at the right line.
//!
//! Built by [`load`](crate::load); the gateway checks what no type can say (a route names an upstream that exists) and reports
//! it through [`Loaded::mistake`].
//!
//! Invariant: `Debug` of the parts beside `value` shows no value of the config.

use std::path::PathBuf;

use portcullis_core::secret::Secret;

use crate::{
    check::Hidden,
    mistake::{Mistake, Place, Position},
    path::{Path, Segment},
    tree::{Content, Giver, Node},
};

/// A config with what is known about the origin of its values.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The config itself.
    pub value: T,
    file: String,
    outline: Outline,
    secrets: Vec<Held>,
}

/// A secret of the config, to mask it and to see whether it changed.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) path: Path,
    pub(crate) text: Secret,
}

/// Where a value came from. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is written in the config file.
    File {
        /// The line of the value.
        line: usize,
        /// The column of the value, in characters.
        column: usize,
    },
    /// The config file takes it, or part of it, from the environment by `${NAME}`.
    Variable {
        /// The name of the variable.
        name: String,
        /// The line of the `${NAME}`.
        line: usize,
        /// The column of the value that holds it.
        column: usize,
    },
    /// The config file takes it, or part of it, from another file by `${file:PATH}`.
    SecretFile {
        /// The path as it is written in the config.
        path: PathBuf,
        /// The line of the `${file:PATH}`.
        line: usize,
        /// The column of the value that holds it.
        column: usize,
    },
    /// An environment variable `PORTCULLIS__A__B` overrides the file.
    Override {
        /// The name of the variable.
        name: String,
    },
}

impl<T> Loaded<T> {
    pub(crate) fn new(value: T, file: String, root: &Node, hidden: Vec<Hidden>) -> Self {
        let secrets = hidden.into_iter().filter(|hidden| hidden.is_secret);
        let secrets = secrets.map(|hidden| Held { path: hidden.path, text: hidden.text }).collect();
        Self { value, file, outline: Outline::of(root), secrets }
    }

    /// The name of the config file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Line and column of the value at a path such as `routes[0].rate_limit[1].limit`; `None` where the file does not give it.
    pub fn position_of(&self, path: &str) -> Option<(usize, usize)> {
        match self.outline.find(Path::parse(path)?.segments())?.place() {
            Place::File(position) => Some((position.line, position.column)),
            Place::Variable(_) => None,
        }
    }

    /// Where the single value at a path came from; `None` where it is a default, or a list or mapping.
    pub fn origin_of(&self, path: &str) -> Option<&Origin> {
        match self.outline.find(Path::parse(path)?.segments())? {
            Outline::Value { origin, .. } => Some(origin),
            _ => None,
        }
    }

    /// The path and the origin of every single value that is not a default, as the file reads, overrides that add keys last.
    pub fn sources(&self) -> Vec<(String, Origin)> {
        let mut sources = Vec::new();
        self.outline.collect(&mut Path::default(), &mut sources);
        sources
    }

    /// A mistake at the value of a path, for checks that the loader cannot make. Where the value is a default, the mistake
    /// stands at the nearest list or mapping around it.
    pub fn mistake(&self, path: &str, message: impl Into<String>) -> Mistake {
        let parsed = Path::parse(path).unwrap_or_default();
        let segments = parsed.segments();
        let found = (0..=segments.len()).rev().find_map(|length| self.outline.find(&segments[..length]));
        let place = found.map_or(Place::File(Position::START), |outline| outline.place().clone());
        let mistake = place.mistake(&self.file, &parsed, message.into(), None);
        // A path that is none of ours is still shown as it was given.
        Mistake { path: path.to_owned(), ..mistake }
    }

    /// The same origins with another value: for a config that is compiled or completed after it was read.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Loaded<U> {
        Loaded { value: change(self.value), file: self.file, outline: self.outline, secrets: self.secrets }
    }

    pub(crate) fn secrets(&self) -> &[Held] {
        &self.secrets
    }
}

/// The tree of the file without its texts.
#[derive(Debug)]
enum Outline {
    Value { place: Place, origin: Origin },
    List { place: Place, items: Vec<Outline> },
    Map { place: Place, entries: Vec<(String, Outline)> },
}

impl Outline {
    fn of(node: &Node) -> Self {
        let place = node.place.clone();
        match &node.content {
            Content::List(items) => Self::List { place, items: items.iter().map(Self::of).collect() },
            Content::Map(entries) => {
                let entries = entries.iter().map(|entry| (entry.key.clone(), Self::of(&entry.value))).collect();
                Self::Map { place, entries }
            }
            Content::Scalar(scalar) => Self::Value { origin: origin(&place, scalar.givers()), place },
            Content::Broken => Self::Value { origin: origin(&place, &[]), place },
        }
    }

    fn place(&self) -> &Place {
        match self {
            Self::Value { place, .. } | Self::List { place, .. } | Self::Map { place, .. } => place,
        }
    }

    fn find(&self, segments: &[Segment]) -> Option<&Self> {
        let Some((segment, rest)) = segments.split_first() else { return Some(self) };
        let child = match (self, segment) {
            (Self::List { items, .. }, Segment::Index(index)) => items.get(*index),
            (Self::Map { entries, .. }, Segment::Key(key)) => {
                entries.iter().find(|(name, _)| name == key).map(|(_, child)| child)
            }
            _ => None,
        };
        child?.find(rest)
    }

    fn collect(&self, path: &mut Path, sources: &mut Vec<(String, Origin)>) {
        match self {
            Self::Value { origin, .. } => sources.push((path.to_string(), origin.clone())),
            Self::List { items, .. } => {
                for (index, item) in items.iter().enumerate() {
                    path.push_index(index);
                    item.collect(path, sources);
                    path.pop();
                }
            }
            Self::Map { entries, .. } => {
                for (key, child) in entries {
                    path.push_key(key);
                    child.collect(path, sources);
                    path.pop();
                }
            }
        }
    }
}

/// Of several givers the one that asks for the most care: a file before a variable.
fn origin(place: &Place, givers: &[Giver]) -> Origin {
    let Position { line, column } = match place {
        Place::Variable(name) => return Origin::Override { name: name.to_string() },
        Place::File(position) => *position,
    };
    let file = givers.iter().find_map(|giver| match giver {
        Giver::File(path) => Some(Origin::SecretFile { path: path.into(), line, column }),
        _ => None,
    });
    let variable = givers.iter().find_map(|giver| match giver {
        Giver::Variable(name) => Some(Origin::Variable { name: name.clone(), line, column }),
        _ => None,
    });
    file.or(variable).unwrap_or(Origin::File { line, column })
}
