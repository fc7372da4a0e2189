//! The same work on many things, a few at a time: what waits for a store waits together.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads at most: so many requests are in flight.
const THREADS: usize = 8;

/// Fewer things than this are done one after the other where a call is quick.
const FEW: usize = 32;

/// Does `work` on every item and gives the results in their order; the first failure ends it.
///
/// Where the store is far, as few as two are done at once.
/// Errors: that of the first item, in their order, whose work was seen to fail.
pub(super) fn side_by_side<T: Sync, R: Send, E: Send>(
    is_far: bool,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if items.len() < if is_far { 2 } else { FEW } {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<R, E>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let part = || {
        let mut ours = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(at)
        {
            let result = work(item);
            if result.is_err() {
                // Others stop at their next item.
                next.store(items.len(), Ordering::Relaxed);
            }
            ours.push((at, result));
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).extend(ours);
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(items.len()) {
            let _ = scope.spawn(part);
        }
        part();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Does two things at once where the store is far, and else one after the other.
///
/// Errors: that of the first, else that of the second.
pub(super) fn both<A: Send, B: Send, E: Send>(
    is_far: bool,
    first: impl FnOnce() -> Result<A, E> + Send,
    second: impl FnOnce() -> Result<B, E> + Send,
) -> Result<(A, B), E> {
    if !is_far {
        return Ok((first()?, second()?));
    }
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        let second = second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((first?, second?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for len in [0, 1, FEW - 1, FEW, 1000] {
            let items: Vec<usize> = (0..len).collect();
            let doubled =
                side_by_side(false, &items, |item| Ok::<_, ()>(item * 2)).expect("nothing fails");
            assert!(doubled.iter().copied().eq((0..len).map(|item| item * 2)), "{len} items");
        }
    }

    #[test]
    fn a_failure_ends_the_work() {
        let items: Vec<usize> = (0..100_000).collect();
        let calls = AtomicUsize::new(0);
        let work = |item: &usize| {
            let _ = calls.fetch_add(1, Ordering::Relaxed);
            if *item < 50 { Ok(()) } else { Err(*item) }
        };
        let failed = side_by_side(false, &items, work).expect_err("most fail");
        assert!((50..50 + THREADS).contains(&failed), "{failed}");
        assert!(calls.load(Ordering::Relaxed) < 50 + 2 * THREADS);
    }

    #[test]
    fn where_the_store_is_far_two_things_wait_for_each_other_and_elsewhere_none_does() {
        let barrier = std::sync::Barrier::new(2);
        let meet = |_: &u8| -> Result<bool, ()> { Ok(barrier.wait().is_leader()) };
        let met = side_by_side(true, &[1, 2], meet).expect("both meet");
        assert_ne!(met[0], met[1]);
        let (first, second) = both(true, || meet(&1), || meet(&2)).expect("both meet");
        assert_ne!(first, second);
        let order = Mutex::new(Vec::new());
        let note = |item: u8| {
            order.lock().expect("nobody panics").push(item);
            if item == 3 { Err(item) } else { Ok(item) }
        };
        assert_eq!(both(false, || note(1), || note(2)), Ok((1, 2)));
        assert_eq!(both(false, || note(3), || note(4)), Err(3));
        assert_eq!(*order.lock().expect("nobody panics"), [1, 2, 3]);
    }
}
