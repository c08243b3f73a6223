//! The id of a resource, made from the path: `document:{id}` with `{id}` from the route's pattern.
//!
//! Values are percent-decoded once, from the path in its normal form, so that one resource has one id however its path was
//! written. A value with a slash or a control character makes no id.
//!
//! Invariant: two different lists of values never make the same id.

use arrayvec::ArrayString;
use portcullis_store::permissions::LONGEST_RESOURCE_BYTES;

use crate::exchange::Exchange;

/// An id of a resource.
pub(super) type Id = ArrayString<LONGEST_RESOURCE_BYTES>;

/// A text with names of path parameters in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// The segment of the path at this place.
    Segment(usize),
}

impl Template {
    /// Reads `text`; `parameters` are the names in the route's pattern, with the places of their segments.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(super) fn parse(text: &str, parameters: &[(Box<str>, usize)]) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("`{text}` has a `{{` without its `}}`"));
            };
            let Some((_, place)) = parameters.iter().find(|(known, _)| **known == *name) else {
                return Err(format!(
                    "`{{{name}}}` stands in no segment of match.path; write it there as a whole segment"
                ));
            };
            // Values hold no slash, so one between them keeps them apart.
            if matches!(parts.last(), Some(Part::Segment(_))) && !before.contains('/') {
                return Err(format!(
                    "`{text}` needs a `/` between two parameters, so that no two resources have one id"
                ));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Segment(*place));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        let has_odd = |part: &Part| matches!(part, Part::Text(text) if text.contains(['}', '*']) || text.chars().any(char::is_control));
        if parts.is_empty() || parts.iter().any(has_odd) {
            return Err(format!("`{text}` is no id of a resource: write it as `document:{{id}}`"));
        }
        Ok(Template(parts.into_boxed_slice()))
    }

    /// The id for this request; `None` where its path makes none.
    pub(super) fn fill(&self, exchange: &Exchange) -> Option<Id> {
        let path = exchange.path.as_ref()?.matched(&exchange.uri);
        let mut id = Id::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => id.try_push_str(text).ok()?,
                Part::Segment(place) => push_decoded(&mut id, path.split('/').nth(place + 1)?)?,
            }
        }
        Some(id)
    }
}

fn push_decoded(id: &mut Id, segment: &str) -> Option<()> {
    if segment.is_empty() {
        return None;
    }
    if !segment.contains('%') {
        return id.try_push_str(segment).ok();
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = &after[2..];
    }
    let text = String::from_utf8(bytes).ok()?;
    let is_plain = !text.contains('/') && !text.chars().any(char::is_control);
    is_plain.then(|| id.try_push_str(&text).ok()).flatten()
}
