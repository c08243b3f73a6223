//! When what a decision depends on was changed last: the part that makes remembered decisions exactly as fresh as asked anew.
//!
//! Every change has a number, one higher than the change before it. What a decision depends on (its tenant's roles and
//! groups, its user, its resource) has a stamp: the number of the last change to it. A decision carries the number of the
//! last change that it saw whole, and holds as long as none of its stamps is higher. Stamps are kept in a fixed table by
//! hash: two things that share a place make each other's decisions be asked anew, never kept too long.
//!
//! A check that computes while a change is made carries the number from before it, so it is not believed once the change is
//! stamped; stamps are written before the change is acknowledged.
//!
//! Invariant: a stamp never falls.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places in the table: 128 KiB.
const PLACES: usize = 16_384;

/// The table.
pub(super) struct Stamps {
    places: Box<[AtomicU64]>,
    hash: ahash::RandomState,
}

/// What changes, or is depended on.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Part<'n> {
    /// Roles, groups, and what is granted to groups.
    Tenant(&'n str),
    /// What is said of one user.
    User(&'n str, &'n str),
    /// The entries on one resource.
    Resource(&'n str, &'n str),
}

/// Where the stamps of a decision are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places([u16; 3]);

impl Stamps {
    /// None yet; `seed` keeps others from choosing names that share a place.
    pub(super) fn new(seed: [u8; 16]) -> Stamps {
        let seed = u128::from_le_bytes(seed);
        let hash = ahash::RandomState::with_seeds(seed as u64, (seed >> 64) as u64, !seed as u64, (!seed >> 64) as u64);
        Stamps { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), hash }
    }

    /// Where a decision about these finds its stamps.
    pub(super) fn places(&self, tenant: &str, user: &str, resource: Option<&str>) -> Places {
        let tenants = self.place(Part::Tenant(tenant));
        let resources = resource.map_or(tenants, |resource| self.place(Part::Resource(tenant, resource)));
        Places([tenants, self.place(Part::User(tenant, user)), resources])
    }

    /// The number of the last change to any of them.
    #[inline]
    pub(super) fn last(&self, places: Places) -> u64 {
        // Acquire: whoever was told of a change sees its stamp.
        let stamps = places.0.map(|place| self.places[usize::from(place)].load(Ordering::Acquire));
        stamps[0].max(stamps[1]).max(stamps[2])
    }

    /// Notes that change `number` was made to `part`. Called by one thread at a time, with growing numbers.
    pub(super) fn stamp(&self, part: Part<'_>, number: u64) {
        self.places[usize::from(self.place(part))].store(number, Ordering::Release);
    }

    /// The same for everything there is.
    pub(super) fn stamp_all(&self, number: u64) {
        for place in &self.places {
            place.store(number, Ordering::Release);
        }
    }

    fn place(&self, part: impl Hash) -> u16 {
        // Below PLACES, which is below 2^16.
        (self.hash.hash_one(part) % PLACES as u64) as u16
    }
}
