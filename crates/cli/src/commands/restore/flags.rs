//! `--flags-only`: metadata without messages, and `flags.jsonl`, the flags of all messages for a
//! program that sets them again.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use engine::export::Tree;
use engine::flags::{MailboxFlags, MessageFlags, SeenIn, mailboxes, seen};
use engine::source::SourceAccount;
use model::MboxName;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::when::rfc3339;

/// Its name, at the top of what is restored.
const FILE: &str = "flags.jsonl";

/// Puts the file into a tree: one line for each message that clients saw, mailbox by mailbox, and
/// behind them one for each mailbox that the account's seen state tells of. How many messages.
pub fn put(account: &SourceAccount, taken_at: i64, tree: &mut dyn Tree) -> io::Result<u64> {
    let mut staged = tempfile::tempfile()?;
    let mut out = BufWriter::new(&mut staged);
    let messages = write(account, &mut out)?;
    out.flush()?;
    drop(out);
    staged.rewind()?;
    tree.copy(Path::new(FILE), taken_at, &mut staged)?;
    Ok(messages)
}

fn write(account: &SourceAccount, out: &mut impl Write) -> io::Result<u64> {
    let mut messages = 0;
    for mailbox in mailboxes(account) {
        for message in mailbox.messages() {
            writeln!(out, "{}", message_line(&mailbox, &message))?;
            messages += 1;
        }
    }
    for seen in seen(account) {
        writeln!(out, "{}", seen_line(account, &seen))?;
    }
    Ok(messages)
}

fn message_line(mailbox: &MailboxFlags<'_>, message: &MessageFlags) -> Value {
    json!({
        "mailbox": text(&mailbox.name),
        "uniqueid": mailbox.uniqueid.as_ref().map(ToString::to_string),
        "uidvalidity": mailbox.uidvalidity.0,
        "uid": message.uid.0,
        "guid": message.guid.map(|guid| guid.to_string()),
        "internaldate": rfc3339(message.internaldate.secs),
        "flags": message.flags,
        "modseq": message.modseq.0,
    })
}

fn seen_line(account: &SourceAccount, seen: &SeenIn) -> Value {
    json!({
        "seen_by": account.userid.to_string(),
        "mailbox": seen.name.as_deref().map(text),
        "uniqueid": seen.uniqueid.to_string(),
        "seen": seen.seen.uids.write(),
        "last_uid": seen.seen.last_uid.0,
        "last_read": rfc3339(seen.seen.last_read),
        "last_change": rfc3339(seen.seen.last_change),
    })
}

fn text(name: &[u8]) -> String {
    MboxName::new(name).to_string()
}

/// A tar of metadata as the engine's port. Messages, which may have several names, it does not take.
pub struct TarTree<W: Write> {
    tar: tar::Builder<W>,
    dirs: BTreeSet<PathBuf>,
    taken_at: i64,
}

impl<W: Write> TarTree<W> {
    /// A tar whose directories have this date.
    pub fn new(out: W, taken_at: i64) -> Self {
        Self { tar: tar::Builder::new(out), dirs: BTreeSet::new(), taken_at }
    }

    /// Writes the end.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    fn header(kind: EntryType, mode: u32, mtime: i64, size: u64) -> io::Result<Header> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        // What these are on the machine where it is unpacked.
        header.set_username("cyrus")?;
        header.set_groupname("mail")?;
        Ok(header)
    }
}

impl<W: Write> Tree for TarTree<W> {
    fn dir(&mut self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for dir in above.into_iter().filter(|dir| !dir.as_os_str().is_empty()) {
            if self.dirs.insert(dir.to_owned()) {
                let mut header = Self::header(EntryType::Directory, 0o700, self.taken_at, 0)?;
                self.tar.append_data(&mut header, dir, io::empty())?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        self.dir(path.parent().unwrap_or(Path::new("")))?;
        let mut header = Self::header(EntryType::Regular, 0o600, mtime, bytes.len() as u64)?;
        self.tar.append_data(&mut header, path, bytes)
    }

    fn copy(&mut self, path: &Path, mtime: i64, bytes: &mut dyn Read) -> io::Result<()> {
        // A tar has the length in front.
        let mut staged = tempfile::tempfile()?;
        let size = io::copy(bytes, &mut staged)?;
        staged.rewind()?;
        self.dir(path.parent().unwrap_or(Path::new("")))?;
        let mut header = Self::header(EntryType::Regular, 0o600, mtime, size)?;
        self.tar.append_data(&mut header, path, staged)
    }

    fn append(&mut self, _path: &Path, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn link(&mut self, _existing: &Path, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        self.dir(path.parent().unwrap_or(Path::new("")))?;
        let mut header = Self::header(EntryType::Symlink, 0o777, self.taken_at, 0)?;
        self.tar.append_link(&mut header, path, target)
    }
}
