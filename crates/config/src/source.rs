//! The text of a config file, and where it came from.
//!
//! The first thing the loader is given. Relative paths inside the config are relative to [`Source::directory`].
//!
//! Invariant: [`Source::read`] never takes more than [`MAX_FILE_BYTES`].

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{Environment, mistake::Mistake};

/// The largest config file: 10 MiB.
pub const MAX_FILE_BYTES: u64 = 10 << 20;

/// A config text with the name under which mistakes report it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name in front of every mistake: the path as the operator gave it.
    pub name: String,
    /// The YAML or JSON text.
    pub text: String,
    /// What relative paths in the config are relative to.
    pub directory: PathBuf,
}

impl Source {
    /// A text under a name; where the name is a path, its directory becomes [`Source::directory`].
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let name = name.into();
        let directory = Path::new(&name).parent().unwrap_or(Path::new("")).to_owned();
        Self { name, text: text.into(), directory }
    }

    /// Reads a config file of at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is not UTF-8; said as a [`Mistake`] of that file.
    pub fn read(path: &Path, environment: &dyn Environment) -> Result<Self, Mistake> {
        let name = path.display().to_string();
        let refuse = |message: String| Mistake {
            file: name.clone(),
            line: 0,
            column: 0,
            path: String::new(),
            message,
            hint: None,
        };
        let bytes = environment.read_file(path, MAX_FILE_BYTES).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => refuse(too_large()),
            _ => refuse(format!("cannot be read: {error}")),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            refuse(format!("is not UTF-8 text: byte {} is invalid", error.utf8_error().valid_up_to() + 1))
        })?;
        Ok(Self::new(name, text))
    }
}

/// What is said of a config beyond [`MAX_FILE_BYTES`].
pub(crate) fn too_large() -> String {
    format!("is larger than {} MiB", MAX_FILE_BYTES >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FixedEnvironment;

    #[test]
    fn a_file_that_cannot_be_taken_says_why() {
        let world = FixedEnvironment::new()
            .with_file("conf/a.yaml", "a: 1")
            .with_file("latin.yaml", b"a: \xe9".to_vec())
            .with_file("big.yaml", vec![b' '; MAX_FILE_BYTES as usize + 1]);
        let read = |path: &str| Source::read(Path::new(path), &world);
        let source = read("conf/a.yaml").unwrap();
        assert_eq!((source.name.as_str(), source.directory.as_path()), ("conf/a.yaml", Path::new("conf")));
        assert_eq!(read("none.yaml").unwrap_err().to_string(), "none.yaml: cannot be read: entity not found");
        assert_eq!(read("latin.yaml").unwrap_err().to_string(), "latin.yaml: is not UTF-8 text: byte 4 is invalid");
        assert_eq!(read("big.yaml").unwrap_err().to_string(), "big.yaml: is larger than 10 MiB");
    }
}
