//! Follows the name of one target: looks it up again and again, and keeps the last answer for a while when that fails.
//!
//! The operating system's resolver is asked (hosts file, search list, whatever this machine uses); it blocks, so it runs on
//! a thread of its own. It tells no time to live, which is why the interval is configured.
//!
//! Invariant: one look-up of a name is on its way at a time, however long it takes.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use portcullis_core::clock::{Clock, nanos};
use tokio::sync::Semaphore;

use super::About;

/// Least time between two look-ups of a name, whoever wants one.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two look-ups while they fail.
const FAILING_PAUSE: Duration = Duration::from_secs(2);
/// After this long a look-up counts as failed, though its answer is still taken when it comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows the name until the task is ended.
pub(super) async fn follow(about: About, places: Rc<Semaphore>) {
    let mut follower = Follower { last_good_nanos: None, is_failing: false, about };
    loop {
        // Never closed: it lives as long as the tasks.
        let Ok(place) = places.acquire().await else { return };
        let place_of = (follower.about.target.place.host.clone(), follower.about.target.place.port);
        let mut asking = pin!(tokio::net::lookup_host(place_of));
        let answer = loop {
            match tokio::time::timeout(PATIENCE, &mut asking).await {
                Ok(answer) => break answer,
                Err(_) => follower.failed("no answer yet"),
            }
        };
        drop(place);
        match answer.map(Iterator::collect::<Vec<SocketAddr>>) {
            Ok(found) if !found.is_empty() => follower.found(found),
            Ok(_) => follower.failed("the name has no address"),
            Err(error) => follower.failed(&error.to_string()),
        }
        tokio::time::sleep(LEAST_PAUSE).await;
        let refresh = follower.about.upstream.dns.refresh;
        let pause = if follower.is_failing { refresh.min(FAILING_PAUSE) } else { refresh };
        tokio::select! {
            () = tokio::time::sleep(pause.saturating_sub(LEAST_PAUSE)) => {}
            () = follower.about.target.addresses.wanted.notified() => {}
        }
    }
}

struct Follower {
    about: About,
    /// When the last answer came.
    last_good_nanos: Option<u64>,
    is_failing: bool,
}

impl Follower {
    fn now_nanos(&self) -> u64 {
        self.about.gate.clock.now().monotonic_nanos
    }

    fn found(&mut self, found: Vec<SocketAddr>) {
        let About { upstream, target, .. } = &self.about;
        upstream.meter.found.inc();
        let is_first = self.last_good_nanos.replace(self.now_nanos()).is_none();
        let has_changed = target.addresses.settle(found);
        let count = target.addresses.known().addresses.len();
        target.meter.addresses.set(i64::try_from(count).unwrap_or(i64::MAX));
        if std::mem::take(&mut self.is_failing) {
            self.about.say("info", "lookup_recovered", "addresses", &count.to_string());
        } else if has_changed && !is_first {
            self.about.say("info", "addresses_changed", "addresses", &count.to_string());
        }
    }

    fn failed(&mut self, why: &str) {
        let About { upstream, target, .. } = &self.about;
        upstream.meter.lost.inc();
        if !std::mem::replace(&mut self.is_failing, true) {
            let kept = target.addresses.known().addresses.len();
            self.about.say(
                "warn",
                "lookup_failed",
                "why",
                &format!("{why}; the last {kept} address(es) are kept for now"),
            );
        }
        let keep_nanos = nanos(upstream.dns.keep);
        let is_too_old = self.last_good_nanos.is_none_or(|good| self.now_nanos().saturating_sub(good) >= keep_nanos);
        if is_too_old {
            let had_any = !target.addresses.known().addresses.is_empty();
            target.addresses.settle(Vec::new());
            target.meter.addresses.set(0);
            if had_any {
                self.about.say("error", "addresses_forgotten", "why", why);
            }
        }
    }
}
