//! What the loader may ask of the world: environment variables and files.
//!
//! [`SystemEnvironment`] is the real one; [`FixedEnvironment`] holds what a test or a dry run gives it.
//!
//! Invariant: nothing else in this crate touches the process environment or the file system.

use std::{
    collections::BTreeMap,
    env::VarError,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Environment variables and files, as the loader sees them.
pub trait Environment {
    /// The value of a variable.
    ///
    /// # Errors
    /// It is not set, or not Unicode.
    fn variable(&self, name: &str) -> Result<String, VarError>;

    /// The names of all variables whose names are Unicode, in any order.
    fn names(&self) -> Vec<String>;

    /// The bytes of a file of at most `max_bytes`.
    ///
    /// # Errors
    /// It cannot be read, or is larger ([`io::ErrorKind::FileTooLarge`]).
    fn read_file(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>>;
}

/// The environment of this process and its file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        std::env::var(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }

    fn read_file(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // The length is taken from what is read, not from the metadata: pipes and /proc files have none.
        File::open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        within(bytes, max_bytes)
    }
}

/// Variables and files that are given beforehand, for tests and dry runs.
#[derive(Clone, Debug, Default)]
pub struct FixedEnvironment {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    every_file: Option<Vec<u8>>,
}

impl FixedEnvironment {
    /// No variables, no files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }

    /// Answers every file that was not added with these bytes, to try an example that names secrets.
    #[must_use]
    pub fn with_every_file(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.every_file = Some(bytes.into());
        self
    }
}

impl Environment for FixedEnvironment {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        self.variables.get(name).cloned().ok_or(VarError::NotPresent)
    }

    fn names(&self) -> Vec<String> {
        self.variables.keys().cloned().collect()
    }

    fn read_file(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(path).or(self.every_file.as_ref());
        within(bytes.ok_or(io::ErrorKind::NotFound)?.clone(), max_bytes)
    }
}

fn within(bytes: Vec<u8>, max_bytes: u64) -> io::Result<Vec<u8>> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= max_bytes) {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_environment_reads_variables_and_bounded_files() {
        let system = SystemEnvironment;
        assert!(system.names().iter().any(|name| name == "PATH"));
        assert!(system.variable("PATH").is_ok());
        assert_eq!(system.variable("PORTCULLIS_TEST_NOT_SET"), Err(VarError::NotPresent));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let length = std::fs::metadata(&file).unwrap().len();
        assert!(system.read_file(&file, length).unwrap().starts_with(b"[package]"));
        assert_eq!(system.read_file(&file, length - 1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
