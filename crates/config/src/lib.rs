//! Reads config files: every mistake at once, each with file, line, column and the nearest key.
//!
//! A generic loader that knows no key of Portcullis: a config type is any `T: DeserializeOwned + JsonSchema`, and its doc
//! comments, defaults and bounds give the checks, the published schema, the reference and the example.
//!
//! YAML is read by the core schema of YAML 1.2, of which JSON is a part: `true` and `false` are bools; `no`, `yes`, `on`, `off`
//! are text (the "Norway problem" does not arise); an integer with a leading zero is refused, because it is read in two ways.
//! Anchors, aliases, tags and second documents are refused, and file size, nesting and number of values are bounded.
//!
//! ```
//! use portcullis_config::{FixedEnvironment, Source, load};
//!
//! #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
//! struct Config {
//!     /// How many workers.
//!     workers: u8,
//! }
//!
//! let world = FixedEnvironment::new().with_variable("WORKERS", "4");
//! let config = load::<Config>(&Source::new("c.yaml", "workers: ${WORKERS}"), &world).expect("the text is right");
//! assert_eq!(config.value.workers, 4);
//!
//! let mistakes = load::<Config>(&Source::new("c.yaml", "workers: 1\nworker: 300"), &world).expect_err("there is one");
//! assert_eq!(mistakes[0].to_string(), "c.yaml:2:1: worker: unknown key (did you mean `workers`?)");
//! ```
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
