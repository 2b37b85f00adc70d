//! What `reconstruct` takes.

use clap::Args;

use super::{ServerArgs, TalkArgs};

/// What `reconstruct` takes.
#[derive(Debug, Args)]
pub struct ReconstructArgs {
    /// The accounts: users' names as they log in, and %shared for the mailboxes that no user owns
    #[arg(value_name = "ACCOUNT", required_unless_present = "all")]
    pub accounts: Vec<String>,
    /// All accounts of the server, %shared included
    #[arg(long, conflicts_with = "accounts")]
    pub all: bool,
    /// Read every message, and let each record have the GUID that its file has
    #[arg(short = 'G', long)]
    pub guids: bool,
    /// Do what is told; without this, nothing is changed
    #[arg(long)]
    pub apply: bool,
    /// Mark messages expunged whose files are gone; otherwise they stay, for heal or replicate to bring back
    #[arg(long)]
    pub accept_losses: bool,
    /// This is a replica: let its master settle what changes here, when it replicates next [default: in a
    /// spool of cylinder serve]
    #[arg(long)]
    pub replica: bool,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
}
