//! Accounts that several threads work through, until there are no more, or until what all of them need
//! is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// After so many items in a row that a store or a replica failed, it is gone: each of the others would
/// only be waited for in vain.
pub const LOST_MAX: usize = 3;

/// What is still to be worked on.
pub struct Queue<'q, T> {
    items: &'q [T],
    next: AtomicUsize,
    /// How often the other side has failed since it last did what it was asked.
    lost: AtomicUsize,
}

impl<'q, T> Queue<'q, T> {
    /// All of these, in this order.
    pub fn new(items: &'q [T]) -> Self {
        Self { items, next: AtomicUsize::new(0), lost: AtomicUsize::new(0) }
    }

    /// The next item; `None` if there are no more, or if it would be tried in vain.
    pub fn next(&self) -> Option<&'q T> {
        if self.lost.load(Ordering::Relaxed) >= LOST_MAX {
            return None;
        }
        self.items.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The other side has failed.
    pub fn note_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The other side did what it was asked.
    pub fn note_reached(&self) {
        self.lost.store(0, Ordering::Relaxed);
    }
}

/// Lets so many threads work, and takes what they send, here, as it comes.
pub fn on_threads<D: Send>(
    threads: usize,
    work: impl Fn(Sender<D>) + Sync,
    mut take: impl FnMut(D),
) {
    let (sender, results) = channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || work(sender));
        }
        drop(sender);
        for done in results {
            take(done);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_given_once() {
        let items: Vec<u32> = (0..100).collect();
        let queue = Queue::new(&items);
        let mut taken = Vec::new();
        let work = |results: Sender<u32>| {
            while let Some(item) = queue.next() {
                results.send(*item).expect("somebody listens");
            }
        };
        on_threads(4, work, |item| taken.push(item));
        taken.sort_unstable();
        assert_eq!(taken, items);
    }

    #[test]
    fn nothing_is_tried_in_vain() {
        let items = [(); 10];
        let queue = Queue::new(&items);
        let fails = |times| (0..times).for_each(|_| queue.note_lost());
        fails(2);
        assert!(queue.next().is_some());
        queue.note_reached();
        fails(2);
        assert!(queue.next().is_some());
        fails(1);
        assert!(queue.next().is_none());
    }
}
