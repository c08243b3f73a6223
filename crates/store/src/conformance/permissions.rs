//! Checks of [`Permissions`]: what was changed is read back to the last field, in every tenant, and nothing else.
//!
//! Invariant: a check leaves the store as empty as it found it.

use crate::permissions::{
    Change, Effect, Fact, LONGEST_RESOURCE_BYTES, LONGEST_USER_BYTES, Permissions, Record, Subject,
};

/// Runs every check on an empty store.
///
/// # Panics
/// When the backend does not do what [`Permissions`] says.
pub async fn check_all(permissions: &dyn Permissions) {
    what_is_added_is_read_back(permissions).await;
    what_is_removed_is_gone_and_nothing_else(permissions).await;
    an_entry_has_one_effect(permissions).await;
    adding_and_removing_twice_is_doing_it_once(permissions).await;
    changes_are_made_in_their_order(permissions).await;
    many_at_once(permissions).await;
}

/// Every kind of fact for `tenant`, with names at their edges.
fn facts() -> Vec<Fact> {
    let hostile = "x'; DROP TABLE permission_roles; -- \u{1f6ab} \"%_";
    let long = "x".repeat(LONGEST_USER_BYTES);
    let resource = "r".repeat(LONGEST_RESOURCE_BYTES);
    let user = |name: &str| Subject::User(name.into());
    let group = |name: &str| Subject::Group(name.into());
    let entry = |resource: &str, subject: Subject, permission: &str, effect| Fact::Entry {
        resource: resource.into(),
        subject,
        permission: permission.into(),
        effect,
    };
    vec![
        Fact::Role { role: "editor".into() },
        Fact::Role { role: "Editor".into() },
        Fact::Role { role: hostile.into() },
        Fact::Permission { role: "editor".into(), permission: "documents:write".into() },
        Fact::Permission { role: "editor".into(), permission: "documents:*".into() },
        Fact::Permission { role: "Editor".into(), permission: "*".into() },
        Fact::Grant { subject: user("alice"), role: "editor".into() },
        Fact::Grant { subject: group("alice"), role: "editor".into() },
        Fact::Grant { subject: user(&long), role: hostile.into() },
        Fact::Member { subject: user("alice"), group: "staff".into() },
        Fact::Member { subject: group("staff"), group: "alice".into() },
        entry("document:1", user("alice"), "read", Effect::Allow),
        entry("document:1", group("alice"), "read", Effect::Deny),
        entry("document:*", user(hostile), "*", Effect::Deny),
        entry(&resource, user("b\u{fc}rgi"), "documents:*", Effect::Allow),
        Fact::Deactivated { user: "mallory".into() },
        Fact::Deactivated { user: "MALLORY".into() },
    ]
}

/// The same facts in three tenants, one of them the empty one.
fn samples() -> Vec<Record> {
    let of = |tenant: &'static str| facts().into_iter().map(move |fact| Record { tenant: tenant.into(), fact });
    ["", "acme", "ACME"].into_iter().flat_map(of).collect()
}

async fn listed(permissions: &dyn Permissions) -> Vec<Record> {
    sorted(permissions.list().await.unwrap_or_else(|error| panic!("{error}")))
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort();
    records
}

async fn update(permissions: &dyn Permissions, changes: &[Change]) {
    permissions.update(changes).await.unwrap_or_else(|error| panic!("{error}"));
}

fn added(records: &[Record]) -> Vec<Change> {
    records.iter().cloned().map(Change::Add).collect()
}

fn removed(records: &[Record]) -> Vec<Change> {
    records.iter().cloned().map(Change::Remove).collect()
}

async fn clear(permissions: &dyn Permissions) {
    let known = listed(permissions).await;
    update(permissions, &removed(&known)).await;
    assert_eq!(listed(permissions).await, []);
}

/// Every field of every kind comes back as it was given; tenants are kept apart, and so are names that differ in case.
pub async fn what_is_added_is_read_back(permissions: &dyn Permissions) {
    update(permissions, &added(&samples())).await;
    assert_eq!(listed(permissions).await, sorted(samples()));
    clear(permissions).await;
}

/// Removing any one record leaves all others, those of other tenants that are the same included.
pub async fn what_is_removed_is_gone_and_nothing_else(permissions: &dyn Permissions) {
    update(permissions, &added(&samples())).await;
    for record in samples().into_iter().filter(|record| &*record.tenant == "acme") {
        update(permissions, &[Change::Remove(record.clone())]).await;
        let left = samples().into_iter().filter(|known| *known != record).collect();
        assert_eq!(listed(permissions).await, sorted(left), "after removing {record:?}");
        update(permissions, &[Change::Add(record)]).await;
    }
    clear(permissions).await;
}

/// The last word about an entry stands, and it is removed whatever its effect.
pub async fn an_entry_has_one_effect(permissions: &dyn Permissions) {
    let entry = |effect| Record {
        tenant: "acme".into(),
        fact: Fact::Entry {
            resource: "document:1".into(),
            subject: Subject::User("alice".into()),
            permission: "read".into(),
            effect,
        },
    };
    let (allow, deny) = (entry(Effect::Allow), entry(Effect::Deny));
    update(permissions, &[Change::Add(allow.clone())]).await;
    update(permissions, &[Change::Add(deny.clone())]).await;
    assert_eq!(listed(permissions).await, std::slice::from_ref(&deny));
    update(permissions, &[Change::Add(allow.clone()), Change::Add(deny.clone()), Change::Add(allow.clone())]).await;
    assert_eq!(listed(permissions).await, [allow]);
    update(permissions, &[Change::Remove(deny)]).await;
    assert_eq!(listed(permissions).await, []);
}

/// What holds already can be added, and what does not can be removed.
pub async fn adding_and_removing_twice_is_doing_it_once(permissions: &dyn Permissions) {
    update(permissions, &[]).await;
    update(permissions, &removed(&samples())).await;
    assert_eq!(listed(permissions).await, []);
    update(permissions, &added(&samples())).await;
    update(permissions, &added(&samples())).await;
    assert_eq!(listed(permissions).await, sorted(samples()));
    clear(permissions).await;
}

/// A later change of the same call wins.
pub async fn changes_are_made_in_their_order(permissions: &dyn Permissions) {
    for record in samples() {
        let (add, remove) = (Change::Add(record.clone()), Change::Remove(record.clone()));
        update(permissions, &[remove.clone(), add.clone(), remove.clone()]).await;
        assert_eq!(listed(permissions).await, []);
        update(permissions, &[add.clone(), remove, add]).await;
        assert_eq!(listed(permissions).await, [record]);
        clear(permissions).await;
    }
}

/// As many as one call ever holds, and they all come back.
pub async fn many_at_once(permissions: &dyn Permissions) {
    let grant = |number: u32| Record {
        tenant: format!("tenant-{}", number % 7).into(),
        fact: Fact::Grant { subject: Subject::User(format!("user-{number}").into()), role: "reader".into() },
    };
    let many: Vec<Record> = (0..1000).map(grant).collect();
    update(permissions, &added(&many)).await;
    assert_eq!(listed(permissions).await, sorted(many));
    clear(permissions).await;
}
