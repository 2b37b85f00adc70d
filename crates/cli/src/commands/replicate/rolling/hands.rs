//! The workers as the daemon knows them: who is connected, who has time, and who is not to be asked for a
//! while.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use engine::rolling::{Loss, Moment};

use super::super::Sending;
use super::clock::Now;
use super::wake::Wake;
use super::worker::{Order, Report, Worker};

/// A connection that has nothing to do is closed after so long, but for one, over which the replica is
/// asked whether it is still there. In milliseconds.
const IDLE: i64 = 60_000;

/// A connection that the replica does not want, while it has others, is tried again after so long, in
/// milliseconds: soon, if it may be better by then, and not so soon where somebody has to mend it.
const BENCH: [i64; 2] = [10_000, 300_000];

/// All of them.
pub struct Hands {
    hands: Vec<Hand>,
    reports: Receiver<Report>,
}

/// One of them.
pub struct Hand {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
    is_busy: bool,
    is_connected: bool,
    /// Since when it has nothing to do.
    idle_since: Moment,
    /// Not to be sent anything before.
    benched_until: Moment,
}

impl Hands {
    /// Starts so many.
    pub fn start(jobs: usize, sending: &Arc<Sending>, wake: &Wake) -> io::Result<Self> {
        let (sender, reports) = channel();
        let start = |number: usize| -> io::Result<Hand> {
            let (orders, receiver) = channel();
            let worker = Worker {
                number,
                sending: Arc::clone(sending),
                orders: receiver,
                reports: sender.clone(),
                waker: wake.waker(),
            };
            let thread = thread::Builder::new().name(format!("replica-{number}"));
            Ok(Hand::new(orders, thread.spawn(|| worker.run())?))
        };
        let hands = (0..jobs).map(start).collect::<io::Result<Vec<Hand>>>()?;
        Ok(Self { hands, reports })
    }

    /// What one of them has done, if any has.
    pub fn next_report(&mut self, now: Now) -> Option<Report> {
        let report = self.reports.try_recv().ok()?;
        if let Some(hand) = self.hands.get_mut(report.number) {
            hand.is_busy = false;
            hand.is_connected = report.is_connected;
            hand.idle_since = now.moment;
        }
        Some(report)
    }

    /// One that can try to connect, or find out whether it still is.
    pub fn idle(&mut self) -> Option<&mut Hand> {
        self.hands.iter_mut().find(|hand| !hand.is_busy)
    }

    /// One that can send, connected if possible.
    pub fn free(&mut self, now: Now) -> Option<&mut Hand> {
        let free = self.hands.iter_mut().filter(|hand| hand.is_free(now));
        free.min_by_key(|hand| !hand.is_connected)
    }

    /// Whether there is one that can send.
    pub fn has_free(&self, now: Now) -> bool {
        self.hands.iter().any(|hand| hand.is_free(now))
    }

    /// Whether there is one that has nothing to do.
    pub fn has_idle(&self) -> bool {
        self.hands.iter().any(|hand| !hand.is_busy)
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.hands.iter().filter(|hand| hand.is_connected).count()
    }

    /// One has no connection, for that reason. If another has one, the replica is there, and wants no more
    /// of them, or not this one: it is not asked for a while, and that is all. Otherwise `false`.
    pub fn bench(&mut self, number: usize, loss: Loss, now: Now) -> bool {
        let others = self.hands.iter().enumerate();
        let has_another = others.filter(|(at, _)| *at != number).any(|(_, hand)| hand.is_connected);
        if has_another && let Some(hand) = self.hands.get_mut(number) {
            let [soft, hard] = BENCH;
            hand.benched_until = now.plus(if loss == Loss::Soft { soft } else { hard });
        }
        has_another
    }

    /// Closes connections that have nothing to do, and asks over the last one.
    pub fn care(&mut self, now: Now) {
        let mut connected = self.connected();
        for hand in self.hands.iter_mut().filter(|hand| hand.is_connected && !hand.is_busy) {
            if now.moment.0 - hand.idle_since.0 < IDLE {
                continue;
            }
            if connected > 1 {
                connected -= 1;
                hand.is_connected = false;
                hand.order(Order::Close);
            } else {
                hand.order(Order::Ask);
            }
        }
    }

    /// Takes leave of the replica.
    pub fn close(&mut self) {
        for Hand { orders, thread, is_busy, .. } in self.hands.drain(..) {
            drop(orders);
            // One that tries to connect may do so for a minute. The others have nothing to do but to
            // hang up; whether they panicked was told by the panic.
            if !is_busy {
                let _ = thread.join();
            }
        }
    }
}

impl Hand {
    fn new(orders: Sender<Order>, thread: JoinHandle<()>) -> Self {
        Self {
            orders,
            thread,
            is_busy: false,
            is_connected: false,
            idle_since: Moment::default(),
            benched_until: Moment::default(),
        }
    }

    /// Has it do something.
    pub fn order(&mut self, order: Order) {
        // A worker ends only after the daemon.
        self.is_busy = self.orders.send(order).is_ok();
    }

    fn is_free(&self, now: Now) -> bool {
        !self.is_busy && now.is_past(self.benched_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { moment: Moment(1_000_000), calendar: 1_800_000_000_000 };

    /// Hands whose orders come to nobody but the test.
    fn hands(connected: &[bool]) -> (Hands, Sender<Report>, Vec<Receiver<Order>>) {
        let (sender, reports) = channel();
        let (mut hands, mut orders) = (Vec::new(), Vec::new());
        for is_connected in connected {
            let (order, receiver) = channel();
            let hand = Hand::new(order, thread::spawn(|| {}));
            hands.push(Hand { is_connected: *is_connected, idle_since: NOW.moment, ..hand });
            orders.push(receiver);
        }
        (Hands { hands, reports }, sender, orders)
    }

    fn at(seconds: i64) -> Now {
        Now { moment: Moment(NOW.moment.0 + 1000 * seconds), ..NOW }
    }

    /// A replica that lets no second connection in, whatever it says about it, is there.
    #[test]
    fn one_that_is_not_let_in_beside_another_is_not_asked_for_a_while() {
        for (loss, until) in [(Loss::Soft, 10), (Loss::Hard, 300)] {
            let (mut hands, _reports, orders) = hands(&[true, false]);
            assert!(hands.bench(1, loss, NOW));
            hands.free(NOW).expect("the other one").order(Order::Ask);
            assert!(matches!(orders[0].try_recv(), Ok(Order::Ask)));
            assert!(hands.free(NOW).is_none() && hands.free(at(until - 1)).is_none());
            assert!(!hands.has_free(at(until - 1)) && hands.has_free(at(until)));
            // Nobody else is connected by then.
            assert!(!hands.bench(0, loss, at(until)));
            assert!(hands.has_idle(), "to find out whether the replica is there");
        }
    }

    #[test]
    fn who_is_connected_is_sent_first() {
        let (mut hands, reports, orders) = hands(&[false, true, false]);
        hands.free(NOW).expect("a hand").order(Order::Ask);
        assert!(orders[1].try_recv().is_ok() && hands.connected() == 1);
        let report = Report { number: 2, is_connected: true, ..Report::default() };
        reports.send(report).expect("it is heard");
        assert_eq!(hands.next_report(NOW).map(|report| report.number), Some(2));
        hands.free(NOW).expect("a hand").order(Order::Ask);
        assert!(orders[2].try_recv().is_ok() && orders[0].try_recv().is_err());
    }

    #[test]
    fn what_is_idle_is_closed_but_for_one_that_asks() {
        let (mut hands, _reports, orders) = hands(&[true, true]);
        hands.care(at(59));
        assert!(orders.iter().all(|orders| orders.try_recv().is_err()));
        hands.care(at(60));
        assert!(matches!(orders[0].try_recv(), Ok(Order::Close)));
        assert!(matches!(orders[1].try_recv(), Ok(Order::Ask)));
    }
}
