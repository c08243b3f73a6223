//! The places and the line: order, bounds, leaving, and many threads at once.
//!
//! Invariant: no test sleeps; waits are polled by hand or end by their own short timeout.

use std::pin::pin;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::*;

fn places(most: u32, queue: u32) -> Arc<Concurrency> {
    let bounds = Bounds { most, queue, timeout: Duration::from_millis(1000) };
    Arc::new(Concurrency::new("app", bounds, &Registry::new("p")))
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A runtime for the timeout's timer; nothing in these tests waits for it.
fn with_timers(test: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _guard = runtime.enter();
    test();
}

const MS: u64 = 1_000_000;

/// Lets `count` requests join at these times, gives the places on one after the other, and tells who got them.
fn served(joined_ms: &[u64]) -> Vec<usize> {
    let places = places(1, 100);
    let mut order = Vec::new();
    with_timers(|| {
        let Poll::Ready(Ok(mut held)) = poll(pin!(places.enter(0))) else { panic!("the first has a place") };
        let mut line: Vec<_> = joined_ms.iter().map(|at| Some(Box::pin(places.enter(at * MS)))).collect();
        for waiting in line.iter_mut().flatten() {
            assert!(poll(waiting.as_mut()).is_pending());
        }
        for _ in joined_ms {
            drop(held);
            let next = line.iter_mut().enumerate().find_map(|(index, waiting)| {
                let Poll::Ready(Ok(place)) = poll(waiting.as_mut()?.as_mut()) else { return None };
                *waiting = None;
                Some((index, place))
            });
            let (index, place) = next.expect("somebody is next");
            order.push(index);
            held = place;
        }
        drop(held);
    });
    assert_eq!(places.now(), (0, 0));
    order
}

#[test]
fn a_burst_is_served_in_its_order() {
    assert_eq!(served(&[0, 1, 2, 3]), [0, 1, 2, 3]);
    assert_eq!(served(&[0, 250]), [0, 1], "a quarter of the timeout is still a burst");
}

#[test]
fn in_a_line_that_stands_the_newest_is_next() {
    assert_eq!(served(&[0, 300, 600, 900]), [3, 2, 1, 0]);
    // Once the newest are served, what is left is a burst again.
    assert_eq!(served(&[0, 100, 200, 900]), [3, 0, 1, 2]);
}

#[test]
fn a_full_line_refuses_at_once_and_nobody_overtakes_it() {
    let places = places(1, 1);
    with_timers(|| {
        let Poll::Ready(Ok(held)) = poll(pin!(places.enter(0))) else { panic!("the first has a place") };
        let mut second = Box::pin(places.enter(0));
        assert!(poll(second.as_mut()).is_pending());
        assert!(matches!(poll(pin!(places.enter(0))), Poll::Ready(Err(Shed::Full))));
        assert_eq!(places.now(), (1, 1));
        drop(held);
        // The place is the second's, who has not looked yet.
        assert_eq!(places.now(), (1, 0));
        let mut third = Box::pin(places.enter(0));
        assert!(poll(third.as_mut()).is_pending());
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
        drop(second);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Ok(_))));
    });
    assert_eq!(places.now(), (0, 0));
}

#[test]
fn without_a_queue_the_next_one_is_refused() {
    let places = places(1, 0);
    with_timers(|| {
        let Poll::Ready(Ok(_held)) = poll(pin!(places.enter(0))) else { panic!("the first has a place") };
        assert!(matches!(poll(pin!(places.enter(0))), Poll::Ready(Err(Shed::Full))));
    });
}

#[test]
fn whoever_leaves_the_line_leaves_nothing_behind() {
    let places = places(1, 3);
    with_timers(|| {
        let Poll::Ready(Ok(held)) = poll(pin!(places.enter(0))) else { panic!("the first has a place") };
        let mut line: Vec<_> = (0..3).map(|_| Box::pin(places.enter(0))).collect();
        for waiting in &mut line {
            assert!(poll(waiting.as_mut()).is_pending());
        }
        // One leaves while it waits, one after the place was already its own.
        drop(line.remove(1));
        assert_eq!(places.now(), (1, 2));
        drop(held);
        assert_eq!(places.now(), (1, 1));
        drop(line.remove(0));
        assert_eq!(places.now(), (1, 0), "the place went on to the last");
        assert!(matches!(poll(line[0].as_mut()), Poll::Ready(Ok(_))));
    });
    assert_eq!(places.now(), (0, 0));
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let bounds = Bounds { most: 1, queue: 5, timeout: Duration::from_millis(20) };
    let places = Arc::new(Concurrency::new("app", bounds, &Registry::new("p")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let _held = places.enter(0).await.expect("the first has a place");
        assert_eq!(places.enter(0).await.err(), Some(Shed::Timeout));
        assert_eq!(places.now(), (1, 0));
    });
}

#[test]
fn over_many_threads_there_are_never_more_than_there_are_places() {
    let places = places(3, 1000);
    let (inside, most, served) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (places, inside, most, served) = (Arc::clone(&places), &inside, &most, &served);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
                runtime.block_on(async {
                    let one = |index: u64| {
                        let places = Arc::clone(&places);
                        async move {
                            let entering = places.enter(index * MS);
                            if (index + thread).is_multiple_of(7) {
                                // Hangs up after one look.
                                let mut entering = pin!(entering);
                                std::future::poll_fn(|context| {
                                    let _ = entering.as_mut().poll(context);
                                    Poll::Ready(())
                                })
                                .await;
                                return;
                            }
                            let Ok(_place) = entering.await else { return };
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            served.fetch_add(1, Ordering::SeqCst);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    };
                    for round in 0..50 {
                        all((0..20).map(|index| Box::pin(one(round * 20 + index))).collect()).await;
                    }
                });
            });
        }
    });
    assert!((1..=3).contains(&most.into_inner()));
    assert_eq!(places.now(), (0, 0), "nothing is left taken or waiting");
    assert!(served.into_inner() > 2000);
}

/// Polls all until all are done.
async fn all<F: Future<Output = ()> + Unpin>(tasks: Vec<F>) {
    let mut tasks: Vec<Option<F>> = tasks.into_iter().map(Some).collect();
    std::future::poll_fn(|context| {
        for slot in &mut tasks {
            if let Some(task) = slot
                && Pin::new(task).poll(context).is_ready()
            {
                *slot = None;
            }
        }
        if tasks.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
