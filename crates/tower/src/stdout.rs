//! Log lines on their way to standard output, written by a thread of their own.
//!
//! The default sink of a [`crate::Standing`]. Requests hand a line over and go on; when the reader of the log is too slow,
//! lines are dropped, and the next line that is written says how many.
//!
//! Invariant: nothing waits for the log but its own thread, and at most [`WAITING_BYTES_MAX`] wait for it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_core::clock::rfc3339;
use portcullis_guards::access_log::LogSink;

use crate::clock::unix_millis;

/// Bytes of lines that may wait for the writer. A line of the access log has some 400.
pub(crate) const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the last owner of the sink waits for what is still to be written.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A sink whose lines are written by a thread.
pub(crate) struct Lines {
    /// `None` only while it is dropped.
    waiting: Option<Sender<Vec<u8>>>,
    load: Arc<Load>,
    is_done: Mutex<Receiver<()>>,
}

#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Lines {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Lines> {
        let (waiting, lines) = channel();
        let (done, is_done) = channel();
        let load = Arc::new(Load::default());
        let writers_load = Arc::clone(&load);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_all(&lines, &writers_load, out);
            // Nobody hears it where the process ends at once.
            let _ = done.send(());
        })?;
        Ok(Lines { waiting: Some(waiting), load, is_done: Mutex::new(is_done) })
    }
}

impl LogSink for Lines {
    fn line(&self, line: &[u8]) {
        let bytes = line.len() + 1;
        if self.load.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            self.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.load.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut owned = Vec::with_capacity(bytes);
        owned.extend_from_slice(line);
        owned.push(b'\n');
        if let Some(waiting) = &self.waiting {
            // The writer ends before its senders only by a panic; then there is nowhere left to say so.
            let _ = waiting.send(owned);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.waiting.take());
        let is_done = self.is_done.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that has stopped reading must not keep the process.
        let _ = is_done.recv_timeout(LAST_WAIT);
    }
}

fn write_all(lines: &Receiver<Vec<u8>>, load: &Load, mut out: impl Write) {
    while let Ok(first) = lines.recv() {
        let mut batch = first;
        while batch.len() < 64 * 1024 {
            match lines.try_recv() {
                Ok(line) => batch.extend_from_slice(&line),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        load.bytes.fetch_sub(batch.len(), Ordering::Relaxed);
        let dropped = load.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let time = rfc3339(unix_millis());
            let time = String::from_utf8_lossy(&time);
            let line = format!(
                "{{\"time\":\"{time}\",\"level\":\"warn\",\"msg\":\"log_lines_dropped\",\"lines\":{dropped}}}\n"
            );
            batch.extend_from_slice(line.as_bytes());
        }
        // A reader that went away (a closed pipe) must not end the service; there is nowhere left to say so.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells of every write, and takes nothing until it is let go.
    struct Slow {
        go: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            // An error: the sender is gone, and nothing holds the writer back any more.
            let _ = self.go.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Lines, Sender<()>, Receiver<Vec<u8>>) {
        let (written, seen) = channel();
        let (go, held) = channel();
        (Lines::start(Slow { go: held, written }).unwrap(), go, seen)
    }

    #[test]
    fn lines_are_written_whole_and_before_the_sink_is_gone() {
        let (lines, go, seen) = start();
        drop(go);
        lines.line(b"one");
        lines.line(b"two");
        drop(lines);
        assert_eq!(seen.try_iter().collect::<Vec<_>>().concat(), b"one\ntwo\n");
    }

    #[test]
    fn a_slow_reader_costs_lines_and_is_told_how_many() {
        let (lines, go, seen) = start();
        lines.line(b"held");
        assert_eq!(seen.recv().unwrap(), b"held\n");
        // The writer is busy. Three of these fit, and their ends make the fourth too many.
        for _ in 0..8 {
            lines.line(&vec![b'x'; WAITING_BYTES_MAX / 4]);
        }
        assert!(lines.load.bytes.load(Ordering::Relaxed) <= WAITING_BYTES_MAX);
        drop(go);
        drop(lines);
        let text = String::from_utf8(seen.try_iter().collect::<Vec<_>>().concat()).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with('x')).count(), 3);
        assert!(text.contains("\"msg\":\"log_lines_dropped\",\"lines\":5}"), "no word of what was dropped");
    }
}
