//! Telling all threads at once that it is time to go, also those that wait for a peer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// Whoever holds this has not called yet. Dropping it is the call.
#[derive(Debug)]
pub struct Stopper {
    _end: OwnedFd,
}

/// Hears the call, however often it is cloned.
#[derive(Clone, Debug)]
pub struct Stop {
    // Nothing is ever written: that the other end is gone is seen by all, and stays so.
    pipe: Arc<OwnedFd>,
}

impl Stop {
    /// Both ends.
    ///
    /// # Errors
    /// If the system has no pipe left.
    pub fn new() -> io::Result<(Stopper, Self)> {
        let (pipe, end) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Stopper { _end: end }, Self { pipe: Arc::new(pipe) }))
    }

    /// Whether it is time to go.
    pub fn is_called(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Lets that much time pass, unless it is time to go before; tells whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = timespec(deadline.saturating_duration_since(Instant::now()));
            let mut pipe = [PollFd::new(&self.pipe, PollFlags::IN)];
            match poll(&mut pipe, Some(&left)) {
                Err(Errno::INTR) => {}
                result => return result.is_ok_and(|count| count > 0),
            }
        }
    }
}

/// As much time, in the words of poll(2).
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_hears_that_the_stopper_is_dropped() {
        let (stopper, stop) = Stop::new().expect("a pipe");
        let other = stop.clone();
        assert!(!stop.is_called() && !other.is_called());
        drop(stopper);
        assert!(stop.is_called() && other.is_called() && stop.is_called());
    }
}
