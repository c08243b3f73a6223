//! Reads a config: text, tree, interpolation, overrides, check, type.
//!
//! The one entry of the crate. Each step adds its mistakes to one list and the next step still runs, so that the operator sees
//! all of them at once.
//!
//! Invariant: a value is handed out only where no step found a mistake.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Environment, Loaded, Mistake, Source,
    check::{Checked, Hidden, check},
    interpolate::interpolate,
    last_check::{self, Refusal},
    mistake::{Mistakes, Place, Position},
    overrides,
    path::{Path, Segment},
    shape::Shapes,
    source::{MAX_FILE_BYTES, too_large},
    tree::{Content, Node, Parsed, parse},
};

/// Reads a config of type `T` from a YAML (or JSON) text.
///
/// # Errors
/// All mistakes that were found, as the file reads: at most [`MAX_MISTAKES`](crate::MAX_MISTAKES), at least one.
pub fn load<T: DeserializeOwned + JsonSchema>(
    source: &Source,
    environment: &dyn Environment,
) -> Result<Loaded<T>, Vec<Mistake>> {
    let mut mistakes = Mistakes::new(source.name.as_str());
    if source.text.len() as u64 > MAX_FILE_BYTES {
        mistakes.add(&Place::File(Position::NONE), &Path::default(), too_large());
        return Err(mistakes.into_sorted());
    }
    let shapes = Shapes::of::<T>();
    let Parsed { mut root, is_complete } = parse(&source.text, &mut mistakes);
    interpolate(&mut root, &source.directory, environment, &mut mistakes);
    overrides::apply(&mut root, &shapes, environment, &mut mistakes);
    let Checked { value, hidden } = check(&root, is_complete, &shapes, &mut mistakes);
    if mistakes.is_empty() {
        match last_check::deserialize::<T>(&value) {
            Ok(value) => return Ok(Loaded::new(value, source.name.clone(), &root, hidden)),
            Err(refusals) => {
                for refusal in refusals {
                    let message = without_hidden(&refusal, &hidden);
                    mistakes.add(place_of(&root, refusal.path.segments()), &refusal.path, message);
                }
            }
        }
    }
    Err(mistakes.into_sorted())
}

/// The place of the value at a path, or of the nearest one around it.
fn place_of<'a>(node: &'a Node, path: &[Segment]) -> &'a Place {
    let Some((segment, rest)) = path.split_first() else { return &node.place };
    let child = match (&node.content, segment) {
        (Content::List(items), Segment::Index(index)) => items.get(*index),
        (Content::Map(entries), Segment::Key(key)) => {
            entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value)
        }
        _ => None,
    };
    child.map_or(&node.place, |child| place_of(child, rest))
}

/// A type's own message may quote what it refuses: not where that is hidden.
fn without_hidden(refusal: &Refusal, hidden: &[Hidden]) -> String {
    for one in hidden.iter().filter(|one| refusal.path.holds(&one.path)) {
        let text = one.text.expose();
        let is_quoted = refusal.message.contains(text) || refusal.message.contains(&*text.escape_debug().to_string());
        if one.path == refusal.path || (is_quoted && !text.is_empty()) {
            return "the value is not accepted here (it is not shown, because it may be secret)".to_owned();
        }
    }
    refusal.message.clone()
}
