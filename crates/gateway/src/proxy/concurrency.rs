//! How many requests an upstream has at once, over all cores, and the short line of those who wait for a place.
//!
//! With room and nobody waiting, a place costs one compare-and-swap to take and one to give back; the lock is for the
//! line. A place that is given back while somebody waits goes to them and is never free in between.
//!
//! Who is next: the one who has waited longest, as long as the line is a burst. Where the newest joined more than a
//! quarter of the timeout after the oldest, the line stands: then the newest is next. In a line that stands, serving the
//! oldest first would make everybody wait the whole line, and hand answers to clients who have just given up; newest
//! first serves as many, at once, and lets the line's end hear 503 at its timeout ("adaptive LIFO", ADR 10).
//!
//! Invariant: places taken never exceed `most`; a waiter that leaves, for whatever reason, leaves no place taken.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use portcullis_core::clock::nanos;
use portcullis_core::metric::{Counter, Declaration, Gauge, Kind, Label, Registry, Values};
use portcullis_guards::exchange::Exchange;
use portcullis_guards::overload::metrics::SHED;
use portcullis_guards::request_path::Ground;

use super::upstream::Upstream;
use crate::config::Config;
use crate::config::concurrency::Bounds;

const UPSTREAM: Label = Label { name: "upstream", values: Values::Configured("names of upstreams") };

/// Requests at an upstream.
pub static IN_FLIGHT: Declaration = Declaration {
    name: "overload_upstream_requests_in_flight",
    kind: Kind::Gauge,
    help: "Requests that an upstream has at the moment, retries included; as of the scrape",
    labels: &[UPSTREAM],
};

/// Requests that wait for an upstream.
pub static QUEUE_LENGTH: Declaration = Declaration {
    name: "overload_queue_length",
    kind: Kind::Gauge,
    help: "Requests that wait for a place at an upstream; as of the scrape",
    labels: &[UPSTREAM],
};

const ONE_WAITING: u64 = 1 << 32;

/// The places at one upstream.
pub struct Concurrency {
    /// What it was made from; equal bounds keep it over a reload.
    pub bounds: Bounds,
    /// Places taken in the low half, requests in the line in the high half. The high half changes under the lock only.
    word: AtomicU64,
    line: Mutex<Line>,
    meter: Meter,
}

#[derive(Default)]
struct Line {
    /// By the order in which they joined. Whoever is not in it any more has been given a place.
    waiting: BTreeMap<u64, Waiter>,
    next: u64,
}

struct Waiter {
    joined_nanos: u64,
    waker: Option<Waker>,
}

struct Meter {
    in_flight: Gauge,
    queue_length: Gauge,
    full: Counter,
    timeout: Counter,
}

/// A place at the upstream. Dropped, it is the next one's.
#[must_use = "a place that is dropped is somebody else's"]
pub struct Place(Arc<Concurrency>);

/// Why there was no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The line was full.
    Full,
    /// It took too long.
    Timeout,
}

impl Shed {
    /// The rule in the trail and the label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Shed::Full => "queue_full",
            Shed::Timeout => "queue_timeout",
        }
    }
}

/// Whether the newest of a line is next, given when its oldest and its newest joined.
fn is_newest_next(oldest_nanos: u64, newest_nanos: u64, timeout_nanos: u64) -> bool {
    newest_nanos.saturating_sub(oldest_nanos) > timeout_nanos / 4
}

impl Concurrency {
    /// All places free.
    #[must_use]
    pub fn new(upstream: &str, bounds: Bounds, metrics: &Registry) -> Concurrency {
        Concurrency {
            bounds,
            word: AtomicU64::new(0),
            line: Mutex::default(),
            meter: Meter {
                in_flight: metrics.gauge(&IN_FLIGHT, &[upstream]),
                queue_length: metrics.gauge(&QUEUE_LENGTH, &[upstream]),
                full: metrics.counter(&SHED, &[Shed::Full.name()]),
                timeout: metrics.counter(&SHED, &[Shed::Timeout.name()]),
            },
        }
    }

    /// A place, at once or after a wait that began at `now_nanos`.
    ///
    /// # Errors
    /// [`Shed`], counted.
    pub async fn enter(self: &Arc<Self>, now_nanos: u64) -> Result<Place, Shed> {
        if self.try_enter() {
            return Ok(Place(Arc::clone(self)));
        }
        let Some(waiting) = self.join(now_nanos) else {
            self.meter.full.inc();
            return Err(Shed::Full);
        };
        let place = match waiting {
            Joined::Place(place) => return Ok(place),
            Joined::Line(waiting) => tokio::time::timeout(self.bounds.timeout, waiting).await,
        };
        place.map_err(|_| {
            self.meter.timeout.inc();
            Shed::Timeout
        })
    }

    /// Shows how things are on the gauges.
    pub fn show(&self) {
        let (in_flight, waiting) = halves(self.word.load(Ordering::Relaxed));
        self.meter.in_flight.set(in_flight.into());
        self.meter.queue_length.set(waiting.into());
    }

    /// Requests at the upstream, and in the line.
    #[cfg(test)]
    pub fn now(&self) -> (u32, u32) {
        halves(self.word.load(Ordering::Relaxed))
    }

    fn try_enter(&self) -> bool {
        self.update(|word| {
            let (in_flight, waiting) = halves(word);
            // Nobody overtakes the line.
            (waiting == 0 && in_flight < self.bounds.most).then_some(word + 1)
        })
    }

    fn join(self: &Arc<Self>, now_nanos: u64) -> Option<Joined> {
        let mut line = self.lock();
        // Under the lock: a place that is given back now either is seen here, or sees us.
        if self.update(|word| (halves(word).0 < self.bounds.most).then_some(word + 1)) {
            return Some(Joined::Place(Place(Arc::clone(self))));
        }
        if line.waiting.len() >= self.bounds.queue as usize {
            return None;
        }
        let joined = self.update(|word| (halves(word).0 >= self.bounds.most).then_some(word + ONE_WAITING));
        if !joined {
            // A place was given back between the two looks.
            drop(line);
            return self.join(now_nanos);
        }
        let ticket = line.next;
        line.next += 1;
        line.waiting.insert(ticket, Waiter { joined_nanos: now_nanos, waker: None });
        Some(Joined::Line(Waiting { concurrency: Some(Arc::clone(self)), ticket }))
    }

    /// Gives a place back, or on.
    fn leave(&self) {
        if self.update(|word| (halves(word).1 == 0).then(|| word - 1)) {
            return;
        }
        let mut line = self.lock();
        match line.take_next(nanos(self.bounds.timeout)) {
            Some(waiter) => {
                self.word.fetch_sub(ONE_WAITING, Ordering::AcqRel);
                drop(line);
                if let Some(waker) = waiter.waker {
                    waker.wake();
                }
            }
            // The last of them has left meanwhile.
            None => {
                self.word.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }

    /// The line is whole at every moment at which the lock can be given up.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The places at every upstream of one config.
pub struct Places {
    by_name: BTreeMap<Arc<str>, Arc<Concurrency>>,
    by_route: Box<[Arc<Concurrency>]>,
}

impl Places {
    /// Those of `config`, whose routes end at `upstreams`. Where the bounds are as in `previous`, they are the same
    /// places, with whoever is there.
    #[must_use]
    pub fn new(config: &Config, upstreams: &[Arc<Upstream>], ground: &Ground, previous: Option<&Places>) -> Places {
        let made = config.upstreams.iter().map(|(name, upstream)| {
            let bounds = upstream.concurrency.filled();
            let kept = previous.and_then(|previous| previous.by_name.get(name.as_str()));
            let kept = kept.filter(|kept| kept.bounds == bounds).cloned();
            let places = kept.unwrap_or_else(|| Arc::new(Concurrency::new(name, bounds, &ground.metrics)));
            (Arc::from(name.as_str()), places)
        });
        let by_name: BTreeMap<Arc<str>, _> = made.collect();
        let by_route = upstreams.iter().filter_map(|upstream| by_name.get(&upstream.name).cloned()).collect();
        Places { by_name, by_route }
    }

    /// The places at the upstream of this exchange.
    #[must_use]
    pub fn of(&self, exchange: &Exchange) -> Option<&Arc<Concurrency>> {
        exchange.route_index().and_then(|index| self.by_route.get(index))
    }

    /// Shows how things are on the gauges.
    pub fn show(&self) {
        self.by_name.values().for_each(|places| places.show());
    }
}

fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

impl Line {
    fn take_next(&mut self, timeout_nanos: u64) -> Option<Waiter> {
        let oldest = self.waiting.first_key_value()?.1.joined_nanos;
        let newest = self.waiting.last_key_value()?.1.joined_nanos;
        let next = if is_newest_next(oldest, newest, timeout_nanos) {
            self.waiting.pop_last()
        } else {
            self.waiting.pop_first()
        };
        next.map(|(_, waiter)| waiter)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

enum Joined {
    Place(Place),
    Line(Waiting),
}

/// Somebody in the line. Dropped, they have left it.
struct Waiting {
    /// `None` once the place was handed over.
    concurrency: Option<Arc<Concurrency>>,
    ticket: u64,
}

impl Future for Waiting {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Place> {
        let ticket = self.ticket;
        let concurrency = self.concurrency.take().expect("a future is not polled after it was ready");
        let mut line = concurrency.lock();
        match line.waiting.get_mut(&ticket) {
            Some(waiter) => {
                waiter.waker = Some(context.waker().clone());
                drop(line);
                self.concurrency = Some(concurrency);
                Poll::Pending
            }
            None => {
                drop(line);
                Poll::Ready(Place(concurrency))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(concurrency) = self.concurrency.take() else { return };
        let mut line = concurrency.lock();
        if line.waiting.remove(&self.ticket).is_some() {
            concurrency.word.fetch_sub(ONE_WAITING, Ordering::AcqRel);
        } else {
            // The place came too late for this one.
            drop(line);
            drop(Place(concurrency));
        }
    }
}

#[cfg(test)]
mod tests;
