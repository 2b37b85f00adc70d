//! Where a replica is, and how to get in.

use std::path::Path;
use std::time::Duration;

use peer::{Account, Address, Limits, Secrecy, Session, SessionError, Trust};
use spool::Server;

use crate::args::ReplicateArgs;
use crate::error::CliError;
use crate::password;

/// The port of csync, as Cyrus' manuals have it in /etc/services.
const PORT: u16 = 2005;

/// Who logs in if nobody says.
const NAME: &str = "cyrus";

/// How long a replica may be silent that is followed: a network may swallow what is sent without a word,
/// and half an hour would be long to wait for it.
const SILENCE: Duration = Duration::from_secs(600);

/// A replica, and who we are to it.
pub struct Target {
    address: Address,
    account: Account,
    trust: Option<Trust>,
    limits: Limits,
    sieve_mailbox: bool,
}

/// What the command line says about a server that speaks csync.
pub struct Door<'d> {
    /// Where it is.
    pub url: &'d str,
    /// Who logs in if the URL does not say.
    pub name: Option<String>,
    /// Where the password is, if it is not typed.
    pub password_file: Option<&'d Path>,
    /// Certificates to believe.
    pub tls_ca: Option<&'d Path>,
    /// Whether the password may be sent in the clear.
    pub cleartext: bool,
    /// Whether sieve scripts may travel as messages.
    pub sieve_mailbox: bool,
    /// How long it is waited for.
    pub limits: Limits,
}

impl Target {
    /// Reads the URL, the password and certificates.
    pub fn new(args: &ReplicateArgs, server: &Server) -> Result<Self, CliError> {
        let authname = server.conf().get("sync_authname");
        let limits = match args.rolling.rolling {
            true => Limits { silence: SILENCE, ..Limits::default() },
            false => Limits::default(),
        };
        Self::through(Door {
            limits,
            url: &args.to,
            name: authname.map(|name| String::from_utf8_lossy(name).into_owned()),
            password_file: args.password_file.as_deref(),
            tls_ca: args.tls_ca.as_deref(),
            cleartext: args.cleartext,
            sieve_mailbox: server.has_sieve_mailboxes(),
        })
    }

    /// The same for whoever has no configuration.
    pub fn through(door: Door<'_>) -> Result<Self, CliError> {
        let url = Url::parse(door.url).ok_or_else(|| Url::wrong(door.url))?;
        let name = url.user.or(door.name).unwrap_or_else(|| NAME.to_owned());
        let secrecy = match (url.is_secret, door.cleartext) {
            (true, _) => Secrecy::AtOnce,
            (false, true) => Secrecy::IfOffered,
            (false, false) => Secrecy::Required,
        };
        let trust = match door.tls_ca {
            Some(path) => {
                let trust = Trust::read(path);
                Some(trust.map_err(|e| CliError::failed("cannot use --tls-ca", e))?)
            }
            // Whether it is needed, the server has to say.
            None => Trust::system().ok(),
        };
        let password = match door.password_file {
            Some(path) => read_password(path)?,
            None => password::read(&name)
                .map_err(|error| CliError::failed("cannot read the password", error))?,
        };
        Ok(Self {
            limits: door.limits,
            address: Address { host: url.host, port: url.port.unwrap_or(PORT), secrecy },
            account: Account { name, password },
            trust,
            sieve_mailbox: door.sieve_mailbox,
        })
    }

    /// Another server that believes the same certificates and, unless a file has another one, the same
    /// password.
    pub fn beside(&self, url: &str, password_file: Option<&Path>) -> Result<Self, CliError> {
        let url = Url::parse(url).ok_or_else(|| Url::wrong(url))?;
        let secrecy = match (url.is_secret, self.address.secrecy) {
            (true, _) => Secrecy::AtOnce,
            (false, Secrecy::IfOffered) => Secrecy::IfOffered,
            (false, Secrecy::AtOnce | Secrecy::Required) => Secrecy::Required,
        };
        let password = match password_file {
            Some(path) => read_password(path)?,
            None => self.account.password.clone(),
        };
        let name = url.user.unwrap_or_else(|| self.account.name.clone());
        Ok(Self {
            limits: self.limits,
            address: Address { host: url.host, port: url.port.unwrap_or(PORT), secrecy },
            account: Account { name, password },
            trust: self.trust.clone(),
            sieve_mailbox: self.sieve_mailbox,
        })
    }

    /// Connects and logs in.
    pub fn open(&self) -> Result<Session, SessionError> {
        let Self { address, account, trust, limits, sieve_mailbox } = self;
        Session::open(address, account, trust.as_ref(), *limits, *sieve_mailbox)
    }

    /// Attaches the hint that fits.
    pub fn explain(&self, error: SessionError) -> CliError {
        let hint = match &error {
            SessionError::Login { .. } => {
                Some("check the user and the password; a Cyrus has to name the user in its admins")
            }
            SessionError::NoTls => Some(
                "let the replica offer TLS, or use a tunnel; --cleartext sends it all the same",
            ),
            SessionError::NoPlain { .. } => {
                Some("sasl_mech_list of the replica has to name PLAIN, and allowplaintext allow it")
            }
            SessionError::NoTrust => Some("--tls-ca names a file of certificates to believe"),
            SessionError::Link(peer::LinkError::Tls(_)) => {
                Some("--tls-ca names a file of certificates to believe")
            }
            _ => None,
        };
        let explained = CliError::failed(format!("cannot use {}", self.address), error);
        match hint {
            Some(hint) => explained.hint(hint),
            None => explained,
        }
    }
}

fn read_password(path: &Path) -> Result<Vec<u8>, CliError> {
    password::read_file(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => format!("chmod 600 {}", path.display()),
            _ => "it holds the password in its first line".to_owned(),
        };
        CliError::failed(format!("cannot use {}", path.display()), error).hint(hint)
    })
}

/// `csync://[user@]host[:port]`
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    is_secret: bool,
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Url {
    /// What to say of one that is none.
    pub fn wrong(text: &str) -> CliError {
        CliError::usage(format!("{text} is no replica"))
            .hint("use csync://[USER@]HOST[:PORT], or csyncs:// for TLS from the start")
    }

    /// The host and its port.
    pub fn place(&self) -> String {
        let port = self.port.unwrap_or(PORT);
        match self.host.contains(':') {
            true => format!("[{}]:{port}", self.host),
            false => format!("{}:{port}", self.host),
        }
    }

    /// Reads one; no password may be in it, for all of the machine can see a command line.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_secret = match scheme {
            "csync" => false,
            "csyncs" => true,
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A userid may have an @ itself, a host has none.
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, rest),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(place) => {
                let (host, port) = place.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map(str::parse).transpose().ok()?;
        let is_good = !host.is_empty()
            && !host.contains('/')
            && user.as_ref().is_none_or(|user| !user.is_empty() && !user.contains(':'));
        is_good.then(|| Self { is_secret, user, host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(is_secret: bool, user: Option<&str>, host: &str, port: Option<u16>) -> Option<Url> {
        Some(Url { is_secret, user: user.map(str::to_owned), host: host.to_owned(), port })
    }

    #[test]
    fn a_replica_is_named_by_a_url() {
        for (text, expected) in [
            ("csync://r.example.com", url(false, None, "r.example.com", None)),
            ("csyncs://m@r:2006/", url(true, Some("m"), "r", Some(2006))),
            ("csync://a@b.c@[::1]:7", url(false, Some("a@b.c"), "::1", Some(7))),
            ("csync://[::1]", url(false, None, "::1", None)),
            ("csync://m:secret@r", None),
            ("csync://", None),
            ("csync://@r", None),
            ("csync://r:port", None),
            ("csync://r:99999", None),
            ("csync://r/x", None),
            ("csync://[::1", None),
            ("imap://r", None),
            ("r", None),
        ] {
            assert_eq!(Url::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_place_is_written_as_a_url_has_it() {
        for (url, place) in [
            ("csync://m@r.example.com", "r.example.com:2005"),
            ("csync://r:7", "r:7"),
            ("csync://m@[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("csync://[::1]", "[::1]:2005"),
        ] {
            assert_eq!(Url::parse(url).map(|url| url.place()).as_deref(), Some(place));
        }
    }
}
