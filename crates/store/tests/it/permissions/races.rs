//! Checks on several threads while changes are made: nothing older than the last acknowledged change is ever heard.

use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_store::permissions::{Change, Effect, Fact, Name, Policy, Question};

use super::{MINUTE, add, asking, entry, grant, group, member, of_acme, permits, policy, role, user};

const CHANGES: u64 = 1_500;

fn is_allowed(policy: &Policy, permission: &str, resource: &str) -> bool {
    let permissions = [Name::from(permission)];
    let question = Question { resource: Some(resource), ..asking("acme", "alice", &permissions) };
    policy.check(&question, 0, 5 * MINUTE, false).expect("nothing is in doubt").why.is_allowed()
}

/// What holds from change `number` to the next and never again. Each kind of change takes its turn.
fn passing(number: u64) -> Fact {
    match number % 4 {
        0 => grant(user("alice"), &format!("r{number}")),
        1 => grant(group("staff"), &format!("r{number}")),
        2 => permits("own", &format!("passing:{number}")),
        _ => entry(Effect::Allow, group("staff"), &format!("passing:{number}"), &format!("document:{number}")),
    }
}

/// What holds from change `number` on, for ever.
fn lasting(number: u64) -> Fact {
    match number % 2 {
        0 => permits("own", &format!("lasting:{number}")),
        _ => entry(Effect::Allow, user("alice"), &format!("lasting:{number}"), &format!("document:{number}")),
    }
}

/// Asks for what the changes around the last acknowledged one brought or took, some of it before they did.
fn watch(policy: &Policy, acknowledged: &AtomicU64) {
    let mut heard = [0u64; 2];
    loop {
        let last = acknowledged.load(Ordering::Acquire);
        if last >= CHANGES {
            break;
        }
        for number in last.saturating_sub(3).max(1)..last + 3 {
            let resource = format!("document:{number}");
            for _ in 0..3 {
                let before = acknowledged.load(Ordering::Acquire);
                let passes = is_allowed(policy, &format!("passing:{number}"), &resource);
                assert!(!passes || before <= number, "passing:{number} is allowed after change {before}");
                let before = acknowledged.load(Ordering::Acquire);
                let lasts = is_allowed(policy, &format!("lasting:{number}"), &resource);
                assert!(lasts || before < number, "lasting:{number} is refused after change {before}");
                heard[usize::from(passes)] += 1;
            }
        }
    }
    assert!(heard.iter().all(|times| *times > 0), "both answers must have been heard: {heard:?}");
}

#[test]
fn no_check_hears_less_than_the_last_acknowledged_change() {
    let policy = policy();
    add(&policy, [role("own"), grant(user("alice"), "own"), member(user("alice"), "staff")]);
    add(&policy, (0..=CHANGES).map(|number| role(&format!("r{number}"))));
    add(&policy, (0..=CHANGES).map(|number| permits(&format!("r{number}"), &format!("passing:{number}"))));
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| watch(&policy, &acknowledged));
        }
        for number in 1..=CHANGES {
            let gone = (number > 1).then(|| Change::Remove(of_acme(passing(number - 1))));
            let come = [passing(number), lasting(number)].map(of_acme).map(Change::Add);
            let orders: Vec<Change> = gone.into_iter().chain(come).collect();
            policy.commit(policy.plan(&orders).unwrap_or_else(|refused| panic!("{refused}")));
            acknowledged.store(number, Ordering::Release);
            std::thread::yield_now();
        }
    });
}
