//! The log: one line an event on standard output, written by a thread of its own.
//!
//! Each core collects lines in its own buffer and hands them over when it is full or at the next sweep, so a slow reader
//! of the log never slows a request. When the writer cannot keep up, whole buffers are dropped and counted.
//!
//! Invariant: nothing waits for the log but its own thread; memory is bounded by [`BUFFER_BYTES`] times [`MOST_BUFFERS`].

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use portcullis_core::clock::{Clock, rfc3339};
use portcullis_guards::access_log::LogSink;

use crate::clock::SystemClock;
use crate::config::LogFormat;

/// A core's buffer is handed over at this size.
pub const BUFFER_BYTES: usize = 32 * 1024;
/// Buffers that may wait for the writer.
pub const MOST_BUFFERS: usize = 256;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

enum Order {
    Write(Vec<u8>),
    Stop,
}

/// The log of one process.
pub struct Log {
    clock: Arc<SystemClock>,
    format: LogFormat,
    orders: SyncSender<Order>,
    dropped_buffers: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// A log that writes to `out`.
    ///
    /// # Errors
    /// When the writer's thread cannot be started.
    pub fn start(clock: Arc<SystemClock>, format: LogFormat, out: Box<dyn Write + Send>) -> std::io::Result<Arc<Log>> {
        let (orders, waiting) = sync_channel(MOST_BUFFERS);
        let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&waiting, out))?;
        Ok(Arc::new(Log {
            clock,
            format,
            orders,
            dropped_buffers: AtomicU64::new(0),
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// How lines look.
    #[must_use]
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Writes one event that is not a request: start, reload, a fault of our own. `event` is a fixed word.
    pub fn event(&self, level: &str, event: &str, fields: &[(&str, &str)]) {
        let time = rfc3339(self.clock.now().unix_millis);
        let time = String::from_utf8_lossy(&time);
        let line = match self.format {
            LogFormat::Json => {
                let mut object = serde_json::Map::new();
                for (key, value) in [("time", &*time), ("level", level), ("msg", event)].iter().chain(fields) {
                    object.insert((*key).to_owned(), serde_json::Value::from(*value));
                }
                serde_json::Value::Object(object).to_string()
            }
            LogFormat::Text => {
                let mut line = format!("{time} {level:5} {event}");
                for (key, value) in fields {
                    line.push_str(&format!(" {key}={value:?}"));
                }
                line
            }
        };
        self.line(line.as_bytes());
        self.flush_this_core();
    }

    /// Hands this thread's lines to the writer.
    pub fn flush_this_core(&self) {
        LINES.with_borrow_mut(|lines| {
            if !lines.is_empty() {
                self.hand_over(std::mem::take(lines));
            }
        });
    }

    /// How many buffers were dropped because the writer could not keep up.
    #[must_use]
    pub fn dropped_buffers(&self) -> u64 {
        self.dropped_buffers.load(Ordering::Relaxed)
    }

    /// Writes what is waiting and ends the writer. Lines that come later are dropped.
    pub fn stop(&self) {
        self.flush_this_core();
        // The writer is gone only if it panicked; then there is nothing left to wait for.
        let _ = self.orders.send(Order::Stop);
        let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    fn hand_over(&self, lines: Vec<u8>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.orders.try_send(Order::Write(lines)) {
            self.dropped_buffers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogSink for Log {
    fn line(&self, line: &[u8]) {
        LINES.with_borrow_mut(|lines| {
            if lines.capacity() == 0 {
                lines.reserve_exact(BUFFER_BYTES + 4096);
            }
            lines.extend_from_slice(line);
            lines.push(b'\n');
            if lines.len() >= BUFFER_BYTES {
                self.hand_over(std::mem::take(lines));
            }
        });
    }
}

fn write_all(orders: &Receiver<Order>, mut out: Box<dyn Write + Send>) {
    while let Ok(Order::Write(lines)) = orders.recv() {
        // A reader that went away (a closed pipe) must not end the gateway; there is nowhere left to say so.
        let _ = out.write_all(&lines).and_then(|()| out.flush());
    }
}
