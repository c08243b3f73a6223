//! The register: every network that is banned or was, kept in memory, asked on every request, and written down by others.
//!
//! Requests ask the [`Table`]; everything else happens under one lock, which no request takes. What changed is marked, and
//! whoever keeps the store (the gateway) fetches the marks with [`Bans::changes`] and puts back what it could not write, so
//! nothing is lost while a store is down and no queue grows: a network is marked once, however often it changes.
//!
//! In the process a ban ends by the monotonic clock, so a step of the wall clock neither frees nor holds anybody. Across
//! processes there is only the wall clock; a ban that is read back lasts at most as long as it was meant to last in all.
//!
//! Invariant: at most `most_bans` networks are known; a network that holds a trusted proxy is never banned.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_core::units::Cidr;
use portcullis_store::bans::{Ban, Ending, Origin, Record};

use super::book::{Book, Entry, Remembers, cut, cut_to, gauge, left_of, millis, network_around};
use super::config::Rules;
use super::metrics::OfBans;
use super::table::{Hit, Table};

const PRUNE_EVERY_NANOS: u64 = 60_000_000_000;

/// All bans of the process. Outlives every reload.
pub struct Bans {
    table: Table,
    book: Mutex<Book>,
    rules: ArcSwap<Rules>,
    metrics: OfBans,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A ban to be placed.
#[derive(Clone, Debug)]
pub struct Order {
    /// Of which network.
    pub network: Cidr,
    /// Who wants it.
    pub origin: Origin,
    /// Why. Cut to what is kept; control characters become spaces.
    pub reason: String,
    /// For how long; `None` until somebody lifts it. What the gateway places itself grows by the ladder.
    pub time: Option<Duration>,
}

/// Why a ban was not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPlaced {
    /// No room.
    #[error("the list is full of bans that hold (ip_block.most_bans)")]
    Full,
    /// A trusted proxy is in it: everybody behind it would be kept out, or a ban would look as if it held and not hold.
    #[error("a trusted proxy is in this network (trusted_proxies)")]
    TrustedProxy,
    /// The operator allows it.
    #[error("the network is on the allow list (ip_block.allow), which beats every ban")]
    Allowed,
    /// It is every address there is.
    #[error("this network is everybody")]
    Everybody,
}

/// One thing that happened, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `banned`, `ban_lifted`, `ban_expired` or `ban_not_placed`.
    pub what: &'static str,
    /// To which network.
    pub network: Cidr,
    /// By whom.
    pub origin: Origin,
    /// Why it was banned, or not.
    pub reason: String,
    /// Until when, in milliseconds since 1970.
    pub until_unix_millis: Option<u64>,
}

/// What is known of one network, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The record.
    pub record: Record,
    /// How long the ban that holds still lasts; `None` without a ban, or for one without end.
    pub left: Option<Duration>,
}

/// What must be written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Records as they are now.
    pub records: Vec<Record>,
    /// Networks that were forgotten.
    pub forgotten: Vec<Cidr>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.forgotten.is_empty()
    }
}

impl Bans {
    /// An empty register.
    #[must_use]
    pub fn new(metrics: &Registry) -> Bans {
        Bans {
            table: Table::default(),
            book: Mutex::default(),
            rules: ArcSwap::from_pointee(Rules::default()),
            metrics: OfBans::new(metrics),
            wake: OnceLock::new(),
        }
    }

    /// Whom to wake when something changed. Only the first one is kept.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second one would be a second keeper of the same store.
        let _ = self.wake.set(Box::new(wake));
    }

    /// From now on bans are placed by these rules. Bans that hold go on.
    pub(super) fn adopt(&self, rules: &Arc<Rules>) {
        self.rules.store(Arc::clone(rules));
    }

    /// The network that stands for one client: its address, or for IPv6 its group.
    #[must_use]
    pub fn client_network(&self, address: IpAddr) -> Cidr {
        network_around(address, self.rules.load().ipv6_prefix)
    }

    /// The wider network around an IPv6 client, where there is such a thing, and how many of its networks make it.
    pub(crate) fn wider(&self, address: IpAddr) -> Option<(Cidr, u32)> {
        let wide = self.rules.load().wide?;
        address.is_ipv6().then(|| (network_around(address, wide.prefix), wide.networks))
    }

    /// Whether failures of this client are nobody's business: it is allowed, or it is a trusted proxy.
    pub(crate) fn is_exempt(&self, address: IpAddr) -> bool {
        let rules = self.rules.load();
        rules.allow.contains(address) || rules.trusted.contains(address)
    }

    /// The ban that holds for `address`, if one does.
    #[inline]
    pub(super) fn find(&self, address: IpAddr, now: &Now) -> Option<Hit> {
        self.table.find(address, now.monotonic_nanos)
    }

    /// Grows each time a ban of this network ends, so that counting begins anew after it.
    pub(crate) fn epoch(&self, network: &Cidr) -> u64 {
        let book = self.lock();
        book.known.get(network).and_then(|entry| entry.record.past.last()).map_or(0, |past| past.ended_unix_millis)
    }

    /// Places a ban. One of the gateway's own inside a ban that holds changes nothing; a person's takes the place of any.
    ///
    /// # Errors
    /// [`NotPlaced`]; counted, and told in the log.
    pub fn add(&self, order: Order, now: &Now) -> Result<Known, NotPlaced> {
        let rules = self.rules.load_full();
        let mut book = self.lock();
        self.end_what_is_over(&mut book, now);
        let placed = self.place(&mut book, &rules, &order, now);
        let placed = match placed {
            Ok(known) => {
                self.widen(&mut book, &rules, &order, now);
                Ok(known)
            }
            Err(why) => {
                self.metrics.not_placed(why);
                book.tell("ban_not_placed", order.network, order.origin, why.to_string(), None);
                Err(why)
            }
        };
        drop(book);
        self.wake();
        placed
    }

    fn place(&self, book: &mut Book, rules: &Rules, order: &Order, now: &Now) -> Result<Known, NotPlaced> {
        let network = order.network;
        if network.prefix() == 0 {
            return Err(NotPlaced::Everybody);
        }
        if rules.trusted.overlaps(&network) {
            return Err(NotPlaced::TrustedProxy);
        }
        if rules.allow.covers(&network) {
            return Err(NotPlaced::Allowed);
        }
        let is_own = order.origin != Origin::Operator;
        if is_own
            && let Some(hit) = self.find(network.address(), now).filter(|hit| hit.network.prefix() <= network.prefix())
        {
            let known = book.known.get(&hit.network).ok_or(NotPlaced::Full)?;
            return Ok(known.seen(now));
        }
        if !book.known.contains_key(&network) && book.known.len() >= rules.most && !book.make_room() {
            return Err(NotPlaced::Full);
        }
        let entry = book
            .known
            .entry(network)
            .or_insert_with(|| Entry { record: Record { network, ban: None, past: Vec::new() }, until_nanos: None });
        let time = match order.time {
            Some(asked) if is_own => Some(rules.ladder.time(&entry.record.past, asked, now.unix_millis)),
            time => time,
        };
        if let Some(before) = entry.record.ban.take() {
            entry.record.past(before, now.unix_millis, Ending::Replaced);
        } else {
            book.active += 1;
        }
        let until_unix_millis = time.map(|time| now.unix_millis.saturating_add(millis(time)));
        let reason = cut(&order.reason);
        entry.until_nanos = time.map(|time| now.after(time));
        entry.record.ban = Some(Ban {
            origin: order.origin,
            reason: reason.clone(),
            since_unix_millis: now.unix_millis,
            until_unix_millis,
        });
        self.table.insert(&network, entry.until_nanos, &mut book.lengths);
        if let Some(until) = entry.until_nanos {
            book.next_end_nanos = book.next_end_nanos.min(until);
        }
        let known = entry.seen(now);
        book.forgotten.remove(&network);
        book.changed.insert(network);
        book.tell("banned", network, order.origin, reason, until_unix_millis);
        self.metrics.placed(order.origin);
        self.metrics.active.set(gauge(book.active));
        Ok(known)
    }

    /// Bans the wider network when enough of its networks were banned.
    fn widen(&self, book: &mut Book, rules: &Rules, order: &Order, now: &Now) {
        let Some(wide) = rules.wide.filter(|_| order.origin == Origin::LoginWatch) else { return };
        if !order.network.address().is_ipv6() || order.network.prefix() <= wide.prefix {
            return;
        }
        let around = network_around(order.network.address(), wide.prefix);
        let earliest = now.unix_millis.saturating_sub(millis(wide.within));
        let counts = |ban: &Ban, is_mistake: bool| {
            !is_mistake && ban.origin == Origin::LoginWatch && ban.since_unix_millis >= earliest
        };
        // Networks are in order, so those inside stand behind its first address.
        let inside = book.known.range(around..).take_while(|(network, _)| around.contains(network.address()));
        let banned = inside.filter(|(network, entry)| {
            let record = &entry.record;
            network.prefix() > wide.prefix
                && (record.ban.as_ref().is_some_and(|ban| counts(ban, false))
                    || record.past.iter().any(|past| counts(&past.ban, past.ending == Ending::Lifted)))
        });
        if banned.count() < wide.networks as usize {
            return;
        }
        let reason = format!("{} networks inside were banned", wide.networks);
        let wider = Order { network: around, origin: Origin::WiderNetwork, reason, time: order.time };
        if let Err(why) = self.place(book, rules, &wider, now) {
            self.metrics.not_placed(why);
            book.tell("ban_not_placed", around, wider.origin, why.to_string(), None);
        }
    }

    /// Lifts the ban of exactly this network; `None` when it is not banned.
    pub fn remove(&self, network: &Cidr, now: &Now) -> Option<Known> {
        let mut book = self.lock();
        self.end_what_is_over(&mut book, now);
        let known = self.end(&mut book, network, now.unix_millis, Ending::Lifted, now);
        drop(book);
        self.wake();
        known
    }

    fn end(&self, book: &mut Book, network: &Cidr, at: u64, ending: Ending, now: &Now) -> Option<Known> {
        let entry = book.known.get_mut(network)?;
        let ban = entry.record.ban.take()?;
        entry.until_nanos = None;
        let (origin, reason) = (ban.origin, ban.reason.clone());
        entry.record.past(ban, at, ending);
        let known = entry.seen(now);
        self.table.remove(network, &mut book.lengths);
        book.active -= 1;
        book.changed.insert(*network);
        let what = if ending == Ending::Lifted { "ban_lifted" } else { "ban_expired" };
        book.tell(what, *network, origin, reason, None);
        self.metrics.active.set(gauge(book.active));
        Some(known)
    }

    /// What is known of exactly this network.
    #[must_use]
    pub fn show(&self, network: &Cidr, now: &Now) -> Option<Known> {
        let mut book = self.lock();
        self.end_what_is_over(&mut book, now);
        book.known.get(network).map(|entry| entry.seen(now))
    }

    /// The networks that are banned and hold all of `network`, the widest first.
    #[must_use]
    pub fn around(&self, network: &Cidr, now: &Now) -> Vec<Known> {
        let mut book = self.lock();
        self.end_what_is_over(&mut book, now);
        let wider = (0..=network.prefix()).filter_map(|prefix| book.known.get(&cut_to(network.address(), prefix)));
        wider.filter(|entry| entry.record.ban.is_some()).map(|entry| entry.seen(now)).collect()
    }

    /// Up to `most` networks behind `after` in their order; those that are banned, or all that are remembered.
    #[must_use]
    pub fn list(&self, after: Option<&Cidr>, most: usize, with_past: bool, now: &Now) -> Vec<Known> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut book = self.lock();
        self.end_what_is_over(&mut book, now);
        let behind = (after.map_or(Unbounded, |after| Excluded(*after)), Unbounded);
        let wanted = book.known.range(behind).filter(|(_, entry)| with_past || entry.record.ban.is_some());
        wanted.take(most).map(|(_, entry)| entry.seen(now)).collect()
    }

    /// Takes in what a store remembers. Called once, before anything is served.
    pub fn load(&self, records: Vec<Record>, now: &Now) {
        let mut book = self.lock();
        for mut record in records {
            let network = record.network;
            let mut until_nanos = None;
            if let Some(ban) = record.ban.take() {
                match left_of(&ban, now) {
                    Some(0) => {
                        let at = ban.until_unix_millis.unwrap_or(now.unix_millis);
                        record.past(ban, at, Ending::Expired);
                    }
                    left => {
                        until_nanos = left.map(|left| now.after(Duration::from_millis(left)));
                        record.ban = Some(ban);
                        book.active += 1;
                        self.table.insert(&network, until_nanos, &mut book.lengths);
                    }
                }
            }
            book.known.insert(network, Entry { record, until_nanos });
        }
        book.next_end_nanos = 0;
        self.metrics.active.set(gauge(book.active));
    }

    /// Housekeeping, once a second: ends what is over, forgets what is old, follows a wall clock that was stepped.
    pub fn tick(&self, now: &Now) {
        let mut book = self.lock();
        self.end_what_is_over(&mut book, now);
        book.follow_the_wall_clock(now);
        if now.monotonic_nanos >= book.next_prune_nanos {
            book.next_prune_nanos = now.monotonic_nanos.saturating_add(PRUNE_EVERY_NANOS);
            let rules = self.rules.load();
            book.forget_what_is_old(now.unix_millis.saturating_sub(millis(rules.ladder.repeat_within)));
        }
        let has_changes = !book.changed.is_empty() || !book.forgotten.is_empty() || !book.events.is_empty();
        drop(book);
        if has_changes {
            self.wake();
        }
    }

    fn end_what_is_over(&self, book: &mut Book, now: &Now) {
        if now.monotonic_nanos < book.next_end_nanos {
            return;
        }
        let is_over = |entry: &Entry| entry.until_nanos.is_some_and(|until| until <= now.monotonic_nanos);
        let over: Vec<(Cidr, Option<u64>)> = book
            .known
            .iter()
            .filter(|(_, entry)| is_over(entry))
            .map(|(network, entry)| (*network, entry.record.ban.as_ref().and_then(|ban| ban.until_unix_millis)))
            .collect();
        for (network, until) in over {
            self.end(book, &network, until.unwrap_or(now.unix_millis), Ending::Expired, now);
        }
        book.next_end_nanos = book.known.values().filter_map(|entry| entry.until_nanos).min().unwrap_or(u64::MAX);
    }

    /// Up to `most` networks that changed since they were last fetched.
    #[must_use]
    pub fn changes(&self, most: usize) -> Changes {
        let mut book = self.lock();
        let mut changes = Changes::default();
        while changes.records.len() < most
            && let Some(network) = book.changed.pop_first()
        {
            changes.records.extend(book.known.get(&network).map(|entry| entry.record.clone()));
        }
        while changes.forgotten.len() < most
            && let Some(network) = book.forgotten.pop_first()
        {
            changes.forgotten.push(network);
        }
        changes
    }

    /// Marks as changed what could not be written.
    pub fn put_back(&self, changes: &Changes) {
        let mut book = self.lock();
        for record in &changes.records {
            if book.known.contains_key(&record.network) {
                book.changed.insert(record.network);
            }
        }
        for network in &changes.forgotten {
            if !book.known.contains_key(network) {
                book.forgotten.insert(*network);
            }
        }
    }

    /// What happened since the last call.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.drain(..).collect()
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic inside leaves at worst a ban that is in the book and not in the table; better than to stop banning.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
