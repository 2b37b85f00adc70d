//! What `restore` takes.

use std::path::PathBuf;

use clap::Args;

use super::{Layout, TalkArgs};

/// What `restore` takes.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The account
    pub account: String,
    /// The archive, repeatable; plain, gzip or zstd, any concatenation
    #[arg(long, required_unless_present_any = ["vault", "undo_from"], value_name = "FILE")]
    pub from: Vec<PathBuf>,
    /// The vault, in place of an archive: a directory, or s3://BUCKET/PREFIX
    #[arg(long, conflicts_with_all = ["from", "salvage"], value_name = "VAULT")]
    pub vault: Option<String>,
    /// Where to: dir:PATH (a Cyrus spool), maildir:PATH, mbox:PATH or tar:FILE; or into a server that
    /// runs, csync://HOST or csync://USER@HOST:PORT, with csyncs:// for TLS from the start
    #[arg(long, value_name = "KIND:PATH|URL")]
    pub to: String,
    /// Which snapshot: its number, or a time, meaning the last one before it [default: newest]
    #[arg(long, value_name = "TIME|SEQ")]
    pub at: Option<String>,
    /// Only this mailbox, by its name; repeatable
    #[arg(long, value_name = "NAME")]
    pub mailbox: Vec<String>,
    /// Only the message of this GUID, the SHA-1 of its bytes, wherever it is, also if it was
    /// expunged but kept; repeatable
    #[arg(long, value_name = "SHA1")]
    pub guid: Vec<String>,
    /// Only metadata, and flags.jsonl with the flags of each message: for mail that is all there but
    /// for its flags. With dir: and tar:; no message is read or written. On a server that runs, the
    /// flags of messages that are there are set as they were
    #[arg(long)]
    pub flags_only: bool,
    /// How dir: lays out mailboxes
    #[arg(long, value_enum, default_value_t = Layout::Source)]
    pub layout: Layout,
    /// If an archive is damaged, restore from what is whole in it
    #[arg(long)]
    pub salvage: bool,
    /// Say what would be restored, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub live: LiveArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// What `restore` takes besides for a server that runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Into a server that runs")]
pub struct LiveArgs {
    /// Read the password from this file, which only its owner can read [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Restore into this folder of the account, which is made [default: Restored/DATE, the date of
    /// the snapshot]
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<String>,
    /// Restore to where it was: mailboxes that are gone, and messages that are gone from those that
    /// are there; nothing is removed or changed
    #[arg(long, conflicts_with = "into")]
    pub in_place: bool,
    /// Restore also into a mailbox of the same name that is another one, or has other UIDs
    #[arg(long)]
    pub accept_mismatch: bool,
    /// Note in this file, before it is done, what is done, for --undo-from; a file that is there is
    /// continued
    #[arg(long, value_name = "FILE")]
    pub undo: Option<PathBuf>,
    /// Take back what this file notes: whatever was restored and is still as it was left is removed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "vault", "at", "mailbox", "guid", "flags_only", "salvage", "into", "in_place", "undo", "accept_mismatch", "partition"])]
    pub undo_from: Option<PathBuf>,
    /// Put new mailboxes on this partition of the server [default: that of the account's INBOX]
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,
    /// Believe the certificates in this file, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Send the password in the clear to a server that is not this machine and offers no TLS
    #[arg(long)]
    pub cleartext: bool,
}
