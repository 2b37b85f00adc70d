//! A replica that is made up: it answers as a test wants it to, and counts what it is told.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use csync::framer::{Event, Framer, Limits, Stream};

const BANNER: &[u8] = b"* SASL PLAIN\r\n* OK r.example.com Cyrus sync server 3.6.1\r\n";

/// What is read and written at once.
const PIECE: usize = 1 << 16;

/// A replica that has nothing, and agrees to everything but one command.
#[derive(Clone, Debug)]
pub struct FakeReplica {
    /// What it greets with.
    pub banner: Vec<u8>,
    /// As `GET USER`.
    command: &'static str,
    answer: Vec<u8>,
    then: Then,
    /// All that it was told.
    heard: Arc<Mutex<Vec<String>>>,
}

/// What it does when it has answered that command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits for the next one.
    GoOn,
    /// It hangs up.
    Leave,
    /// It says the same again and again, so many bytes, and hangs up.
    Flood(u64),
}

impl FakeReplica {
    /// One that answers this command, as `GET USER`, with these bytes; without a command, it does so at
    /// once.
    pub fn new(command: &'static str, answer: &[u8], then: Then) -> Self {
        let (banner, answer) = (BANNER.to_vec(), answer.to_vec());
        Self { banner, command, answer, then, heard: Arc::default() }
    }

    /// How often it was told this.
    pub fn count(&self, command: &str) -> usize {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|heard| *heard == command).count()
    }

    /// Takes one connection after the other, as long as the process lives.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub fn start(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let fake = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever leaves has had enough.
                let _ = fake.talk(stream);
            }
        });
        Ok(address)
    }

    fn talk(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.write_all(&self.banner)?;
        if self.command.is_empty() {
            return self.say(&mut stream).map(drop);
        }
        let mut framer = Framer::new(Stream::Commands, Limits::default());
        let mut bytes = vec![0; PIECE];
        loop {
            let read = stream.read(&mut bytes)?;
            let mut input = &bytes[..read];
            if read == 0 {
                return Ok(());
            }
            while let Some(event) = framer.next(&mut input).map_err(io::Error::other)? {
                let command = match event {
                    Event::Line(line) => line.split(|byte| *byte == b' ').next().map(Vec::from),
                    Event::Data(data) => Some([data.verb, b" ", data.name].concat()),
                    Event::Refused(refused) => return Err(io::Error::other(refused)),
                    _ => None,
                };
                let Some(command) = command else { continue };
                let command = String::from_utf8_lossy(&command).into_owned();
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(command.clone());
                drop(heard);
                if command != self.command {
                    stream.write_all(b"OK success\r\n")?;
                } else if !self.say(&mut stream)? {
                    return Ok(());
                }
            }
        }
    }

    /// Whether it goes on.
    fn say(&self, stream: &mut TcpStream) -> io::Result<bool> {
        stream.write_all(&self.answer)?;
        if let Then::Flood(bytes) = self.then {
            let more = self.answer.repeat(PIECE / self.answer.len().max(1) + 1);
            (0..=bytes / more.len() as u64).try_for_each(|_| stream.write_all(&more))?;
        }
        Ok(self.then == Then::GoOn)
    }
}
