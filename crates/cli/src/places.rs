//! The places that an account can be at: how they are named, and how the account is had from each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cyrus_format::names::NameRules;
use engine::archive::stored;
use engine::live::{apart, live};
use engine::place::{Absent, Kept, Place as AccountAt, Told};
use engine::ports::MessageSource;
use engine::replicate::local::Local;
use engine::selection::Selection;
use engine::source::SourceAccount;
use model::Userid;
use peer::{Limits, Session, SessionError};
use segment::chain::{Chain, Snapshot};
use segment::names::Unescaped;
use spool::{Server, SpoolError};
use vault::Vault;

use crate::archive::{self, Archives};
use crate::commands::replicate::target::{Door, Target};
use crate::error::CliError;
use crate::{spool_error, vaults};

/// Where a Cyrus has its configuration.
const CONF: &str = "/etc/imapd.conf";

/// What is needed to get at a place, beside its name.
pub struct Access<'a> {
    /// Where the password for a server is, if it is not typed.
    pub password_file: Option<&'a Path>,
    /// Certificates to believe.
    pub tls_ca: Option<&'a Path>,
    /// Whether a password may be sent in the clear.
    pub cleartext: bool,
    /// Of a spool.
    pub spool: spool::Options,
}

/// A place, opened.
pub enum Place {
    /// A spool of this machine.
    Spool(Box<Server>),
    /// A server that speaks csync.
    Server(Box<Target>),
    /// A vault.
    Vault(Vault),
    /// An archive file.
    Archive(Archives),
}

/// What a place needs from one account to the next.
#[derive(Default)]
pub struct Thread {
    session: Option<Session>,
}

impl Thread {
    /// Whether there should be a connection, and is none.
    pub fn has_lost(&self, place: &Place) -> bool {
        matches!(place, Place::Server(_)) && self.session.is_none()
    }

    /// Takes leave of the server.
    pub fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

/// How accounts are to be looked at.
pub struct Looking<'l> {
    /// Which snapshot, where there are several.
    pub at: Option<&'l str>,
    /// Whether messages are read.
    pub messages: bool,
    /// Threads that read them.
    pub workers: usize,
}

/// Goes on with an account of a place.
pub type Then<'t> = &'t mut dyn FnMut(&mut dyn AccountAt);

impl Place {
    /// Reads what was typed, and opens it.
    pub fn open(text: &str, access: &Access<'_>) -> Result<Self, CliError> {
        if let Some(path) = text.strip_prefix("spool:") {
            return open_spool(path, &access.spool);
        }
        if let Some(location) = text.strip_prefix("vault:") {
            return vaults::open(location).map(Place::Vault);
        }
        if text.starts_with("csync://") || text.starts_with("csyncs://") {
            let target = Target::through(Door {
                limits: Limits::default(),
                url: text,
                name: None,
                password_file: access.password_file,
                tls_ca: access.tls_ca,
                cleartext: access.cleartext,
                sieve_mailbox: true,
            })?;
            return Ok(Place::Server(Box::new(target)));
        }
        if !Path::new(text).is_file() {
            return Err(CliError::usage(format!("{text} is no place of accounts")).hint(
                "use spool:FILE, csync://HOST, vault:PLACE, or the name of an archive file",
            ));
        }
        Archives::open(&[PathBuf::from(text)]).map(Place::Archive)
    }

    /// Whether it may change while it is looked at.
    pub fn is_live(&self) -> bool {
        matches!(self, Place::Spool(_) | Place::Server(_))
    }

    /// What is wrong with a server, with the hint that fits.
    pub fn explain(&self, error: SessionError) -> CliError {
        match self {
            Place::Server(target) => target.explain(error),
            _ => CliError::failed("cannot use the server", error),
        }
    }

    /// The accounts it has; `None` where nobody can list them.
    pub fn accounts(&self) -> Result<Option<BTreeSet<Userid>>, CliError> {
        Ok(Some(match self {
            Place::Spool(server) => {
                server.accounts().map_err(spool_error::explain)?.into_iter().collect()
            }
            Place::Server(_) => return Ok(None),
            Place::Vault(vault) => {
                let components = vault.accounts().map_err(vaults::explain)?;
                components.iter().map(|component| userid_of(component)).collect()
            }
            Place::Archive(archives) => {
                let segments = archives.segments()?;
                let components = segment::chain::accounts(&segments);
                components.iter().map(|component| userid_of(component)).collect()
            }
        }))
    }

    /// Hands the account to `then`, as it is now.
    pub fn account(
        &self,
        userid: &Userid,
        thread: &mut Thread,
        looking: &Looking<'_>,
        then: Then<'_>,
    ) -> Result<(), CliError> {
        match self {
            Place::Spool(server) => from_spool(server, userid, looking, then),
            Place::Server(target) => from_server(target, userid, thread, then),
            Place::Vault(vault) => {
                let account = vault.account(userid);
                if account.is_unknown().map_err(vaults::explain)? {
                    then(&mut Absent::default());
                    return Ok(());
                }
                let history = account.history().map_err(vaults::explain)?;
                let entry = vaults::choose(&history, &userid.to_string(), looking.at)?;
                let lineage = account.open(&history.lineage(&entry.name.own));
                let chain = lineage.chain();
                let snapshot = chain.at(entry.name.seq);
                let snapshot = snapshot.map_err(|error| archive::explain(error.into()))?;
                from_snapshot(&chain, snapshot, looking, then)
            }
            Place::Archive(archives) => {
                let segments = archives.segments()?;
                let component = segment::names::account(userid.as_bytes());
                if !segment::chain::accounts(&segments).contains(&component.as_str()) {
                    then(&mut Absent::default());
                    return Ok(());
                }
                let chain = archive::newest_chain(&segments, userid)?;
                let snapshot = archive::choose(&chain, looking.at)?;
                from_snapshot(&chain, snapshot, looking, then)
            }
        }
    }
}

fn open_spool(path: &str, options: &spool::Options) -> Result<Place, CliError> {
    let path = if path.is_empty() { Path::new(CONF) } else { Path::new(path) };
    // A replica has its configuration beside it.
    let conf = if path.is_dir() { path.join("imapd.conf") } else { path.to_owned() };
    let server = Server::open(&conf, options).map_err(spool_error::explain)?;
    Ok(Place::Spool(Box::new(server)))
}

fn from_spool(
    server: &Server,
    userid: &Userid,
    looking: &Looking<'_>,
    then: Then<'_>,
) -> Result<(), CliError> {
    let acting = server.act_as_cyrus().map_err(spool_error::explain)?;
    let frozen = match server.freeze(userid) {
        Err(SpoolError::NoSuchAccount { .. }) => {
            then(&mut Absent::default());
            return Ok(());
        }
        frozen => frozen.map_err(spool_error::explain)?,
    };
    let done = match looking.messages {
        true => {
            let (account, messages) = live(frozen);
            kept(&account, server.name_rules(), Some(&messages), looking, then)
        }
        false => {
            // Nobody waits for what is only compared.
            let (account, _) = apart(frozen);
            kept(&account, server.name_rules(), None, looking, then)
        }
    };
    drop(acting);
    done
}

fn from_snapshot(
    chain: &Chain<'_>,
    snapshot: &Snapshot<'_>,
    looking: &Looking<'_>,
    then: Then<'_>,
) -> Result<(), CliError> {
    let (account, messages, _) =
        stored(chain, snapshot, &Selection::default()).map_err(archive::explain)?;
    // Only names with a domain depend on the configuration, and mailboxes show which it was.
    let virtdomains = account.mailboxes.iter().any(|m| m.name.as_bytes().contains(&b'!'));
    let rules = NameRules { virtdomains, ..NameRules::v3() };
    kept(&account, &rules, Some(&messages), looking, then)
}

fn kept(
    account: &SourceAccount,
    rules: &NameRules,
    messages: Option<&dyn MessageSource>,
    looking: &Looking<'_>,
    then: Then<'_>,
) -> Result<(), CliError> {
    let local = Local::of(account, rules).map_err(|error| {
        CliError::failed(format!("cannot make sense of {}", account.userid), error)
    })?;
    then(&mut Kept::new(local, messages, looking.workers));
    Ok(())
}

fn from_server(
    target: &Target,
    userid: &Userid,
    thread: &mut Thread,
    then: Then<'_>,
) -> Result<(), CliError> {
    let mut session = match thread.session.take() {
        Some(session) => session,
        None => target.open().map_err(|error| target.explain(error))?,
    };
    let asked = Told::ask(userid, &mut session).map(|mut told| then(&mut told));
    // What is broken is of no use to the next one.
    if asked.as_ref().err().is_none_or(SessionError::session_goes_on) {
        thread.session = Some(session);
    }
    asked.map_err(|error| target.explain(error))
}

fn userid_of(component: &str) -> Userid {
    match segment::names::unescape(component) {
        Ok(Unescaped::Whole(userid)) => Userid::new(userid),
        // There is no such account, which is said when it is looked for.
        Ok(Unescaped::Shortened) | Err(_) => Userid::from(component),
    }
}
