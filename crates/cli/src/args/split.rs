//! What `replicate` takes about mailboxes that both sides have changed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What `replicate` takes about mailboxes that both sides have changed.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// Bring together mailboxes that both sides have changed: each side gets what the other alone has, and a
    /// number that means two messages is given up for two new ones. Needs --master
    #[arg(long, value_name = "HOW", value_enum, conflicts_with = "rolling")]
    pub resolve: Option<ResolveHow>,
    /// This server's own sync_server, as --to names the replica's: --resolve writes to both
    #[arg(long, value_name = "URL", requires = "resolve")]
    pub master: Option<String>,
    /// Read the password for --master from this file [default: the password for --to]
    #[arg(long, value_name = "FILE", requires = "master")]
    pub master_password_file: Option<PathBuf>,
    /// Keep both variants of mailboxes that both sides have changed below this directory, before anything
    /// is changed: what each side says of every message, and the messages that it alone has
    #[arg(long, value_name = "DIR", conflicts_with = "rolling")]
    pub export: Option<PathBuf>,
}

/// Which side counts for a message that both have, and have otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResolveHow {
    /// As sync_client has it: who expunged it is right, and else who changed it last
    Renumber,
    /// The master's flags and so on, and whether it is expunged there
    Master,
    /// The replica's
    Replica,
}
