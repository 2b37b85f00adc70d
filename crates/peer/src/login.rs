//! Whom a master talks to, as whom, and what it takes until it may.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use csync::banner::Banner;
use csync::command::{Apply, Command};
use csync::sasl::SaslData;
use rustls::pki_types::ServerName;

use crate::session::{Session, SessionError};
use crate::{Link, Trust};

/// The mechanism that is used.
const PLAIN: &str = "PLAIN";

/// What a master of 3.6 says that it can.
const SIEVE_MAILBOX: &[u8] = b"SIEVE-MAILBOX";

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its name, which its certificate has to have, or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What nobody between the two may read.
    pub secrecy: Secrecy,
}

/// When a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// With TLS from the first byte on.
    AtOnce,
    /// By STARTTLS. In the clear only to this very machine.
    Required,
    /// By STARTTLS if that is offered, else in the clear, the password included.
    IfOffered,
}

/// Who logs in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name: an administrator of the replica.
    pub name: String,
    /// The password.
    pub password: Vec<u8>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All of connecting and logging in.
    pub login: Duration,
    /// Silence of the replica while it is to answer, or to take what is sent. (Cyrus: half an hour.)
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { login: Duration::from_secs(60), silence: Duration::from_secs(30 * 60) }
    }
}

impl Session {
    /// Connects and logs in; then compresses, unless the connection is encrypted or stays on this
    /// machine, and asks for sieve scripts in mailboxes if `sieve_mailbox` says so and the replica can.
    ///
    /// # Errors
    /// What keeps it from that.
    pub fn open(
        address: &Address,
        account: &Account,
        trust: Option<&Trust>,
        limits: Limits,
        sieve_mailbox: bool,
    ) -> Result<Self, SessionError> {
        let deadline = Instant::now() + limits.login;
        let found = (address.host.as_str(), address.port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(SessionError::Resolve)?.collect();
        let mut link = Link::connect(&found, limits.silence, deadline)?;
        let is_here = link.peer()?.ip().to_canonical().is_loopback();
        if address.secrecy == Secrecy::AtOnce {
            link.start_tls_with(
                server_name(address)?,
                trust.ok_or(SessionError::NoTrust)?,
                deadline,
            )?;
        }
        let mut session = Self::new(link, deadline);
        session.await_banner()?;
        if wants_tls(session.banner(), address.secrecy, is_here)? {
            let trust = trust.ok_or(SessionError::NoTrust)?;
            session.start_tls(server_name(address)?, trust, deadline)?;
        }
        session.log_in(account)?;
        // What goes nowhere gets there no sooner.
        if session.banner().deflate && !is_here {
            session.start_deflate()?;
        }
        if sieve_mailbox && session.banner().sieve_mailbox {
            let capabilities = Apply::Capabilities(vec![SIEVE_MAILBOX.to_vec()]);
            session.command(&Command::Apply(capabilities), &mut |_| {})?;
        }
        session.be_patient(limits.silence);
        Ok(session)
    }

    fn log_in(&mut self, account: &Account) -> Result<(), SessionError> {
        let mechanisms = &self.banner().mechanisms;
        if !mechanisms.iter().any(|mechanism| mechanism == PLAIN) {
            return Err(SessionError::NoPlain { offered: mechanisms.join(" ") });
        }
        let said = [b"\0", account.name.as_bytes(), b"\0", &account.password].concat();
        let initial = Some(SaslData::new(said));
        let command = Command::Authenticate { mechanism: PLAIN.to_owned(), initial };
        self.command(&command, &mut |_| {}).map_err(|error| match error {
            SessionError::Refused { no, .. } => {
                let (name, why) = (account.name.clone(), no.text().to_owned());
                SessionError::Login { name, why }
            }
            error => error,
        })
    }
}

/// Whether TLS is to begin now.
fn wants_tls(banner: &Banner, secrecy: Secrecy, is_here: bool) -> Result<bool, SessionError> {
    let offers_plain = banner.mechanisms.iter().any(|mechanism| mechanism == PLAIN);
    match secrecy {
        Secrecy::AtOnce => Ok(false),
        _ if is_here && offers_plain => Ok(false),
        _ if banner.starttls => Ok(true),
        Secrecy::Required if !is_here => Err(SessionError::NoTls),
        _ => Ok(false),
    }
}

fn server_name(address: &Address) -> Result<ServerName<'static>, SessionError> {
    let name = ServerName::try_from(address.host.clone());
    name.map_err(|_| SessionError::NoName(address.host.clone()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({:?})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(mechanisms: &[&str], starttls: bool) -> Banner {
        let mechanisms = mechanisms.iter().map(|name| (*name).to_owned()).collect();
        Banner { mechanisms, starttls, ..Banner::default() }
    }

    #[test]
    fn a_password_goes_through_the_clear_only_where_it_may() {
        let (plain, both, neither) =
            (banner(&["PLAIN"], false), banner(&["PLAIN"], true), banner(&[], true));
        for (banner, secrecy, is_here, wanted) in [
            (&plain, Secrecy::Required, true, Some(false)),
            (&plain, Secrecy::Required, false, None),
            (&plain, Secrecy::IfOffered, false, Some(false)),
            (&both, Secrecy::Required, true, Some(false)),
            (&both, Secrecy::Required, false, Some(true)),
            (&both, Secrecy::IfOffered, false, Some(true)),
            (&neither, Secrecy::Required, true, Some(true)),
            (&both, Secrecy::AtOnce, false, Some(false)),
        ] {
            let found = wants_tls(banner, secrecy, is_here).ok();
            assert_eq!(found, wanted, "{banner:?} {secrecy:?} {is_here}");
        }
    }

    #[test]
    fn nobody_reads_a_password_from_a_log() {
        let account = Account { name: "mirror".to_owned(), password: b"secret".to_vec() };
        assert_eq!(format!("{account:?}"), "Account(\"mirror\")");
    }
}
