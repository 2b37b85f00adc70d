//! Sessions of a real master, written down on their way and said again to another replica.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use csync::framer::{Event, Framer, Limits, Stream};
use testkit::dialogue::Dialogue;

use crate::Outcome;

const BUFFER: usize = 1 << 16;

/// The commands of a master, one by one.
pub type Session = Vec<Vec<u8>>;

/// Passes connections on to a replica and keeps what masters say.
pub struct Recorder {
    pub address: SocketAddr,
    sessions: Receiver<Vec<u8>>,
}

impl Recorder {
    pub fn start(to: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, sessions) = channel();
        thread::spawn(move || {
            for master in listener.incoming().map_while(Result::ok) {
                let said = TcpStream::connect(to).and_then(|replica| pass_on(master, replica));
                if said.is_err() || said.is_ok_and(|said| sender.send(said).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { address, sessions })
    }

    /// What was said in the last connection.
    pub fn take(&self) -> Outcome<Session> {
        split(&self.sessions.recv()?)
    }
}

/// Lets both talk until the master leaves, and returns what he said.
fn pass_on(mut master: TcpStream, mut replica: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut from_replica = BufReader::new(replica.try_clone()?);
    greet(&mut from_replica, &mut master)?;
    let mut to_master = master.try_clone()?;
    thread::spawn(move || std::io::copy(&mut from_replica, &mut to_master));
    let (mut said, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    loop {
        match master.read(&mut buffer)? {
            0 => break,
            n => {
                said.extend_from_slice(&buffer[..n]);
                replica.write_all(&buffer[..n])?;
            }
        }
    }
    replica.shutdown(Shutdown::Write)?;
    Ok(said)
}

/// Passes the banner on, without the offer to compress: what is compressed cannot be said again.
fn greet(replica: &mut impl BufRead, master: &mut impl Write) -> std::io::Result<()> {
    loop {
        let mut line = Vec::new();
        if replica.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !line.starts_with(b"* COMPRESS") {
            master.write_all(&line)?;
        }
        if line.starts_with(b"* OK") {
            return Ok(());
        }
    }
}

fn split(said: &[u8]) -> Outcome<Session> {
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    let (mut input, mut begin, mut commands) = (said, 0, Vec::new());
    while let Some(event) = framer.next(&mut input)? {
        if matches!(event, Event::Line(_) | Event::Data(_)) {
            let end = said.len() - input.len();
            commands.push(said[begin..end].to_vec());
            begin = end;
        }
    }
    Ok(commands)
}

/// Says a session to a replica, each command once the one before is answered. How long that took,
/// from the login on.
pub fn replay(to: SocketAddr, session: &Session) -> Outcome<Duration> {
    // As for a real master: a sync of a file system would wait for what others wrote before.
    nix::unistd::sync();
    let mut dialogue = Dialogue::begin(to)?;
    let mut start = Instant::now();
    for command in session {
        dialogue.say(command)?;
        let answer = dialogue.answer()?;
        if !answer.starts_with("OK") && !answer.starts_with("BYE") {
            let said = String::from_utf8_lossy(&command[..command.len().min(200)]).into_owned();
            return Err(format!("{to} answers {answer:?} to {said:?}").into());
        }
        if command.starts_with(b"AUTHENTICATE") {
            start = Instant::now();
        }
    }
    Ok(start.elapsed())
}
