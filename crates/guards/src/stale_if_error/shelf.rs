//! Where kept answers are: bounded in bytes, shared by all workers, the least used ones leave first.
//!
//! An entry is what one URL has given, in up to [`MOST_VARIANTS`] variants by what `Vary` nominates. A URL whose entry is ended by
//! a write takes no answer to a request that came before the write: each place in `ends` counts the ends of the URLs that
//! hash to it.
//!
//! Invariant: entries weigh at most the bound together; answers on their way hold at most a quarter of it more.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use portcullis_core::metric::{Counter, Gauge, Registry};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::decide::{Terms, bytes_of};
use super::metrics;
use crate::exchange::Tap;

/// Most answers of one URL.
const MOST_VARIANTS: usize = 8;
/// Until the config is known.
const FIRST_BOUND: u64 = 1024 * 1024;
/// What an entry takes beside its answers.
const ENTRY_BYTES: usize = 256;
/// How long an answer is not replaced by a newer one, so that a busy URL is not copied for every request.
const REPLACED_AFTER: Duration = Duration::from_secs(1);
const PLACES: usize = 4096;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// None of the parts can hold a line's end.
    pub(super) fn new(parts: &[&[u8]]) -> Key {
        Key(parts.join(&b'\n').into_boxed_slice())
    }
}

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When its request arrived.
    pub(super) since_nanos: u64,
    pub(super) terms: Terms,
    /// How often it was asked for while the upstream was well.
    pub(super) uses: AtomicU32,
}

impl Answer {
    /// How old it is, the time before it came included.
    pub(super) fn age(&self, now_nanos: u64) -> Duration {
        self.terms.age_at_first.saturating_add(Duration::from_nanos(now_nanos.saturating_sub(self.since_nanos)))
    }

    fn bytes(&self) -> usize {
        let nominated = self.terms.nominated.iter();
        let nominated = nominated.map(|(_, values)| 64 + values.iter().map(|value| 48 + value.len()).sum::<usize>());
        self.body.len() + bytes_of(&self.headers) + nominated.sum::<usize>()
    }
}

/// The answers of one URL, newest first.
type Variants = Arc<[Arc<Answer>]>;

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Variants> for Weigh {
    fn weight(&self, key: &Key, variants: &Variants) -> u64 {
        (ENTRY_BYTES + key.0.len() + variants.iter().map(|answer| answer.bytes()).sum::<usize>()) as u64
    }
}

/// All kept answers.
pub struct Shelf {
    entries: Cache<Key, Variants, Weigh, RandomState>,
    hasher: RandomState,
    /// One change at a time: two answers of one URL may come at once.
    changing: Mutex<()>,
    ends: Box<[AtomicU64]>,
    bound: AtomicU64,
    /// Bytes that answers on their way may take.
    on_their_way: Arc<AtomicUsize>,
    kept: Counter,
    no_room: Counter,
    bytes: Gauge,
}

impl Shelf {
    /// An empty one.
    ///
    /// # Panics
    /// Never: the options are constants.
    #[must_use]
    pub fn new(metrics: &Registry) -> Shelf {
        let hasher = RandomState::new();
        let options = OptionsBuilder::new().shards(1).estimated_items_capacity(64).weight_capacity(FIRST_BOUND).build();
        let options = options.expect("constants that the library takes");
        Shelf {
            entries: Cache::with_options(options, Weigh, hasher.clone(), DefaultLifecycle::default()),
            hasher,
            changing: Mutex::default(),
            ends: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            bound: AtomicU64::new(FIRST_BOUND),
            on_their_way: Arc::default(),
            kept: metrics.counter(&metrics::KEPT, &[]),
            no_room: metrics.counter(&metrics::NOT_KEPT, &["room"]),
            bytes: metrics.gauge(&metrics::BYTES, &[]),
        }
    }

    /// From now on so many bytes.
    pub(super) fn bound(&self, bytes: u64) {
        if self.bound.swap(bytes, Ordering::Relaxed) != bytes {
            self.entries.set_capacity(bytes);
            self.bytes.set(self.weight());
        }
    }

    /// How often what is kept for this URL (or one that hashes alike) was ended.
    pub(super) fn ends(&self, key: &Key) -> u64 {
        self.place(key).load(Ordering::Acquire)
    }

    /// The answer to a request with these fields, however old.
    pub(super) fn find(&self, key: &Key, fields: &HeaderMap) -> Option<Arc<Answer>> {
        self.entries.get(key)?.iter().find(|answer| answer.terms.is_for(fields)).cloned()
    }

    /// Whether an answer to a request with these fields would be kept now.
    pub(super) fn wants(&self, key: &Key, fields: &HeaderMap, now_nanos: u64) -> bool {
        let known = self.entries.peek(key);
        let known = known.as_deref().and_then(|variants| variants.iter().find(|answer| answer.terms.is_for(fields)));
        if let Some(known) = known {
            known.uses.fetch_add(1, Ordering::Relaxed);
        }
        known.is_none_or(|known| now_nanos.saturating_sub(known.since_nanos) >= REPLACED_AFTER.as_nanos() as u64)
    }

    /// Keeps up to `most` bytes of an answer on its way, as long as all of them together take at most a quarter of the bound.
    /// Room is taken as bytes pass: who does not read takes none.
    pub(super) fn tap(&self, most: usize) -> Tap {
        let bound = usize::try_from(self.bound.load(Ordering::Relaxed) / 4).unwrap_or(usize::MAX);
        Tap::within(most, Arc::clone(&self.on_their_way), bound)
    }

    /// An answer was not kept because there was no room for it on its way.
    pub(super) fn no_room(&self) {
        self.no_room.inc();
    }

    /// Keeps an answer to a request that found `ends` when it came, in place of the one that its fields had chosen.
    pub(super) fn add(&self, key: &Key, mut answer: Answer, ends: u64, fields: &HeaderMap) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ends(key) != ends {
            return;
        }
        let known = self.entries.peek(key);
        let known = known.as_deref().unwrap_or_default();
        if known.iter().any(|known| known.terms.is_for(fields) && known.since_nanos > answer.since_nanos) {
            return;
        }
        // An eighth of the bound is room for one answer of the greatest length at least.
        let most = usize::try_from(self.bound.load(Ordering::Relaxed) / 4).unwrap_or(usize::MAX);
        let mut bytes = ENTRY_BYTES + key.0.len() + answer.bytes();
        if let Some(same) = known.iter().find(|known| known.terms.is_for(fields)) {
            answer.uses = AtomicU32::new(same.uses.load(Ordering::Relaxed));
        }
        // Those that were asked for most stay, so that who asks for eight of its own pushes out one and not all.
        let mut others: Vec<&Arc<Answer>> = known.iter().filter(|known| !known.terms.is_for(fields)).collect();
        others.sort_by_key(|other| std::cmp::Reverse(other.uses.load(Ordering::Relaxed)));
        let mut variants = vec![Arc::new(answer)];
        for other in others.into_iter().take(MOST_VARIANTS - 1) {
            bytes += other.bytes();
            if bytes > most {
                break;
            }
            variants.push(Arc::clone(other));
        }
        self.entries.insert(key.clone(), variants.into());
        self.kept.inc();
        self.bytes.set(self.weight());
    }

    /// Ends what is kept, and after a write also what is on its way.
    pub(super) fn remove(&self, key: &Key, is_written: bool) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let was_there = self.entries.remove(key).is_some();
        // A flood of reads of what is not there must not end what others are about to be given.
        if is_written || was_there {
            self.place(key).fetch_add(1, Ordering::AcqRel);
        }
        if was_there {
            self.bytes.set(self.weight());
        }
    }

    /// Ends everything: an upstream is another one now.
    pub fn clear(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for place in &self.ends {
            place.fetch_add(1, Ordering::AcqRel);
        }
        self.entries.clear();
        self.bytes.set(self.weight());
    }

    fn place(&self, key: &Key) -> &AtomicU64 {
        &self.ends[(self.hasher.hash_one(key) as usize) % PLACES]
    }

    pub(super) fn weight(&self) -> i64 {
        i64::try_from(self.entries.weight()).unwrap_or(i64::MAX)
    }
}
