//! What a permission check costs, beside a naive cache of decisions in `moka` and beside `casbin`, in one run.
//!
//! `cargo run --release --manifest-path bench/permissions/Cargo.toml`, about 20 s. Every subject answers the same question
//! about the same made-up tenant: 1,000 users in 100 groups in 10 groups, 50 roles of 10 permissions, entries on 1,000
//! resources. Rounds of all rows take turns, so that a noisy machine is noisy for all; the median of the rounds is printed.

use std::hint::black_box;
use std::time::Instant;

use casbin::prelude::*;
use portcullis_store::permissions::{Change, Effect, Fact, MOST_GROUPS, Name, Policy, Question, Record, Subject};

const ROUNDS: usize = 41;
const USERS: usize = 1_000;
/// Different questions that the rows which remember ask in turn.
const REMEMBERED: usize = 100;
const FIVE_MINUTES: u64 = 300_000_000_000;

/// Roles with the tenant as domain, groups as roles of users, entries as policies of their own: what casbin's pages advise.
const CASBIN: &str = "
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act, eft
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.dom == p.dom && r.act == p.act && (p.obj == \"*\" || r.obj == p.obj) && g(r.sub, p.sub, r.dom)
";

fn records() -> Vec<Fact> {
    let user = |number: usize| Subject::User(format!("user-{number}").into());
    let group = |number: usize| Subject::Group(format!("group-{number}").into());
    let roles = (0..50).map(|role| Fact::Role { role: format!("role-{role}").into() });
    let permissions = (0..500).map(|number| Fact::Permission {
        role: format!("role-{}", number / 10).into(),
        permission: format!("documents:action-{number}").into(),
    });
    let grants =
        (0..100).map(|number| Fact::Grant { subject: group(number), role: format!("role-{}", number % 50).into() });
    let members = (0..USERS)
        .map(|number| Fact::Member { subject: user(number), group: format!("group-{}", number % 100).into() });
    let nested =
        (0..100).map(|number| Fact::Member { subject: group(number), group: format!("wide-{}", number % 10).into() });
    let entries = (0..1_000).map(|number| Fact::Entry {
        resource: format!("document:{number}").into(),
        subject: user(number % USERS),
        permission: "documents:share".into(),
        effect: if number % 10 == 0 { Effect::Deny } else { Effect::Allow },
    });
    roles.chain(permissions).chain(grants).chain(members).chain(nested).chain(entries).collect()
}

fn policy(facts: &[Fact]) -> Policy {
    let policy = Policy::new([7; 16]);
    let orders: Vec<Change> =
        facts.iter().map(|fact| Change::Add(Record { tenant: "acme".into(), fact: fact.clone() })).collect();
    policy.commit(policy.plan(&orders).expect("the made-up tenant is in order"));
    policy
}

/// The same records for casbin. Names of groups and users are told apart by a prefix.
async fn enforcer<E: CoreApi + MgmtApi>(facts: &[Fact]) -> E {
    let model = DefaultModel::from_str(CASBIN).await.expect("the model is in order");
    let mut enforcer = E::new(model, MemoryAdapter::default()).await.expect("no policy yet");
    let name = |subject: &Subject| format!("{}:{}", subject.kind(), subject.name());
    let (mut policies, mut groupings) = (Vec::new(), Vec::new());
    for fact in facts {
        let dom = || "acme".to_owned();
        match fact {
            Fact::Permission { role, permission } => policies.push(vec![
                format!("role:{role}"),
                dom(),
                "*".to_owned(),
                permission.to_string(),
                "allow".to_owned(),
            ]),
            Fact::Entry { resource, subject, permission, effect } => policies.push(vec![
                name(subject),
                dom(),
                resource.to_string(),
                permission.to_string(),
                effect.name().to_owned(),
            ]),
            Fact::Grant { subject, role } => groupings.push(vec![name(subject), format!("role:{role}"), dom()]),
            Fact::Member { subject, group } => groupings.push(vec![name(subject), format!("group:{group}"), dom()]),
            Fact::Role { .. } | Fact::Deactivated { .. } => {}
        }
    }
    enforcer.add_policies(policies).await.expect("policies");
    enforcer.add_grouping_policies(groupings).await.expect("groupings");
    enforcer
}

struct Row {
    name: &'static str,
    calls: u32,
    run: Box<dyn FnMut()>,
    nanos: Vec<f64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let facts = records();
    let names: Vec<(String, String, Name)> = (0..USERS)
        .map(|number| {
            // What the user's group's role permits, through the group.
            let permission = format!("documents:action-{}", (number % 100 % 50) * 10 + 3);
            (format!("user-{number}"), format!("document:{number}"), permission.into())
        })
        .collect();
    let names: &'static [(String, String, Name)] = names.leak();
    let ask = |policy: &Policy, number: usize, now, age| {
        let (user, resource, permission) = &names[number % USERS];
        let question: Question<'_, &str> = Question {
            tenant: "acme",
            user,
            carried: &[],
            roles: &[],
            permissions: std::slice::from_ref(permission),
            resource: Some(resource),
        };
        policy.check(&question, now, age, false).expect("nothing is in doubt")
    };

    let held = policy(&facts);
    let mut next = 0;
    let cached = Box::new(move || {
        next += 1;
        assert!(black_box(ask(&held, next % REMEMBERED, 0, FIVE_MINUTES)).why.is_allowed());
    });
    let held = policy(&facts);
    let mut now = 0;
    let missed = Box::new(move || {
        now += 1;
        let asked = black_box(ask(&held, now as usize, now, 0));
        assert!(asked.why.is_allowed() && !asked.is_remembered);
    });
    let held = heavy();
    let mut now = 0;
    let wanted = [Name::from("documents:delete")];
    let heaviest = Box::new(move || {
        now += 1;
        let question: Question<'_, &str> = Question {
            tenant: "acme",
            user: "busy",
            carried: &[],
            roles: &[],
            permissions: &wanted,
            resource: Some("document:1"),
        };
        let asked = held.check(&question, now, 0, false).expect("nothing is in doubt");
        assert!(!black_box(asked).why.is_allowed());
    });

    type Key = (String, String, String, String);
    let cache: moka::sync::Cache<Key, bool> =
        moka::sync::Cache::builder().max_capacity(100_000).time_to_live(std::time::Duration::from_secs(300)).build();
    let keys: Vec<Key> =
        names.iter().map(|(u, r, p)| ("acme".to_owned(), u.clone(), r.clone(), p.to_string())).collect();
    keys.iter().for_each(|key| cache.insert(key.clone(), true));
    let mut next = 0;
    let moka = Box::new(move || {
        next += 1;
        // The key was made before: the best case, a gateway would have to make it from the request.
        assert!(black_box(cache.get(&keys[next % REMEMBERED])).unwrap_or_default());
    });

    let enforcer_of = |e: Enforcer| {
        let mut next = 0;
        Box::new(move || {
            next += 1;
            let (user, resource, permission) = &names[next % USERS];
            let allowed = e.enforce((format!("user:{user}"), "acme", resource.as_str(), &**permission));
            assert!(black_box(allowed).expect("casbin answers"));
        })
    };
    let casbin = enforcer_of(enforcer::<Enforcer>(&facts).await);
    let e = enforcer::<CachedEnforcer>(&facts).await;
    let subjects: Vec<String> = names.iter().map(|(user, _, _)| format!("user:{user}")).collect();
    let mut next = 0;
    let casbin_cached = Box::new(move || {
        next += 1;
        let at = next % REMEMBERED;
        let (_, resource, permission) = &names[at];
        let allowed = e.enforce((subjects[at].as_str(), "acme", resource.as_str(), &**permission));
        assert!(black_box(allowed).expect("casbin answers"));
    });

    let row = |name, calls, run| Row { name, calls, run, nanos: Vec::new() };
    let mut rows: Vec<Row> = vec![
        row("portcullis, remembered", 20_000, cached),
        row("portcullis, computed", 5_000, missed),
        row("portcullis, computed: 64 groups with 8 roles each, refused", 200, heaviest),
        row("moka, a naive cache of decisions (key made before)", 20_000, moka),
        row("casbin, CachedEnforcer, remembered", 2_000, casbin_cached),
        row("casbin, Enforcer", 3, casbin),
    ];
    for round in 0..=ROUNDS {
        for row in &mut rows {
            let began = Instant::now();
            (0..row.calls).for_each(|_| (row.run)());
            let nanos = began.elapsed().as_nanos() as f64 / f64::from(row.calls);
            // The first round fills what remembers.
            if round > 0 {
                row.nanos.push(nanos);
            }
        }
    }
    println!("median of {ROUNDS} rounds, nanoseconds a check (fastest round in brackets)");
    let medians: Vec<f64> = rows
        .iter_mut()
        .map(|row| {
            row.nanos.sort_by(f64::total_cmp);
            let median = row.nanos[ROUNDS / 2];
            println!("{:>12.0} [{:>10.0}]  {}", median, row.nanos[0], row.name);
            median
        })
        .collect();
    println!("remembered: {:.2} of moka, {:.4} of casbin's cache", medians[0] / medians[3], medians[0] / medians[4]);
    println!("computed: {:.5} of casbin", medians[1] / medians[5]);
    println!(
        "bounds: remembered {} at most 100 ns; computed {} and {} at most 50 us",
        medians[0] as u64, medians[1] as u64, medians[2] as u64
    );
}

/// A user with as many groups as one may have, each with eight roles, none of which permits what is asked.
fn heavy() -> Policy {
    let roles = MOST_GROUPS * 8;
    let facts: Vec<Fact> = (0..roles)
        .flat_map(|number| {
            let role = Name::from(format!("role-{number}"));
            let group = Subject::Group(format!("group-{}", number / 8).into());
            [
                Fact::Role { role: role.clone() },
                Fact::Permission { role: role.clone(), permission: format!("documents:action-{number}").into() },
                Fact::Grant { subject: group, role },
                Fact::Member { subject: Subject::User("busy".into()), group: format!("group-{}", number / 8).into() },
            ]
        })
        .chain([Fact::Entry {
            resource: "document:1".into(),
            subject: Subject::Group("elsewhere".into()),
            permission: "*".into(),
            effect: Effect::Deny,
        }])
        .collect();
    policy(&facts)
}
