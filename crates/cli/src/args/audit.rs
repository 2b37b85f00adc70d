//! What can be typed behind `audit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::durations::span;
use super::{ServerArgs, TalkArgs};

/// What `audit` takes.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The accounts: users' names as they log in, and %shared for the mailboxes that no user owns
    #[arg(value_name = "ACCOUNT", required_unless_present = "all")]
    pub accounts: Vec<String>,
    /// All accounts of the server, %shared included
    #[arg(long, conflicts_with = "accounts")]
    pub all: bool,
    /// Read metadata alone, and look at how long each message's file is; the default
    #[arg(long)]
    pub quick: bool,
    /// Read every message, and compare it with its GUID
    #[arg(long, conflicts_with = "quick")]
    pub full: bool,
    /// Keep in this directory when each account was audited last
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Look at one account of N, those that were audited longest ago
    #[arg(long, value_name = "1/N", requires = "all", requires = "state", conflicts_with = "every", value_parser = share)]
    pub share: Option<Share>,
    /// Look at as many accounts as it takes to have all of them audited in this time, those that were
    /// audited longest ago: a number with s, m, h or d
    #[arg(long, value_name = "TIME", requires = "all", requires = "state", value_parser = span)]
    pub every: Option<Duration>,
    /// Read no more than this in a second, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Accounts that are looked at at the same time [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// One part of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u32);

fn share(text: &str) -> Result<Share, String> {
    let parts = text.strip_prefix("1/").and_then(|parts| parts.parse().ok());
    let parts = parts.filter(|parts| *parts > 0);
    parts.map(Share).ok_or_else(|| "one of so many, as 1/30".to_owned())
}
