//! One connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use crate::deflate::Deflate;
use crate::wait::{Ready, wait};
use crate::{Identity, LinkError, Stop, Trust};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How long a peer is listened to that was told to go, so that it hears it: a socket that is closed
/// over unread bytes resets the connection, and the peer's system forgets what it had received.
const LINGER: Duration = Duration::from_secs(1);

/// What became of waiting for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes were appended, at least one.
    Bytes,
    /// The peer will say no more.
    End,
    /// It is time to go.
    Stopped,
}

/// A connection to a peer. Dropping it ends it without a word; see [`Link::close`].
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    layer: Layer,
    /// How long the peer may take to take anything.
    patience: Duration,
}

#[derive(Debug)]
enum Layer {
    Plain,
    Tls(Box<Connection>),
    Deflate(Box<Deflate>),
}

/// What a layer has for its reader at the moment.
enum Now {
    Bytes,
    End,
    Nothing,
}

impl Link {
    /// Takes a connection, in the clear. The peer may be as slow to take what is sent as `patience`
    /// says.
    ///
    /// # Errors
    /// If the system refuses to wait for it as this crate does.
    pub fn new(socket: TcpStream, patience: Duration) -> Result<Self, LinkError> {
        let prepared = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
        prepared.map_err(|source| LinkError::io("prepare the connection", source))?;
        Ok(Self { socket, layer: Layer::Plain, patience })
    }

    /// Connects to the first of these addresses that takes it until `deadline`; otherwise as
    /// [`Link::new`].
    ///
    /// # Errors
    /// Why the last one did not.
    pub fn connect(
        addresses: &[SocketAddr],
        patience: Duration,
        deadline: Instant,
    ) -> Result<Self, LinkError> {
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            // A time of nothing would be refused as such.
            let left = deadline.saturating_duration_since(Instant::now());
            match TcpStream::connect_timeout(address, left.max(Duration::from_millis(1))) {
                Ok(socket) => return Self::new(socket, patience),
                Err(error) => failed = error,
            }
        }
        Err(LinkError::Io { operation: "connect", source: failed })
    }

    /// Where the peer is.
    ///
    /// # Errors
    /// If it is gone.
    pub fn peer(&self) -> Result<SocketAddr, LinkError> {
        self.socket
            .peer_addr()
            .map_err(|source| LinkError::io("ask for the peer's address", source))
    }

    /// Whether nobody between the two can read along.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// Does the server's part of a handshake. What was received before has to have been said in the
    /// clear; whoever has some of it left was lied to.
    ///
    /// # Errors
    /// If there is no TLS until `deadline`.
    pub fn start_tls(&mut self, identity: &Identity, deadline: Instant) -> Result<(), LinkError> {
        let tls = ServerConnection::new(identity.config.clone())?;
        self.handshake(tls.into(), deadline)
    }

    /// Does the client's part of a handshake; the server has to prove that it is `name`. What was
    /// received before must have been used up, as in [`Link::start_tls`].
    ///
    /// # Errors
    /// If `name` cannot be proven, if the server does not prove it, or if there is no TLS until
    /// `deadline`.
    pub fn start_tls_with(
        &mut self,
        name: ServerName<'static>,
        trust: &Trust,
        deadline: Instant,
    ) -> Result<(), LinkError> {
        let tls = ClientConnection::new(trust.config.clone(), name)?;
        self.handshake(tls.into(), deadline)
    }

    fn handshake(&mut self, tls: Connection, deadline: Instant) -> Result<(), LinkError> {
        let mut tls = Box::new(tls);
        while tls.is_handshaking() {
            if tls.wants_write() {
                flush_tls(&mut tls, &self.socket, self.patience)?;
                continue;
            }
            match take_tls(&mut tls, &self.socket, self.patience)? {
                Now::Bytes => {}
                Now::End => return Err(LinkError::Closed),
                Now::Nothing => {
                    wait(&self.socket, PollFlags::IN, None, deadline)?;
                }
            }
        }
        flush_tls(&mut tls, &self.socket, self.patience)?;
        self.layer = Layer::Tls(tls);
        Ok(())
    }

    /// Compresses both directions from now on. `received` is what is left of what was received: it
    /// is compressed already.
    pub fn start_deflate(&mut self, received: Vec<u8>) {
        self.layer = Layer::Deflate(Box::new(Deflate::new(received)));
    }

    /// Appends what the peer says to `into`, at most 64 KiB; waits until `deadline`, or the call of
    /// `stop`.
    ///
    /// # Errors
    /// If the peer is silent until then, or cannot be understood.
    pub fn receive(
        &mut self,
        into: &mut Vec<u8>,
        stop: Option<&Stop>,
        deadline: Instant,
    ) -> Result<Received, LinkError> {
        loop {
            match self.take(into)? {
                Now::Bytes => return Ok(Received::Bytes),
                Now::End => return Ok(Received::End),
                Now::Nothing => self.rest(into),
            }
            if wait(&self.socket, PollFlags::IN, stop, deadline)? == Ready::Stopped {
                return Ok(Received::Stopped);
            }
        }
    }

    /// Sends bytes; what is compressed may stay here until [`Link::flush`].
    ///
    /// # Errors
    /// If the peer does not take them.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match &mut self.layer {
            Layer::Plain => send(&self.socket, bytes, self.patience),
            Layer::Tls(tls) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let taken = tls.writer().write(rest);
                    let taken = taken.map_err(|source| LinkError::io("encrypt", source))?;
                    rest = rest.get(taken..).unwrap_or_default();
                    flush_tls(tls, &self.socket, self.patience)?;
                }
                Ok(())
            }
            Layer::Deflate(deflate) => {
                let mut out = Vec::new();
                deflate.deflate(bytes, &mut out)?;
                send(&self.socket, &out, self.patience)
            }
        }
    }

    /// Sends what was held back.
    ///
    /// # Errors
    /// If the peer does not take it.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        let Layer::Deflate(deflate) = &mut self.layer else { return Ok(()) };
        let mut out = Vec::new();
        deflate.flush(&mut out)?;
        send(&self.socket, &out, self.patience)
    }

    /// Ends the connection such that the peer hears the last that was said, if it listens.
    pub fn close(&mut self) {
        // That the peer does not wait for the end is no error any more.
        let _ = self.say_goodbye();
    }

    fn say_goodbye(&mut self) -> Result<(), LinkError> {
        self.patience = self.patience.min(LINGER);
        let deadline = Instant::now() + LINGER;
        if let Layer::Tls(tls) = &mut self.layer {
            tls.send_close_notify();
            flush_tls(tls, &self.socket, self.patience)?;
        }
        let shut = self.socket.shutdown(Shutdown::Write);
        shut.map_err(|source| LinkError::io("end the connection", source))?;
        self.layer = Layer::Plain;
        let mut ignored = Vec::new();
        while Instant::now() < deadline
            && self.receive(&mut ignored, None, deadline)? == Received::Bytes
        {
            ignored.clear();
        }
        Ok(())
    }

    /// What is to be had without waiting.
    fn take(&mut self, into: &mut Vec<u8>) -> Result<Now, LinkError> {
        match &mut self.layer {
            Layer::Plain => read(&self.socket, into),
            Layer::Tls(tls) => loop {
                match read_tls_text(tls, into)? {
                    Now::Nothing => {}
                    other => return Ok(other),
                }
                match take_tls(tls, &self.socket, self.patience)? {
                    Now::Bytes => {}
                    // Cut off without the alert that ends TLS, as OpenSSL's users do.
                    other => return Ok(other),
                }
            },
            Layer::Deflate(deflate) => loop {
                if deflate.inflate(into)? {
                    return Ok(Now::Bytes);
                }
                if deflate.has_ended() {
                    return Ok(Now::End);
                }
                match read(&self.socket, deflate.raw())? {
                    Now::Bytes => {}
                    other => return Ok(other),
                }
            },
        }
    }

    /// Gives back what is not needed while nothing comes.
    fn rest(&mut self, into: &mut Vec<u8>) {
        if into.is_empty() {
            *into = Vec::new();
        }
        if let Layer::Deflate(deflate) = &mut self.layer {
            deflate.rest();
        }
    }
}

fn read(mut socket: &TcpStream, into: &mut Vec<u8>) -> Result<Now, LinkError> {
    let start = into.len();
    into.resize(start + CHUNK_BYTES, 0);
    let result = loop {
        match socket.read(&mut into[start..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    into.truncate(start + result.as_ref().copied().unwrap_or(0));
    now(result)
}

/// What reading gave, as something to go on with. A peer that resets the connection has ended it.
fn now(result: io::Result<usize>) -> Result<Now, LinkError> {
    match result {
        Ok(0) => Ok(Now::End),
        Ok(_) => Ok(Now::Bytes),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Now::Nothing),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Now::End),
        Err(source) => Err(LinkError::io("read from the peer", source)),
    }
}

/// The decrypted bytes that are there.
fn read_tls_text(tls: &mut Connection, into: &mut Vec<u8>) -> Result<Now, LinkError> {
    let start = into.len();
    into.resize(start + CHUNK_BYTES, 0);
    let result = tls.reader().read(&mut into[start..]);
    into.truncate(start + result.as_ref().copied().unwrap_or(0));
    match result {
        // There was no alert that ends TLS: what came may lack its end, as in the clear.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Now::End),
        result => now(result),
    }
}

/// Gives TLS what has come, and sends what it says to that.
fn take_tls(
    tls: &mut Connection,
    mut socket: &TcpStream,
    patience: Duration,
) -> Result<Now, LinkError> {
    let taken = loop {
        match tls.read_tls(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break now(result)?,
        }
    };
    let processed = tls.process_new_packets();
    flush_tls(tls, socket, patience)?;
    processed?;
    Ok(taken)
}

fn flush_tls(
    tls: &mut Connection,
    mut socket: &TcpStream,
    patience: Duration,
) -> Result<(), LinkError> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Ok(_) => {}
            Err(error) => await_room(socket, error, patience)?,
        }
    }
    Ok(())
}

fn send(mut socket: &TcpStream, mut bytes: &[u8], patience: Duration) -> Result<(), LinkError> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
            Err(error) => await_room(socket, error, patience)?,
        }
    }
    Ok(())
}

/// Waits until more can be sent, if that is all that is wrong.
fn await_room(socket: &TcpStream, error: io::Error, patience: Duration) -> Result<(), LinkError> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => {
            wait(socket, PollFlags::OUT, None, Instant::now() + patience)?;
            Ok(())
        }
        _ => Err(LinkError::io("send to the peer", error)),
    }
}
