//! One mistake in the config: where it is, what is wrong, and what was probably meant.
//!
//! Every stage of the loader adds to one bounded list, which is handed out sorted as the file reads.
//!
//! Invariant: a message never holds a value that came from the environment or a file, nor one of a secret key.

use std::{fmt, sync::Arc};

use crate::path::Path;

/// How many mistakes are reported at once; the rest is summed up in one line.
pub const MAX_MISTAKES: usize = 100;

/// A mistake in the config, for people: `gateway.yaml:12:5: routes[0].limit: ... (did you mean `x`?)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as the [`Source`](crate::Source) names it, or `environment variable NAME` for an override.
    pub file: String,
    /// Line from 1; 0 where the place is not in a file.
    pub line: usize,
    /// Column in characters from 1; 0 where the place is not in a file.
    pub column: usize,
    /// The key, such as `routes[0].rate_limit[1].limit`; empty for the config as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What was probably meant: a key, a value.
    pub hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (did you mean `{hint}`?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Mistake {}

/// A text of the file for a message: in backquotes, control characters escaped, cut after 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (at, c) in text.chars().enumerate() {
        if at == 60 {
            out.push_str("...");
            break;
        }
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out.push('`');
    out
}

/// A line and a column in a file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
    /// For what concerns a file as a whole.
    pub(crate) const NONE: Self = Self { line: 0, column: 0 };
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File(Position),
    /// An override: the name of the environment variable.
    Variable(Arc<str>),
}

impl Place {
    /// A mistake at this place.
    pub(crate) fn mistake(&self, file: &str, path: &Path, message: String, hint: Option<String>) -> Mistake {
        let (file, line, column) = match self {
            Self::File(position) => (file.to_owned(), position.line, position.column),
            Self::Variable(name) => (format!("environment variable {name}"), 0, 0),
        };
        Mistake { file, line, column, path: path.to_string(), message, hint }
    }
}

/// What is wrong with one value, before it is known where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { message, hint: None }
    }
}

/// The mistakes found so far in one file, at most [`MAX_MISTAKES`].
#[derive(Debug)]
pub(crate) struct Mistakes {
    file: Arc<str>,
    list: Vec<Mistake>,
    left_out: usize,
}

impl Mistakes {
    pub(crate) fn new(file: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), list: Vec::new(), left_out: 0 }
    }

    /// An empty list for the same file.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(Arc::clone(&self.file))
    }

    pub(crate) fn add(&mut self, place: &Place, path: &Path, wrong: impl Into<Wrong>) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        let Wrong { message, hint } = wrong.into();
        self.list.push(place.mistake(&self.file, path, message, hint));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        let room = MAX_MISTAKES - self.list.len();
        self.left_out += other.left_out + other.list.len().saturating_sub(room);
        other.list.truncate(room);
        self.list.append(&mut other.list);
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len() + self.left_out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether further mistakes are only counted, so that nobody needs to think about their wording.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_MISTAKES
    }

    /// As the file reads, mistakes outside the file last.
    pub(crate) fn into_sorted(mut self) -> Vec<Mistake> {
        self.list.sort_by_key(|mistake| (mistake.line == 0, mistake.line, mistake.column));
        self.list.dedup();
        if self.left_out > 0 {
            let message = format!("{} further mistakes are left out", self.left_out);
            self.list.push(Place::File(Position::NONE).mistake(&self.file, &Path::default(), message, None));
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Place {
        Place::File(Position { line, column })
    }

    #[test]
    fn a_mistake_reads_as_one_line() {
        let path = Path::parse("routes[0].limit").unwrap();
        let place = at(12, 5);
        let said = place.mistake("g.yaml", &path, "unknown key".into(), Some("limits".into())).to_string();
        assert_eq!(said, "g.yaml:12:5: routes[0].limit: unknown key (did you mean `limits`?)");
        let place = Place::Variable("PORTCULLIS__A".into());
        let said = place.mistake("g.yaml", &Path::default(), "no such key".into(), None).to_string();
        assert_eq!(said, "environment variable PORTCULLIS__A: no such key");
    }

    #[test]
    fn mistakes_come_as_the_file_reads_and_are_bounded() {
        let mut mistakes = Mistakes::new("f");
        mistakes.add(&Place::Variable("V".into()), &Path::default(), "last".to_owned());
        for line in (1..=150).rev() {
            mistakes.add(&at(line, 1), &Path::default(), "wrong".to_owned());
        }
        assert_eq!(mistakes.len(), 151);
        let sorted = mistakes.into_sorted();
        assert_eq!(sorted.len(), MAX_MISTAKES + 1);
        assert_eq!((sorted[0].line, sorted[98].line), (52, 150));
        assert_eq!(sorted[99].message, "last");
        assert_eq!(sorted[100].to_string(), "f: 51 further mistakes are left out");
    }
}
