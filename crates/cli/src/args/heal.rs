//! What `heal` takes.

use std::path::PathBuf;

use clap::Args;

use super::{ServerArgs, TalkArgs};

/// What `heal` takes.
#[derive(Debug, Args)]
pub struct HealArgs {
    /// The accounts: users' names as they log in, and %shared for the mailboxes that no user owns
    #[arg(value_name = "ACCOUNT", required_unless_present_any = ["all", "list"])]
    pub accounts: Vec<String>,
    /// All accounts of the server, %shared included
    #[arg(long, conflicts_with = "accounts")]
    pub all: bool,
    /// Where good bytes are, beside this spool itself: csync://HOST or csync://USER@HOST:PORT, vault:PLACE,
    /// spool:FILE, or an archive file
    #[arg(long, value_name = "PLACE", required_unless_present = "list")]
    pub from: Option<String>,
    /// Heal the server of this spool while it runs, through its own sync_server: csync://HOST or
    /// csync://USER@HOST:PORT. A good copy gets a new number, and the damaged message is expunged
    #[arg(long, value_name = "URL")]
    pub through: Option<String>,
    /// Say what would be healed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Which snapshot of a vault or an archive: its number, or a time [default: newest]
    #[arg(long, value_name = "TIME|SEQ")]
    pub at: Option<String>,
    /// Note in this file what is healed, a line each
    #[arg(long, value_name = "FILE", default_value = "/var/lib/cylinder/healed.jsonl")]
    pub journal: PathBuf,
    /// Print what the journal has, and end
    #[arg(long, conflicts_with_all = ["accounts", "all", "from", "through", "dry_run", "at"])]
    pub list: bool,
    /// Read the password from this file, which only its owner can read [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Read the password for --through from this file [default: that of --password-file]
    #[arg(long, value_name = "FILE", requires = "through")]
    pub through_password_file: Option<PathBuf>,
    /// Believe the certificates in this file, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Send the password in the clear to a server that is not this machine and offers no TLS
    #[arg(long)]
    pub cleartext: bool,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
}
