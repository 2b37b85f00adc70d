//! Listening, and a thread for each connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use csync::reply::Reply;
use peer::{Identity, Link, LinkError, Stop, Stopper};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::event::{Event, What, chain};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::session::Session;
use crate::users::UsersFile;

/// What a thread has for its stack. Only what it uses of that is ever taken.
const STACK_BYTES: usize = 2 << 20;

/// How long is waited when the system has no connection to give, as when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// When TLS begins on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// When the peer says STARTTLS, if it does.
    IfAsked,
    /// Before anything is said.
    AtOnce,
}

/// Where masters come in.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub listener: TcpListener,
    /// What is spoken there.
    pub tls: Tls,
}

/// Makes what a session talks to, when somebody has logged in.
pub type Handlers = Box<dyn Fn() -> Box<dyn Handler> + Send + Sync>;

/// Takes what is to be logged. It is called by all threads.
pub type Watch = Box<dyn Fn(&Event) + Send + Sync>;

/// All that a server is made of but its sockets.
pub struct Config {
    /// The machine's name, for the greeting.
    pub name: String,
    /// The program's version, likewise.
    pub version: String,
    /// Who this is in TLS; without it there is none.
    pub identity: Option<Identity>,
    /// Who may log in.
    pub users: UsersFile,
    /// How much, and how long.
    pub limits: Limits,
    /// Whether masters without TLS are offered to compress what they say.
    pub deflate: bool,
    /// What it is about.
    pub handlers: Handlers,
    /// Who hears of it.
    pub watch: Watch,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub config: Config,
    open: AtomicUsize,
}

/// Serves until `stop` has something to read: then no more connections are taken, those between two
/// commands are told good-bye, and the others when theirs is done, at most [`Limits::drain`] later.
/// When `stop` has something to read again after `again` was called, nobody is waited for.
///
/// # Errors
/// If the system cannot wait for connections.
pub fn serve(
    doors: Vec<Door>,
    config: Config,
    stop: impl AsFd,
    again: impl FnOnce(),
) -> io::Result<()> {
    let drain = config.limits.drain;
    let shared = Arc::new(Shared { config, open: AtomicUsize::new(0) });
    let (stopper, stopping) = Stop::new()?;
    let (alive, gone) = Stop::new()?;
    let alive = Arc::new(alive);
    for door in &doors {
        door.listener.set_nonblocking(true)?;
        tell(&shared, None, What::Listening(door.listener.local_addr()?));
    }
    while let Some(ready) = await_any(&doors, &stop)? {
        for door in ready {
            match door.listener.accept() {
                Ok((socket, peer)) => {
                    take(&shared, &stopping, &alive, Visitor { socket, peer, tls: door.tls });
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    let why = chain(&error);
                    tell(&shared, None, What::Trouble { doing: "take a connection", why });
                    stopping.wait(PAUSE);
                }
            }
        }
    }
    drop(doors);
    // First: whoever reads that it stops may say so again.
    again();
    tell(&shared, None, What::Stopping(shared.open.load(Ordering::SeqCst)));
    drop((stopper, alive));
    if !await_end(&gone, &stop, drain)? {
        tell(&shared, None, What::Cut(shared.open.load(Ordering::SeqCst)));
    }
    Ok(())
}

/// Somebody who has come in.
struct Visitor {
    socket: TcpStream,
    peer: SocketAddr,
    tls: Tls,
}

/// Counts a connection as long as it is there.
struct Place {
    shared: Arc<Shared>,
    _alive: Arc<Stopper>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives a connection a thread, or sends it away.
fn take(shared: &Arc<Shared>, stopping: &Stop, alive: &Arc<Stopper>, visitor: Visitor) {
    let Visitor { socket, peer, tls } = visitor;
    let before = shared.open.fetch_add(1, Ordering::SeqCst);
    let place = Place { shared: shared.clone(), _alive: alive.clone() };
    if before >= shared.config.limits.connections_max {
        tell(shared, Some(peer), What::Full);
        send_away(&socket);
        return;
    }
    let stop = stopping.clone();
    let builder = thread::Builder::new().name("connection".to_owned()).stack_size(STACK_BYTES);
    let spawned = builder.spawn(move || {
        let shared = &place.shared;
        match Link::new(socket, shared.config.limits.idle) {
            Ok(link) => Session::serve(shared, &stop, link, tls),
            Err(error) => trouble(shared, peer, &error),
        }
    });
    if let Err(error) = spawned {
        tell(shared, Some(peer), What::Trouble { doing: "start a thread", why: chain(&error) });
    }
}

fn trouble(shared: &Shared, peer: SocketAddr, error: &LinkError) {
    tell(shared, Some(peer), What::Trouble { doing: "use a connection", why: chain(error) });
}

/// Says so, if that takes no waiting: a new socket has room for a line.
fn send_away(mut socket: &TcpStream) {
    let mut line = Vec::new();
    Reply::Bye("too many connections".to_owned()).write(&mut line);
    if socket.set_nonblocking(true).is_ok() {
        // Who does not hear it sees that the connection is closed.
        let _ = io::Write::write(&mut socket, &line);
    }
}

fn tell(shared: &Shared, peer: Option<SocketAddr>, what: What) {
    (shared.config.watch)(&Event { peer, user: None, what });
}

/// Whether it was only this one connection that did not come about.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

/// Waits for visitors; `None` if it is time to go.
fn await_any<'d>(doors: &'d [Door], stop: &impl AsFd) -> io::Result<Option<Vec<&'d Door>>> {
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    fds.extend(doors.iter().map(|door| PollFd::new(&door.listener, PollFlags::IN)));
    match poll(&mut fds, None) {
        Err(rustix::io::Errno::INTR) => return Ok(Some(Vec::new())),
        result => result?,
    };
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    if ready.next() == Some(true) {
        return Ok(None);
    }
    Ok(Some(doors.iter().zip(ready).filter(|(_, ready)| *ready).map(|(door, _)| door).collect()))
}

/// Waits until all connections have ended, and tells whether they have.
fn await_end(gone: &Stop, again: &impl AsFd, drain: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + drain;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(gone, PollFlags::IN), PollFd::new(again, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [gone, again] = [&fds[0], &fds[1]].map(|fd| !fd.revents().is_empty());
        if gone || again || Instant::now() >= deadline {
            return Ok(gone);
        }
    }
}
