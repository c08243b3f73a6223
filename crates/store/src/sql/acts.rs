//! Acts in SQL: a row an act.
//!
//! Invariant: what cannot be read as an act is an error and never skipped.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row};

use super::{Sql, failed};
use crate::acts::{Act, Acts, MOST_ACTS, Numbered};
use crate::bans::{Pending, StoreError};

/// What a database needs for them. AUTOINCREMENT: the number of an act that was forgotten is never used again.
pub(super) const MIGRATION: &[&str] = &["CREATE TABLE acts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at_unix_millis BIGINT NOT NULL,
        who TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        request_id TEXT NOT NULL,
        status BIGINT
    )"];

impl Acts for Sql {
    fn add<'a>(&'a self, act: &'a Act) -> Pending<'a, u64> {
        Box::pin(async move {
            let mut connection = self.connection.lock().await;
            let write = async {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                let row = sqlx::query(
                    "INSERT INTO acts (at_unix_millis, who, action, target, request_id, status)
                     VALUES ($1, $2, $3, $4, $5, $6) RETURNING number",
                )
                .bind(signed(act.at_unix_millis))
                .bind(&act.who)
                .bind(&act.action)
                .bind(&act.target)
                .bind(&act.request_id)
                .bind(act.status.map(i64::from))
                .fetch_one(&mut *transaction)
                .await?;
                let number: i64 = row.try_get(0)?;
                let forgotten = sqlx::query("DELETE FROM acts WHERE number <= $1").bind(number - signed(MOST_ACTS));
                forgotten.execute(&mut *transaction).await?;
                transaction.commit().await?;
                Ok::<i64, sqlx::Error>(number)
            };
            let number = write.await.map_err(|error| failed("writing down an act", &error))?;
            u64::try_from(number).map_err(|_| unreadable("an act has a number below 0"))
        })
    }

    fn update(&self, number: u64, status: u16) -> Pending<'_, ()> {
        Box::pin(async move {
            let row = sqlx::query("UPDATE acts SET status = $1 WHERE number = $2");
            let row = row.bind(i64::from(status)).bind(signed(number));
            let done = row.execute(&mut *self.connection.lock().await).await;
            done.map(drop).map_err(|error| failed("writing down how an act ended", &error))
        })
    }

    fn list(&self, before: u64, most: u32) -> Pending<'_, Vec<Numbered>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT number, at_unix_millis, who, action, target, request_id, status FROM acts
                 WHERE number < $1 ORDER BY number DESC LIMIT $2",
            )
            .bind(signed(before))
            .bind(i64::from(most))
            .fetch_all(&mut *self.connection.lock().await)
            .await
            .map_err(|error| failed("reading the acts", &error))?;
            rows.iter().map(read).collect()
        })
    }
}

fn read(row: &SqliteRow) -> Result<Numbered, StoreError> {
    let text = |place: usize| -> Result<String, StoreError> {
        let field: Option<String> = row.try_get(place).map_err(|error| failed("reading the acts", &error))?;
        field.ok_or_else(|| unreadable("NULL where there must be a text"))
    };
    let number = |place: usize| -> Result<Option<u64>, StoreError> {
        let field: Option<i64> = row.try_get(place).map_err(|error| failed("reading the acts", &error))?;
        field.map(|field| u64::try_from(field).map_err(|_| unreadable("a number below 0"))).transpose()
    };
    let some = |place: usize| number(place)?.ok_or_else(|| unreadable("NULL where there must be a number"));
    let status = number(6)?.map(u16::try_from).transpose().map_err(|_| unreadable("a status that is none"))?;
    Ok(Numbered {
        number: some(0)?,
        act: Act {
            at_unix_millis: some(1)?,
            who: text(2)?,
            action: text(3)?,
            target: text(4)?,
            request_id: text(5)?,
            status,
        },
    })
}

fn unreadable(why: &str) -> StoreError {
    StoreError { tried: "reading the acts".to_owned(), why: why.to_owned() }
}

/// SQL knows no unsigned numbers; times and counts of real life are far below the edge.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
