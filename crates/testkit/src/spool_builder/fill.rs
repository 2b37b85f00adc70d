//! Many messages at once, for benchmarks.

use model::SystemFlags;

use super::{BuildError, EPOCH, NewMessage, SpoolBuilder, StoredMessage};
use crate::mail::{MailGenerator, Sizes};
use crate::rng::Rng;

/// How much mail there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// How many users: `u0`, `u1` and so on.
    pub users: usize,
    /// How many mailboxes each has, INBOX counted.
    pub mailboxes: usize,
    /// How many messages each mailbox has.
    pub messages: usize,
    /// How large they are.
    pub sizes: Sizes,
    /// How many of a hundred are copies of one of the same user's, as hard links.
    pub duplicates: u64,
    /// How many of a hundred are expunged, their files still there.
    pub expunged: u64,
    /// Messages and flags follow from this.
    pub seed: u64,
}

impl Filling {
    /// One user with that many small messages in each of that many mailboxes; a tenth of them are
    /// copies, none is expunged.
    pub fn small(mailboxes: usize, messages: usize) -> Self {
        let (users, sizes, duplicates) = (1, Sizes::Small, 10);
        Self { users, mailboxes, messages, sizes, duplicates, expunged: 0, seed: 1 }
    }
}

/// Fills a spool, with messages from `corpus` in turns, or made up where it is empty. Returns the
/// number of messages.
///
/// # Errors
///
/// As [`super::MailboxBuilder::add`] has them.
pub fn fill(
    spool: &mut SpoolBuilder,
    filling: &Filling,
    corpus: &[Vec<u8>],
) -> Result<u64, BuildError> {
    let mut source = Source::new(filling, corpus);
    for user in 0..filling.users {
        let mut copied = Vec::new();
        for number in 0..filling.mailboxes {
            let name = match number {
                0 => format!("user.u{user}"),
                _ => format!("user.u{user}.f{number}"),
            };
            fill_mailbox(spool, &name, filling, &mut source, &mut copied)?;
        }
        spool.subscribe(&format!("u{user}"), &format!("user.u{user}"));
    }
    Ok((filling.users * filling.mailboxes * filling.messages) as u64)
}

fn fill_mailbox(
    spool: &mut SpoolBuilder,
    name: &str,
    filling: &Filling,
    source: &mut Source<'_>,
    copied: &mut Vec<(StoredMessage, Vec<u8>)>,
) -> Result<(), BuildError> {
    let mut mailbox = spool.mailbox(name)?;
    for number in 0..filling.messages {
        let rng = &mut source.rng;
        let expunged = rng.chance(filling.expunged);
        let mut message = NewMessage {
            internaldate: EPOCH + number as i64 * 60,
            system_flags: SystemFlags(rng.next_u64() as u32 & SYSTEM_FLAGS),
            user_flags: if rng.chance(5) { &["$Forwarded", "NonJunk"] } else { &[] },
            expunged: expunged.then_some(EPOCH + 500_000_000),
            ..NewMessage::default()
        };
        if rng.chance(filling.duplicates) && !copied.is_empty() {
            let (original, bytes) = &copied[rng.index(copied.len())];
            message.bytes = bytes;
            mailbox.link(original, &message)?;
            continue;
        }
        let bytes = source.message();
        let stored = mailbox.add(&NewMessage { bytes: &bytes, ..message })?;
        // A few that are copied often; a file system allows only so many links.
        if copied.len() < 1_000 {
            copied.push((stored, bytes));
        }
    }
    spool.finish_mailbox(mailbox)
}

/// The flags that clients set, but for `\Deleted`.
const SYSTEM_FLAGS: u32 = SystemFlags::SEEN.0 | SystemFlags::ANSWERED.0 | SystemFlags::FLAGGED.0;

struct Source<'a> {
    rng: Rng,
    made_up: MailGenerator,
    real: std::iter::Cycle<std::slice::Iter<'a, Vec<u8>>>,
}

impl<'a> Source<'a> {
    fn new(filling: &Filling, corpus: &'a [Vec<u8>]) -> Self {
        Self {
            rng: Rng::new(filling.seed),
            made_up: MailGenerator::new(filling.seed, filling.sizes),
            real: corpus.iter().cycle(),
        }
    }

    fn message(&mut self) -> Vec<u8> {
        self.real.next().cloned().unwrap_or_else(|| self.made_up.message())
    }
}
