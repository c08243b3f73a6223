//! The memory counters pass the suite, and keep their promises while others flood them.

use portcullis_store::conformance;
use portcullis_store::counters::{Algorithm, CompiledQuota, Counters, Key, KeyHasher, Nanos, PolicyKey, Quota};
use portcullis_store::memory::counters::{BYTES_MIN, MemoryCounters, OVERFLOW_TIMES, Pressure, TableError};

const MIB: usize = 1024 * 1024;
const SECOND: Nanos = 1_000_000_000;
const START: Nanos = 3600 * SECOND;

fn bucket(limit: u64, period_nanos: u64, burst: u64) -> CompiledQuota {
    Quota { algorithm: Algorithm::TokenBucket, limit, period_nanos, burst }.compile().unwrap()
}

fn window(limit: u64, period_nanos: u64) -> CompiledQuota {
    Quota { algorithm: Algorithm::FixedWindow, limit, period_nanos, burst: 0 }.compile().unwrap()
}

fn policy() -> PolicyKey {
    KeyHasher::from_seed([1; 16]).policy("flooded")
}

fn key(policy: &PolicyKey, kind: &str, number: u64) -> Key {
    policy.key(&[kind.as_bytes(), &number.to_le_bytes()])
}

/// Takes one unit at a time until refused; how many were admitted.
fn drain(counters: &MemoryCounters, key: Key, quota: &CompiledQuota, now: Nanos) -> u64 {
    (0..=quota.capacity()).take_while(|_| counters.take(key, quota, 1, now).allowed).count() as u64
}

/// Pages of this process that are in memory, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn memory_counters_pass_the_suite() {
    let counters = MemoryCounters::new(64 * MIB).unwrap();
    conformance::counters::check_all(&counters, &KeyHasher::random().unwrap(), 100_000);
    assert_eq!(counters.pressure(), Pressure::default(), "the suite must meet exact buckets only");
}

#[test]
fn a_table_takes_no_more_bytes_than_it_was_given() {
    assert_eq!(MemoryCounters::new(BYTES_MIN - 1).unwrap_err(), TableError::TooSmall { bytes: BYTES_MIN - 1 });
    for bytes in [BYTES_MIN, 100_000, MIB, 3 * MIB + 5, 64 * MIB] {
        let counters = MemoryCounters::new(bytes).unwrap();
        assert!(counters.bytes() <= bytes, "{} of {bytes}", counters.bytes());
        assert!(counters.keys_max() >= (bytes - 32 * 1024) / 18, "{} keys in {bytes}", counters.keys_max());
    }
    assert!(MemoryCounters::new(MIB).unwrap().keys_max() > 60_000);
}

/// The flood of the attack catalogue: ten million keys, one request each, into a table for one in ten of them.
#[test]
fn ten_million_new_keys_leave_memory_attackers_and_newcomers_as_they_were() {
    let (policy, quota) = (policy(), bucket(60, 60 * SECOND, 10));
    let counters = MemoryCounters::new(16 * MIB).unwrap();
    let attackers: Vec<Key> = (0..1000).map(|number| key(&policy, "attacker", number)).collect();
    for attacker in &attackers {
        assert_eq!(drain(&counters, *attacker, &quota, START), 10);
    }
    let mut now = START;
    #[cfg(target_os = "linux")]
    let mut resident_at_a_tenth = 0;
    for number in 0..10_000_000 {
        // All within four seconds, in which an exhausted bucket refills by less than half.
        now = START + number * 400;
        assert!(counters.take(key(&policy, "flood", number), &quota, 1, now).allowed, "newcomer {number}");
        #[cfg(target_os = "linux")]
        if number == 1_000_000 {
            resident_at_a_tenth = resident_bytes();
        }
    }
    #[cfg(target_os = "linux")]
    {
        // Sixteen megabytes are touched by then, up to the chance that missed a page. Other tests run beside this one.
        let grown = resident_bytes().saturating_sub(resident_at_a_tenth);
        assert!(grown < 100 * MIB, "nine million keys grew the process by {grown} bytes");
    }
    assert!(counters.bytes() <= 16 * MIB);
    for attacker in &attackers {
        assert!(drain(&counters, *attacker, &quota, now) <= 4, "an exhausted key was forgotten");
    }
    assert_eq!(drain(&counters, key(&policy, "newcomer", 0), &quota, now), 10);
    let pressure = counters.pressure();
    assert!(pressure.forgotten > 8_000_000 && pressure.overflowed == 0, "{pressure:?}");
}

/// The hardest flood: every key is exhausted by its first request, so nothing may be forgotten.
#[test]
fn a_flood_of_exhausted_keys_overflows_and_newcomers_still_pass() {
    for quota in [bucket(1, 60 * SECOND, 1), window(1, 60 * SECOND)] {
        let policy = policy();
        let counters = MemoryCounters::new(MIB).unwrap();
        let flood = 4 * counters.keys_max() as u64;
        for number in 0..flood {
            assert!(counters.take(key(&policy, "flood", number), &quota, 1, START).allowed, "newcomer {number}");
        }
        let pressure = counters.pressure();
        assert_eq!((pressure.forgotten, pressure.turned_away), (0, 0));
        assert!(pressure.overflowed >= 3 * counters.keys_max() as u64);
        let exhausted = (0..flood).filter(|number| {
            let first_key = key(&policy, "flood", *number);
            !counters.peek(first_key, &quota, 1, START).allowed
        });
        assert_eq!(exhausted.count(), counters.keys_max(), "every slot still holds its exhausted key");
        let newcomer = counters.take(key(&policy, "newcomer", 0), &quota, 1, START);
        assert_eq!((newcomer.allowed, newcomer.limit), (true, 1));
        assert!(newcomer.remaining <= 1, "a client must not see the shared bucket: {newcomer:?}");
    }
}

#[test]
fn overflow_is_bounded_and_refills() {
    let (policy, quota) = (policy(), bucket(1, 60 * SECOND, 1));
    let counters = MemoryCounters::new(BYTES_MIN).unwrap();
    let slots = counters.keys_max() as u64;
    let groups = slots / 128;
    let most = slots + groups * OVERFLOW_TIMES;
    let admitted = (0..2 * most).filter(|n| counters.take(key(&policy, "flood", *n), &quota, 1, START).allowed).count();
    assert_eq!(admitted as u64, most, "slots and overflow buckets are all that is given");
    let refused = counters.take(key(&policy, "late", 0), &quota, 1, START);
    assert!(!refused.allowed && refused.retry_after_nanos <= 60 * SECOND / OVERFLOW_TIMES, "{refused:?}");
    let retried = counters.take(key(&policy, "late", 0), &quota, 1, START + refused.retry_after_nanos);
    assert!(retried.allowed, "{retried:?}");
}

#[test]
fn one_policy_cannot_spend_the_overflow_of_another() {
    let quota = bucket(1, 60 * SECOND, 1);
    let (flooding, other) = (policy(), KeyHasher::from_seed([1; 16]).policy("other"));
    let counters = MemoryCounters::new(BYTES_MIN).unwrap();
    let flood = 2 * OVERFLOW_TIMES * counters.keys_max() as u64 / 128 + 2 * counters.keys_max() as u64;
    for number in 0..flood {
        counters.take(key(&flooding, "flood", number), &quota, 1, START);
    }
    assert!(!counters.take(key(&flooding, "late", 0), &quota, 1, START).allowed);
    for number in 0..1000 {
        assert!(counters.take(key(&other, "newcomer", number), &quota, 1, START).allowed, "newcomer {number}");
    }
}

#[test]
fn when_all_overflow_buckets_are_spent_a_newcomer_is_told_when_to_come_back() {
    let quota = bucket(1, 60 * SECOND, 1);
    let counters = MemoryCounters::new(BYTES_MIN).unwrap();
    let hasher = KeyHasher::from_seed([2; 16]);
    let flood = 2 * OVERFLOW_TIMES * counters.keys_max() as u64 / 128 + 2 * counters.keys_max() as u64;
    for number in 0..8 {
        let policy = hasher.policy(&format!("policy {number}"));
        for subject in 0..flood {
            counters.take(key(&policy, "flood", subject), &quota, 1, START);
        }
    }
    let late = key(&hasher.policy("ninth"), "late", 0);
    let refused = counters.take(late, &quota, 1, START);
    assert!(!refused.allowed && (1..=30 * SECOND + SECOND).contains(&refused.retry_after_nanos), "{refused:?}");
    assert_eq!(counters.peek(late, &quota, 1, START), refused);
    assert!(counters.take(late, &quota, 0, START).allowed);
    assert!(counters.take(late, &quota, 1, START + refused.retry_after_nanos).allowed);
    assert!(counters.pressure().turned_away > 0);
}

/// Full buckets and ended windows give way first, and then nothing is forgotten that counts.
#[test]
fn idle_keys_give_way_first() {
    for quota in [bucket(10, SECOND, 10), window(10, SECOND)] {
        let policy = policy();
        let counters = MemoryCounters::new(BYTES_MIN).unwrap();
        // One key a set on average, so that no wave fills a set by itself; all waves together fill every set.
        let wave = counters.keys_max() as u64 / 8;
        for round in 0..40 {
            let now = START + round * 2 * SECOND;
            for number in 0..wave {
                drain(&counters, key(&policy, "wave", round * wave + number), &quota, now);
            }
        }
        assert_eq!(counters.pressure(), Pressure::default());
    }
}

#[test]
fn threads_flooding_a_small_table_leave_exhausted_keys_exhausted() {
    let (policy, quota) = (policy(), bucket(1, 600 * SECOND, 4));
    let counters = MemoryCounters::new(BYTES_MIN).unwrap();
    let attackers: Vec<Key> = (0..100).map(|number| key(&policy, "attacker", number)).collect();
    let admitted: Vec<u64> = std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (counters, policy, quota) = (&counters, &policy, &quota);
            scope.spawn(move || {
                for number in 0..200_000u64 {
                    counters.take(key(policy, "flood", thread << 32 | number), quota, 1, START);
                }
            });
        }
        let takers: Vec<_> = attackers
            .chunks(50)
            .map(|part| {
                let (counters, quota) = (&counters, &quota);
                scope.spawn(move || {
                    part.iter().map(|attacker| drain(counters, *attacker, quota, START)).collect::<Vec<_>>()
                })
            })
            .collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    // A key is forgotten at half used at most, so the flood can have helped it before it was used up, not after.
    assert!(admitted.iter().all(|&taken| taken >= 4), "{admitted:?}");
    for attacker in &attackers {
        assert_eq!(drain(&counters, *attacker, &quota, START), 0);
    }
}
