//! Opening the durable store and loading what each keeper remembers in it.
//!
//! Invariant: what cannot be read stops the start; nothing is served on half of what was remembered.

use std::path::PathBuf;
use std::sync::Arc;

use portcullis_accounts::service::Service;
use portcullis_guards::config::Mistake;
use portcullis_guards::request_path::Ground;
use portcullis_store::sql::Sql;

use super::StartError;
use crate::accounts::Accounts;
use crate::clock::SystemClock;
use crate::config::{Config, StorePlace};
use crate::keeper::{Keeper, StoreFailure};
use crate::permissions;
use crate::telemetry::log::Log;

/// Loads accounts, where they are turned on.
pub(super) async fn open_accounts(
    service: Option<Service>,
    store: Option<&(PathBuf, Arc<Sql>)>,
    ground: &Ground,
    clock: &SystemClock,
    log: &Log,
) -> Result<Option<Arc<Accounts>>, StartError> {
    let Some(service) = service else { return Ok(None) };
    let accounts = match store {
        Some((path, store)) => {
            let store = Arc::clone(store) as Arc<dyn portcullis_store::accounts::Accounts>;
            Accounts::over(store, path, service, clock, log, &ground.metrics).await?
        }
        None => Accounts::in_memory(service, &ground.metrics),
    };
    Ok(Some(Arc::new(accounts)))
}

/// The durable store and its place, where the config names one.
pub(super) async fn open_store(config: &Config) -> Result<Option<(PathBuf, Arc<Sql>)>, StartError> {
    match config.store.place() {
        Ok(StorePlace::Sqlite(path)) => {
            let path = config.folder.join(path);
            let store = Sql::open(&path).await.map_err(StoreFailure::from)?;
            Ok(Some((path, Arc::new(store))))
        }
        Ok(StorePlace::Memory) => Ok(None),
        Err(message) => Err(StartError::Config(vec![Mistake::new("store.url", message)])),
    }
}

/// Loads the bans that the store remembers.
pub(super) async fn open_keeper(
    store: Option<&(PathBuf, Arc<Sql>)>,
    ground: &Ground,
    clock: &SystemClock,
    log: &Log,
) -> Result<Keeper, StartError> {
    let bans = Arc::clone(&ground.bans);
    let Some((path, store)) = store else {
        let what = "store.url is memory: bans, permissions, accounts and sessions are forgotten when this process ends";
        log.event("warn", "nothing_is_kept", &[("why", what)]);
        return Ok(Keeper::in_memory(bans, &ground.metrics));
    };
    Ok(Keeper::open(path, Arc::clone(store), bans, clock, log, &ground.metrics).await?)
}

/// Loads the permissions that the store remembers.
pub(super) async fn open_permissions(
    store: Option<&(PathBuf, Arc<Sql>)>,
    ground: &Ground,
) -> Result<permissions::Keeper, StartError> {
    let policy = Arc::clone(&ground.permissions);
    let Some((path, store)) = store else { return Ok(permissions::Keeper::in_memory(policy, &ground.metrics)) };
    let opened = permissions::Keeper::open(policy, Arc::clone(store) as _, &ground.metrics).await;
    Ok(opened.map_err(|source| StoreFailure::Read { path: path.clone(), source })?)
}
