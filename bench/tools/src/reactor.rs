//! A thin, level-triggered epoll loop: the least that can be put between a socket and the kernel.
//!
//! tokio would do, but it costs about as much per request as the upstream's own work, and the upstream and the
//! generators share one core; the cheaper they are, the likelier the proxy is the part that is saturated.
//!
//! Invariant: interest is in reading only. A request or an answer is smaller than an empty socket buffer,
//! so a write that would block is an error of the harness and is reported as one.
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

/// Most events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 256;

/// An epoll instance and the tokens it last reported.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Reactor {
    /// Creates an empty reactor.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll instance")?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_AT_ONCE) })
    }

    /// Reports `token` whenever `source` can be read (or was closed).
    pub(crate) fn add(&self, source: impl AsFd, token: usize) -> anyhow::Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(token as u64), EventFlags::IN)
            .context("adding a socket to epoll")
    }

    /// Waits for events, at most `limit` (`None`: for ever), and fills `ready` with their tokens.
    ///
    /// The limit has nanosecond resolution (`epoll_pwait2`, Linux 5.11), which an open-loop schedule needs.
    pub(crate) fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<usize>) -> anyhow::Result<()> {
        ready.clear();
        self.events.clear();
        let limit = limit.map(Timespec::try_from).transpose().context("a waiting time beyond all bounds")?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("waiting for events"),
        }
        for event in &self.events {
            let data = event.data;
            ready.push(data.u64() as usize);
        }
        Ok(())
    }
}
