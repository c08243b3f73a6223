//! The backends of accounts pass the suite, and SQLite keeps what it acknowledged, together, and refuses what it cannot read.

use portcullis_store::accounts::{Accounts, Changes};
use portcullis_store::conformance;
use portcullis_store::conformance::accounts::{account, key, session};
use portcullis_store::memory::accounts::MemoryAccounts;

use super::bans::{Folder, execute, open, wait};

#[test]
fn memory_passes_the_suite() {
    wait(conformance::accounts::check_all(&MemoryAccounts::default()));
}

#[test]
fn sqlite_passes_the_suite() {
    let folder = Folder::new("accounts-suite");
    wait(async { conformance::accounts::check_all(&open(&folder).await).await });
}

fn all() -> Changes {
    Changes {
        accounts: vec![account("ann")],
        sessions: vec![session(1, "ann")],
        keys: vec![key("k", "ann")],
        ..Changes::default()
    }
}

#[test]
fn what_was_written_is_there_after_the_next_opening_without_a_close() {
    let folder = Folder::new("accounts-reopen");
    wait(async {
        let sql = open(&folder).await;
        Accounts::update(&sql, &all()).await.unwrap();
        drop(sql);
        let found = Accounts::list(&open(&folder).await).await.unwrap();
        assert_eq!((found.accounts, found.sessions, found.keys), (all().accounts, all().sessions, all().keys));
    });
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date() {
    let folder = Folder::new("accounts-migrate");
    wait(async {
        for statement in [
            "CREATE TABLE schema_version (version BIGINT NOT NULL PRIMARY KEY)",
            "INSERT INTO schema_version (version) VALUES (1)",
            "CREATE TABLE bans (network TEXT NOT NULL PRIMARY KEY, origin TEXT, reason TEXT, since_unix_millis BIGINT,
             until_unix_millis BIGINT)",
            "CREATE TABLE past_bans (network TEXT NOT NULL, place BIGINT NOT NULL, origin TEXT NOT NULL, reason TEXT NOT NULL,
             since_unix_millis BIGINT NOT NULL, until_unix_millis BIGINT, ended_unix_millis BIGINT NOT NULL,
             ending TEXT NOT NULL, PRIMARY KEY (network, place))",
        ] {
            execute(&folder, statement).await;
        }
        let sql = open(&folder).await;
        Accounts::update(&sql, &all()).await.unwrap();
    });
}

#[test]
fn half_a_change_is_never_seen() {
    let folder = Folder::new("accounts-atomic");
    wait(async {
        let sql = open(&folder).await;
        execute(
            &folder,
            "CREATE TRIGGER full BEFORE INSERT ON api_keys BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
        )
        .await;
        let failed = Accounts::update(&sql, &all()).await.expect_err("the last table refuses");
        assert!(failed.to_string().contains("the disk is full"), "{failed}");
        let found = Accounts::list(&sql).await.unwrap();
        assert!(found.accounts.is_empty() && found.sessions.is_empty(), "{found:?}");
    });
}

#[test]
fn a_row_that_is_no_record_is_an_error_never_skipped_and_tells_no_hash() {
    for sql in [
        "UPDATE accounts SET is_disabled = 2",
        "UPDATE accounts SET epoch = -1",
        "UPDATE accounts SET totp_secret = 'c0ffee'",
        "UPDATE accounts SET totp_secret = 'no hex', totp_last_step = 1, totp_is_confirmed = 1",
        "UPDATE accounts SET recovery = 'deadbeefdeadbeef'",
        "UPDATE accounts SET devices = 'deadbeefdeadbeef'",
        "UPDATE sessions SET id = 'deadbeefdeadbeef'",
        "UPDATE sessions SET seen_unix_millis = -5",
        "UPDATE api_keys SET hash = 'deadbeefdeadbeef'",
    ] {
        let folder = Folder::new("accounts-unreadable");
        wait(async {
            let store = open(&folder).await;
            Accounts::update(&store, &all()).await.unwrap();
            execute(&folder, sql).await;
            let error = Accounts::list(&store).await.expect_err(sql);
            assert!(error.to_string().contains("reading the accounts"), "{sql}: {error}");
        });
    }
}
