//! `${NAME}`, `${NAME:-default}` and `${file:/run/secrets/name}` inside scalars; `$${` writes `${`.
//!
//! Runs on the tree after parsing, so that a value can never add keys, lists or comments: what is put in is text. The default
//! is used where the variable is not set or empty. A secret file loses one line end at its end.
//!
//! Invariant: all text put in is at most [`MAX_TOTAL_BYTES`] for a config and [`MAX_SECRET_BYTES`] for one file.

use std::{env::VarError, io, path::Path as FilePath};

use crate::{
    Environment,
    mistake::{Mistakes, Wrong, quoted},
    nearest::nearest,
    path::Path,
    tree::{Content, Given, Giver, Node},
};

/// The largest secret file: 1 MiB.
pub const MAX_SECRET_BYTES: u64 = 1 << 20;

/// How much text all interpolations of a config may put in: 16 MiB.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// Replaces every `${...}` in the tree.
pub(crate) fn interpolate(
    root: &mut Node,
    directory: &FilePath,
    environment: &dyn Environment,
    mistakes: &mut Mistakes,
) {
    Interpolation { directory, environment, left: MAX_TOTAL_BYTES, mistakes }.node(root, &mut Path::default());
}

struct Interpolation<'a> {
    directory: &'a FilePath,
    environment: &'a dyn Environment,
    /// How many bytes may still be put in.
    left: usize,
    mistakes: &'a mut Mistakes,
}

impl Interpolation<'_> {
    fn node(&mut self, node: &mut Node, path: &mut Path) {
        match &mut node.content {
            Content::Broken => {}
            Content::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.push_index(index);
                    self.node(item, path);
                    path.pop();
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    path.push_key(&entry.key);
                    self.node(&mut entry.value, path);
                    path.pop();
                }
            }
            Content::Scalar(scalar) => {
                if !scalar.text.contains("${") {
                    return;
                }
                match self.text(&scalar.text) {
                    Ok((text, given)) => {
                        scalar.text = text;
                        scalar.given = Some(Box::new(given));
                    }
                    Err(wrong) => {
                        self.mistakes.add(&node.place, path, wrong);
                        node.content = Content::Broken;
                    }
                }
            }
        }
    }

    fn text(&mut self, text: &str) -> Result<(String, Given), Wrong> {
        let mut out = String::with_capacity(text.len());
        let mut given = Given::default();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                // `$${`: the first `$` escapes the rest.
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or_else(|| {
                "`${` is not closed by `}`; write `$${` where the two signs themselves are meant".to_owned()
            })?;
            given.is_whole = at == 0 && rest.len() == text.len() && end + 1 == inner.len();
            let value = self.value(&inner[..end], &mut given)?;
            self.left = self
                .left
                .checked_sub(value.len())
                .ok_or_else(|| format!("interpolation puts in more than {} MiB", MAX_TOTAL_BYTES >> 20))?;
            out.push_str(&value);
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
        Ok((out, given))
    }

    fn value(&self, inner: &str, given: &mut Given) -> Result<String, Wrong> {
        if inner.contains("${") {
            let whole = quoted(&format!("${{{inner}}}"));
            return Err(format!("{whole} holds another `${{`: interpolations do not nest").into());
        }
        if let Some(path) = inner.strip_prefix("file:") {
            given.by.push(Giver::File(path.to_owned()));
            return self.file(path).map_err(Wrong::from);
        }
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let starts_right = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_right || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let whole = quoted(&format!("${{{inner}}}"));
            let forms = "`${NAME}`, `${NAME:-default}` or `${file:PATH}`";
            return Err(format!("{whole} is not an interpolation: write {forms}").into());
        }
        match (self.environment.variable(name), default) {
            (Ok(value), None) => {
                given.by.push(Giver::Variable(name.to_owned()));
                Ok(value)
            }
            (Ok(value), Some(_)) if !value.is_empty() => {
                given.by.push(Giver::Variable(name.to_owned()));
                Ok(value)
            }
            (Ok(_) | Err(VarError::NotPresent), Some(default)) => Ok(default.to_owned()),
            (Err(VarError::NotPresent), None) => Err(self.not_set(name)),
            (Err(VarError::NotUnicode(_)), _) => {
                Err(format!("the environment variable `{name}` is not Unicode text").into())
            }
        }
    }

    fn not_set(&self, name: &str) -> Wrong {
        let names = self.environment.names();
        let message = format!("the environment variable `{name}` is not set; `${{{name}:-...}}` gives a default");
        Wrong { message, hint: nearest(name, names.iter().map(String::as_str)) }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        if path.is_empty() {
            return Err("`${file:}` names no file".to_owned());
        }
        let bytes = self.environment.read_file(&self.directory.join(path), MAX_SECRET_BYTES).map_err(|error| {
            match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    format!("the secret file `{path}` is larger than {} MiB", MAX_SECRET_BYTES >> 20)
                }
                _ => format!("the secret file `{path}` cannot be read: {error}"),
            }
        })?;
        let mut text = String::from_utf8(bytes).map_err(|_| format!("the secret file `{path}` is not UTF-8 text"))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}
