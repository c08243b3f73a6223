//! The backends of acts pass the suite, and SQLite keeps them over a reopening.

use portcullis_store::acts::{Act, Acts, LONGEST_TEXT_BYTES, cut};
use portcullis_store::conformance;
use portcullis_store::memory::acts::MemoryActs;
use portcullis_store::sql::Sql;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn memory_passes_the_suite_and_is_bounded() {
    let acts = MemoryActs::default();
    wait(conformance::acts::check_all(&acts));
    let act = wait(acts.list(u64::MAX, 1)).unwrap().remove(0).act;
    wait(async {
        for _ in 0..10_500 {
            acts.add(&act).await.unwrap();
        }
        assert_eq!(acts.list(u64::MAX, 20_000).await.unwrap().len(), 10_000);
    });
}

#[test]
fn sqlite_passes_the_suite_and_keeps_acts() {
    let path = std::env::temp_dir().join(format!("portcullis-acts-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    wait(async {
        let store = Sql::open(&path.join("a.db")).await.unwrap();
        conformance::acts::check_all(&store).await;
        let before: Vec<Act> = store.list(u64::MAX, 10).await.unwrap().into_iter().map(|known| known.act).collect();
        drop(store);
        let store = Sql::open(&path.join("a.db")).await.unwrap();
        let after: Vec<Act> = store.list(u64::MAX, 10).await.unwrap().into_iter().map(|known| known.act).collect();
        assert_eq!(before, after);
    });
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn long_texts_are_cut_at_a_characters_edge() {
    assert_eq!(cut("ä".repeat(200)).len(), LONGEST_TEXT_BYTES);
    assert_eq!(cut(format!("x{}", "ä".repeat(200))).len(), LONGEST_TEXT_BYTES - 1);
    assert_eq!(cut("short".to_owned()), "short");
}
