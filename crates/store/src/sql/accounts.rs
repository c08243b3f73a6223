//! Accounts, sessions and API keys in SQL: a table each, one transaction a call.
//!
//! Hashes are text in hexadecimal and short lists are text with spaces between, so that every dialect takes the statements as
//! they are; nothing is ever looked for inside them.
//!
//! Invariant: what cannot be read as a record is an error and never skipped: a session that is skipped is a person locked out,
//! an account that is skipped is a name that somebody else could take.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, Sqlite, Transaction};

use super::{Sql, failed};
use crate::accounts::{Account, Accounts, Changes, Device, Hash, Records, Totp};
use crate::api_keys::ApiKey;
use crate::bans::{Pending, StoreError};
use crate::sessions::{Digest, Session};

const READING: &str = "reading the accounts";

/// What a database needs for them.
pub(super) const MIGRATION: &[&str] = &[
    "CREATE TABLE accounts (
        name TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        email TEXT,
        roles TEXT NOT NULL,
        password TEXT NOT NULL,
        password_since_unix_millis BIGINT NOT NULL,
        is_disabled BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        since_unix_millis BIGINT NOT NULL,
        totp_secret TEXT,
        totp_last_step BIGINT,
        totp_is_confirmed BIGINT,
        recovery TEXT NOT NULL,
        devices TEXT NOT NULL
    )",
    "CREATE TABLE sessions (
        id TEXT NOT NULL PRIMARY KEY,
        account TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        since_unix_millis BIGINT NOT NULL,
        seen_unix_millis BIGINT NOT NULL,
        until_unix_millis BIGINT NOT NULL,
        network TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        agent TEXT NOT NULL,
        has_second_factor BIGINT NOT NULL
    )",
    "CREATE TABLE api_keys (
        id TEXT NOT NULL PRIMARY KEY,
        hash TEXT NOT NULL,
        account TEXT NOT NULL,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,
        since_unix_millis BIGINT NOT NULL,
        until_unix_millis BIGINT,
        used_unix_millis BIGINT
    )",
];

impl Accounts for Sql {
    fn list(&self) -> Pending<'_, Records> {
        Box::pin(async move {
            let mut connection = self.connection.lock().await;
            // One transaction, so that the three lists are of one moment.
            let mut reading = connection.begin().await.map_err(|error| failed(READING, &error))?;
            Ok(Records {
                accounts: read(&mut reading, ACCOUNTS, read_account).await?,
                sessions: read(&mut reading, SESSIONS, read_session).await?,
                keys: read(&mut reading, KEYS, read_key).await?,
            })
        })
    }

    fn update<'a>(&'a self, changes: &'a Changes) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut connection = self.connection.lock().await;
            let write = async {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                write_all(&mut transaction, changes).await?;
                transaction.commit().await
            };
            write
                .await
                .map_err(|error| failed(format!("writing {} accounts, sessions and keys", changes.len()), &error))
        })
    }
}

const ACCOUNTS: &str = "SELECT name, tenant, email, roles, password, password_since_unix_millis, is_disabled, epoch,
    since_unix_millis, totp_secret, totp_last_step, totp_is_confirmed, recovery, devices FROM accounts ORDER BY name";
const SESSIONS: &str = "SELECT id, account, epoch, since_unix_millis, seen_unix_millis, until_unix_millis, network,
    fingerprint, agent, has_second_factor FROM sessions ORDER BY id";
const KEYS: &str = "SELECT id, hash, account, name, scopes, since_unix_millis, until_unix_millis, used_unix_millis
    FROM api_keys ORDER BY id";

async fn read<T>(
    reading: &mut Transaction<'_, Sqlite>,
    statement: &'static str,
    one: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let rows = sqlx::query(statement).fetch_all(&mut **reading).await.map_err(|error| failed(READING, &error))?;
    rows.iter().map(one).collect()
}

async fn write_all(transaction: &mut Transaction<'_, Sqlite>, changes: &Changes) -> Result<(), sqlx::Error> {
    for account in &changes.accounts {
        write_account(transaction, account).await?;
    }
    for session in &changes.sessions {
        write_session(transaction, session).await?;
    }
    for id in &changes.ended {
        let row = sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id.to_string());
        row.execute(&mut **transaction).await?;
    }
    for key in &changes.keys {
        write_key(transaction, key).await?;
    }
    for id in &changes.revoked {
        let row = sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(id.as_str());
        row.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn write_account(transaction: &mut Transaction<'_, Sqlite>, account: &Account) -> Result<(), sqlx::Error> {
    let totp = account.totp.as_ref();
    let devices = account.devices.iter().map(|device| format!("{}:{}", device.id, device.since_unix_millis));
    sqlx::query(
        "INSERT INTO accounts (name, tenant, email, roles, password, password_since_unix_millis, is_disabled, epoch,
         since_unix_millis, totp_secret, totp_last_step, totp_is_confirmed, recovery, devices)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (name) DO UPDATE SET tenant = excluded.tenant, email = excluded.email, roles = excluded.roles,
         password = excluded.password, password_since_unix_millis = excluded.password_since_unix_millis,
         is_disabled = excluded.is_disabled, epoch = excluded.epoch, since_unix_millis = excluded.since_unix_millis,
         totp_secret = excluded.totp_secret, totp_last_step = excluded.totp_last_step,
         totp_is_confirmed = excluded.totp_is_confirmed, recovery = excluded.recovery, devices = excluded.devices",
    )
    .bind(&account.name)
    .bind(&account.tenant)
    .bind(&account.email)
    .bind(account.roles.join(" "))
    .bind(&account.password.0)
    .bind(signed(account.password_since_unix_millis))
    .bind(i64::from(account.is_disabled))
    .bind(signed(account.epoch))
    .bind(signed(account.since_unix_millis))
    .bind(totp.map(|totp| hex(&totp.secret)))
    .bind(totp.map(|totp| signed(totp.last_step)))
    .bind(totp.map(|totp| i64::from(totp.is_confirmed)))
    .bind(joined(account.recovery.iter()))
    .bind(joined(devices))
    .execute(&mut **transaction)
    .await
    .map(drop)
}

async fn write_session(transaction: &mut Transaction<'_, Sqlite>, session: &Session) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sessions (id, account, epoch, since_unix_millis, seen_unix_millis, until_unix_millis, network,
         fingerprint, agent, has_second_factor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET account = excluded.account, epoch = excluded.epoch,
         since_unix_millis = excluded.since_unix_millis, seen_unix_millis = excluded.seen_unix_millis,
         until_unix_millis = excluded.until_unix_millis, network = excluded.network,
         fingerprint = excluded.fingerprint, agent = excluded.agent,
         has_second_factor = excluded.has_second_factor",
    )
    .bind(session.id.to_string())
    .bind(&session.account)
    .bind(signed(session.epoch))
    .bind(signed(session.since_unix_millis))
    .bind(signed(session.seen_unix_millis))
    .bind(signed(session.until_unix_millis))
    .bind(&session.network)
    .bind(session.fingerprint.to_string())
    .bind(&session.agent)
    .bind(i64::from(session.has_second_factor))
    .execute(&mut **transaction)
    .await
    .map(drop)
}

async fn write_key(transaction: &mut Transaction<'_, Sqlite>, key: &ApiKey) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO api_keys (id, hash, account, name, scopes, since_unix_millis, until_unix_millis, used_unix_millis)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, account = excluded.account, name = excluded.name,
         scopes = excluded.scopes, since_unix_millis = excluded.since_unix_millis,
         until_unix_millis = excluded.until_unix_millis, used_unix_millis = excluded.used_unix_millis",
    )
    .bind(&key.id)
    .bind(key.hash.to_string())
    .bind(&key.account)
    .bind(&key.name)
    .bind(key.scopes.join(" "))
    .bind(signed(key.since_unix_millis))
    .bind(key.until_unix_millis.map(signed))
    .bind(key.used_unix_millis.map(signed))
    .execute(&mut **transaction)
    .await
    .map(drop)
}

fn read_account(row: &SqliteRow) -> Result<Account, StoreError> {
    let totp = match (optional::<String>(row, 9)?, optional::<i64>(row, 10)?, optional::<i64>(row, 11)?) {
        (None, None, None) => None,
        (Some(secret), Some(step), Some(confirmed)) => {
            Some(Totp { secret: unhex(&secret)?, last_step: unsigned(step)?, is_confirmed: truth(confirmed)? })
        }
        _ => return Err(unreadable("totp", "half of a second factor")),
    };
    Ok(Account {
        name: field(row, 0)?,
        tenant: field(row, 1)?,
        email: optional(row, 2)?,
        roles: words(&field::<String>(row, 3)?),
        password: Hash(field(row, 4)?),
        password_since_unix_millis: unsigned(field(row, 5)?)?,
        is_disabled: truth(field(row, 6)?)?,
        epoch: unsigned(field(row, 7)?)?,
        since_unix_millis: unsigned(field(row, 8)?)?,
        totp,
        recovery: words(&field::<String>(row, 12)?).iter().map(|code| digest(code)).collect::<Result<_, _>>()?,
        devices: words(&field::<String>(row, 13)?)
            .iter()
            .map(|device| read_device(device))
            .collect::<Result<_, _>>()?,
    })
}

fn read_device(text: &str) -> Result<Device, StoreError> {
    let parts = text.split_once(':').and_then(|(id, since)| Some((id, since.parse().ok()?)));
    let (id, since_unix_millis) = parts.ok_or_else(|| unreadable("a device", "not written as hash and time"))?;
    Ok(Device { id: digest(id)?, since_unix_millis })
}

fn read_session(row: &SqliteRow) -> Result<Session, StoreError> {
    Ok(Session {
        id: digest(&field::<String>(row, 0)?)?,
        account: field(row, 1)?,
        epoch: unsigned(field(row, 2)?)?,
        since_unix_millis: unsigned(field(row, 3)?)?,
        seen_unix_millis: unsigned(field(row, 4)?)?,
        until_unix_millis: unsigned(field(row, 5)?)?,
        network: field(row, 6)?,
        fingerprint: digest(&field::<String>(row, 7)?)?,
        agent: field(row, 8)?,
        has_second_factor: truth(field(row, 9)?)?,
    })
}

fn read_key(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: field(row, 0)?,
        hash: digest(&field::<String>(row, 1)?)?,
        account: field(row, 2)?,
        name: field(row, 3)?,
        scopes: words(&field::<String>(row, 4)?),
        since_unix_millis: unsigned(field(row, 5)?)?,
        until_unix_millis: optional::<i64>(row, 6)?.map(unsigned).transpose()?,
        used_unix_millis: optional::<i64>(row, 7)?.map(unsigned).transpose()?,
    })
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
    row.try_get(place).map_err(|error| failed(READING, &error))
}

fn digest(text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(|_| unreadable("a hash", "not a SHA-256"))
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| unreadable(&number.to_string(), "below 0"))
}

fn truth(number: i64) -> Result<bool, StoreError> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(unreadable(&other.to_string(), "neither 0 nor 1")),
    }
}

/// SQL knows no unsigned numbers; real times and counts are far below the edge.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn joined(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, StoreError> {
    let wrong = || unreadable("a secret", "not hexadecimal");
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong()));
    pairs.collect()
}

/// `what` is quoted, so it must never be a hash or a secret.
fn unreadable(what: &str, why: &str) -> StoreError {
    StoreError { tried: READING.to_owned(), why: format!("`{}` is {why}", what.escape_default()) }
}
