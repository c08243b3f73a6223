//! Random histories of changes and checks against the plain model: no answer differs, remembered or not.
//!
//! A few names in each place, so that histories meet themselves: the same questions are asked again after every kind of
//! change that could alter them. Row 134, and clause 4 of the issue.

use std::cell::Cell;

use portcullis_store::permissions::{Change, Effect, Fact, Name, Policy, Question, Record, Refused, Subject};
use proptest::prelude::*;

use super::reference::Plain;
use super::{MINUTE, policy};

const TENANTS: [&str; 3] = ["", "acme", "globex"];
const USERS: [&str; 3] = ["alice", "bob", "staff"];
const GROUPS: [&str; 5] = ["staff", "editors", "writers", "all", "alice"];
const ROLES: [&str; 3] = ["reader", "editor", "admin"];
const PERMISSIONS: [&str; 4] = ["documents:read", "documents:write", "documents:*", "*"];
const RESOURCES: [&str; 4] = ["document:1", "document:2", "document:*", "*"];

#[derive(Clone, Debug)]
struct Asking {
    tenant: &'static str,
    user: &'static str,
    carried: Option<&'static str>,
    roles: Vec<Name>,
    permissions: Vec<Name>,
    resource: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Record>),
    Remove(Record),
    /// What a restart does: everything is read again.
    Reload,
    Ask(Asking),
    /// Asks everything that was asked before once more.
    AskAgain,
}

fn any_of<const N: usize>(names: [&'static str; N]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names.to_vec())
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        any_of(USERS).prop_map(|name| Subject::User(name.into())),
        any_of(GROUPS).prop_map(|name| Subject::Group(name.into())),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Deny)];
    prop_oneof![
        2 => any_of(ROLES).prop_map(|role| Fact::Role { role: role.into() }),
        3 => (any_of(ROLES), any_of(PERMISSIONS))
            .prop_map(|(role, permission)| Fact::Permission { role: role.into(), permission: permission.into() }),
        3 => (subject(), any_of(ROLES)).prop_map(|(subject, role)| Fact::Grant { subject, role: role.into() }),
        4 => (subject(), any_of(GROUPS)).prop_map(|(subject, group)| Fact::Member { subject, group: group.into() }),
        4 => (any_of(RESOURCES), subject(), any_of(PERMISSIONS), effect).prop_map(
            |(resource, subject, permission, effect)| Fact::Entry {
                resource: resource.into(),
                subject,
                permission: permission.into(),
                effect,
            }
        ),
        1 => any_of(USERS).prop_map(|user| Fact::Deactivated { user: user.into() }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (any_of(TENANTS), fact()).prop_map(|(tenant, fact)| Record { tenant: tenant.into(), fact })
}

fn asking() -> impl Strategy<Value = Asking> {
    let roles = prop::collection::vec(any_of(ROLES).prop_map(Name::from), 0..2);
    let permissions = prop::collection::vec(any_of(["documents:read", "documents:write"]).prop_map(Name::from), 0..3);
    let resource = prop::option::of(any_of(["document:1", "document:2"]));
    (any_of(TENANTS), any_of(USERS), prop::option::weighted(0.2, any_of(ROLES)), roles, permissions, resource).prop_map(
        |(tenant, user, carried, roles, permissions, resource)| Asking {
            tenant,
            user,
            carried,
            roles,
            permissions,
            resource,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(record(), 1..4).prop_map(Step::Add),
        3 => record().prop_map(Step::Remove),
        1 => Just(Step::Reload),
        6 => asking().prop_map(Step::Ask),
        4 => Just(Step::AskAgain),
    ]
}

/// Whether the answers of both agree; counts those that were remembered.
fn compare(
    policy: &Policy,
    plain: &Plain,
    asking: &Asking,
    now: u64,
    remembered: &Cell<u64>,
) -> Result<(), TestCaseError> {
    let carried: Vec<&str> = asking.carried.into_iter().collect();
    let question = Question {
        tenant: asking.tenant,
        user: asking.user,
        carried: &carried,
        roles: &asking.roles,
        permissions: &asking.permissions,
        resource: asking.resource,
    };
    let asked = policy.check(&question, now, 5 * MINUTE, false).expect("nothing is in doubt");
    remembered.set(remembered.get() + u64::from(asked.is_remembered));
    let expected = plain.allows(&question);
    prop_assert_eq!(asked.why.is_allowed(), expected, "{:?} of {:?}, by {:?}", asked, asking, plain.records);
    let explained = policy.explain(&question);
    prop_assert_eq!(explained.why, asked.why);
    prop_assert_eq!(explained.by.is_empty(), asking.roles.is_empty() && asking.permissions.is_empty() && expected);
    Ok(())
}

#[test]
fn row_134_random_histories_find_no_stale_answer() {
    let remembered = Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let histories = prop::collection::vec(step(), 1..80);
    let result = runner.run(&histories, |history| {
        let (mut plain, policy) = (Plain::default(), policy());
        let mut asked: Vec<Asking> = Vec::new();
        for (now, step) in (0..).zip(history) {
            match step {
                Step::Add(records) => {
                    let orders: Vec<Change> = records.iter().cloned().map(Change::Add).collect();
                    match policy.plan(&orders) {
                        Ok(planned) => {
                            policy.commit(planned);
                            records.iter().for_each(|record| plain.add(record));
                        }
                        // All of the order, or nothing.
                        Err(Refused::NoRole { .. } | Refused::Ring { .. }) => {}
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Step::Remove(record) => {
                    policy.commit(policy.plan(&[Change::Remove(record.clone())]).expect("removing is never refused"));
                    plain.remove(&record);
                }
                Step::Reload => {
                    let all: Vec<Record> = policy.list(None, None, usize::MAX);
                    policy.load(&all).expect("it was taken before");
                }
                Step::Ask(asking) => {
                    compare(&policy, &plain, &asking, now, &remembered)?;
                    asked.push(asking);
                }
                Step::AskAgain => {
                    asked.iter().try_for_each(|asking| compare(&policy, &plain, asking, now, &remembered))?;
                }
            }
            prop_assert_eq!(policy.list(None, None, usize::MAX), plain.records.iter().cloned().collect::<Vec<_>>());
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(remembered.get() > 10_000, "only {} answers were remembered ones, so this proves little", remembered.get());
}
