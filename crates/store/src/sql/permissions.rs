//! Permissions in SQL: a table for each kind of fact, the tenant first in every key.
//!
//! Invariant: what cannot be read as a record is an error and never skipped, because an entry that denies must not be lost.

use std::collections::HashSet;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row, Sqlite, Transaction};

use super::{Sql, failed};
use crate::permissions::{Change, Effect, Fact, Name, Pending, Permissions, Record, StoreError, Subject};

/// The tables.
pub(super) const MIGRATION: &[&str] = &[
    "CREATE TABLE permission_roles (
        tenant TEXT NOT NULL,
        role TEXT NOT NULL,
        PRIMARY KEY (tenant, role)
    )",
    "CREATE TABLE permission_patterns (
        tenant TEXT NOT NULL,
        role TEXT NOT NULL,
        permission TEXT NOT NULL,
        PRIMARY KEY (tenant, role, permission)
    )",
    "CREATE TABLE permission_grants (
        tenant TEXT NOT NULL,
        subject_kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        role TEXT NOT NULL,
        PRIMARY KEY (tenant, subject_kind, subject, role)
    )",
    "CREATE TABLE permission_members (
        tenant TEXT NOT NULL,
        subject_kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        group_name TEXT NOT NULL,
        PRIMARY KEY (tenant, subject_kind, subject, group_name)
    )",
    "CREATE TABLE permission_entries (
        tenant TEXT NOT NULL,
        resource TEXT NOT NULL,
        subject_kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        permission TEXT NOT NULL,
        effect TEXT NOT NULL,
        PRIMARY KEY (tenant, resource, subject_kind, subject, permission)
    )",
    "CREATE TABLE permission_deactivations (
        tenant TEXT NOT NULL,
        user_name TEXT NOT NULL,
        PRIMARY KEY (tenant, user_name)
    )",
];

const READING: &str = "reading the permissions";

impl Permissions for Sql {
    fn list(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async move { read_all(&mut *self.connection.lock().await).await })
    }

    fn update<'a>(&'a self, changes: &'a [Change]) -> Pending<'a, ()> {
        Box::pin(async move {
            let tried = || format!("writing {} changes of permissions", changes.len());
            let mut connection = self.connection.lock().await;
            let write = async {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                for change in changes {
                    write_one(&mut transaction, change).await?;
                }
                transaction.commit().await
            };
            write.await.map_err(|error| failed(tried(), &error))
        })
    }
}

async fn write_one(transaction: &mut Transaction<'_, Sqlite>, change: &Change) -> Result<(), sqlx::Error> {
    let (Change::Add(record) | Change::Remove(record)) = change;
    let is_added = matches!(change, Change::Add(_));
    let choose = |add: &'static str, remove: &'static str| if is_added { add } else { remove };
    let tenant = &*record.tenant;
    let query = match &record.fact {
        Fact::Role { role } => {
            let statement = choose(
                "INSERT INTO permission_roles (tenant, role) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                "DELETE FROM permission_roles WHERE tenant = $1 AND role = $2",
            );
            sqlx::query(statement).bind(tenant).bind(&**role)
        }
        Fact::Permission { role, permission } => {
            let statement = choose(
                "INSERT INTO permission_patterns (tenant, role, permission) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                "DELETE FROM permission_patterns WHERE tenant = $1 AND role = $2 AND permission = $3",
            );
            sqlx::query(statement).bind(tenant).bind(&**role).bind(&**permission)
        }
        Fact::Grant { subject, role } => {
            let statement = choose(
                "INSERT INTO permission_grants (tenant, subject_kind, subject, role) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING",
                "DELETE FROM permission_grants WHERE tenant = $1 AND subject_kind = $2 AND subject = $3 AND role = $4",
            );
            sqlx::query(statement).bind(tenant).bind(subject.kind()).bind(&**subject.name()).bind(&**role)
        }
        Fact::Member { subject, group } => {
            let statement = choose(
                "INSERT INTO permission_members (tenant, subject_kind, subject, group_name) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING",
                "DELETE FROM permission_members
                 WHERE tenant = $1 AND subject_kind = $2 AND subject = $3 AND group_name = $4",
            );
            sqlx::query(statement).bind(tenant).bind(subject.kind()).bind(&**subject.name()).bind(&**group)
        }
        Fact::Entry { resource, subject, permission, effect } => {
            let statement = choose(
                "INSERT INTO permission_entries (tenant, resource, subject_kind, subject, permission, effect)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (tenant, resource, subject_kind, subject, permission) DO UPDATE SET effect = excluded.effect",
                "DELETE FROM permission_entries
                 WHERE tenant = $1 AND resource = $2 AND subject_kind = $3 AND subject = $4 AND permission = $5",
            );
            let query = sqlx::query(statement).bind(tenant).bind(&**resource).bind(subject.kind());
            let query = query.bind(&**subject.name()).bind(&**permission);
            if is_added { query.bind(effect.name()) } else { query }
        }
        Fact::Deactivated { user } => {
            let statement = choose(
                "INSERT INTO permission_deactivations (tenant, user_name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                "DELETE FROM permission_deactivations WHERE tenant = $1 AND user_name = $2",
            );
            sqlx::query(statement).bind(tenant).bind(&**user)
        }
    };
    query.execute(&mut **transaction).await.map(drop)
}

async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    let mut names = Names::default();
    for (statement, read) in TABLES {
        let rows = sqlx::query(*statement).fetch_all(&mut *connection).await;
        for row in rows.map_err(|error| failed(READING, &error))? {
            let tenant = names.of(&row, 0)?;
            records.push(Record { tenant, fact: read(&row, &mut names)? });
        }
    }
    Ok(records)
}

type Read = fn(&SqliteRow, &mut Names) -> Result<Fact, StoreError>;

/// Each table, and how a row of it is read; column 0 is the tenant.
const TABLES: &[(&str, Read)] = &[
    ("SELECT tenant, role FROM permission_roles", |row, names| Ok(Fact::Role { role: names.of(row, 1)? })),
    ("SELECT tenant, role, permission FROM permission_patterns", |row, names| {
        Ok(Fact::Permission { role: names.of(row, 1)?, permission: names.of(row, 2)? })
    }),
    ("SELECT tenant, subject_kind, subject, role FROM permission_grants", |row, names| {
        Ok(Fact::Grant { subject: names.subject(row, 1)?, role: names.of(row, 3)? })
    }),
    ("SELECT tenant, subject_kind, subject, group_name FROM permission_members", |row, names| {
        Ok(Fact::Member { subject: names.subject(row, 1)?, group: names.of(row, 3)? })
    }),
    ("SELECT tenant, resource, subject_kind, subject, permission, effect FROM permission_entries", |row, names| {
        let effect: String = column(row, 5)?;
        Ok(Fact::Entry {
            resource: names.of(row, 1)?,
            subject: names.subject(row, 2)?,
            permission: names.of(row, 4)?,
            effect: Effect::named(&effect).ok_or_else(|| unreadable(&effect, "no known effect"))?,
        })
    }),
    ("SELECT tenant, user_name FROM permission_deactivations", |row, names| {
        Ok(Fact::Deactivated { user: names.of(row, 1)? })
    }),
];

/// Names that were read, each once in memory.
#[derive(Default)]
struct Names(HashSet<Name>);

impl Names {
    fn of(&mut self, row: &SqliteRow, place: usize) -> Result<Name, StoreError> {
        let text: String = column(row, place)?;
        if let Some(known) = self.0.get(&*text) {
            return Ok(known.clone());
        }
        let name = Name::from(text);
        self.0.insert(name.clone());
        Ok(name)
    }

    /// A kind at `place`, and a name behind it.
    fn subject(&mut self, row: &SqliteRow, place: usize) -> Result<Subject, StoreError> {
        let kind: String = column(row, place)?;
        let name = self.of(row, place + 1)?;
        match kind.as_str() {
            "user" => Ok(Subject::User(name)),
            "group" => Ok(Subject::Group(name)),
            _ => Err(unreadable(&kind, "no known kind of subject")),
        }
    }
}

/// A column that must hold a text. The library reads NULL as an empty one where it is not asked for an `Option`.
fn column(row: &SqliteRow, place: usize) -> Result<String, StoreError> {
    let text: Option<String> = row.try_get(place).map_err(|error| failed(READING, &error))?;
    text.ok_or_else(|| unreadable("NULL", "not allowed in this column"))
}

fn unreadable(what: &str, why: &str) -> StoreError {
    StoreError { tried: READING.to_owned(), why: format!("`{}` is {why}", what.escape_default()) }
}
