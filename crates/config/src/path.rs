//! Where in the config a value stands: `routes[0].rate_limit[1].limit`.
//!
//! Mistakes, origins and differences all name values by this text. Keys that are not plain words are quoted:
//! `security_headers["x.y"]`.
//!
//! Invariant: what `Display` writes, [`Path::parse`] reads back as the same path.

use std::fmt;

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

/// The steps from the top of the config to a value; empty for the top itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Segment>);

impl Path {
    pub(crate) fn push_key(&mut self, key: &str) {
        self.0.push(Segment::Key(key.to_owned()));
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        self.0.push(Segment::Index(index));
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `self` is `other` or contains it.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// This path and one key more.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.push_key(key);
        path
    }

    /// Reads what `Display` writes; `None` where the text is no path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut path = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                if after.starts_with('"') {
                    let mut read = serde_json::Deserializer::from_str(after).into_iter::<String>();
                    path.0.push(Segment::Key(read.next()?.ok()?));
                    rest = after.get(read.byte_offset()..)?.strip_prefix(']')?;
                } else {
                    let (index, after) = after.split_once(']')?;
                    path.0.push(Segment::Index(index.parse().ok()?));
                    rest = after;
                }
                continue;
            }
            let word = match rest.strip_prefix('.') {
                Some(word) if !path.is_empty() => word,
                None if path.is_empty() => rest,
                _ => return None,
            };
            let end = word.find(['.', '[']).unwrap_or(word.len());
            if end == 0 {
                return None;
            }
            path.push_key(&word[..end]);
            rest = &word[end..];
        }
        Some(path)
    }
}

/// Whether a key is shown without quotes.
fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if !is_word(key) => write!(f, "[{}]", serde_json::Value::from(key.as_str()))?,
                Segment::Key(key) if at == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_read_as_they_are_written() {
        let mut path = Path::default();
        path.push_key("routes");
        path.push_index(0);
        path.push_key("x.y");
        path.push_key("limit");
        assert_eq!(path.to_string(), r#"routes[0]["x.y"].limit"#);
        assert_eq!(Path::parse(r#"routes[0]["x.y"].limit"#), Some(path));
        for wrong in [".a", "a..b", "a.", "a[x]", "a[0", "a[\"x]", "a[0]b"] {
            assert_eq!(Path::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(keys in proptest::collection::vec(prop_oneof![
            "[a-z_]{1,8}".prop_map(Segment::Key),
            "\\PC{0,6}".prop_map(Segment::Key),
            (0usize..1000).prop_map(Segment::Index),
        ], 0..6)) {
            let path = Path(keys);
            prop_assert_eq!(Path::parse(&path.to_string()), Some(path));
        }
    }
}
