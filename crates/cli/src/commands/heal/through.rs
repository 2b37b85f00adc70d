//! The server that runs on the spool, which is healed through its own sync_server.

use engine::audit::Custody;
use engine::heal::through::{HealError, Take, Through, heal_through};
use engine::place::Place as AccountAt;
use model::{Timestamp, Userid};
use peer::{Limits, Session};
use spool::Server;

use crate::args::HealArgs;
use crate::commands::replicate::target::{Door, Target};
use crate::error::CliError;
use crate::places::Place;
use crate::when;

use super::journal::NotesOf;

/// The way in.
pub struct Own {
    target: Target,
    session: Option<Session>,
}

impl Own {
    /// As the arguments say. Where good bytes come from a server, too, both take the same password unless
    /// a file has another one.
    pub fn open(url: &str, args: &HealArgs, from: &Place) -> Result<Self, CliError> {
        let file = args.through_password_file.as_deref();
        let target = match from {
            Place::Server(from) => from.beside(url, file)?,
            _ => Target::through(Door {
                limits: Limits::default(),
                url,
                name: None,
                password_file: file.or(args.password_file.as_deref()),
                tls_ca: args.tls_ca.as_deref(),
                cleartext: args.cleartext,
                sieve_mailbox: true,
            })?,
        };
        Ok(Self { target, session: None })
    }

    /// Heals an account.
    pub fn heal(
        &mut self,
        spool: &Server,
        (userid, wounds): (&Userid, &[&Custody]),
        other: &mut dyn AccountAt,
        notes: &mut NotesOf<'_>,
        dry_run: bool,
        take: Take<'_>,
    ) -> Result<(), HealError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.target.open().map_err(HealError::Server)?,
        };
        let now = Timestamp::from_secs(when::now());
        let through = Through { spool, peer: &mut session, userid, now, dry_run };
        heal_through(through, wounds, other, notes, take)?;
        self.session = Some(session);
        Ok(())
    }

    /// What is wrong with it, with the hint that fits.
    pub fn explain(&self, error: peer::SessionError) -> CliError {
        self.target.explain(error)
    }

    /// Takes leave.
    pub fn close(self) {
        self.session.into_iter().for_each(Session::close);
    }
}
