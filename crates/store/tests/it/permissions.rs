//! Permissions: backends pass the suite, checks give what a plain model gives, and no answer is ever stale.

mod histories;
mod races;
mod reference;
mod rules;

use portcullis_store::conformance;
use portcullis_store::memory::permissions::MemoryPermissions;
use portcullis_store::permissions::{Change, Effect, Fact, Name, Permissions, Policy, Question, Record, Subject, Why};

use crate::bans::{Folder, execute, open, wait};

const MINUTE: u64 = 60_000_000_000;

/// A policy that knows nothing yet.
fn policy() -> Policy {
    Policy::new([7; 16])
}

fn user(name: &str) -> Subject {
    Subject::User(name.into())
}

fn group(name: &str) -> Subject {
    Subject::Group(name.into())
}

fn role(role: &str) -> Fact {
    Fact::Role { role: role.into() }
}

fn permits(role: &str, permission: &str) -> Fact {
    Fact::Permission { role: role.into(), permission: permission.into() }
}

fn grant(subject: Subject, role: &str) -> Fact {
    Fact::Grant { subject, role: role.into() }
}

fn member(subject: Subject, group: &str) -> Fact {
    Fact::Member { subject, group: group.into() }
}

fn entry(effect: Effect, subject: Subject, permission: &str, resource: &str) -> Fact {
    Fact::Entry { resource: resource.into(), subject, permission: permission.into(), effect }
}

fn deactivated(user: &str) -> Fact {
    Fact::Deactivated { user: user.into() }
}

/// In the tenant `acme`.
fn of_acme(fact: Fact) -> Record {
    Record { tenant: "acme".into(), fact }
}

/// Adds facts to `acme`, as a gateway would.
fn add(policy: &Policy, facts: impl IntoIterator<Item = Fact>) {
    let orders: Vec<Change> = facts.into_iter().map(of_acme).map(Change::Add).collect();
    let planned = policy.plan(&orders).unwrap_or_else(|refused| panic!("{refused}"));
    policy.commit(planned);
}

fn remove(policy: &Policy, fact: Fact) {
    let planned = policy.plan(&[Change::Remove(of_acme(fact))]).unwrap_or_else(|refused| panic!("{refused}"));
    policy.commit(planned);
}

/// May `user` of `acme` do it? Asked at the beginning of time, with five minutes of memory.
fn ask(policy: &Policy, user: &str, permission: &str, resource: Option<&str>) -> Why {
    let permissions = [Name::from(permission)];
    let question = Question { resource, ..asking("acme", user, &permissions) };
    policy.check(&question, 0, 5 * MINUTE, false).expect("nothing is in doubt").why
}

fn asking<'q>(tenant: &'q str, user: &'q str, permissions: &'q [Name]) -> Question<'q, &'static str> {
    Question { tenant, user, carried: &[], roles: &[], permissions, resource: None }
}

#[test]
fn memory_passes_the_suite() {
    wait(conformance::permissions::check_all(&MemoryPermissions::default()));
}

#[test]
fn sqlite_passes_the_suite() {
    let folder = Folder::new("permissions-suite");
    wait(async { conformance::permissions::check_all(&open(&folder).await).await });
}

#[test]
fn what_was_changed_is_there_after_the_next_opening_whether_it_was_closed_or_not() {
    let folder = Folder::new("permissions-reopen");
    let (one, two) = (of_acme(role("one")), of_acme(role("two")));
    wait(async {
        let sql = open(&folder).await;
        sql.update(&[Change::Add(one.clone())]).await.unwrap();
        sql.close().await.unwrap();
        let sql = open(&folder).await;
        sql.update(&[Change::Add(two.clone())]).await.unwrap();
        drop(sql);
        assert_eq!(Permissions::list(&open(&folder).await).await.unwrap(), [one, two]);
    });
}

#[test]
fn a_row_that_is_no_record_is_an_error_and_never_skipped() {
    for sql in
        ["UPDATE permission_entries SET effect = 'maybe'", "UPDATE permission_entries SET subject_kind = 'robot'"]
    {
        let folder = Folder::new("permissions-rows");
        wait(async {
            let record = of_acme(entry(Effect::Deny, user("mallory"), "read", "document:1"));
            open(&folder).await.update(&[Change::Add(record)]).await.unwrap();
            execute(&folder, sql).await;
            let error = Permissions::list(&open(&folder).await).await.expect_err(sql);
            assert_eq!(error.tried, "reading the permissions");
        });
    }
}
