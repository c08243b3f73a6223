//! From YAML text to a [`Node`] tree with places.
//!
//! Reads the events of `saphyr-parser` one by one, so that every bound holds before memory is spent. After a syntax error the
//! part before it is kept: the mistakes in it are reported in the same run.
//!
//! Invariant: aliases are never expanded, so that the tree is no larger than the text; nesting and number of values are bounded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{Content, Entry, Node, Scalar, json::with_whole_characters};
use crate::{
    mistake::{Mistakes, Place, Position},
    path::Path,
};

/// How deep lists and mappings may be nested.
pub(crate) const MAX_DEPTH: usize = 64;

/// How many values, lists and mappings a config may hold.
pub(crate) const MAX_NODES: usize = 500_000;

/// What [`parse`] found.
pub(crate) struct Parsed {
    pub(crate) root: Node,
    /// False where reading stopped early: keys that seem to be missing may stand behind the stop.
    pub(crate) is_complete: bool,
}

/// Reads one YAML document. What is wrong goes to `mistakes`; an empty text is an empty mapping.
pub(crate) fn parse(text: &str, mistakes: &mut Mistakes) -> Parsed {
    // A byte order mark is no content (YAML 1.2.2, section 5.2).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = &*with_whole_characters(text);
    let mut builder = Builder { end: end_of(text), open: Vec::new(), root: None, nodes: 0, mistakes };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    let is_complete = loop {
        let (event, span) = match parser.next_event() {
            None => break true,
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                let place = Place::File(builder.position(error.marker()));
                let mut message = format!("not valid YAML: {}", error.info());
                if line_of(text, error.marker().line()).contains("${") {
                    message.push_str("; within `{ }` and `[ ]`, put a `${...}` in quotes");
                }
                let path = builder.path();
                builder.mistakes.add(&place, &path, message);
                builder.forget_last_scalar(error.marker().line());
                break false;
            }
        };
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                builder.refuse(&span, "a second document begins here: a config is one YAML document".to_owned());
                break false;
            }
        }
        if let Err(Stop) = builder.take(event, &span) {
            break false;
        }
    };
    let root = builder.finish().unwrap_or_else(|| Node::empty_map(Position::START));
    Parsed { root: if root.is_null() { Node::empty_map(Position::START) } else { root }, is_complete }
}

/// The place behind the last character of a text. Lines end as in YAML (section 5.4): by CR LF, LF, or CR alone.
fn end_of(text: &str) -> Position {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let breaks = text.matches('\n').count() + text.matches('\r').count() - text.matches("\r\n").count();
    let last = text.rsplit(['\r', '\n']).next().unwrap_or_default();
    Position { line: breaks + 1, column: last.chars().count() + 1 }
}

fn line_of(text: &str, line: usize) -> &str {
    text.lines().nth(line.saturating_sub(1)).unwrap_or_default()
}

/// Reading cannot go on; why was reported.
struct Stop;

/// A list or mapping whose end was not reached yet.
enum Open {
    List { place: Place, items: Vec<Node> },
    Map { place: Place, entries: Vec<Entry>, lines: HashMap<String, usize>, key: Option<Key> },
}

/// A key that waits for its value.
struct Key {
    text: String,
    place: Place,
    is_duplicate: bool,
}

struct Builder<'a> {
    /// Where the text ends: the parser names a line behind it for what is missing there.
    end: Position,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    mistakes: &'a mut Mistakes,
}

impl Builder<'_> {
    fn position(&self, marker: &saphyr_parser::Marker) -> Position {
        if marker.line() > self.end.line {
            return self.end;
        }
        Position { line: marker.line(), column: marker.col() + 1 }
    }

    fn refuse(&mut self, span: &Span, message: String) {
        self.mistakes.add(&Place::File(self.position(&span.start)), &self.path(), message);
    }

    /// Where reading stands.
    fn path(&self) -> Path {
        let mut path = Path::default();
        for open in &self.open {
            match open {
                Open::List { items, .. } => path.push_index(items.len()),
                Open::Map { key: Some(key), .. } => path.push_key(&key.text),
                Open::Map { key: None, .. } => {}
            }
        }
        path
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Stop> {
        let place = Place::File(self.position(&span.start));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let refused = self.refuse_extras(anchor, tag.is_some(), span);
                let is_plain = style == ScalarStyle::Plain;
                if self.is_at_key() {
                    self.key(text.into_owned(), self.position(&span.start));
                    return Ok(());
                }
                let scalar = Scalar { text: text.into_owned(), is_plain, given: None };
                let content = if refused { Content::Broken } else { Content::Scalar(scalar) };
                self.value(Node { place, content }, span)
            }
            Event::Alias(_) => {
                self.refuse(span, "aliases (`*name`) are not supported: write the value out".to_owned());
                if self.is_at_key() { Err(Stop) } else { self.value(Node { place, content: Content::Broken }, span) }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                self.begin(Open::List { place, items: Vec::new() }, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), span);
                let map = Open::Map { place, entries: Vec::new(), lines: HashMap::new(), key: None };
                self.begin(map, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            _ => Ok(()),
        }
    }

    /// Anchors and tags are refused where they stand; whether the value may still be looked at.
    fn refuse_extras(&mut self, anchor: usize, has_tag: bool, span: &Span) -> bool {
        if anchor > 0 {
            self.refuse(span, "anchors (`&name`) are not supported: write the value out where it is used".to_owned());
        }
        if has_tag {
            self.refuse(span, "tags (`!name`) are not supported: quotes make a text".to_owned());
        }
        has_tag
    }

    fn is_at_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn key(&mut self, text: String, position: Position) {
        let first = match self.open.last() {
            Some(Open::Map { lines, .. }) => lines.get(&text).copied(),
            _ => None,
        };
        let place = Place::File(position);
        if let Some(first) = first {
            let message = format!("the key is already given at line {first}");
            self.mistakes.add(&place, &self.path().with_key(&text), message);
        }
        if let Some(Open::Map { lines, key, .. }) = self.open.last_mut() {
            lines.entry(text.clone()).or_insert(position.line);
            *key = Some(Key { text, place, is_duplicate: first.is_some() });
        }
    }

    fn begin(&mut self, open: Open, span: &Span) -> Result<(), Stop> {
        if self.is_at_key() {
            self.refuse(span, "a key must be a single text, not a list or a mapping".to_owned());
            return Err(Stop);
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} lists and mappings");
            self.mistakes.add(&Place::File(self.position(&span.start)), &Path::default(), message);
            return Err(Stop);
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, span: &Span) -> Result<(), Stop> {
        match self.open.pop() {
            Some(open) => self.value(open.close(), span),
            None => Ok(()),
        }
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, node: Node, span: &Span) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.refuse(span, format!("more than {MAX_NODES} values"));
            return Err(Stop);
        }
        self.put(node);
        Ok(())
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => {
                if let Some(Key { text, place, is_duplicate: false }) = key.take() {
                    entries.push(Entry { key: text, key_place: place, value: node });
                }
            }
        }
    }

    /// A single value on the line of a syntax error may be half of what was meant: nothing is said about it.
    fn forget_last_scalar(&mut self, line: usize) {
        let last = match self.open.last_mut() {
            Some(Open::List { items, .. }) => items.last_mut(),
            Some(Open::Map { entries, .. }) => entries.last_mut().map(|entry| &mut entry.value),
            None => self.root.as_mut(),
        };
        if let Some(Node { place: Place::File(position), content: content @ Content::Scalar(_) }) = last
            && position.line == line
        {
            *content = Content::Broken;
        }
    }

    /// Closes what is still open and hands out the tree.
    fn finish(mut self) -> Option<Node> {
        while let Some(open) = self.open.pop() {
            let node = open.close();
            self.put(node);
        }
        self.root
    }
}

impl Open {
    fn close(self) -> Node {
        match self {
            Self::List { place, items } => Node { place, content: Content::List(items) },
            Self::Map { place, entries, .. } => Node { place, content: Content::Map(entries) },
        }
    }
}
