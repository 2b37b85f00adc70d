//! What the commands about a vault take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::durations::seconds;
use super::{ServerArgs, TalkArgs};

/// What `backup` takes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The vault: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "VAULT")]
    pub vault: String,
    /// The accounts: users' names as they log in, and %shared for the mailboxes that no user owns
    #[arg(value_name = "ACCOUNT", required_unless_present = "all")]
    pub accounts: Vec<String>,
    /// All accounts of the server, %shared included
    #[arg(long, conflicts_with = "accounts")]
    pub all: bool,
    /// Accounts that are backed up at the same time [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Back up %shared even if none of its mailboxes is in the vault's last snapshot of it
    #[arg(long)]
    pub accept_removals: bool,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// An account of a vault.
#[derive(Debug, Args)]
pub struct VaultAccountArgs {
    /// The vault: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "VAULT")]
    pub vault: String,
    /// The account
    pub account: String,
}

/// What `history` takes.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The vault: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "VAULT")]
    pub vault: String,
    /// The account [default: all of them, one line each]
    #[arg(conflicts_with = "all")]
    pub account: Option<String>,
    /// All accounts of the vault, which is also the default
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `show` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("message").required(true).args(["uid", "guid"]))]
pub struct ShowArgs {
    #[command(flatten)]
    pub at: VaultAccountArgs,
    /// The message's mailbox
    #[arg(long, value_name = "NAME", requires = "uid")]
    pub mailbox: Option<String>,
    /// Its UID in that mailbox
    #[arg(long, value_name = "N", requires = "mailbox", value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: Option<u32>,
    /// Its GUID: the SHA-1 of its bytes
    #[arg(long, value_name = "SHA1")]
    pub guid: Option<String>,
    /// Which snapshot: its number, or a time, meaning the last one before it [default: newest]
    #[arg(long = "at", value_name = "TIME|SEQ")]
    pub when: Option<String>,
}

/// What `diff` takes.
#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    pub at: VaultAccountArgs,
    /// The earlier snapshot: its number, or a time, meaning the last one before it
    #[arg(value_name = "T1")]
    pub before: String,
    /// The later one, likewise [default: newest]
    #[arg(value_name = "T2")]
    pub after: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `find` takes.
#[derive(Debug, Args)]
pub struct FindArgs {
    #[command(flatten)]
    pub at: VaultAccountArgs,
    /// Only messages that were in this mailbox
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// This text is in From
    #[arg(long, value_name = "TEXT")]
    pub from: Option<String>,
    /// This text is in To
    #[arg(long, value_name = "TEXT")]
    pub to: Option<String>,
    /// This text is in Subject
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// This text is in Message-ID
    #[arg(long, value_name = "TEXT")]
    pub message_id: Option<String>,
    /// Only in snapshots from this one on: a number, or a time
    #[arg(long, value_name = "TIME|SEQ")]
    pub since: Option<String>,
    /// Only messages that clients saw in a snapshot from T1 to T2, and not in that of T2 any more
    #[arg(long, num_args = 2, value_names = ["T1", "T2"], conflicts_with = "since")]
    pub vanished_between: Option<Vec<String>>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `verify` takes.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The vault: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "VAULT")]
    pub vault: String,
    /// Only these accounts [default: all]
    #[arg(value_name = "ACCOUNT", conflicts_with = "all")]
    pub accounts: Vec<String>,
    /// All accounts of the vault, which is also the default
    #[arg(long)]
    pub all: bool,
    /// Read messages and compare them with their GUIDs: all, or this many per cent, others each day
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_data: Option<u8>,
    /// Restore the newest snapshot of each account beneath this directory, which must be empty or
    /// not exist, and compare every file with what plain zstd and tar make of the same objects.
    /// What is restored is removed again, unless something differs
    #[arg(long, value_name = "DIR", conflicts_with = "read_data")]
    pub drill: Option<PathBuf>,
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// What `prune` takes.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The vault: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "VAULT")]
    pub vault: String,
    /// Only these accounts [default: all]
    #[arg(value_name = "ACCOUNT")]
    pub accounts: Vec<String>,
    /// Keep the newest N snapshots
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_last: u32,
    /// Keep the newest snapshot of each of N hours
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_hourly: u32,
    /// Keep the newest snapshot of each of N days
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_daily: u32,
    /// Keep the newest snapshot of each of N weeks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_weekly: u32,
    /// Keep the newest snapshot of each of N months
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_monthly: u32,
    /// Keep the newest snapshot of each of N years
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_yearly: u32,
    /// Write an account anew when more of it than this is garbage, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_garbage: u8,
    /// Delete dropped segments after this time, in seconds: longer than any backup takes
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub grace: Duration,
    /// Erase this account, with all of its history
    #[arg(long, value_name = "ACCOUNT", conflicts_with_all = ["accounts", "hold", "release"])]
    pub forget: Option<String>,
    /// Put this account under a legal hold: nothing of it is forgotten
    #[arg(long, value_name = "ACCOUNT", conflicts_with_all = ["accounts", "release"])]
    pub hold: Option<String>,
    /// End the legal hold of this account
    #[arg(long, value_name = "ACCOUNT", conflicts_with = "accounts")]
    pub release: Option<String>,
    /// Do it, even if nearly everything would go
    #[arg(long)]
    pub accept_removals: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
