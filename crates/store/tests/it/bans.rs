//! The backends of bans pass the suite, and SQLite keeps what it acknowledged and refuses what it cannot read.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use portcullis_store::bans::{Ban, Bans, Origin, Record};
use portcullis_store::conformance;
use portcullis_store::memory::bans::MemoryBans;
use portcullis_store::sql::{OpenError, Sql};

/// A folder that is removed with the value.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("portcullis-sql-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join("portcullis.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(super) async fn open(folder: &Folder) -> Sql {
    Sql::open(&folder.database()).await.unwrap_or_else(|error| panic!("{error}"))
}

fn record(network: &str) -> Record {
    let ban =
        Ban { origin: Origin::Operator, reason: "test".to_owned(), since_unix_millis: 1, until_unix_millis: None };
    Record { network: network.parse().unwrap(), ban: Some(ban), past: vec![] }
}

/// Runs other SQL over the file, as another program would.
pub(super) async fn execute(folder: &Folder, sql: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.database()).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[test]
fn memory_passes_the_suite() {
    wait(conformance::bans::check_all(&MemoryBans::default()));
}

#[test]
fn sqlite_passes_the_suite() {
    let folder = Folder::new("suite");
    wait(async { conformance::bans::check_all(&open(&folder).await).await });
}

#[test]
fn what_was_written_is_there_after_the_next_opening_whether_it_was_closed_or_not() {
    let folder = Folder::new("reopen");
    wait(async {
        let sql = open(&folder).await;
        assert!(sql.is_new());
        let mode = std::fs::metadata(folder.database()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "others may not read who was banned");
        sql.update(&[record("192.0.2.1")]).await.unwrap();
        sql.close().await.unwrap();
        let sql = open(&folder).await;
        assert!(!sql.is_new());
        sql.update(&[record("192.0.2.2")]).await.unwrap();
        drop(sql);
        let sql = open(&folder).await;
        assert_eq!(sql.list().await.unwrap(), [record("192.0.2.1"), record("192.0.2.2")]);
    });
}

#[test]
fn a_database_has_one_gateway() {
    let folder = Folder::new("lock");
    wait(async {
        let first = open(&folder).await;
        assert!(matches!(Sql::open(&folder.database()).await, Err(OpenError::InUse(_))));
        drop(first);
        open(&folder).await;
    });
}

/// Row 171: what is damaged is refused, and not a byte of it is changed.
#[test]
fn row_171_what_cannot_be_read_is_refused_and_left_as_it_is() {
    let whole = Folder::new("whole");
    wait(async {
        let sql = open(&whole).await;
        let many: Vec<Record> =
            (0..2000).map(|number| record(&format!("10.0.{}.{}", number / 256, number % 256))).collect();
        sql.update(&many).await.unwrap();
        sql.close().await.unwrap();
    });
    let bytes = std::fs::read(whole.database()).unwrap();
    let mut torn = bytes.clone();
    for page in torn.chunks_mut(4096).skip(2) {
        page[..2048].fill(0xAA);
    }
    let empty: Vec<u8> = Vec::new();
    for (name, content) in [
        ("empty", empty),
        ("text", b"these are not the pages you are looking for, by far not".repeat(100)),
        ("short", bytes[..bytes.len() / 2].to_vec()),
        ("torn", torn),
    ] {
        let folder = Folder::new(name);
        std::fs::write(folder.database(), &content).unwrap();
        let refused = wait(Sql::open(&folder.database())).err().unwrap_or_else(|| panic!("{name} was opened"));
        assert!(matches!(refused, OpenError::Damaged { .. }), "{name}: {refused}");
        assert!(refused.to_string().contains("Nothing was changed"), "{refused}");
        assert_eq!(std::fs::read(folder.database()).unwrap(), content, "{name} was changed");
    }
}

#[test]
fn a_newer_schema_and_another_programs_database_are_refused() {
    let folder = Folder::new("newer");
    wait(async {
        drop(open(&folder).await);
        execute(&folder, "INSERT INTO schema_version (version) VALUES (1000)").await;
        let refused = Sql::open(&folder.database()).await.err().expect("a newer schema");
        assert!(matches!(refused, OpenError::Newer { found: 1000, .. }), "{refused}");
    });
    let folder = Folder::new("foreign");
    wait(async {
        execute(&folder, "CREATE TABLE customers (name TEXT)").await;
        let refused = Sql::open(&folder.database()).await.err().expect("another program's tables");
        assert!(refused.to_string().contains("`customers` of another program"), "{refused}");
    });
}

#[test]
fn a_row_that_is_no_ban_is_an_error_and_never_skipped() {
    for sql in [
        "UPDATE bans SET network = 'nowhere'",
        "UPDATE bans SET origin = 'somebody'",
        "UPDATE bans SET since_unix_millis = -5",
        "UPDATE bans SET reason = NULL",
    ] {
        let folder = Folder::new("rows");
        wait(async {
            open(&folder).await.update(&[record("192.0.2.1")]).await.unwrap();
            execute(&folder, sql).await;
            let error = open(&folder).await.list().await.expect_err(sql);
            assert_eq!(error.tried, "reading the bans");
        });
    }
}

/// Row 170: another program holds the lock longer than is waited for; the call fails, and the next one succeeds.
#[test]
fn row_170_a_lock_that_is_held_fails_the_call_and_nothing_is_half_written() {
    use sqlx::{ConnectOptions, Connection};
    let folder = Folder::new("busy");
    wait(async {
        let sql = open(&folder).await;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.database());
        let mut other = options.connect().await.unwrap();
        let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let failed = sql.update(&[record("192.0.2.1")]).await.expect_err("somebody else has the lock");
        assert!(failed.to_string().contains("locked"), "{failed}");
        held.rollback().await.unwrap();
        assert_eq!(sql.list().await.unwrap(), []);
        sql.update(&[record("192.0.2.1")]).await.unwrap();
        assert_eq!(sql.list().await.unwrap(), [record("192.0.2.1")]);
    });
}
