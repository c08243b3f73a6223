//! A store that fails, and what then holds: nothing that was not written is in force, and nobody is told otherwise.

use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_store::permissions::{Fact, Name, Pending, Question, Record, Subject};

use super::*;

/// Fails as often as it is told, with or without having written.
#[derive(Default)]
struct Failing {
    inner: MemoryPermissions,
    writes: AtomicU32,
    writes_anyway: bool,
    reads: AtomicU32,
}

fn fails(times: &AtomicU32) -> bool {
    times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn broken<T>() -> Result<T, StoreError> {
    Err(StoreError { tried: "asking the disk".to_owned(), why: "it is on fire".to_owned() })
}

impl Store for Failing {
    fn list(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async move { if fails(&self.reads) { broken() } else { self.inner.list().await } })
    }

    fn update<'a>(&'a self, changes: &'a [Change]) -> Pending<'a, ()> {
        Box::pin(async move {
            let is_failing = fails(&self.writes);
            if !is_failing || self.writes_anyway {
                self.inner.update(changes).await?;
            }
            if is_failing { broken() } else { Ok(()) }
        })
    }
}

fn keeper(store: Failing) -> (Keeper, Arc<Failing>, SystemClock) {
    let store = Arc::new(store);
    let policy = Arc::new(Policy::new([1; 16]));
    let keeper = Keeper::new(policy, Arc::clone(&store) as Arc<dyn Store>, &Registry::new("p"));
    (Keeper { pauses: [Duration::ZERO; 3], ..keeper }, store, SystemClock::start())
}

fn orders() -> Vec<Change> {
    let record = |fact| Change::Add(Record { tenant: "acme".into(), fact });
    vec![
        record(Fact::Role { role: "editor".into() }),
        record(Fact::Permission { role: "editor".into(), permission: "write".into() }),
        record(Fact::Grant { subject: Subject::User("ada".into()), role: "editor".into() }),
    ]
}

/// What Ada hears now; `None` when nobody can say.
fn may_write(keeper: &Keeper, takes_remembered: bool) -> Option<bool> {
    let permissions = [Name::from("write")];
    let question: Question<'_, &str> =
        Question { tenant: "acme", user: "ada", carried: &[], roles: &[], permissions: &permissions, resource: None };
    keeper.policy.check(&question, 0, u64::MAX, takes_remembered).map(|asked| asked.why.is_allowed())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}

#[test]
fn a_failure_that_passes_is_tried_again_and_one_that_stays_changes_nothing() {
    wait(async {
        let (keeper, _, clock) = keeper(Failing { writes: 3.into(), ..Failing::default() });
        assert_eq!(keeper.change(&orders(), &clock).await.unwrap().len(), 3);
        assert_eq!(may_write(&keeper, false), Some(true));
        assert!(keeper.change(&orders(), &clock).await.unwrap().is_empty(), "it is so already");
    });
    wait(async {
        let (keeper, store, clock) = keeper(Failing { writes: 4.into(), ..Failing::default() });
        let failed = keeper.change(&orders(), &clock).await.expect_err("the disk is on fire");
        assert!(matches!(failed, NotMade::Store(_)), "{failed}");
        assert_eq!((may_write(&keeper, false), keeper.status()), (Some(false), "ok"), "what the store has is known");
        assert_eq!(store.list().await.unwrap(), []);
    });
}

#[test]
fn what_a_failed_writing_wrote_after_all_is_in_force() {
    wait(async {
        let (keeper, _, clock) = keeper(Failing { writes: 4.into(), writes_anyway: true, ..Failing::default() });
        keeper.change(&orders(), &clock).await.expect_err("the disk is on fire");
        assert_eq!(may_write(&keeper, false), Some(true), "memory and store are the same");
    });
}

/// Row 135, with the store behind it.
#[test]
fn row_135_when_reading_fails_too_nobody_knows_until_it_succeeds() {
    wait(async {
        let (keeper, store, clock) = keeper(Failing::default());
        keeper.change(&orders(), &clock).await.unwrap();
        assert_eq!(may_write(&keeper, false), Some(true));
        store.writes.store(4, Ordering::SeqCst);
        store.reads.store(2, Ordering::SeqCst);
        let gone: Vec<Change> = orders()
            .into_iter()
            .filter_map(|order| match order {
                Change::Add(record) => Some(Change::Remove(record)),
                Change::Remove(_) => None,
            })
            .collect();
        keeper.change(&gone, &clock).await.expect_err("the disk is on fire");
        assert_eq!((may_write(&keeper, false), may_write(&keeper, true)), (None, Some(true)));
        assert_eq!(keeper.status(), "in_doubt");
        keeper.change(&gone, &clock).await.expect_err("and cannot be read");
        // The next order reads first, and is then carried out.
        assert!(!keeper.change(&gone, &clock).await.unwrap().is_empty());
        assert_eq!((may_write(&keeper, false), keeper.status()), (Some(false), "ok"));
    });
}

#[test]
fn an_order_that_makes_no_sense_reaches_no_store() {
    wait(async {
        let (keeper, store, clock) = keeper(Failing::default());
        let refused = keeper.change(&orders()[1..], &clock).await.expect_err("there is no such role");
        assert!(matches!(refused, NotMade::Refused(_)), "{refused}");
        assert_eq!(store.list().await.unwrap(), []);
    });
}
