//! `cylinder show`: one message of a vault.

use engine::archive::{Found, look_up};
use engine::folder::is_named;
use model::{Guid, Uid};
use segment::chain::Chain;
use segment::manifest::StoredMailbox;

use crate::archive;
use crate::args::ShowArgs;
use crate::error::{CliError, Exit};
use crate::render;
use crate::vaults::{self, folders, parse_guid};

/// Runs the command. The message goes to standard output, byte for byte as it was delivered, and
/// only once all of it was compared with its GUID.
pub fn run(args: &ShowArgs) -> Result<Exit, CliError> {
    let opened = vaults::open(&args.at.vault)?;
    let (account, history) = vaults::account(&opened, &args.at.account)?;
    let entry = vaults::choose(&history, &args.at.account, args.when.as_deref())?;
    let lineage = account.open(&history.lineage(&entry.name.own));
    let chain = lineage.chain();
    let guid = match (&args.guid, &args.mailbox, args.uid) {
        (Some(guid), _, _) => parse_guid(guid)?,
        (None, Some(mailbox), Some(uid)) => find(args, &chain, entry.name.seq, mailbox, Uid(uid))?,
        _ => return Err(CliError::usage("name a message by --mailbox and --uid, or by --guid")),
    };
    let message = chain.message(&guid, entry.name.seq);
    let message = message.map_err(|error| archive::explain(error.into()))?.ok_or_else(|| {
        let (seq, account) = (entry.name.seq, &args.at.account);
        CliError::plain(format!("snapshot {seq} of {account} holds no message {guid}"))
            .hint("cylinder find looks for it in all snapshots")
    })?;
    render::print("the message", &message)?;
    Ok(Exit::Done)
}

/// The GUID of what a UID stands for: of what is stored, which may not be what its record says.
fn find(
    args: &ShowArgs,
    chain: &Chain<'_>,
    seq: u32,
    mailbox: &str,
    uid: Uid,
) -> Result<Guid, CliError> {
    let account = &args.at.account;
    let snapshot = chain.at(seq).map_err(|error| archive::explain(error.into()))?;
    let head = snapshot.head().map_err(|error| archive::explain(error.into()))?;
    let wanted = |stored: &StoredMailbox| {
        is_named(stored.name.as_bytes(), account.as_bytes(), mailbox.as_bytes())
    };
    match look_up(chain, &head, wanted, uid).map_err(archive::explain)? {
        Found::Message(guid) => Ok(guid),
        Found::NoMailbox => {
            Err(CliError::plain(format!("snapshot {seq} of {account} has no mailbox {mailbox}"))
                .hint(format!("it has {}", folders(&head, account))))
        }
        Found::NoMessage => Err(CliError::plain(format!(
            "snapshot {seq} of {account} has no message {uid} in {mailbox}"
        ))
        .hint("cylinder find looks for messages in all snapshots")),
        Found::NotStored => Err(CliError::plain(format!(
            "message {uid} of {mailbox} could not be read when snapshot {seq} was taken"
        ))
        .hint("an earlier snapshot may have it: try --at")),
    }
}
