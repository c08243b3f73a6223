//! Bans in SQL: a row a network, and a row for each of its past bans.
//!
//! Invariant: what cannot be read as a record is an error and never skipped, because a ban that is skipped is a gate left open.

use portcullis_core::units::Cidr;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row, Sqlite, Transaction};

use super::{Sql, failed};
use crate::bans::{Ban, Bans, Ending, Origin, Past, Pending, Record, StoreError};

impl Bans for Sql {
    fn list(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async move { read_all(&mut *self.connection.lock().await).await })
    }

    fn update<'a>(&'a self, records: &'a [Record]) -> Pending<'a, ()> {
        Box::pin(async move {
            let tried = || format!("writing {} bans", records.len());
            let mut connection = self.connection.lock().await;
            let write = async {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                for record in records {
                    write_one(&mut transaction, record).await?;
                }
                transaction.commit().await
            };
            write.await.map_err(|error| failed(tried(), &error))
        })
    }

    fn remove<'a>(&'a self, networks: &'a [Cidr]) -> Pending<'a, ()> {
        Box::pin(async move {
            let tried = || format!("forgetting {} bans", networks.len());
            let mut connection = self.connection.lock().await;
            let write = async {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                for network in networks {
                    remove_past(&mut transaction, network).await?;
                    let row = sqlx::query("DELETE FROM bans WHERE network = $1").bind(network.to_string());
                    row.execute(&mut *transaction).await?;
                }
                transaction.commit().await
            };
            write.await.map_err(|error| failed(tried(), &error))
        })
    }
}

async fn remove_past(transaction: &mut Transaction<'_, Sqlite>, network: &Cidr) -> Result<(), sqlx::Error> {
    let rows = sqlx::query("DELETE FROM past_bans WHERE network = $1").bind(network.to_string());
    rows.execute(&mut **transaction).await.map(drop)
}

async fn write_one(transaction: &mut Transaction<'_, Sqlite>, record: &Record) -> Result<(), sqlx::Error> {
    let network = record.network.to_string();
    let ban = record.ban.as_ref();
    sqlx::query(
        "INSERT INTO bans (network, origin, reason, since_unix_millis, until_unix_millis) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (network) DO UPDATE SET origin = excluded.origin, reason = excluded.reason,
         since_unix_millis = excluded.since_unix_millis, until_unix_millis = excluded.until_unix_millis",
    )
    .bind(&network)
    .bind(ban.map(|ban| ban.origin.name()))
    .bind(ban.map(|ban| ban.reason.as_str()))
    .bind(ban.map(|ban| millis(ban.since_unix_millis)))
    .bind(ban.and_then(|ban| ban.until_unix_millis).map(millis))
    .execute(&mut **transaction)
    .await?;
    remove_past(transaction, &record.network).await?;
    for (place, past) in record.past.iter().enumerate() {
        sqlx::query(
            "INSERT INTO past_bans (network, place, origin, reason, since_unix_millis, until_unix_millis,
             ended_unix_millis, ending) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&network)
        .bind(place as i64)
        .bind(past.ban.origin.name())
        .bind(past.ban.reason.as_str())
        .bind(millis(past.ban.since_unix_millis))
        .bind(past.ban.until_unix_millis.map(millis))
        .bind(millis(past.ended_unix_millis))
        .bind(past.ending.name())
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<Record>, StoreError> {
    const TRIED: &str = "reading the bans";
    let rows =
        sqlx::query("SELECT network, origin, reason, since_unix_millis, until_unix_millis FROM bans ORDER BY network")
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| failed(TRIED, &error))?;
    let mut records = rows.iter().map(read_record).collect::<Result<Vec<Record>, StoreError>>()?;
    let rows = sqlx::query(
        "SELECT network, origin, reason, since_unix_millis, until_unix_millis, ended_unix_millis, ending FROM past_bans
         ORDER BY network, place",
    )
    .fetch_all(connection)
    .await
    .map_err(|error| failed(TRIED, &error))?;
    // Both are in the order of the same text.
    let mut at = 0;
    for row in &rows {
        let (network, past) = read_past(row)?;
        while records.get(at).is_some_and(|record| record.network != network) {
            at += 1;
        }
        let record =
            records.get_mut(at).ok_or_else(|| unreadable(&network.to_string(), "a past ban of an unknown network"))?;
        record.past.push(past);
    }
    Ok(records)
}

fn read_record(row: &SqliteRow) -> Result<Record, StoreError> {
    let network = network_of(row)?;
    let origin: Option<String> = optional(row, 1)?;
    let ban = origin.map(|_| read_ban(row)).transpose()?;
    Ok(Record { network, ban, past: Vec::new() })
}

fn read_past(row: &SqliteRow) -> Result<(Cidr, Past), StoreError> {
    let network = network_of(row)?;
    let ending: String = field(row, 6)?;
    let ending = Ending::named(&ending).ok_or_else(|| unreadable(&ending, "no known ending"))?;
    let past = Past { ban: read_ban(row)?, ended_unix_millis: unsigned(field(row, 5)?)?, ending };
    Ok((network, past))
}

/// The columns 1 to 4 of both tables.
fn read_ban(row: &SqliteRow) -> Result<Ban, StoreError> {
    let origin: String = field(row, 1)?;
    let until: Option<i64> = optional(row, 4)?;
    Ok(Ban {
        origin: Origin::named(&origin).ok_or_else(|| unreadable(&origin, "no known origin"))?,
        reason: field(row, 2)?,
        since_unix_millis: unsigned(field(row, 3)?)?,
        until_unix_millis: until.map(unsigned).transpose()?,
    })
}

fn network_of(row: &SqliteRow) -> Result<Cidr, StoreError> {
    let text: String = field(row, 0)?;
    text.parse().map_err(|_| unreadable(&text, "no network"))
}

/// A column that must hold something. The library reads NULL as an empty text or 0 where it is not asked for an `Option`.
fn field<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    place: usize,
) -> Result<T, StoreError> {
    optional(row, place)?.ok_or_else(|| unreadable("NULL", "not allowed in this column"))
}

fn optional<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    place: usize,
) -> Result<Option<T>, StoreError> {
    row.try_get(place).map_err(|error| failed("reading the bans", &error))
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| unreadable(&number.to_string(), "a time before 1970"))
}

fn unreadable(what: &str, why: &str) -> StoreError {
    StoreError { tried: "reading the bans".to_owned(), why: format!("`{}` is {why}", what.escape_default()) }
}

/// SQL knows no unsigned numbers; the times of real clocks are far below the edge.
fn millis(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
