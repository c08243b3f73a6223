//! How many connections each address has, over all cores, and who may have one more.
//!
//! The listener asks as it accepts, before a byte is read, and keeps the [`Slot`] for as long as the connection lasts.
//!
//! Invariant: an address is listed exactly while it has a connection, so the table is bounded by the connections; every
//! slot is given back once, whatever ends the connection.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_core::metric::{Counter, Gauge, Registry};

use super::config::Rules;
use super::decide::{Level, STILL_PASSING};
use super::metrics::{CONNECTIONS, CONNECTIONS_REFUSED};
use super::pressure::Pressure;

/// Locks that cores seldom meet at; a power of two.
const SHARDS: usize = 64;
/// Room that an empty shard keeps.
const KEPT: usize = 16;

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Turned {
    /// Its address has all it may have.
    Address,
    /// Only the reserve of descriptors is left.
    Descriptors,
    /// Memory is nearly gone.
    Memory,
}

impl Turned {
    const ALL: [Turned; 3] = [Turned::Address, Turned::Descriptors, Turned::Memory];

    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Turned::Address => "address",
            Turned::Descriptors => "descriptors",
            Turned::Memory => "memory",
        }
    }
}

/// Who has how many connections.
pub struct Connections {
    shards: Box<[Mutex<HashMap<IpAddr, u32>>]>,
    hasher: RandomState,
    pressure: Arc<Pressure>,
    open: Gauge,
    refused: [Counter; Turned::ALL.len()],
}

/// One connection's place. Dropped, it is free again.
#[must_use = "a slot that is dropped counts no connection"]
pub struct Slot(Box<Held>);

/// Kept apart, so that a connection's task stays small while the connection rests.
struct Held {
    connections: Arc<Connections>,
    /// Whom it is counted for; nobody where any number is allowed.
    group: Option<IpAddr>,
    /// Whom it belongs to is known.
    is_told: bool,
}

impl Slot {
    /// From now on the connection counts for `peer`. Does nothing where that is known already.
    ///
    /// # Errors
    /// The address has all it may have; the connection must be closed. It is counted.
    pub fn count_for(&mut self, rules: &Rules, peer: IpAddr) -> Result<(), Turned> {
        let held = &mut *self.0;
        if held.is_told {
            return Ok(());
        }
        held.is_told = true;
        let Some(group) = rules.group_of(peer) else { return Ok(()) };
        held.connections.take(rules, group).map_err(|turned| held.connections.turn_away(turned))?;
        held.group = Some(group);
        Ok(())
    }
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(metrics: &Registry, pressure: Arc<Pressure>) -> Connections {
        Connections {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            pressure,
            open: metrics.gauge(&CONNECTIONS, &[]),
            refused: Turned::ALL.map(|turned| metrics.counter(&CONNECTIONS_REFUSED, &[turned.name()])),
        }
    }

    /// Takes a connection whose socket has the number `descriptor`. It counts for `peer`, or for nobody as long as it is
    /// not known whom it belongs to; see [`Slot::count_for`].
    ///
    /// The kernel gives the lowest free number, so a high one says that all below it are in use at this very moment.
    ///
    /// # Errors
    /// Why it must be closed; it is counted.
    pub fn admit(self: &Arc<Self>, rules: &Rules, peer: Option<IpAddr>, descriptor: i32) -> Result<Slot, Turned> {
        self.ask(descriptor).map_err(|turned| self.turn_away(turned))?;
        self.open.inc();
        let mut slot = Slot(Box::new(Held { connections: Arc::clone(self), group: None, is_told: false }));
        if let Some(peer) = peer {
            slot.count_for(rules, peer)?;
        }
        Ok(slot)
    }

    fn turn_away(&self, turned: Turned) -> Turned {
        self.refused[turned as usize].inc();
        turned
    }

    fn ask(&self, descriptor: i32) -> Result<(), Turned> {
        if !self.pressure.spares(descriptor) {
            return Err(Turned::Descriptors);
        }
        if self.pressure.levels().memory == Level::Critical && self.open() >= STILL_PASSING {
            return Err(Turned::Memory);
        }
        Ok(())
    }

    /// One more for `group`.
    fn take(&self, rules: &Rules, group: IpAddr) -> Result<(), Turned> {
        let mut shard = self.shard(group);
        let count = shard.entry(group).or_insert(0);
        if *count >= rules.connections_per_address {
            return Err(Turned::Address);
        }
        *count += 1;
        Ok(())
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.get()).unwrap_or(0)
    }

    /// Addresses that have a connection.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn give_back(&self, group: IpAddr) {
        let mut shard = self.shard(group);
        if let Some(count) = shard.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&group);
            }
        }
        // What a flood of addresses made large does not stay large.
        if shard.is_empty() && shard.capacity() > 4 * KEPT {
            shard.shrink_to(KEPT);
        }
    }

    /// The maps are whole at every moment at which a lock can be given up, also by a panic.
    fn shard(&self, group: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        let place = self.hasher.hash_one(group) as usize % SHARDS;
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.open.dec();
        if let Some(group) = self.0.group {
            self.0.connections.give_back(group);
        }
    }
}
