//! What names of tenants, users, groups, roles, permissions and resources may be.
//!
//! Invariant: a record that was checked here can be written to every backend, shown in every command, and found again by the
//! same text.

use super::{Fact, Record};

/// The longest name of a tenant, group, role or permission, in bytes of UTF-8.
pub const LONGEST_NAME_BYTES: usize = 200;
/// The longest name of a user, which may hold an issuer.
pub const LONGEST_USER_BYTES: usize = 1024;
/// The longest id of a resource.
pub const LONGEST_RESOURCE_BYTES: usize = 400;

/// A name that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name for a {what}: {why}", .name.escape_debug())]
pub struct NameError {
    what: &'static str,
    name: String,
    why: &'static str,
}

impl Record {
    /// Whether all its names can be taken.
    ///
    /// # Errors
    /// [`NameError`] for the first that cannot.
    pub fn check(&self) -> Result<(), NameError> {
        if !self.tenant.is_empty() {
            plain("tenant", &self.tenant)?;
        }
        match &self.fact {
            Fact::Role { role } => plain("role", role),
            Fact::Permission { role, permission } => {
                plain("role", role)?;
                pattern("permission", permission, LONGEST_NAME_BYTES)
            }
            Fact::Grant { subject, role } => {
                plain(subject.kind(), subject.name())?;
                plain("role", role)
            }
            Fact::Member { subject, group } => {
                plain(subject.kind(), subject.name())?;
                plain("group", group)
            }
            Fact::Entry { resource, subject, permission, .. } => {
                pattern("resource", resource, LONGEST_RESOURCE_BYTES)?;
                plain(subject.kind(), subject.name())?;
                pattern("permission", permission, LONGEST_NAME_BYTES)
            }
            Fact::Deactivated { user } => plain("user", user),
        }
    }
}

fn plain(what: &'static str, name: &str) -> Result<(), NameError> {
    text(what, name, if what == "user" { LONGEST_USER_BYTES } else { LONGEST_NAME_BYTES })
}

/// A text that may be `*`, or end in `:*`, and holds no other `*`.
fn pattern(what: &'static str, name: &str, longest: usize) -> Result<(), NameError> {
    text(what, name, longest)?;
    let key = pattern_key(name);
    let why = if key.contains('*') || (key.len() < name.len() && !key.is_empty() && !key.ends_with(':')) {
        "`*` stands alone, or at the end after a `:`"
    } else if key.len() == name.len() && key.ends_with(':') {
        "it ends with `:`; write `*` after it"
    } else if key.len() < name.len() && key.matches(':').count() > MOST_COLONS {
        "a `*` stands after at most four `:`"
    } else {
        return Ok(());
    };
    Err(NameError { what, name: name.to_owned(), why })
}

fn text(what: &'static str, name: &str, longest: usize) -> Result<(), NameError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > longest {
        "it is too long"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else if name.trim() != name {
        "it begins or ends with a space"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(40).collect();
    Err(NameError { what, name: shown, why })
}

/// Most `:` before the `*` of a pattern. Bounds the cost of a check.
const MOST_COLONS: usize = 4;

/// What a pattern is kept under: itself without its `*`. No other pattern is kept under that, because no name ends with `:`.
pub(super) fn pattern_key(pattern: &str) -> &str {
    pattern.strip_suffix('*').unwrap_or(pattern)
}

/// The keys of the patterns that stand for `name`: for `a:b:c` these are `a:b:c`, `a:`, `a:b:`, and the empty one for all.
pub(super) fn keys_of(name: &str) -> impl Iterator<Item = &str> {
    let colons = name.bytes().enumerate().filter(|(_, byte)| *byte == b':').take(MOST_COLONS);
    std::iter::once(name).chain(colons.map(move |(place, _)| &name[..=place])).chain([""])
}

/// The pattern that is kept under `key`.
pub(super) fn pattern_of(key: &str) -> String {
    if key.is_empty() || key.ends_with(':') { format!("{key}*") } else { key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_or_refused_whole() {
        let long = "x".repeat(LONGEST_NAME_BYTES + 1);
        for (name, is_taken) in [
            ("documents:write", true),
            ("documents:*", true),
            ("a:b:c:d:*", true),
            ("*", true),
            ("\u{dc}nï c", true),
            ("a:b:c:d:e:*", false),
            ("", false),
            (" a", false),
            ("a\n", false),
            ("documents:", false),
            ("doc*", false),
            ("*:a", false),
            ("a:**", false),
            (long.as_str(), false),
        ] {
            assert_eq!(pattern("permission", name, LONGEST_NAME_BYTES).is_ok(), is_taken, "{name:?}");
        }
        assert!(plain("role", "a:*").is_ok(), "a role's name is no pattern");
    }

    #[test]
    fn a_name_is_found_under_the_key_of_each_pattern_that_stands_for_it() {
        assert_eq!(keys_of("a:b:c").collect::<Vec<_>>(), ["a:b:c", "a:", "a:b:", ""]);
        assert_eq!(keys_of("plain").collect::<Vec<_>>(), ["plain", ""]);
        for pattern in ["a:*", "a:b:*", "*", "a:b:c"] {
            let key = pattern_key(pattern);
            assert!(keys_of("a:b:c").any(|known| known == key), "{pattern}");
            assert_eq!(pattern_of(key), pattern);
        }
    }
}
