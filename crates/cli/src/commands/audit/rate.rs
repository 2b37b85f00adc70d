//! Reading no faster than somebody wants.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use engine::ports::Pace;

/// So many bytes in a second, all threads together.
pub struct Rate {
    bytes: u64,
    /// When what was read so far is paid for.
    free: Mutex<Instant>,
}

impl Rate {
    /// At most so many bytes in a second.
    pub fn new(bytes: u64) -> Self {
        Self { bytes: bytes.max(1), free: Mutex::new(Instant::now()) }
    }

    /// How long to wait for having read so many bytes at that moment.
    fn pay(&self, bytes: u64, now: Instant) -> Duration {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used before is not made up for.
        *free = (*free).max(now) + price;
        free.saturating_duration_since(now)
    }
}

impl Pace for Rate {
    fn read(&self, bytes: u64) {
        let wait = self.pay(bytes, Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_waited_for_and_idle_time_is_lost() {
        let rate = Rate::new(100);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.pay(200, after(1)), Duration::from_secs(2));
        assert_eq!(rate.pay(100, after(2)), Duration::from_secs(2));
        assert_eq!(rate.pay(50, after(10)), Duration::from_millis(500));
        assert_eq!(rate.pay(0, after(20)), Duration::ZERO);
    }
}
