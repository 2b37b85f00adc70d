//! What `compare` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::TalkArgs;
use super::durations::seconds;

/// What `compare` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["account", "all"]))]
#[command(group = clap::ArgGroup::new("depth").args(["quick", "records", "full"]))]
pub struct CompareArgs {
    /// The first place: spool:FILE with the server's imapd.conf (spool: alone is /etc/imapd.conf), or
    /// spool:DIR of a replica; csync://HOST or csync://USER@HOST:PORT; vault:DIR or
    /// vault:s3://BUCKET/PREFIX; or an archive file
    #[arg(value_name = "A")]
    pub a: String,
    /// The second one, likewise
    #[arg(value_name = "B")]
    pub b: String,
    /// Accounts: users' names as they log in, and %shared for the mailboxes that no user owns
    #[arg(value_name = "ACCOUNT")]
    pub account: Vec<String>,
    /// All accounts of both places, as far as these can list them
    #[arg(long)]
    pub all: bool,
    /// Compare names, rights, counters and checksums of mailboxes, which is the default
    #[arg(long)]
    pub quick: bool,
    /// Compare each record as well: flags, dates, annotations
    #[arg(long)]
    pub records: bool,
    /// Read each message at both places as well, and compare it with its GUID
    #[arg(long)]
    pub full: bool,
    /// Which snapshot of a vault or an archive: its number, or a time, meaning the last one before it
    /// [default: newest]
    #[arg(long, value_name = "TIME|SEQ")]
    pub at: Option<String>,
    /// Where two servers differ, look again after so many seconds; only what is still the same counts
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub settle: Duration,
    /// Give up on an account that changes all the time after so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub patience: Duration,
    /// Read the password from this file, which only its owner can read; given twice, the second is for B
    /// [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub password_file: Vec<PathBuf>,
    /// Believe the certificates in this file, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Send the password in the clear to a server that is not this machine and offers no TLS
    #[arg(long)]
    pub cleartext: bool,
    /// Accounts that are compared at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// The Cyrus release of a spool, if it is not to be found out from it
    #[arg(long, value_name = "X.Y")]
    pub cyrus_version: Option<String>,
    /// Wait at most this long for a lock, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub lock_wait: Duration,
    #[command(flatten)]
    pub talk: TalkArgs,
}
