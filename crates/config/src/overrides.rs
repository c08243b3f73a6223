//! `PORTCULLIS__A__B=value` in the environment overrides the single value at `a.b`.
//!
//! Runs after interpolation. The name is split at `__`; keys match without regard to case, with `_` for `-` and `.`; list
//! indexes are numbers from 0, and the index behind the last item adds one. The value is taken as it is, without `${...}`,
//! and becomes a number or a bool where the shape wants one.
//!
//! Invariant: sets single values only; a list or mapping that is in the file is never replaced.

use std::{env::VarError, sync::Arc};

use crate::{
    Environment,
    mistake::{Mistakes, Place, Wrong},
    nearest::{is_same_name, listed, nearest},
    path::{Path, Segment},
    shape::{Kind, Object, Shape, Shapes},
    tree::{Content, Entry, Given, Giver, Node, Scalar},
};

/// What the names of overriding variables begin with.
pub const OVERRIDE_PREFIX: &str = "PORTCULLIS__";

/// Deeper than any config type is.
const MAX_SEGMENTS: usize = 64;

/// Sets every overridden value in the tree.
pub(crate) fn apply(root: &mut Node, shapes: &Shapes, environment: &dyn Environment, mistakes: &mut Mistakes) {
    let mut names: Vec<_> = environment.names().into_iter().filter(|name| name.starts_with(OVERRIDE_PREFIX)).collect();
    // Index 2 before index 10, so that lists grow in order; else by name, so that the outcome never depends on the system.
    names.sort_by_cached_key(|name| {
        let segments = name.split("__").map(|segment| (segment.parse::<usize>().ok(), segment.to_owned()));
        segments.collect::<Vec<_>>()
    });
    for name in names {
        let mut path = Path::default();
        if let Err(wrong) = one(root, shapes, environment, &name, &mut path) {
            mistakes.add(&Place::Variable(name.as_str().into()), &path, wrong);
        }
    }
}

fn one(
    root: &mut Node,
    shapes: &Shapes,
    environment: &dyn Environment,
    name: &str,
    path: &mut Path,
) -> Result<(), Wrong> {
    let value = match environment.variable(name) {
        Ok(value) => value,
        // It was there when the names were listed: gone is as good as never there.
        Err(VarError::NotPresent) => return Ok(()),
        Err(VarError::NotUnicode(_)) => return Err("the value is not Unicode text".to_owned().into()),
    };
    let segments: Vec<&str> = name[OVERRIDE_PREFIX.len()..].split("__").collect();
    if segments.iter().any(|segment| segment.is_empty()) || segments.len() > MAX_SEGMENTS {
        return Err(format!("does not name a key: write {OVERRIDE_PREFIX}KEY__KEY").into());
    }
    // The way is found before anything is changed, so that a wrong name leaves no half of it behind.
    find(Some(root), shapes.root(), shapes, &segments, path)?;
    let place = Place::Variable(name.into());
    let given = Given { is_whole: true, by: vec![Giver::Override(name.to_owned())] };
    let scalar = Scalar { text: value, is_plain: true, given: Some(Box::new(given)) };
    set(root, path.segments(), Node { place, content: Content::Scalar(scalar) }, name);
    Ok(())
}

/// Follows the segments through file and shape, and puts the keys as they are really written into `path`.
fn find(node: Option<&Node>, shape: &Shape, shapes: &Shapes, segments: &[&str], path: &mut Path) -> Result<(), Wrong> {
    let alternatives = shapes.alternatives(shape);
    let node = node.filter(|node| !node.is_null());
    let Some((segment, rest)) = segments.split_first() else {
        if alternatives.iter().all(|shape| matches!(shape.kind, Kind::Object(_) | Kind::List(_))) {
            return Err(format!("only single values can be overridden, this is {}", shapes.expected(shape)).into());
        }
        return match node.map(|node| &node.content) {
            Some(Content::List(_) | Content::Map(_)) => {
                Err("only single values can be overridden, the file gives more here".to_owned().into())
            }
            _ => Ok(()),
        };
    };
    if let Some(Content::Scalar(_)) = node.map(|node| &node.content) {
        return Err(format!("has no key `{}`: the file gives a single value here", segment.to_lowercase()).into());
    }
    let objects = || {
        alternatives.iter().filter_map(|shape| if let Kind::Object(object) = &shape.kind { Some(object) } else { None })
    };
    let list = alternatives.iter().find_map(|shape| if let Kind::List(list) = &shape.kind { Some(list) } else { None });
    if let Some(field) = objects().flat_map(|object| &object.fields).find(|field| is_same_name(&field.name, segment)) {
        path.push_key(&field.name);
        return find(child(node, &field.name), &field.shape, shapes, rest, path);
    }
    if let Some(others) = objects().find_map(|object| object.others.as_deref()) {
        let key = free_key(node, segment)?;
        path.push_key(&key);
        return find(child(node, &key), others, shapes, rest, path);
    }
    match (list, segment.parse::<usize>()) {
        (Some(list), Ok(index)) => {
            let items = match node.map(|node| &node.content) {
                Some(Content::List(items)) => items.as_slice(),
                _ => &[],
            };
            if index > items.len() {
                return Err(format!("the list has {} items, so that [{index}] cannot be set", items.len()).into());
            }
            path.push_index(index);
            find(items.get(index), list.first.get(index).unwrap_or(&list.item), shapes, rest, path)
        }
        (Some(_), Err(_)) => {
            Err(format!("`{segment}` is not an index: the items of a list are numbered from 0").into())
        }
        (None, _) => Err(unknown(segment, objects())),
    }
}

fn unknown<'a>(segment: &str, objects: impl Iterator<Item = &'a Object>) -> Wrong {
    let names: Vec<&str> = objects.flat_map(Object::names).collect();
    let segment = segment.to_lowercase();
    let hint = nearest(&segment, names.iter().copied());
    let message = match hint {
        Some(_) => format!("unknown key `{segment}`"),
        None => format!("unknown key `{segment}`; allowed: {}", listed(names)),
    };
    Wrong { message, hint }
}

fn child<'a>(node: Option<&'a Node>, key: &str) -> Option<&'a Node> {
    match &node?.content {
        Content::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        _ => None,
    }
}

/// The key that the file has for a free name, else the name in lower case.
fn free_key(node: Option<&Node>, segment: &str) -> Result<String, Wrong> {
    let Some(Content::Map(entries)) = node.map(|node| &node.content) else { return Ok(segment.to_lowercase()) };
    let mut same = entries.iter().filter(|entry| is_same_name(&entry.key, segment));
    match (same.next(), same.next()) {
        (Some(one), None) => Ok(one.key.clone()),
        (None, _) => Ok(segment.to_lowercase()),
        (Some(one), Some(other)) => Err(format!("`{segment}` may mean `{}` or `{}`", one.key, other.key).into()),
    }
}

/// Puts `value` at a path that [`find`] has found, making mappings and lists on the way.
fn set(node: &mut Node, path: &[Segment], value: Node, name: &str) {
    let Some((segment, rest)) = path.split_first() else {
        *node = value;
        return;
    };
    let place = || Place::Variable(Arc::from(name));
    let nothing = || {
        let scalar = Scalar { text: String::new(), is_plain: true, given: None };
        Node { place: place(), content: Content::Scalar(scalar) }
    };
    match segment {
        Segment::Key(key) => {
            if node.is_null() {
                *node = Node { place: place(), content: Content::Map(Vec::new()) };
            }
            let Content::Map(entries) = &mut node.content else { return };
            if !entries.iter().any(|entry| entry.key == *key) {
                entries.push(Entry { key: key.clone(), key_place: place(), value: nothing() });
            }
            if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key) {
                set(&mut entry.value, rest, value, name);
            }
        }
        Segment::Index(index) => {
            if node.is_null() {
                *node = Node { place: place(), content: Content::List(Vec::new()) };
            }
            let Content::List(items) = &mut node.content else { return };
            if *index == items.len() {
                items.push(nothing());
            }
            if let Some(item) = items.get_mut(*index) {
                set(item, rest, value, name);
            }
        }
    }
}
