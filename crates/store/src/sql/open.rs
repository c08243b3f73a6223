//! Opening the file: lock, library version, integrity, schema version, migrations, and making it where there is none.
//!
//! A new file is made under another name, migrated, and moved to its place in one step, so that a file at its place is
//! either whole or somebody's damage. An empty file, one that is no database, one that fails its check, and one that a later
//! version has written are refused with what to do about it.
//!
//! Invariant: nothing at the path is changed before all checks have passed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::Mutex;

use super::{BUSY_TIMEOUT, Sql};

/// The oldest SQLite that is taken: from 3.7.0 to 3.51.2 a checkpoint that meets a reset of the log can lose committed pages.
pub const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// Every change of the schema, oldest first; a database has as many of them as its version says. Never changed, only added to.
const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE bans (
        network TEXT NOT NULL PRIMARY KEY,
        origin TEXT,
        reason TEXT,
        since_unix_millis BIGINT,
        until_unix_millis BIGINT
    )",
        "CREATE TABLE past_bans (
        network TEXT NOT NULL,
        place BIGINT NOT NULL,
        origin TEXT NOT NULL,
        reason TEXT NOT NULL,
        since_unix_millis BIGINT NOT NULL,
        until_unix_millis BIGINT,
        ended_unix_millis BIGINT NOT NULL,
        ending TEXT NOT NULL,
        PRIMARY KEY (network, place)
    )",
    ],
    super::accounts::MIGRATION,
    super::permissions::MIGRATION,
    super::acts::MIGRATION,
];

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The library that is linked in loses data.
    #[error("SQLite {found} can lose committed data; at least {}.{}.{} is needed", OLDEST_SQLITE[0], OLDEST_SQLITE[1], OLDEST_SQLITE[2])]
    OldLibrary {
        /// Its version.
        found: String,
    },
    /// Another process has it.
    #[error("{0} is in use by another gateway")]
    InUse(PathBuf),
    /// A file or folder could not be used.
    #[error("{tried} {path}: {source}")]
    File {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not what it should be. Nothing was changed.
    #[error(
        "{path} cannot be used: {why}. Nothing was changed; put a backup in its place, or move it away to begin anew"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a later version.
    #[error("{path} has schema version {found}, and this binary knows versions up to {known}: run the newer binary")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known here.
        known: usize,
    },
}

impl Sql {
    /// Opens the database at `path`, makes it where there is none, and migrates it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then, or made.
    pub async fn open(path: &Path) -> Result<Sql, OpenError> {
        let lock = lock(path)?;
        let is_new = match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(damaged(path, "it is no file")),
            Ok(found) if found.len() == 0 => return Err(damaged(path, "it is empty, so what it held is lost")),
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(source) => return Err(OpenError::File { tried: "looking at", path: path.to_owned(), source }),
        };
        if is_new {
            make(path).await?;
        }
        let mut connection = connect(path, SqliteJournalMode::Wal).await?;
        check(&mut connection, path).await?;
        migrate(&mut connection, path).await?;
        Ok(Sql { connection: Mutex::new(connection), is_new, _lock: lock })
    }
}

/// Whether the database at `path` could be used, for telling before a start: reads it and changes nothing. Where there is none
/// yet, nothing is wrong.
///
/// # Errors
/// [`OpenError`], as [`Sql::open`] would give it; [`OpenError::InUse`] when a gateway has it, which is then fine.
pub async fn inspect(path: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(damaged(path, "it is no file")),
        Ok(found) if found.len() == 0 => return Err(damaged(path, "it is empty, so what it held is lost")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::File { tried: "looking at", path: path.to_owned(), source }),
    }
    let _lock = lock(path)?;
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = options.disable_statement_logging().connect().await.map_err(|error| damaged(path, error))?;
    check(&mut connection, path).await?;
    let known = MIGRATIONS.len();
    match version(&mut connection, path).await? {
        Some(found) if usize::try_from(found).is_ok_and(|found| found <= known) => Ok(()),
        Some(found) => Err(OpenError::Newer { path: path.to_owned(), found, known }),
        None => Ok(()),
    }
}

fn damaged(path: &Path, why: impl ToString) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), why: why.to_string() }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock beside the file; the kernel gives it up with the process, however that ends.
fn lock(path: &Path) -> Result<File, OpenError> {
    let name = beside(path, ".lock");
    let failed = |source| OpenError::File { tried: "locking", path: name.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

async fn connect(path: &Path, journal: SqliteJournalMode) -> Result<SqliteConnection, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(journal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    options.connect().await.map_err(|error| damaged(path, error))
}

/// Makes the file under another name and moves it to its place.
async fn make(path: &Path) -> Result<(), OpenError> {
    let new = beside(path, ".new");
    let failed = |tried| {
        let path = new.clone();
        move |source| OpenError::File { tried, path, source }
    };
    for left in [new.clone(), beside(&new, "-journal")] {
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing")(error)),
            _ => {}
        }
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(&new).map_err(failed("making"))?;
    let mut connection = connect(&new, SqliteJournalMode::Delete).await?;
    check_library(&mut connection, &new).await?;
    migrate(&mut connection, &new).await?;
    connection.close().await.map_err(|error| damaged(&new, error))?;
    std::fs::rename(&new, path).map_err(failed("moving to its place"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("writing the folder of"))
}

async fn check_library(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let found: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(connection)
        .await
        .map_err(|error| damaged(path, error))?;
    if is_old(&found) { Err(OpenError::OldLibrary { found }) } else { Ok(()) }
}

/// Whether a version is below [`OLDEST_SQLITE`]. What cannot be read is.
fn is_old(version: &str) -> bool {
    let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    parts.is_none_or(|parts| parts.as_slice() < OLDEST_SQLITE.as_slice())
}

async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    check_library(connection, path).await?;
    let said: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| damaged(path, error))?;
    if said != "ok" {
        return Err(damaged(path, format!("its check says: {said}")));
    }
    Ok(())
}

/// The number of migrations that the database has; `None` when it has no table of ours.
async fn version(connection: &mut SqliteConnection, path: &Path) -> Result<Option<i64>, OpenError> {
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(&mut *connection).await;
    let names: Vec<String> =
        tables.map_err(|error| damaged(path, error))?.iter().map(|row| row.get::<String, _>(0)).collect();
    if names.iter().any(|name| name == "schema_version") {
        let highest = sqlx::query_scalar("SELECT MAX(version) FROM schema_version").fetch_one(connection).await;
        let highest: Option<i64> = highest.map_err(|error| damaged(path, error))?;
        return highest.map(Some).ok_or_else(|| damaged(path, "its table schema_version is empty"));
    }
    match names.first() {
        Some(other) => Err(damaged(path, format!("it holds a table `{other}` of another program"))),
        None => Ok(None),
    }
}

/// Brings the schema up to date, all missing migrations in one transaction.
async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let found = version(connection, path).await?;
    let known = MIGRATIONS.len();
    let done = match found.map(usize::try_from) {
        None => 0,
        Some(Ok(done)) if done <= known => done,
        Some(_) => return Err(OpenError::Newer { path: path.to_owned(), found: found.unwrap_or_default(), known }),
    };
    if found.is_some() && done == known {
        return Ok(());
    }
    let failed = |error: sqlx::Error| damaged(path, format!("bringing its schema to version {known}: {error}"));
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    if found.is_none() {
        let table = sqlx::query("CREATE TABLE schema_version (version BIGINT NOT NULL PRIMARY KEY)");
        table.execute(&mut *transaction).await.map_err(failed)?;
    }
    for (place, statements) in MIGRATIONS.iter().enumerate().skip(done) {
        for statement in *statements {
            sqlx::query(*statement).execute(&mut *transaction).await.map_err(failed)?;
        }
        let note = sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(place as i64 + 1);
        note.execute(&mut *transaction).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn versions_that_lose_pages_are_old() {
        for (version, expected) in [
            ("3.51.3", false),
            ("3.51.10", false),
            ("3.52.0", false),
            ("4.0.0", false),
            ("3.51.2", true),
            ("3.7.0", true),
            ("3", true),
            ("x", true),
            ("", true),
        ] {
            assert_eq!(is_old(version), expected, "{version}");
        }
    }
}
