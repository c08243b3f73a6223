//! Reads config files: every mistake at once, each with file, line, column and the nearest key.
//!
//! A generic loader that knows no key of Portcullis: a config type is any `T: DeserializeOwned + JsonSchema`, and its doc
//! comments, defaults and bounds give the checks, the published schema, the reference and the example.
//!
//! YAML is read by the core schema of YAML 1.2, of which JSON is a part: `true` and `false` are bools; `no`, `yes`, `on`, `off`
//! are text (the "Norway problem" does not arise); an integer with a leading zero is refused, because it is read in two ways.
//! Anchors, aliases, tags and second documents are refused, and file size, nesting and number of values are bounded.
//!
//! Invariant: no message holds a text that came from the environment or a file or stands under a secret key, and no printed
//! config holds one that came from a file or stands under a secret key.

mod check;
mod effective;
mod emit;
mod environment;
mod example;
mod interpolate;
mod last_check;
mod load;
mod loaded;
mod mistake;
mod nearest;
mod overrides;
mod path;
mod publish;
mod reference;
mod shape;
mod source;
mod tree;

pub use effective::{Change, diff, effective, effective_value};
pub use environment::{Environment, FixedEnvironment, SystemEnvironment};
pub use example::{Example, example};
pub use interpolate::MAX_SECRET_BYTES;
pub use load::load;
pub use loaded::{Loaded, Origin};
pub use mistake::{MAX_MISTAKES, Mistake};
pub use overrides::OVERRIDE_PREFIX;
pub use publish::schema;
pub use reference::reference;
pub use source::{MAX_FILE_BYTES, Source};
