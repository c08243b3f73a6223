//! Records in SQL: one SQLite file beside the gateway, written by one connection.
//!
//! `open` finds, checks, makes and migrates the file; a file for each kind of record holds its statements, written so that
//! Postgres takes them as they are (`$N`, `BIGINT`, `ON CONFLICT`). WAL with `synchronous=FULL`: a call that answered `Ok`
//! has its bytes on the disk, as far as the disk says so. Every writing call is one transaction, begun with
//! `BEGIN IMMEDIATE`, so that a lock held by another program is waited for at the beginning and not met in the middle.
//!
//! Invariant: nothing is made anew in the place of a file that cannot be read; forward migrations only.

mod accounts;
mod acts;
mod bans;
mod open;
mod permissions;

use std::fs::File;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;

pub use open::{OLDEST_SQLITE, OpenError, inspect};

use crate::bans::StoreError;

/// How long a writing call waits for another program's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// An open database. Calls wait for each other: there is one connection.
pub struct Sql {
    connection: Mutex<SqliteConnection>,
    is_new: bool,
    /// Keeps other gateways away as long as this lives.
    _lock: File,
}

impl Sql {
    /// Whether the file was made by this opening.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes what is in the log back to the file and closes it. Without it the next opening does that.
    ///
    /// # Errors
    /// What the database said; nothing that was acknowledged is lost then.
    pub async fn close(self) -> Result<(), StoreError> {
        let closed = sqlx::Connection::close(self.connection.into_inner()).await;
        closed.map_err(|error| failed("closing the database", &error))
    }
}

fn failed(tried: impl Into<String>, error: &sqlx::Error) -> StoreError {
    StoreError { tried: tried.into(), why: error.to_string() }
}
