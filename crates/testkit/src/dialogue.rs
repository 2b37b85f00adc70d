//! A session of replication, word by word: what a made-up master says, and what it is answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use csync::framer::{Event, Framer, Limits, Stream};
use csync::untagged::Untagged;

/// How long an answer may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(600);
const BUFFER: usize = 1 << 16;

/// A connection on which one speaks after the other.
#[derive(Debug)]
pub struct Dialogue {
    stream: TcpStream,
    framer: Framer,
    /// What has come and was not taken yet.
    heard: Vec<u8>,
    taken: usize,
}

/// A part of what a replica says.
enum Heard {
    Line(String),
    Untagged(Box<Untagged>),
}

impl Dialogue {
    /// Connects and hears the banner.
    ///
    /// # Errors
    ///
    /// What the connection says, or if this is no replica.
    pub fn begin(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let framer = Framer::new(Stream::Replies, Limits::default());
        let mut dialogue = Self { stream, framer, heard: Vec::new(), taken: 0 };
        loop {
            if matches!(dialogue.hear()?, Heard::Line(line) if line.starts_with("* OK")) {
                return Ok(dialogue);
            }
        }
    }

    /// Logs in; any server of a test takes this.
    ///
    /// # Errors
    ///
    /// As for [`Dialogue::answer`], and if it is refused.
    pub fn log_in(&mut self) -> io::Result<()> {
        self.say(b"AUTHENTICATE PLAIN AGN5cnVzAGFueQ==\r\n")?;
        match self.answer()? {
            answer if answer.starts_with("OK") => Ok(()),
            answer => Err(io::Error::other(answer)),
        }
    }

    /// Says a command, or a part of one.
    ///
    /// # Errors
    ///
    /// What the connection says.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for the end of an answer, and returns its last line.
    ///
    /// # Errors
    ///
    /// What the connection says, or if the answer makes no sense.
    pub fn answer(&mut self) -> io::Result<String> {
        Ok(self.replies()?.1)
    }

    /// The same with what comes before the last line; records and files are passed over.
    ///
    /// # Errors
    ///
    /// As for [`Dialogue::answer`].
    pub fn replies(&mut self) -> io::Result<(Vec<Untagged>, String)> {
        let mut replies = Vec::new();
        loop {
            match self.hear()? {
                Heard::Line(line) if line.starts_with("* ") => {}
                Heard::Line(line) => return Ok((replies, line)),
                Heard::Untagged(reply) => replies.push(*reply),
            }
        }
    }

    fn hear(&mut self) -> io::Result<Heard> {
        loop {
            let mut input = self.heard.get(self.taken..).unwrap_or_default();
            let whole = input.len();
            let event = self.framer.next(&mut input).map_err(io::Error::other)?;
            let is_over = event.is_none();
            let heard = match event {
                Some(Event::Line(text)) => {
                    Some(Heard::Line(String::from_utf8_lossy(text).into_owned()))
                }
                Some(Event::Data(data)) => {
                    let reply = Untagged::from_data(data).map_err(io::Error::other)?;
                    Some(Heard::Untagged(Box::new(reply)))
                }
                _ => None,
            };
            self.taken += whole - input.len();
            if let Some(heard) = heard {
                return Ok(heard);
            }
            if is_over {
                self.receive()?;
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        self.heard.resize(BUFFER, 0);
        self.taken = 0;
        let count = self.stream.read(&mut self.heard)?;
        self.heard.truncate(count);
        match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
