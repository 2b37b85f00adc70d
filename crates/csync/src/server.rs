//! A session as the replica sees it: what may come when, and what is answered without asking.
//!
//! The caller feeds bytes in and is told what to do. Whatever [`Server::next`] and the other methods
//! append to `out` is for the wire, in that order. Untagged replies are the caller's to write,
//! between an [`Action`] and [`Server::done`].

use crate::banner::Banner;
use crate::command::{Apply, Command, CommandError, Get, Restore};
use crate::framer::{Event, Fatal, FileHead, Framer, Limits, Reason, Refuse, Refused, Stream};
use crate::record::Record;
use crate::reply::{No, Reply, write_fatal};
use crate::sasl::SaslData;
use crate::untagged::Untagged;

/// What the caller is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'i> {
    /// Begin to authenticate; then [`Server::challenge`], [`Server::logged_in`] or
    /// [`Server::login_failed`].
    Authenticate {
        /// The mechanism, in capitals. It need not be one that was offered.
        mechanism: String,
        /// The first response, if it came along.
        initial: Option<SaslData>,
    },
    /// The response to a challenge; then likewise.
    Response(SaslData),
    /// Forget the authentication that was under way.
    Cancelled,
    /// Send `out`, do the handshake, and call [`Server::tls_started`]. Bytes behind this in the
    /// input came in the clear and are nobody's: whoever finds any ends the session.
    StartTls,
    /// Send `out` as it is, and call [`Server::deflate_started`]. From here on all is compressed,
    /// also what is left of the input.
    StartDeflate,
    /// A message file of an APPLY MESSAGE begins. Its partition may be none.
    File(FileHead),
    /// The next bytes of it.
    FileBytes(&'i [u8]),
    /// It is complete; nobody has compared it with its GUID yet.
    FileEnd,
    /// Records begin: the command as far as it is known, if that is enough for one. It is final only
    /// when it comes again as [`Action::Apply`] or [`Action::Restore`].
    Records(Option<Box<Command>>),
    /// The next record, in the order of the master.
    Record(Record),
    /// The command whose files or records were handed out is refused; it has been answered.
    Abandon,
    /// Answer it, then [`Server::done`] or [`Server::refuse`].
    Get(Get),
    /// Do it, then likewise. Files and records came before. OK is a promise: what it is said for has
    /// to be on disk.
    Apply(Apply),
    /// Likewise.
    Restore(Box<Restore>),
    /// Forget what was reserved and sent, then [`Server::done`].
    Restart,
    /// Send `out` and close.
    Close,
}

/// What a user who has logged in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything: one of `admins`.
    Admin,
    /// Nothing.
    Nobody,
}

/// What the server waits for the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// The caller judges a response.
    Login,
    /// The client owes a response.
    Response,
    Tls,
    Deflate,
    /// GET, APPLY or RESTORE.
    Command,
    Restart,
    Closed,
}

/// One session.
#[derive(Debug)]
pub struct Server {
    framer: Framer,
    banner: Banner,
    rights: Option<Rights>,
    waiting: Waiting,
    tls: bool,
    deflate: bool,
    force: bool,
    sieve_mailbox: bool,
    /// Files or records of the command that is being read were handed out.
    in_pieces: bool,
    /// A record of it cannot be read.
    bad_record: bool,
}

impl Server {
    /// Greets a client that has to log in.
    pub fn start(banner: Banner, limits: Limits, out: &mut Vec<u8>) -> Self {
        banner.write(out);
        Self::new(banner, limits, None)
    }

    /// Greets one that may do everything: of a Unix socket.
    pub fn start_trusted(banner: Banner, limits: Limits, out: &mut Vec<u8>) -> Self {
        banner.write_greeting(out);
        Self::new(banner, limits, Some(Rights::Admin))
    }

    fn new(banner: Banner, limits: Limits, rights: Option<Rights>) -> Self {
        let mut server = Self {
            framer: Framer::new(Stream::Commands, limits),
            banner,
            rights: None,
            waiting: Waiting::Nothing,
            tls: false,
            deflate: false,
            force: false,
            sieve_mailbox: false,
            in_pieces: false,
            bad_record: false,
        };
        server.set_rights(rights);
        server
    }

    /// Whether APPLY FORCE was said: what contradicts is to be taken. (In Cyrus, it holds for later
    /// sessions of the process, too.)
    pub fn is_forced(&self) -> bool {
        self.force
    }

    /// Whether the master knows that sieve scripts are messages of a mailbox. If not, GET tells of
    /// scripts with SIEVE.
    pub fn has_sieve_mailbox(&self) -> bool {
        self.sieve_mailbox
    }

    /// Whether the session may end here without harm: no command is under way.
    pub fn is_idle(&self) -> bool {
        let waits = matches!(self.waiting, Waiting::Nothing | Waiting::Closed);
        waits && !self.in_pieces && self.framer.is_between()
    }

    /// The next thing to do; what it took is cut off `input`. `None` if more input is needed, or
    /// if something is still to be done: then no input is taken.
    ///
    /// # Errors
    /// If the stream cannot be followed. The client has been told in `out`; close.
    pub fn next<'i>(
        &mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Action<'i>>, Fatal> {
        while matches!(self.waiting, Waiting::Nothing | Waiting::Response) {
            let event = match self.framer.next(input) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(fatal) => {
                    self.waiting = Waiting::Closed;
                    write_fatal(fatal, out);
                    return Err(fatal);
                }
            };
            let action = match event {
                Event::Line(line) if self.waiting == Waiting::Response => {
                    let response = if line == b"*" { None } else { Some(SaslData::decode(line)) };
                    Some(self.response(response, out))
                }
                Event::Line(line) => {
                    let command = Command::from_line(line);
                    self.line(command, out)
                }
                Event::File(head) => {
                    self.in_pieces = true;
                    Some(Action::File(head))
                }
                Event::FileBytes(bytes) => Some(Action::FileBytes(bytes)),
                Event::FileEnd => Some(Action::FileEnd),
                Event::Records(data) => {
                    self.in_pieces = true;
                    Some(Action::Records(Command::from_data(data).ok().map(Box::new)))
                }
                Event::Record(record) => {
                    let record = Record::parse(record).ok();
                    self.record(record)
                }
                Event::Data(data) => {
                    let command = Command::from_data(data);
                    self.data(command, out)
                }
                Event::Refused(refused) => self.data(Err(refused.into()), out),
            };
            if action.is_some() {
                return Ok(action);
            }
        }
        Ok(None)
    }

    /// Asks the client for another response, if one is due.
    pub fn challenge(&mut self, challenge: SaslData, out: &mut Vec<u8>) {
        if self.waiting == Waiting::Login {
            self.waiting = Waiting::Response;
            Reply::Challenge(challenge).write(out);
        }
    }

    /// The client is who it says. `protection` is what guards the connection: `no protection`, `tls
    /// protection`.
    pub fn logged_in(&mut self, rights: Rights, protection: &str, out: &mut Vec<u8>) {
        if self.waiting == Waiting::Login {
            self.waiting = Waiting::Nothing;
            self.set_rights(Some(rights));
            Reply::Ok(format!("Success ({protection})")).write(out);
        }
    }

    /// It is not. Cyrus says `authentication failure` or `no mechanism available`, and waits a while
    /// before.
    pub fn login_failed(&mut self, why: &str, out: &mut Vec<u8>) {
        if self.waiting == Waiting::Login {
            self.waiting = Waiting::Nothing;
            Reply::No(No::Other(why.to_owned())).write(out);
        }
    }

    /// TLS has begun: the client gets what can be done now.
    pub fn tls_started(&mut self, mechanisms: Vec<String>, out: &mut Vec<u8>) {
        if self.waiting == Waiting::Tls {
            self.waiting = Waiting::Nothing;
            self.tls = true;
            let (starttls, deflate) = (false, false);
            Banner { mechanisms, starttls, deflate, ..self.banner.clone() }.write(out);
        }
    }

    /// Input is inflated from now on, and output deflated.
    pub fn deflate_started(&mut self) {
        if self.waiting == Waiting::Deflate {
            self.waiting = Waiting::Nothing;
            self.deflate = true;
        }
    }

    /// The command was carried out.
    pub fn done(&mut self, out: &mut Vec<u8>) {
        let text = match self.waiting {
            Waiting::Command => "success",
            Waiting::Restart => "Restarting",
            _ => return,
        };
        self.waiting = Waiting::Nothing;
        Reply::Ok(text.to_owned()).write(out);
    }

    /// The command was not carried out.
    pub fn refuse(&mut self, no: &No, out: &mut Vec<u8>) {
        if matches!(self.waiting, Waiting::Command | Waiting::Restart) {
            self.waiting = Waiting::Nothing;
            Reply::No(no.clone()).write(out);
        }
    }

    /// Says good-bye in the name of an operator. Not to be called with half an answer sent.
    pub fn shut_down(&mut self, out: &mut Vec<u8>) {
        self.waiting = Waiting::Closed;
        Reply::Bye("shutting down".to_owned()).write(out);
    }

    fn set_rights(&mut self, rights: Option<Rights>) {
        self.rights = rights;
        let admin = rights == Some(Rights::Admin);
        self.framer.refuse_data(if admin { Refuse::Wrong } else { Refuse::All });
    }

    /// What everybody gets who may not do anything, if that is so.
    fn denial(&self) -> Option<No> {
        match self.rights {
            Some(Rights::Admin) => None,
            Some(Rights::Nobody) => Some(No::PermissionDenied),
            None => Some(No::NotAuthenticated),
        }
    }

    fn response<'i>(
        &mut self,
        response: Option<Option<SaslData>>,
        out: &mut Vec<u8>,
    ) -> Action<'i> {
        self.waiting = Waiting::Nothing;
        match response {
            Some(Some(response)) => {
                self.waiting = Waiting::Login;
                return Action::Response(response);
            }
            Some(None) => CommandError::Base64.reply().write(out),
            None => Reply::bad("Client canceled authentication").write(out),
        }
        Action::Cancelled
    }

    fn line<'i>(
        &mut self,
        command: Result<Command, CommandError>,
        out: &mut Vec<u8>,
    ) -> Option<Action<'i>> {
        if self.rights == Some(Rights::Nobody) {
            Reply::No(No::PermissionDenied).write(out);
            return None;
        }
        let reply = match command {
            Err(error) => error.reply(),
            Ok(Command::Authenticate { mechanism, initial }) => {
                if self.rights.is_none() {
                    self.waiting = Waiting::Login;
                    return Some(Action::Authenticate { mechanism, initial });
                }
                Reply::bad("Already authenticated")
            }
            Ok(Command::StartTls) => match self.refusal_of_tls() {
                Some(refusal) => refusal,
                None => {
                    self.waiting = Waiting::Tls;
                    Reply::Ok("Begin TLS negotiation now".to_owned()).write(out);
                    return Some(Action::StartTls);
                }
            },
            Ok(Command::Compress { algorithm }) => match self.refusal_of_deflate(&algorithm) {
                Some(refusal) => refusal,
                None => {
                    self.waiting = Waiting::Deflate;
                    Reply::Ok("DEFLATE active".to_owned()).write(out);
                    return Some(Action::StartDeflate);
                }
            },
            Ok(Command::Noop) => Reply::Ok("Noop completed".to_owned()),
            Ok(Command::Restart) => {
                self.waiting = Waiting::Restart;
                return Some(Action::Restart);
            }
            Ok(Command::Exit) => {
                self.waiting = Waiting::Closed;
                Reply::Ok("Finished".to_owned()).write(out);
                return Some(Action::Close);
            }
            Ok(Command::Capability { tag }) => {
                // An answer with the tag spares the client ten seconds.
                out.extend_from_slice(&tag);
                out.push(b' ');
                CommandError::Unrecognized.reply()
            }
            Ok(Command::Get(_) | Command::Apply(_) | Command::Restore(_)) => Reply::unrecognized(),
        };
        reply.write(out);
        None
    }

    fn refusal_of_tls(&self) -> Option<Reply> {
        if !self.banner.starttls {
            Some(Reply::unrecognized())
        } else if self.tls {
            Some(Reply::bad("Already did a successful Starttls"))
        } else if self.rights.is_some() {
            Some(Reply::bad("Can't Starttls after authentication"))
        } else {
            None
        }
    }

    fn refusal_of_deflate(&self, algorithm: &str) -> Option<Reply> {
        let text = if self.deflate {
            format!("Compression already active: {algorithm}")
        } else if !self.banner.deflate || self.tls || algorithm != "DEFLATE" {
            format!("Unknown compression algorithm: {algorithm}")
        } else if self.rights.is_none() {
            // Cyrus takes it. But it costs memory, and no master asks before it has logged in.
            return Some(Reply::No(No::NotAuthenticated));
        } else {
            return None;
        };
        Some(Reply::No(No::Other(text)))
    }

    fn record<'i>(&mut self, record: Option<Record>) -> Option<Action<'i>> {
        self.bad_record |= record.is_none();
        record.filter(|_| !self.bad_record).map(Action::Record)
    }

    /// A command with a value is complete.
    fn data<'i>(
        &mut self,
        command: Result<Command, CommandError>,
        out: &mut Vec<u8>,
    ) -> Option<Action<'i>> {
        if self.waiting == Waiting::Response {
            return Some(self.response(Some(None), out));
        }
        let in_pieces = std::mem::take(&mut self.in_pieces);
        let bad_record = std::mem::take(&mut self.bad_record);
        let refusal = match command {
            Err(CommandError::Refused(refused)) if is_denied(&refused) => {
                Reply::No(self.denial().unwrap_or(No::PermissionDenied))
            }
            Err(error) => error.reply(),
            Ok(_) if bad_record => Reply::No(No::ProtocolError),
            Ok(Command::Apply(Apply::Force)) => {
                self.force = true;
                Reply::Ok("success".to_owned())
            }
            Ok(Command::Apply(Apply::Capabilities(names))) => {
                self.enable(&names, out);
                Reply::Ok("success".to_owned())
            }
            Ok(Command::Apply(Apply::Mailbox(mailbox)))
                if mailbox.is_sieve() && !self.sieve_mailbox =>
            {
                Reply::No(No::BadParameters)
            }
            Ok(command) => {
                self.waiting = Waiting::Command;
                match command {
                    Command::Get(get) => return Some(Action::Get(get)),
                    Command::Apply(apply) => return Some(Action::Apply(apply)),
                    Command::Restore(restore) => return Some(Action::Restore(restore)),
                    // None of them has a value.
                    _ => self.waiting = Waiting::Nothing,
                }
                Reply::unrecognized()
            }
        };
        refusal.write(out);
        in_pieces.then_some(Action::Abandon)
    }

    /// Says which of the master's capabilities count.
    fn enable(&mut self, names: &[Vec<u8>], out: &mut Vec<u8>) {
        let known: [(&[u8], bool); 2] = [
            (b"SIEVE-MAILBOX", self.banner.sieve_mailbox),
            (b"REPLICATION-ARCHIVE", self.banner.archive),
        ];
        let counts = |name: &&Vec<u8>| {
            known.iter().any(|(known, on)| *on && name.eq_ignore_ascii_case(known))
        };
        let enabled: Vec<Vec<u8>> = names.iter().filter(counts).cloned().collect();
        self.sieve_mailbox |=
            enabled.iter().any(|name| name.eq_ignore_ascii_case(b"SIEVE-MAILBOX"));
        Untagged::Enabled(enabled).write(out);
    }
}

fn is_denied(refused: &Refused) -> bool {
    refused.reason == Reason::NotAllowed
}

#[cfg(test)]
mod tests;
