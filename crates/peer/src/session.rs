//! A session as a master has it: one command at a time, and its answer.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use csync::banner::Banner;
use csync::client::{Client, ClientError, Event};
use csync::command::{Command, Get};
use csync::framer::FileHead;
use csync::mailbox::Mailbox;
use csync::message::FileWriter;
use csync::record::Record;
use csync::reply::{No, Reply};
use csync::untagged::Untagged;
use model::MboxName;
use rustls::pki_types::ServerName;
use thiserror::Error;

use crate::{Link, LinkError, Received, Trust};

/// Bytes that are gathered before they are sent, and that are read of a file at once.
const PIECE_BYTES: usize = 64 << 10;

/// So much may be told in answer to one command, files not counted: more than any account has.
const TOLD_MAX: usize = 256 << 20;

/// So much on top of that for each record that is expected: several times what one with flags and
/// annotations has.
const RECORD_BYTES: usize = 1024;

/// So long a part of it may be, or a banner: twice what is taken of a value.
const PART_MAX: usize = 16 << 20;

/// What a part of an answer takes in memory, and a name or GUID in it, beside its length.
const PART_BYTES: usize = 256;
const ITEM_BYTES: usize = 64;

/// How long a replica that hung up is asked for its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What went wrong with a session.
#[derive(Debug, Error)]
pub enum SessionError {
    /// There is no such host.
    #[error("find the host")]
    Resolve(#[source] io::Error),
    /// It cannot prove to be what it is not even called.
    #[error("{0:?} cannot be the name in a certificate")]
    NoName(String),
    /// TLS is wanted, and nobody said whom to believe.
    #[error("no certificate authority is known")]
    NoTrust,
    /// The password would have to be sent in the clear.
    #[error("the replica offers no TLS, and a password is not sent in the clear")]
    NoTls,
    /// There is no way to log in.
    #[error("the replica offers no login with PLAIN, but {offered:?}")]
    NoPlain {
        /// What it offers.
        offered: String,
    },
    /// The replica does not let us in.
    #[error("log in as {name}: {why}")]
    Login {
        /// As whom.
        name: String,
        /// What it says.
        why: String,
    },
    /// Something else began to talk before TLS did.
    #[error("somebody spoke in the clear where TLS was to begin")]
    Injected,
    /// A command was refused. The session goes on.
    #[error("{command} is refused: {}", no.text())]
    Refused {
        /// Which.
        command: String,
        /// Why.
        no: No,
    },
    /// A command was not understood. The session goes on.
    #[error("{command} is not understood: {text}")]
    Bad {
        /// Which.
        command: String,
        /// What the replica says.
        text: String,
    },
    /// The replica takes its leave.
    #[error("the replica leaves: {0}")]
    Bye(String),
    /// It goes on and on.
    #[error("the replica's answer has no end")]
    Endless,
    /// It hung up without an answer.
    #[error("the replica closed the connection instead of answering {0}")]
    Ended(String),
    /// It says what makes no sense.
    #[error("follow the replica's answer")]
    Protocol(#[from] ClientError),
    /// The connection failed.
    #[error("talk to the replica")]
    Link(#[from] LinkError),
    /// A file ended, or failed, in the middle of being sent: no command can follow.
    #[error("read a message while it is sent")]
    Source(#[source] io::Error),
    /// The session has failed before.
    #[error("the connection is broken")]
    Broken,
}

impl SessionError {
    /// Whether another command can follow on the same connection.
    pub fn session_goes_on(&self) -> bool {
        matches!(self, SessionError::Refused { .. } | SessionError::Bad { .. })
    }
}

/// A connection to a replica. Dropping it ends it without a word; see [`Session::close`].
#[derive(Debug)]
pub struct Session {
    link: Link,
    client: Client,
    /// What has come and is not understood yet, from `taken` on.
    input: Vec<u8>,
    taken: usize,
    /// What is to be sent.
    out: Vec<u8>,
    files: Option<FileWriter>,
    patience: Patience,
    is_broken: bool,
    /// What the answer at hand weighs so far, and how long the part is that is not understood yet.
    told: usize,
    unnamed: usize,
    /// What it may weigh.
    told_max: usize,
}

/// How long the replica is waited for.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// Until then, whatever it says.
    Until(Instant),
    /// For so long each time.
    Each(Duration),
}

impl Session {
    /// One that waits for the banner until `deadline`, and for all else, too.
    pub(crate) fn new(link: Link, deadline: Instant) -> Self {
        Self {
            link,
            client: Client::default(),
            input: Vec::new(),
            taken: 0,
            out: Vec::new(),
            files: None,
            patience: Patience::Until(deadline),
            is_broken: false,
            told: 0,
            unnamed: 0,
            told_max: TOLD_MAX,
        }
    }

    /// What the replica said that it can.
    pub fn banner(&self) -> &Banner {
        self.client.banner()
    }

    /// Says a command without files and records, and hands all that is answered before the last line
    /// to `take`.
    ///
    /// # Errors
    /// If it is not answered with OK.
    pub fn command(
        &mut self,
        command: &Command,
        take: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), SessionError> {
        self.check()?;
        self.client.send(command, &mut self.out)?;
        self.finish(&name_of(command), take)
    }

    /// Asks for a mailbox with its records, as many as that, or some more.
    ///
    /// # Errors
    /// If it is not answered with OK; [`SessionError::Endless`] if there are many more, or larger ones than
    /// there can be.
    pub fn full_mailbox(
        &mut self,
        name: &MboxName,
        records: u64,
        take: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), SessionError> {
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        self.told_max = TOLD_MAX.saturating_add(records.saturating_mul(RECORD_BYTES));
        let told = self.command(&Command::Get(Get::FullMailbox(name.clone())), take);
        self.told_max = TOLD_MAX;
        told
    }

    /// Sends a message, as one of many: [`Session::end_files`] is what is answered.
    ///
    /// # Errors
    /// If the connection fails, or the file does.
    pub fn file(&mut self, head: &FileHead, bytes: &mut dyn Read) -> Result<(), SessionError> {
        self.check()?;
        let mut writer = match self.files.take() {
            Some(writer) => writer,
            None => self.client.send_files(&mut self.out)?,
        };
        writer.file(head, &mut self.out);
        self.files = Some(writer);
        let mut left = u64::from(head.size);
        while left > 0 {
            if self.out.len() >= PIECE_BYTES {
                self.send()?;
            }
            let start = self.out.len();
            let wanted = left.min(PIECE_BYTES as u64);
            let read = bytes.take(wanted).read_to_end(&mut self.out);
            if !read.as_ref().is_ok_and(|read| *read as u64 == wanted) {
                // The replica waits for bytes that nobody has.
                self.is_broken = true;
                self.out.truncate(start);
                let short = || io::ErrorKind::UnexpectedEof.into();
                return Err(SessionError::Source(read.err().unwrap_or_else(short)));
            }
            left -= wanted;
        }
        Ok(())
    }

    /// Ends the files, if there were any, and waits for the answer.
    ///
    /// # Errors
    /// If it is not OK.
    pub fn end_files(&mut self) -> Result<(), SessionError> {
        let Some(writer) = self.files.take() else { return Ok(()) };
        writer.finish(&mut self.out);
        self.finish("APPLY MESSAGE", &mut |_| {})
    }

    /// Sends a mailbox with its records.
    ///
    /// # Errors
    /// If it is not answered with OK.
    pub fn mailbox(
        &mut self,
        mailbox: &Mailbox,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), SessionError> {
        self.check()?;
        let mut writer = self.client.send_mailbox(mailbox, &mut self.out)?;
        for record in records {
            writer.record(&record, &mut self.out);
            if self.out.len() >= PIECE_BYTES {
                self.send()?;
            }
        }
        writer.finish(&mut self.out);
        self.finish(&format!("APPLY MAILBOX {}", mailbox.mboxname), &mut |_| {})
    }

    /// Takes leave, if that is still possible.
    pub fn close(mut self) {
        if self.client.is_idle() && !self.is_broken {
            // Whatever is answered, this is the end.
            self.patience = Patience::Each(LAST_WORDS);
            let _ = self.command(&Command::Exit, &mut |_| {});
        }
        self.link.close();
    }

    pub(crate) fn await_banner(&mut self) -> Result<(), SessionError> {
        loop {
            match self.hear(&mut |_| {})? {
                Some(Heard::Banner) => return Ok(()),
                Some(_) => {}
                None => self.receive("the connection")?,
            }
        }
    }

    pub(crate) fn start_tls(
        &mut self,
        name: ServerName<'static>,
        trust: &Trust,
        deadline: Instant,
    ) -> Result<(), SessionError> {
        self.command(&Command::StartTls, &mut |_| {})?;
        if self.taken < self.input.len() {
            return Err(SessionError::Injected);
        }
        self.link.start_tls_with(name, trust, deadline)?;
        self.client.tls_started();
        self.await_banner()
    }

    pub(crate) fn start_deflate(&mut self) -> Result<(), SessionError> {
        let compress = Command::Compress { algorithm: "DEFLATE".to_owned() };
        match self.command(&compress, &mut |_| {}) {
            Ok(()) => {
                let rest = self.input.split_off(self.taken);
                (self.input, self.taken) = (Vec::new(), 0);
                self.link.start_deflate(rest);
                self.client.deflate_started();
                Ok(())
            }
            // It goes without.
            Err(error) if error.session_goes_on() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// From now on the replica may be silent for so long.
    pub(crate) fn be_patient(&mut self, silence: Duration) {
        self.patience = Patience::Each(silence);
    }

    fn check(&self) -> Result<(), SessionError> {
        if self.is_broken { Err(SessionError::Broken) } else { Ok(()) }
    }

    /// Sends what is left of a command, and waits for the last line of its answer.
    fn finish(
        &mut self,
        command: &str,
        take: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), SessionError> {
        self.told = 0;
        self.send()?;
        let flushed = self.link.flush();
        flushed.map_err(|error| self.last_words(error))?;
        loop {
            match self.hear(take)? {
                Some(Heard::Done(reply)) => return judge(command, reply),
                Some(Heard::Banner) => {}
                None => self.receive(command)?,
            }
        }
    }

    fn send(&mut self) -> Result<(), SessionError> {
        let sent = self.link.send(&self.out);
        self.out.clear();
        sent.map_err(|error| self.last_words(error))
    }

    /// What the replica said before it hung up, rather than that it did.
    fn last_words(&mut self, error: LinkError) -> SessionError {
        self.is_broken = true;
        let deadline = Instant::now() + LAST_WORDS;
        while let Ok(Received::Bytes) = self.link.receive(&mut self.input, None, deadline) {
            match self.hear(&mut |_| {}) {
                Ok(None) => {}
                Ok(Some(_)) => break,
                Err(said) => return said,
            }
        }
        error.into()
    }

    fn receive(&mut self, command: &str) -> Result<(), SessionError> {
        let deadline = match self.patience {
            Patience::Until(deadline) => deadline,
            Patience::Each(silence) => Instant::now() + silence,
        };
        let received = self.link.receive(&mut self.input, None, deadline);
        match received {
            Ok(Received::Bytes) => Ok(()),
            Ok(Received::End | Received::Stopped) => {
                self.is_broken = true;
                Err(SessionError::Ended(command.to_owned()))
            }
            Err(error) => {
                self.is_broken = true;
                Err(error.into())
            }
        }
    }

    /// What has come, up to what ends an answer; `None` if that is still to come.
    fn hear(&mut self, take: &mut dyn FnMut(Event<'_>)) -> Result<Option<Heard>, SessionError> {
        loop {
            let mut rest = self.input.get(self.taken..).unwrap_or_default();
            let waiting = rest.len();
            let event = match self.client.next(&mut rest) {
                Ok(event) => event,
                Err(error) => {
                    self.is_broken = true;
                    return Err(error.into());
                }
            };
            let left = rest.len();
            self.unnamed += waiting - left;
            if self.unnamed > PART_MAX {
                self.is_broken = true;
                return Err(SessionError::Endless);
            }
            let heard = match event {
                None if left == 0 => {
                    self.input.clear();
                    self.taken = 0;
                    return Ok(None);
                }
                None => return Ok(None),
                Some(Event::Banner) => Some(Heard::Banner),
                Some(Event::Done(reply)) => Some(Heard::Done(reply)),
                // PLAIN has said all it has to say.
                Some(Event::Challenge(_)) => {
                    self.is_broken = true;
                    return Err(ClientError::Unasked("+".to_owned()).into());
                }
                Some(Event::Bye(text)) => {
                    self.is_broken = true;
                    return Err(SessionError::Bye(text));
                }
                Some(event) => {
                    let items = items_of(&event);
                    self.told +=
                        items.map_or(0, |items| self.unnamed + PART_BYTES + items * ITEM_BYTES);
                    if self.told > self.told_max {
                        self.is_broken = true;
                        return Err(SessionError::Endless);
                    }
                    take(event);
                    None
                }
            };
            self.taken = self.input.len() - left;
            self.unnamed = 0;
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }
}

/// How many names or GUIDs a part of an answer has that is kept, if it may have any number.
fn items_of(event: &Event<'_>) -> Option<usize> {
    match event {
        Event::Untagged(Untagged::Lsub(names)) => Some(names.len()),
        Event::Untagged(Untagged::Missing(guids)) => Some(guids.len()),
        Event::Untagged(_) | Event::Record(_) => Some(0),
        _ => None,
    }
}

/// What ends waiting.
enum Heard {
    Banner,
    Done(Reply),
}

fn judge(command: &str, reply: Reply) -> Result<(), SessionError> {
    let command = command.to_owned();
    match reply {
        Reply::Ok(_) => Ok(()),
        Reply::No(no) => Err(SessionError::Refused { command, no }),
        Reply::Bad(text) => Err(SessionError::Bad { command, text }),
        Reply::Bye(text) => Err(SessionError::Bye(text)),
        Reply::Challenge(_) => Err(ClientError::Unasked("+".to_owned()).into()),
    }
}

/// A command as errors name it: without passwords, and without all that it says.
fn name_of(command: &Command) -> String {
    match command {
        Command::Get(get) => format!("GET {}", get.name()),
        Command::Apply(apply) => format!("APPLY {}", apply.name()),
        Command::Authenticate { mechanism, .. } => format!("AUTHENTICATE {mechanism}"),
        Command::StartTls => "STARTTLS".to_owned(),
        Command::Compress { algorithm } => format!("COMPRESS {algorithm}"),
        Command::Noop => "NOOP".to_owned(),
        Command::Restart => "RESTART".to_owned(),
        Command::Exit => "EXIT".to_owned(),
        Command::Restore(_) => "RESTORE".to_owned(),
        Command::Capability { .. } => "CAPABILITY".to_owned(),
    }
}

#[cfg(test)]
mod tests;
