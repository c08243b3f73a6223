//! Finds the patterns that match a path, most specific first: a tree of segments, one root a host.
//!
//! At each segment a literal is tried first, then a literal without case, then `*`, and `**` last; a branch that leads
//! nowhere is left again. The cost depends on the segments of the path and not on the number of routes, as long as few
//! patterns overlap by `*`; no look-up visits a node twice.
//!
//! Invariant: the order of visits is the order of specificity that the guard's page promises.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use super::pattern::Piece;

/// Up to this many literal children are compared one by one, more are hashed.
const MOST_COMPARED: usize = 4;

/// The start of a segment that is not there.
const END: usize = usize::MAX;

/// Where a host's patterns begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

/// Patterns of all hosts; each ends in a leaf of `T`s.
pub(super) struct Trie<T> {
    nodes: Box<[Node<T>]>,
    has_folded: bool,
}

struct Node<T> {
    literals: Children,
    folded: Children,
    one: Option<u32>,
    exact: Box<[T]>,
    rest: Box<[T]>,
}

enum Children {
    Few(Box<[(Box<str>, u32)]>),
    #[expect(clippy::box_collection, reason = "a node has two of these and most are few; the box keeps nodes small")]
    Many(Box<HashMap<Box<str>, u32, ahash::RandomState>>),
}

impl<T> Trie<T> {
    /// Visits every leaf whose pattern matches `path`, most specific first, until `visit` breaks.
    ///
    /// `path` is normal: begins with `/`, has neither empty segments nor a trailing slash.
    pub(super) fn visit<'t, B>(
        &'t self,
        root: Root,
        path: &str,
        visit: &mut impl FnMut(&'t [T]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let start = if path.len() > 1 { 1 } else { END };
        if self.has_folded && path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let folded = path.to_ascii_lowercase();
            return self.descend(root.0, start, path, &folded, visit);
        }
        self.descend(root.0, start, path, path, visit)
    }

    /// `start` is where the next segment begins in `path`, [`END`] when none is left; `folded` is the path in lower case.
    fn descend<'t, B>(
        &'t self,
        node: u32,
        start: usize,
        path: &str,
        folded: &str,
        visit: &mut impl FnMut(&'t [T]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let node = &self.nodes[node as usize];
        if start != END {
            let slash = path.as_bytes()[start..].iter().position(|byte| *byte == b'/');
            let (end, next) = slash.map_or((path.len(), END), |slash| (start + slash, start + slash + 1));
            if let Some(child) = node.literals.find(&path[start..end]) {
                self.descend(child, next, path, folded, visit)?;
            }
            if let Some(child) = node.folded.find(&folded[start..end]) {
                self.descend(child, next, path, folded, visit)?;
            }
            if let Some(child) = node.one {
                self.descend(child, next, path, folded, visit)?;
            }
        } else if !node.exact.is_empty() {
            visit(&node.exact)?;
        }
        if node.rest.is_empty() { ControlFlow::Continue(()) } else { visit(&node.rest) }
    }
}

impl Children {
    fn find(&self, segment: &str) -> Option<u32> {
        match self {
            Children::Few(few) => few.iter().find(|(literal, _)| **literal == *segment).map(|(_, node)| *node),
            Children::Many(many) => many.get(segment).copied(),
        }
    }
}

/// Collects patterns. See [`TrieBuilder::leaf`].
pub(super) struct TrieBuilder<T> {
    nodes: Vec<Growing<T>>,
}

struct Growing<T> {
    literals: BTreeMap<String, u32>,
    folded: BTreeMap<String, u32>,
    one: Option<u32>,
    exact: Vec<T>,
    rest: Vec<T>,
}

impl<T> TrieBuilder<T> {
    pub(super) fn new() -> TrieBuilder<T> {
        TrieBuilder { nodes: Vec::new() }
    }

    /// A new, empty root.
    pub(super) fn root(&mut self) -> Root {
        Root(self.grow())
    }

    /// Where the pattern ends below `root`; made when it is not there.
    pub(super) fn leaf(&mut self, root: Root, pattern: &[Piece], is_case_insensitive: bool) -> &mut Vec<T> {
        let mut node = root.0;
        for piece in pattern {
            let at = node as usize;
            let known = match piece {
                Piece::Rest => return &mut self.nodes[at].rest,
                Piece::One => self.nodes[at].one,
                Piece::Literal(text) if is_case_insensitive => {
                    self.nodes[at].folded.get(&text.to_ascii_lowercase()).copied()
                }
                Piece::Literal(text) => self.nodes[at].literals.get(text).copied(),
            };
            node = known.unwrap_or_else(|| {
                let new = self.grow();
                match piece {
                    Piece::Rest => {}
                    Piece::One => self.nodes[at].one = Some(new),
                    Piece::Literal(text) if is_case_insensitive => {
                        self.nodes[at].folded.insert(text.to_ascii_lowercase(), new);
                    }
                    Piece::Literal(text) => {
                        self.nodes[at].literals.insert(text.clone(), new);
                    }
                }
                new
            });
        }
        &mut self.nodes[node as usize].exact
    }

    /// Every leaf that holds something.
    pub(super) fn leaves(&mut self) -> impl Iterator<Item = &mut Vec<T>> {
        let leaves = self.nodes.iter_mut().flat_map(|node| [&mut node.exact, &mut node.rest]);
        leaves.filter(|leaf| !leaf.is_empty())
    }

    /// Brings everything into the form that is fast to search.
    pub(super) fn build(self) -> Trie<T> {
        let has_folded = self.nodes.iter().any(|node| !node.folded.is_empty());
        let freeze = |node: Growing<T>| Node {
            literals: freeze(node.literals),
            folded: freeze(node.folded),
            one: node.one,
            exact: node.exact.into_boxed_slice(),
            rest: node.rest.into_boxed_slice(),
        };
        Trie { nodes: self.nodes.into_iter().map(freeze).collect(), has_folded }
    }

    fn grow(&mut self) -> u32 {
        let place = u32::try_from(self.nodes.len()).expect("a config file holds fewer than 2^32 segments");
        self.nodes.push(Growing {
            literals: BTreeMap::new(),
            folded: BTreeMap::new(),
            one: None,
            exact: Vec::new(),
            rest: Vec::new(),
        });
        place
    }
}

fn freeze(children: BTreeMap<String, u32>) -> Children {
    let few: Vec<(Box<str>, u32)> = children.into_iter().map(|(text, node)| (text.into_boxed_str(), node)).collect();
    if few.len() <= MOST_COMPARED {
        Children::Few(few.into_boxed_slice())
    } else {
        Children::Many(Box::new(few.into_iter().collect()))
    }
}
