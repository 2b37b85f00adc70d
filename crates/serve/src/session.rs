//! One connection, from its greeting to its end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Instant;

use csync::banner::Banner;
use csync::reply::No;
use csync::sasl::SaslData;
use csync::server::{Action, Rights, Server};
use peer::{Link, LinkError, Received, Stop};

use crate::event::{End, Event, What, chain};
use crate::handler::{Failure, Handler, Modes};
use crate::login::{Plain, is_private};
use crate::server::{Shared, Tls};

/// Bytes of an answer that are gathered before they are sent.
const OUT_BYTES: usize = 64 << 10;

/// What a mechanism that is not offered is answered with, as by Cyrus.
const NO_MECHANISM: &str = "no mechanism available";
const WRONG: &str = "authentication failure";

/// A connection and all that belongs to it.
pub(crate) struct Session<'s> {
    shared: &'s Shared,
    stop: &'s Stop,
    link: Link,
    peer: SocketAddr,
    server: Server,
    /// What is to be sent.
    out: Vec<u8>,
    user: Option<String>,
    /// There from the login on.
    handler: Option<Box<dyn Handler>>,
    /// When the peer has to have logged in, and later when a command has to be done that was begun
    /// before the server was told to end.
    until: Option<Instant>,
    failures: u32,
    commands: u64,
}

/// How an action went.
enum Next {
    Go,
    /// Somebody else's bytes begin: those that are left are given to this.
    Tls,
    Deflate,
    End(End),
}

impl<'s> Session<'s> {
    /// Serves a connection until its end, and reports that.
    pub fn serve(shared: &'s Shared, stop: &'s Stop, link: Link, tls: Tls) {
        let until = Instant::now() + shared.config.limits.login;
        // Who is gone before he was greeted is nobody.
        let Ok(peer) = link.peer() else { return };
        let mut out = Vec::new();
        let secret = tls == Tls::AtOnce;
        let banner = Banner {
            mechanisms: mechanisms(secret || is_private(peer.ip())),
            starttls: !secret && shared.config.identity.is_some(),
            // Cyrus compresses what TLS has not made incompressible.
            deflate: !secret && shared.config.deflate,
            ..Banner::new(&shared.config.name, &shared.config.version)
        };
        let server = Server::start(banner, shared.config.limits.wire, &mut out);
        let mut session = Session {
            shared,
            stop,
            link,
            peer,
            server,
            out,
            user: None,
            handler: None,
            until: Some(until),
            failures: 0,
            commands: 0,
        };
        let ended = if secret { session.handshake() } else { Ok(()) }.and_then(|()| session.run());
        // What the session staged goes before anybody hears that it is over.
        session.handler = None;
        let how = match ended {
            Ok(end) => {
                session.last_words().map_or_else(|error| End::Failed(chain(&error)), |()| end)
            }
            Err(LinkError::Silent) if session.user.is_none() => End::NoLogin,
            Err(error) => End::Failed(chain(&error)),
        };
        session.tell(What::Ended { commands: session.commands, how });
        session.link.close();
    }

    fn run(&mut self) -> Result<End, LinkError> {
        let mut input = Vec::new();
        let mut taken = 0;
        let mut answered = false;
        loop {
            if answered && self.server.is_idle() && self.stop.is_called() {
                return Ok(self.say_goodbye());
            }
            let mut rest = input.get(taken..).unwrap_or_default();
            let said = self.out.len();
            let action = match self.server.next(&mut rest, &mut self.out) {
                Ok(action) => action,
                Err(fatal) => return Ok(End::Fatal(fatal.to_string())),
            };
            self.tell_refusals(said);
            let Some(action) = action else {
                input.clear();
                taken = 0;
                answered = true;
                match self.receive(&mut input)? {
                    None => continue,
                    Some(end) => return Ok(end),
                }
            };
            answered = matches!(action, Action::Get(_) | Action::Apply(_) | Action::Restore(_));
            match self.act(action)? {
                Next::Go => taken = input.len() - rest.len(),
                Next::Tls => {
                    if !rest.is_empty() {
                        return Ok(End::Injected);
                    }
                    (input, taken) = (Vec::new(), 0);
                    self.send_all()?;
                    self.handshake()?;
                    self.server.tls_started(mechanisms(true), &mut self.out);
                }
                Next::Deflate => {
                    self.send_all()?;
                    self.link.start_deflate(rest.to_vec());
                    self.server.deflate_started();
                    (input, taken) = (Vec::new(), 0);
                }
                Next::End(end) => return Ok(end),
            }
            if self.out.len() >= OUT_BYTES {
                send(&mut self.link, &mut self.out)?;
            }
        }
    }

    /// Sends what is to be sent, and waits for more to do. Returns how the session ends, if it does.
    fn receive(&mut self, input: &mut Vec<u8>) -> Result<Option<End>, LinkError> {
        self.send_all()?;
        loop {
            let idle = self.server.is_idle();
            let now = Instant::now();
            let until = self.until.unwrap_or(now + self.shared.config.limits.idle);
            // Who never stops talking does not log in either.
            if now >= until {
                return Err(LinkError::Silent);
            }
            let hurried = self.user.is_some() && self.until.is_some();
            let stop = (!hurried || idle).then_some(self.stop);
            return match self.link.receive(input, stop, until)? {
                Received::Bytes => Ok(None),
                Received::End if idle => Ok(Some(End::Closed)),
                Received::End => Ok(Some(End::Broken)),
                // Nothing that a stranger does is worth waiting for.
                Received::Stopped if idle || self.user.is_none() => Ok(Some(self.say_goodbye())),
                Received::Stopped => {
                    self.until = Some(now + self.shared.config.limits.drain);
                    continue;
                }
            };
        }
    }

    fn act(&mut self, action: Action<'_>) -> Result<Next, LinkError> {
        match action {
            Action::Authenticate { mechanism, initial } => {
                return self.authenticate(&mechanism, initial);
            }
            Action::Response(response) => return self.log_in(&response),
            Action::Cancelled => {}
            Action::StartTls => return Ok(Next::Tls),
            Action::StartDeflate => return Ok(Next::Deflate),
            Action::Close => return Ok(Next::End(End::Exit)),
            Action::Restart => {
                if let Some(handler) = &mut self.handler {
                    handler.restart();
                }
                self.server.done(&mut self.out);
            }
            Action::Get(get) => {
                let name = format!("GET {}", get.name());
                return self.answer(&name, |handler, modes, out| handler.get(get, modes, out));
            }
            Action::Apply(apply) => {
                let name = format!("APPLY {}", apply.name());
                return self.answer(&name, |handler, modes, out| handler.apply(apply, modes, out));
            }
            Action::Restore(restore) => {
                return self.answer("RESTORE", |handler, _, _| handler.restore(*restore));
            }
            piece => self.piece(piece),
        }
        Ok(Next::Go)
    }

    /// Files and records, which come before their command.
    fn piece(&mut self, action: Action<'_>) {
        let Some(handler) = &mut self.handler else { return };
        match action {
            Action::File(head) => handler.file(head),
            Action::FileBytes(bytes) => handler.file_bytes(bytes),
            Action::FileEnd => handler.file_end(),
            Action::Records(command) => handler.records(command),
            Action::Record(record) => handler.record(record),
            Action::Abandon => handler.abandon(),
            _ => {}
        }
    }

    /// Has a command carried out, and answers it.
    fn answer(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut dyn Handler, Modes, &mut dyn Write) -> Result<(), Failure>,
    ) -> Result<Next, LinkError> {
        self.commands += 1;
        let modes = Modes {
            force: self.server.is_forced(),
            sieve_mailbox: self.server.has_sieve_mailbox(),
        };
        let mut wire = Wire { link: &mut self.link, out: &mut self.out, error: None };
        let done = match &mut self.handler {
            Some(handler) => run(handler.as_mut(), modes, &mut wire),
            // csync asks for nothing before the login.
            None => Err(Failure::refused(No::NotAuthenticated, "nobody has logged in")),
        };
        if let Some(error) = wire.error {
            return Err(error);
        }
        match done {
            Ok(()) => self.server.done(&mut self.out),
            Err(Failure::Refused { no, why }) => {
                self.server.refuse(&no, &mut self.out);
                let reply = no.text().to_owned();
                self.tell(What::Refused { command: name.to_owned(), reply, why });
            }
            Err(error @ Failure::Output(_)) => {
                // An answer that cannot go on: only the end of the connection tells that.
                self.out.clear();
                return Ok(Next::End(End::Failed(chain(&error))));
            }
        }
        Ok(Next::Go)
    }

    fn authenticate(
        &mut self,
        mechanism: &str,
        initial: Option<SaslData>,
    ) -> Result<Next, LinkError> {
        if mechanism != "PLAIN" {
            return self.login_fails(None, "the mechanism is not offered", NO_MECHANISM);
        }
        if !self.may_say_passwords() {
            let why = "passwords are not taken in the clear from other machines";
            return self.login_fails(None, why, NO_MECHANISM);
        }
        match initial {
            Some(response) => self.log_in(&response),
            None => {
                self.server.challenge(SaslData::default(), &mut self.out);
                Ok(Next::Go)
            }
        }
    }

    fn log_in(&mut self, response: &SaslData) -> Result<Next, LinkError> {
        let Some(Plain { name, password }) = Plain::parse(response.as_bytes()) else {
            return self.login_fails(None, "the response is not one of PLAIN", WRONG);
        };
        match self.shared.config.users.verify(name, password) {
            Ok(true) => {
                self.user = Some(name.to_owned());
                self.until = None;
                self.handler = Some((self.shared.config.handlers)());
                let encrypted = self.link.is_encrypted();
                let protection = if encrypted { "tls protection" } else { "no protection" };
                self.server.logged_in(Rights::Admin, protection, &mut self.out);
                self.tell(What::LoggedIn { encrypted });
                Ok(Next::Go)
            }
            Ok(false) => self.login_fails(Some(name), "no such user, or a wrong password", WRONG),
            Err(error) => {
                let why = chain(&error);
                self.tell(What::Trouble { doing: "judge a login", why });
                self.login_fails(Some(name), "see above", "generic failure")
            }
        }
    }

    fn login_fails(
        &mut self,
        name: Option<&str>,
        why: &'static str,
        reply: &str,
    ) -> Result<Next, LinkError> {
        self.tell(What::LoginFailed { name: name.unwrap_or("nobody").to_owned(), why });
        self.failures += 1;
        self.stop.wait(self.shared.config.limits.login_pause);
        self.server.login_failed(reply, &mut self.out);
        if self.failures >= self.shared.config.limits.login_failures_max {
            return Ok(Next::End(End::TooManyFailures));
        }
        Ok(Next::Go)
    }

    fn may_say_passwords(&self) -> bool {
        self.link.is_encrypted() || is_private(self.peer.ip())
    }

    fn handshake(&mut self) -> Result<(), LinkError> {
        let Some(identity) = &self.shared.config.identity else { return Err(LinkError::Closed) };
        let until = self.until.unwrap_or_else(Instant::now);
        self.link.start_tls(identity, until)
    }

    fn say_goodbye(&mut self) -> End {
        self.server.shut_down(&mut self.out);
        End::Stopped
    }

    fn last_words(&mut self) -> Result<(), LinkError> {
        self.send_all()
    }

    fn send_all(&mut self) -> Result<(), LinkError> {
        send(&mut self.link, &mut self.out)?;
        self.out = Vec::new();
        self.link.flush()
    }

    /// Reports what the protocol itself has refused since `said`.
    fn tell_refusals(&self, said: usize) {
        let text = String::from_utf8_lossy(self.out.get(said..).unwrap_or_default());
        for reply in text.lines().filter(|line| line.starts_with("BAD ") || line.starts_with("NO "))
        {
            self.tell(What::NotUnderstood { reply: reply.to_owned() });
        }
    }

    fn tell(&self, what: What) {
        (self.shared.config.watch)(&Event { peer: Some(self.peer), user: self.user.clone(), what });
    }
}

/// A connection that is given up in a panic says whose bug it is.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(What::Ended { commands: self.commands, how: End::Panicked });
        }
    }
}

/// What is offered where passwords may be said, or may not.
fn mechanisms(private: bool) -> Vec<String> {
    if private { vec!["PLAIN".to_owned()] } else { Vec::new() }
}

fn send(link: &mut Link, out: &mut Vec<u8>) -> Result<(), LinkError> {
    link.send(out)?;
    out.clear();
    Ok(())
}

/// Where untagged replies are written.
struct Wire<'w> {
    link: &'w mut Link,
    out: &'w mut Vec<u8>,
    error: Option<LinkError>,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        if self.out.len() >= OUT_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        send(self.link, self.out).map_err(|error| {
            self.error = Some(error);
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }
}
