//! Waiting for a socket, a call to stop, and the clock, whichever comes first.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::stop::timespec;
use crate::{LinkError, Stop};

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The socket can be used.
    Socket,
    /// It is time to go.
    Stopped,
}

/// Waits until the socket is ready; not beyond `deadline`, and with a `stop` not beyond its call.
pub(crate) fn wait(
    socket: &TcpStream,
    what: PollFlags,
    stop: Option<&Stop>,
    deadline: Instant,
) -> Result<Ready, LinkError> {
    loop {
        let left = timespec(deadline.saturating_duration_since(Instant::now()));
        let socket_fd = PollFd::new(socket, what);
        let result = match stop {
            Some(stop) => {
                let mut both = [socket_fd, PollFd::new(stop, PollFlags::IN)];
                poll(&mut both, Some(&left)).map(|_| (ready(&both[0]), ready(&both[1])))
            }
            None => {
                let mut one = [socket_fd];
                poll(&mut one, Some(&left)).map(|_| (ready(&one[0]), false))
            }
        };
        match result {
            Ok((true, _)) => return Ok(Ready::Socket),
            Ok((false, true)) => return Ok(Ready::Stopped),
            Ok((false, false)) if Instant::now() >= deadline => return Err(LinkError::Silent),
            Ok((false, false)) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(LinkError::io("wait for the peer", io::Error::from(errno)));
            }
        }
    }
}

fn ready(fd: &PollFd<'_>) -> bool {
    !fd.revents().is_empty()
}
