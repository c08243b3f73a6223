//! The threads that hash passwords: so many at once and no more, and a queue in front of them that is bounded too.
//!
//! Each thread owns its memory (19 MiB by default) and works on one password at a time. A client that hangs up drops its end
//! of the answer and nothing else, so hanging up never lets more hashes run than there are threads; a job whose client is gone
//! before it was begun is passed over. The threads have a lower priority than those that serve requests.
//!
//! Invariant: at most as many hashes run as there are threads, at most as many wait as the queue has places; who comes to a
//! full queue is told so at once.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_core::secret::Secret;
use portcullis_store::accounts::Hash;
use tokio::sync::oneshot;

use crate::password::{self, Cost, Memory, NotHashed};

/// How much lower the priority of the threads is (nice(2)).
const NICE: i32 = 10;

/// Threads that hash.
pub struct Hashers {
    jobs: SyncSender<Job>,
    cost: Cost,
}

enum Job {
    Hash { password: Secret, answer: oneshot::Sender<Result<Hash, NotHashed>> },
    Check { password: Secret, hash: Hash, answer: oneshot::Sender<bool> },
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// As many wait as may.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The process ends, or has no randomness.
    #[error("passwords cannot be hashed")]
    Failed,
}

impl Hashers {
    /// Starts `threads` of them (at least one), before which `waiting` may wait.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(threads: usize, waiting: usize, cost: Cost) -> io::Result<Hashers> {
        let (jobs, queue) = sync_channel(waiting);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let name = format!("hash-{number}");
            std::thread::Builder::new().name(name).spawn(move || {
                // In Linux this is the thread's own priority. Without it the thread works as well.
                let _ = rustix::process::nice(NICE);
                work(&queue, cost);
            })?;
        }
        Ok(Hashers { jobs, cost })
    }

    /// What a new hash costs.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Hashes a normalised password.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub async fn hash(&self, password: Secret) -> Result<Hash, NoAnswer> {
        let (answer, heard) = oneshot::channel();
        self.send(Job::Hash { password, answer })?;
        heard.await.map_err(|_| NoAnswer::Failed)?.map_err(|_| NoAnswer::Failed)
    }

    /// Whether a normalised password is the one that `hash` was made of. A hash that cannot be used is nobody's.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub async fn is_password(&self, password: Secret, hash: Hash) -> Result<bool, NoAnswer> {
        let (answer, heard) = oneshot::channel();
        self.send(Job::Check { password, hash, answer })?;
        heard.await.map_err(|_| NoAnswer::Failed)
    }

    fn send(&self, job: Job) -> Result<(), NoAnswer> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::Busy,
            TrySendError::Disconnected(_) => NoAnswer::Failed,
        })
    }
}

/// One thread's life: ends when nobody can send a job any more.
fn work(queue: &Mutex<Receiver<Job>>, cost: Cost) {
    let mut memory = Memory::default();
    loop {
        // The lock is held while waiting for a job, never while hashing.
        let Ok(job) = queue.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
        match job {
            Job::Hash { password, answer } if !answer.is_closed() => {
                let _ = answer.send(password::hash(&password, cost, &mut memory));
            }
            Job::Check { password, hash, answer } if !answer.is_closed() => {
                let _ = answer.send(password::is_password(&password, &hash, &mut memory).unwrap_or(false));
            }
            // Nobody waits for it any more.
            Job::Hash { .. } | Job::Check { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const QUICK: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_was_hashed_is_known_again() {
        let hashers = Hashers::start(2, 4, QUICK).unwrap();
        wait(async {
            let hash = hashers.hash(Secret::from("a long enough password")).await.unwrap();
            assert_eq!(hashers.is_password(Secret::from("a long enough password"), hash.clone()).await, Ok(true));
            assert_eq!(hashers.is_password(Secret::from("another"), hash).await, Ok(false));
            let foreign = Hash("not a hash".to_owned());
            assert_eq!(hashers.is_password(Secret::from("another"), foreign).await, Ok(false));
        });
    }

    /// Row 111: the queue is bounded, and who hangs up frees a place in it only when a thread has come by, never a thread.
    #[test]
    fn row_111_who_comes_to_a_full_queue_is_told_at_once_and_hanging_up_runs_no_more_hashes() {
        // The receiver is held by the test, so no thread takes anything: the queue is what is looked at.
        let (jobs, queue) = sync_channel(3);
        let hashers = Hashers { jobs, cost: QUICK };
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut hung_up = pin!(hashers.hash(Secret::from("password")));
            assert!(hung_up.as_mut().poll(&mut context).is_pending());
        }
        let mut refused = pin!(hashers.hash(Secret::from("password")));
        assert_eq!(refused.as_mut().poll(&mut context), Poll::Ready(Err(NoAnswer::Busy)));
        // A thread that comes now finds three jobs whose clients are gone, and hashes none of them.
        let left: Vec<Job> = queue.try_iter().collect();
        assert!(
            left.len() == 3 && left.iter().all(|job| matches!(job, Job::Hash { answer, .. } if answer.is_closed()))
        );
        drop(queue);
        assert_eq!(wait(hashers.hash(Secret::from("password"))), Err(NoAnswer::Failed));
    }
}
