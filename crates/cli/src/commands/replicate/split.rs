//! Mailboxes that both sides have changed: the way to this server's own replication server, and a place
//! for both variants.

mod variants;

use engine::ports::Peer;
use engine::replicate::split::{Beside, Keep, Master, Resolve};
use model::Userid;
use peer::{Session, SessionError};
use spool::Server;

use super::target::Target;
use crate::args::{ReplicateArgs, ResolveHow};
use crate::error::CliError;
pub use variants::record_json;
use variants::{Shelf, Variants};

/// What all accounts share.
#[derive(Default)]
pub struct Split {
    /// How both sides are brought together, if they are.
    pub resolve: Option<Resolve>,
    master: Option<Target>,
    shelf: Option<Shelf>,
}

/// What one account has of it.
pub struct Hands<'s> {
    door: Option<Door<'s>>,
    variants: Option<Variants<'s>>,
}

/// This server's own replication server, from when on it is needed.
struct Door<'s> {
    target: &'s Target,
    session: Option<Session>,
}

impl Split {
    /// As the arguments say.
    pub fn new(args: &ReplicateArgs, server: &Server, replica: &Target) -> Result<Self, CliError> {
        let split = &args.split;
        let resolve = split.resolve.map(|how| match how {
            ResolveHow::Renumber => Resolve::Renumber,
            ResolveHow::Master => Resolve::Master,
            ResolveHow::Replica => Resolve::Replica,
        });
        if resolve.is_some() && split.master.is_none() && !args.dry_run {
            return Err(CliError::usage("--resolve writes to this server, too").hint(
                "--master csync://USER@HOST:PORT names its own sync_server; --dry-run needs none",
            ));
        }
        let password_file = split.master_password_file.as_deref();
        let master = split.master.as_deref().map(|url| replica.beside(url, password_file));
        let shelf = split.export.as_deref().map(|dir| Shelf::new(dir, server.conf()));
        Ok(Self { resolve, master: master.transpose()?, shelf: shelf.transpose()? })
    }

    /// For an account.
    pub fn hands(&self, userid: &Userid) -> Hands<'_> {
        Hands {
            door: self.master.as_ref().map(|target| Door { target, session: None }),
            variants: self.shelf.as_ref().map(|shelf| shelf.variants(userid)),
        }
    }

    /// Whether more is to be known of a mailbox than is needed to send it.
    pub fn looks_closely(&self) -> bool {
        self.resolve.is_some() || self.shelf.is_some()
    }

    /// What to say of an error of this server's own replication server.
    pub fn explain(&self, error: SessionError) -> CliError {
        let explained = match &self.master {
            Some(target) => target.explain(error),
            None => CliError::failed("cannot use this server's own sync_server", error),
        };
        explained
            .hint("it was to get what the replica has; run it again, and it goes on from there")
    }

    /// Leaves nothing behind where there was nothing to be kept. Where both variants are, if there are any.
    pub fn finish(&self) -> Option<String> {
        self.shelf.as_ref().and_then(Shelf::finish)
    }
}

impl Hands<'_> {
    /// As the engine takes it.
    pub fn beside(&mut self) -> Beside<'_> {
        Beside {
            master: self.door.as_mut().map(|door| door as &mut dyn Master),
            keep: self.variants.as_mut().map(|variants| variants as &mut dyn Keep),
        }
    }

    /// Takes leave.
    pub fn close(self) {
        self.door.and_then(|door| door.session).into_iter().for_each(Session::close);
    }
}

impl Master for Door<'_> {
    fn peer(&mut self) -> Result<&mut dyn Peer, SessionError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.target.open()?,
        };
        Ok(self.session.insert(session))
    }
}
