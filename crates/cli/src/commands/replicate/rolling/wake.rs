//! What the daemon waits for: its workers, the sync log, signals, and the clock.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::signals::Signals;

/// How often a log is looked at that the system does not tell of.
const GLANCE: Duration = Duration::from_millis(50);

/// Wakes the daemon from another thread.
#[derive(Clone)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

/// All that wakes the daemon.
pub struct Wake {
    waker: Waker,
    inotify: Option<OwnedFd>,
    is_watched: bool,
}

impl Waker {
    /// Does so.
    pub fn wake(&self) {
        // It fails only if the daemon is about to be woken many times already.
        let _ = rustix::io::write(&self.event, &[1; 8]);
    }
}

impl Wake {
    /// With a waker for other threads.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Where there is none, the log is looked at now and then.
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Ok(Self { waker: Waker { event: Arc::new(event) }, inotify, is_watched: false })
    }

    /// For another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Watches the directory of a log, which Cyrus may not have made yet.
    pub fn watch(&mut self, directory: &Path) {
        let Some(inotify) = self.inotify.as_ref().filter(|_| !self.is_watched) else { return };
        // Not that a log was made: then nothing is in it yet.
        let events = WatchFlags::MODIFY | WatchFlags::MOVED_TO;
        self.is_watched = inotify::add_watch(inotify, directory, events).is_ok();
    }

    /// Waits for any of it, for so long at most; of the log only if that is wanted. Whether a signal
    /// has come.
    pub fn wait(&self, signals: &Signals, log: bool, limit: Duration) -> io::Result<bool> {
        let limit = if log && !self.is_watched { limit.min(GLANCE) } else { limit };
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut polled = vec![
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&self.waker.event, PollFlags::IN),
        ];
        let log = self.inotify.as_ref().filter(|_| log && self.is_watched);
        polled.extend(log.map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let signal = polled.first().is_some_and(|signals| !signals.revents().is_empty());
        let _ = rustix::io::read(&self.waker.event, &mut [0; 8]);
        if let Some(inotify) = log {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(inotify, &mut buffer);
            // That something has happened is all there is to know.
            while events.next().is_ok() {}
        }
        Ok(signal)
    }
}
