//! A session as the master sees it: the banner, one command at a time, and its answer.

use thiserror::Error;

use crate::banner::{Banner, Progress};
use crate::command::Command;
use crate::framer::{self, Fatal, FileHead, Framer, Limits, Refused, Stream};
use crate::mailbox::Mailbox;
use crate::message::FileWriter;
use crate::record::{Record, RecordWriter};
use crate::reply::{Reply, ReplyError};
use crate::sasl::SaslData;
use crate::untagged::{Untagged, UntaggedError};
use crate::wire::ValueError;

/// What the replica said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// The banner is complete: [`Client::banner`].
    Banner,
    /// Answer with [`Client::respond`] or [`Client::cancel`].
    Challenge(SaslData),
    /// A message file begins.
    File(FileHead),
    /// The next bytes of it.
    FileBytes(&'i [u8]),
    /// It is complete; nobody has compared it with its GUID yet.
    FileEnd,
    /// The records of a mailbox begin: the mailbox as far as it is known, if that is enough for one.
    /// It comes again, as [`Event::Untagged`], behind them.
    Records(Option<Box<Mailbox>>),
    /// The next record.
    Record(Record),
    /// A part of the answer.
    Untagged(Untagged),
    /// The answer is complete: OK, NO or BAD. After the OK to STARTTLS or COMPRESS nothing is read
    /// before [`Client::tls_started`] or [`Client::deflate_started`].
    Done(Reply),
    /// The replica leaves.
    Bye(String),
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// A command, or a response, while something else is under way. The session is not harmed.
    #[error("one command at a time")]
    Busy,
    /// The replica gave up.
    #[error("the replica failed: {0}")]
    PeerFailed(String),
    /// It said something that nobody asked for.
    #[error("an answer to nothing: {0:?}")]
    Unasked(String),
    /// What it said cannot be followed.
    #[error("read from the replica")]
    Stream(#[from] Fatal),
    /// It said something too large or ill-formed.
    #[error("read an untagged reply")]
    Refused(#[from] Refused),
    /// It is no untagged reply.
    #[error("understand an untagged reply")]
    Untagged(#[from] UntaggedError),
    /// A record is not what it should be.
    #[error("understand a record")]
    Record(#[from] ValueError),
    /// It is no reply.
    #[error("understand a reply")]
    Reply(#[from] ReplyError),
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Banner,
    Idle,
    /// A command was sent.
    Command(Then),
    /// A challenge is to be answered.
    Challenge,
    /// Something has to begin on the connection.
    Paused(Then),
    Closed,
}

/// What OK means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    LoggedIn,
    Tls,
    Deflate,
}

/// One session.
#[derive(Debug)]
pub struct Client {
    framer: Framer,
    banner: Banner,
    state: State,
    logged_in: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Client {
    /// One that waits for the banner.
    pub fn new(limits: Limits) -> Self {
        Self {
            framer: Framer::new(Stream::Replies, limits),
            banner: Banner::default(),
            state: State::Banner,
            logged_in: false,
        }
    }

    /// What the replica can do, once [`Event::Banner`] has come.
    pub fn banner(&self) -> &Banner {
        &self.banner
    }

    /// Whether AUTHENTICATE has succeeded.
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// Whether a command can be sent.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Appends a command, without files and records.
    ///
    /// # Errors
    /// [`ClientError::Busy`] if another one is under way, or the session has ended.
    pub fn send(&mut self, command: &Command, out: &mut Vec<u8>) -> Result<(), ClientError> {
        self.begin(match command {
            Command::Authenticate { .. } => Then::LoggedIn,
            Command::StartTls => Then::Tls,
            Command::Compress { .. } => Then::Deflate,
            _ => Then::Nothing,
        })?;
        command.write(None, out);
        Ok(())
    }

    /// Appends the beginning of APPLY MESSAGE; its files are to follow.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub fn send_files(&mut self, out: &mut Vec<u8>) -> Result<FileWriter, ClientError> {
        self.begin(Then::Nothing)?;
        Ok(Command::begin_files(None, out))
    }

    /// Appends the beginning of APPLY MAILBOX; its records are to follow.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub fn send_mailbox(
        &mut self,
        mailbox: &Mailbox,
        out: &mut Vec<u8>,
    ) -> Result<RecordWriter, ClientError> {
        self.begin(Then::Nothing)?;
        Ok(Command::begin_mailbox(mailbox, None, out))
    }

    fn begin(&mut self, then: Then) -> Result<(), ClientError> {
        if self.state != State::Idle {
            return Err(ClientError::Busy);
        }
        self.state = State::Command(then);
        Ok(())
    }

    /// Appends the response to a challenge.
    ///
    /// # Errors
    /// [`ClientError::Busy`] if there was none.
    pub fn respond(&mut self, response: &SaslData, out: &mut Vec<u8>) -> Result<(), ClientError> {
        self.answer_challenge()?;
        response.encode(out);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Gives up logging in; the replica answers with BAD.
    ///
    /// # Errors
    /// As for [`Client::respond`].
    pub fn cancel(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        self.answer_challenge()?;
        out.extend_from_slice(b"*\r\n");
        Ok(())
    }

    fn answer_challenge(&mut self) -> Result<(), ClientError> {
        if self.state != State::Challenge {
            return Err(ClientError::Busy);
        }
        self.state = State::Command(Then::LoggedIn);
        Ok(())
    }

    /// The handshake is done: the replica sends its banner again.
    pub fn tls_started(&mut self) {
        if self.state == State::Paused(Then::Tls) {
            self.banner = Banner::default();
            self.state = State::Banner;
        }
    }

    /// Input is inflated from now on, and output deflated.
    pub fn deflate_started(&mut self) {
        if self.state == State::Paused(Then::Deflate) {
            self.state = State::Idle;
        }
    }

    /// The next thing that was said; what it took is cut off `input`. `None` if more input is
    /// needed; no input is taken while something has to begin on the connection, or after the end.
    ///
    /// # Errors
    /// If the session cannot go on.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, ClientError> {
        let result = self.read(input);
        if result.is_err() {
            self.state = State::Closed;
        }
        result
    }

    fn read<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, ClientError> {
        while !matches!(self.state, State::Paused(_) | State::Closed) {
            let Some(event) = self.framer.next(input)? else { return Ok(None) };
            let line = match event {
                framer::Event::Line(line) => line.to_vec(),
                framer::Event::Refused(refused) => return Err(refused.into()),
                framer::Event::File(head) => return Ok(Some(Event::File(head))),
                framer::Event::FileBytes(bytes) => return Ok(Some(Event::FileBytes(bytes))),
                framer::Event::FileEnd => return Ok(Some(Event::FileEnd)),
                framer::Event::Records(data) => {
                    let mailbox = match Untagged::from_data(data) {
                        Ok(Untagged::Mailbox(mailbox)) => Some(mailbox),
                        _ => None,
                    };
                    return Ok(Some(Event::Records(mailbox)));
                }
                framer::Event::Record(record) => {
                    return Ok(Some(Event::Record(Record::parse(record)?)));
                }
                framer::Event::Data(data) => {
                    let untagged = Untagged::from_data(data)?;
                    return match self.state {
                        State::Command(_) => Ok(Some(Event::Untagged(untagged))),
                        _ => Err(unasked(data.name)),
                    };
                }
            };
            if let Some(event) = self.line(&line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn line<'i>(&mut self, line: &[u8]) -> Result<Option<Event<'i>>, ClientError> {
        if let Some(text) = line.strip_prefix(b"* Fatal error: ") {
            return Err(ClientError::PeerFailed(String::from_utf8_lossy(text).into_owned()));
        }
        if self.state == State::Banner && line.starts_with(b"* ") {
            return Ok(match self.banner.take(line) {
                Progress::Lines => None,
                Progress::Complete => {
                    self.state = State::Idle;
                    Some(Event::Banner)
                }
            });
        }
        match (Reply::parse(line)?, self.state) {
            (Reply::Bye(text), _) => {
                self.state = State::Closed;
                Ok(Some(Event::Bye(text)))
            }
            (Reply::Challenge(challenge), State::Command(Then::LoggedIn)) => {
                self.state = State::Challenge;
                Ok(Some(Event::Challenge(challenge)))
            }
            (Reply::Challenge(_), _) => Err(unasked(line)),
            (reply, State::Command(then)) => {
                self.state = self.after(&reply, then);
                Ok(Some(Event::Done(reply)))
            }
            _ => Err(unasked(line)),
        }
    }

    fn after(&mut self, reply: &Reply, then: Then) -> State {
        match (reply, then) {
            (Reply::Ok(_), Then::Tls | Then::Deflate) => State::Paused(then),
            (Reply::Ok(_), Then::LoggedIn) => {
                self.logged_in = true;
                State::Idle
            }
            _ => State::Idle,
        }
    }
}

fn unasked(line: &[u8]) -> ClientError {
    ClientError::Unasked(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests;
