//! What a check asks and what it hears: a pure function of one tenant's records and the question.
//!
//! Invariant: the answer is no unless something here found a reason for yes; an entry that denies is looked for before
//! anything that allows.

use std::fmt;

use super::model::{Entries, Map, Said, Set, Tenant};
use super::text::keys_of;
use super::{Effect, Name};

/// What is asked: may this user, with these roles from elsewhere, do all of this?
#[derive(Clone, Copy, Debug)]
pub struct Question<'q, R> {
    /// The tenant; empty for a user of none.
    pub tenant: &'q str,
    /// The user.
    pub user: &'q str,
    /// Roles that its token carries, beside those that are granted here.
    pub carried: &'q [R],
    /// It must have at least one of these, where there are any.
    pub roles: &'q [Name],
    /// It must have every one of these. Where this and `roles` are empty, only a deactivated user is refused.
    pub permissions: &'q [Name],
    /// On this resource, where there is one: then entries count as well.
    pub resource: Option<&'q str>,
}

/// Why it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// It has a role that is enough, or nothing but its being active was asked.
    Role,
    /// Its roles permit what was asked.
    Permitted,
    /// Entries on the resource allow what was asked, or a part of it.
    Entry,
    /// The user is deactivated.
    Deactivated,
    /// It has none of the roles.
    NoRole,
    /// An entry on the resource denies it.
    Denied,
    /// Neither a role nor an entry permits it.
    NoPermission,
}

impl Why {
    /// All of them.
    pub const ALL: [Why; 7] =
        [Why::Role, Why::Permitted, Why::Entry, Why::Deactivated, Why::NoRole, Why::Denied, Why::NoPermission];

    /// Whether it is a yes.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        matches!(self, Why::Role | Why::Permitted | Why::Entry)
    }

    /// The word in trails and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Why::Role => "role",
            Why::Permitted => "permitted",
            Why::Entry => "entry",
            Why::Deactivated => "deactivated",
            Why::NoRole => "no_role",
            Why::Denied => "denied",
            Why::NoPermission => "no_permission",
        }
    }
}

/// What was found, with what it was found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why it is so.
    pub why: Why,
    /// The role or entry in words, for people: `role editor of group staff permits documents:write`.
    pub by: String,
}

/// Where a role comes from.
#[derive(Clone, Copy)]
enum Source<'t> {
    Token,
    User,
    Group(&'t Name),
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Token => f.write_str("carried by the token"),
            Source::User => f.write_str("granted to the user"),
            Source::Group(group) => write!(f, "granted to group {group}"),
        }
    }
}

/// Answers from what `tenant` holds; `None` is a tenant without a record. `tell` gets the words for the reason, when asked for.
pub(super) fn answer<R: AsRef<str>>(
    tenant: Option<&Tenant>,
    question: &Question<'_, R>,
    mut tell: Option<&mut String>,
) -> Why {
    let nothing = Tenant::default();
    let tenant = tenant.unwrap_or(&nothing);
    let mut say = |words: &dyn Fn() -> String| {
        if let Some(told) = tell.as_deref_mut() {
            *told = words();
        }
    };
    if tenant.deactivated.contains(question.user) {
        say(&|| format!("user {} is deactivated", question.user));
        return Why::Deactivated;
    }
    let groups = groups_of(tenant, question.user);
    let mut why = Why::Role;
    if !question.roles.is_empty() {
        let is_asked = |role: &str| question.roles.iter().any(|asked| **asked == *role);
        let Some((role, source)) = first_role(tenant, question, &groups, is_asked) else {
            say(&|| format!("none of the roles {}", question.roles.join(", ")));
            return Why::NoRole;
        };
        say(&|| format!("role {role}, {source}"));
    }
    for permission in question.permissions {
        match said(tenant, question, &groups, permission) {
            Some((Effect::Deny, holder)) => {
                say(&|| format!("an entry for {holder} on {} denies {permission}", question.resource.unwrap_or("")));
                return Why::Denied;
            }
            Some((Effect::Allow, holder)) => {
                say(&|| format!("an entry for {holder} on {} allows {permission}", question.resource.unwrap_or("")));
                why = Why::Entry;
                continue;
            }
            None => {}
        }
        let permitted: Vec<&Set<Name>> = keys_of(permission).filter_map(|key| tenant.permitted.get(key)).collect();
        let permits = |role: &str| permitted.iter().any(|roles| roles.contains(role));
        let found = if permitted.is_empty() { None } else { first_role(tenant, question, &groups, permits) };
        let Some((role, source)) = found else {
            say(&|| format!("nothing permits {permission}"));
            return Why::NoPermission;
        };
        say(&|| format!("role {role}, {source}, permits {permission}"));
        if why == Why::Role {
            why = Why::Permitted;
        }
    }
    why
}

/// Every group that the user is in, directly or not, each once.
fn groups_of<'t>(tenant: &'t Tenant, user: &str) -> Vec<&'t Name> {
    let Some(standing) = tenant.users.get(user) else { return Vec::new() };
    let mut seen: Set<&str> = Set::default();
    let mut found: Vec<&Name> = Vec::with_capacity(standing.groups.len());
    let mut next = standing.groups.iter().collect::<Vec<_>>();
    while let Some(group) = next.pop() {
        if seen.insert(group) {
            found.push(group);
            next.extend(tenant.groups.get(group).into_iter().flat_map(|standing| &standing.groups));
        }
    }
    found
}

/// The first of the user's roles that `is_it`, and where it comes from.
fn first_role<'t, R: AsRef<str>>(
    tenant: &'t Tenant,
    question: &'t Question<'t, R>,
    groups: &[&'t Name],
    is_it: impl Fn(&str) -> bool,
) -> Option<(&'t str, Source<'t>)> {
    let carried = question.carried.iter().map(|role| (role.as_ref(), Source::Token));
    let own = tenant.users.get(question.user).into_iter().flat_map(|standing| &standing.roles);
    let own = own.map(|role| (&**role, Source::User));
    let of_groups = groups.iter().flat_map(|group| {
        let roles = tenant.groups.get(*group).into_iter().flat_map(|standing| &standing.roles);
        roles.map(|role| (&**role, Source::Group(group)))
    });
    carried.chain(own).chain(of_groups).find(|(role, _)| is_it(role))
}

/// What entries say of the permission on the question's resource: a denial, or else an allowance, and for whom it stands.
fn said<'t, R>(
    tenant: &'t Tenant,
    question: &Question<'t, R>,
    groups: &[&'t Name],
    permission: &str,
) -> Option<(Effect, Holder<'t>)> {
    if tenant.entries.is_empty() {
        return None;
    }
    let mut allowed = None;
    for key in keys_of(question.resource?) {
        let Some(Entries { users, groups: of_groups }) = tenant.entries.get(key) else { continue };
        let own = users.get(question.user).map(|said| (said, Holder::User(question.user)));
        let inherited = groups.iter().filter_map(|group| Some((of(of_groups, group)?, Holder::Group(group))));
        for (said, holder) in own.into_iter().chain(inherited) {
            match effect(said, permission) {
                Some(Effect::Deny) => return Some((Effect::Deny, holder)),
                Some(Effect::Allow) => allowed = allowed.or(Some(holder)),
                None => {}
            }
        }
    }
    allowed.map(|holder| (Effect::Allow, holder))
}

/// Whose entry it is.
#[derive(Clone, Copy)]
enum Holder<'t> {
    User(&'t str),
    Group(&'t Name),
}

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::User(user) => write!(f, "user {user}"),
            Holder::Group(group) => write!(f, "group {group}"),
        }
    }
}

fn of<'t>(groups: &'t Map<Name, Said>, group: &str) -> Option<&'t Said> {
    if groups.is_empty() { None } else { groups.get(group) }
}

/// A denial where any pattern that stands for the permission denies, else an allowance where one allows.
fn effect(said: &Said, permission: &str) -> Option<Effect> {
    let found = keys_of(permission).filter_map(|key| said.iter().find(|(known, _)| **known == *key));
    found.map(|(_, effect)| *effect).max()
}
