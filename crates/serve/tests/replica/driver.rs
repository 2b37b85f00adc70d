//! Lets masters talk to a replica without a connection.

use std::sync::Arc;

use csync::banner::Banner;
use csync::framer::Limits;
use csync::server::{Action, Rights, Server};
use serve::handler::{Failure, Handler, Modes};
use serve::replica::Session;
use spool::replica::Replica;

/// One session that anybody may log in to.
pub struct Conversation {
    server: Server,
    session: Session,
}

impl Conversation {
    /// Begins one; what it says first goes to `out`.
    pub fn begin(replica: &Arc<Replica>, banner: Banner, out: &mut Vec<u8>) -> Self {
        let server = Server::start(banner, Limits::default(), out);
        Self { server, session: Session::new(Arc::clone(replica)) }
    }

    /// Hears what a master says, and answers.
    pub fn hear(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        loop {
            let action = self.server.next(&mut input, out).expect("a stream that can be followed");
            let Some(action) = action else { return };
            let modes = Modes {
                force: self.server.is_forced(),
                sieve_mailbox: self.server.has_sieve_mailbox(),
            };
            let done = match action {
                Action::Authenticate { .. } | Action::Response(_) => {
                    self.server.logged_in(Rights::Admin, "no protection", out);
                    continue;
                }
                Action::File(head) => {
                    self.session.file(head);
                    continue;
                }
                Action::FileBytes(bytes) => {
                    self.session.file_bytes(bytes);
                    continue;
                }
                Action::FileEnd => {
                    self.session.file_end();
                    continue;
                }
                Action::Records(command) => {
                    self.session.records(command);
                    continue;
                }
                Action::Record(record) => {
                    self.session.record(record);
                    continue;
                }
                Action::Abandon => {
                    self.session.abandon();
                    continue;
                }
                Action::StartDeflate => {
                    self.server.deflate_started();
                    continue;
                }
                Action::Get(get) => self.session.get(get, modes, out),
                Action::Apply(apply) => self.session.apply(apply, modes, out),
                Action::Restore(restore) => self.session.restore(*restore),
                Action::Restart => {
                    self.session.restart();
                    Ok(())
                }
                Action::Close | Action::StartTls => return,
                Action::Cancelled => continue,
            };
            match done {
                Ok(()) => self.server.done(out),
                Err(Failure::Refused { no, why }) => {
                    eprintln!("refused: {why}");
                    self.server.refuse(&no, out);
                }
                Err(Failure::Output(error)) => panic!("{error}"),
            }
        }
    }
}

/// All that a replica answers to what a master says.
pub fn answers(replica: &Arc<Replica>, banner: Banner, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut conversation = Conversation::begin(replica, banner, &mut out);
    conversation.hear(input, &mut out);
    out
}
