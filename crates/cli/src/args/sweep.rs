//! What can be typed behind `sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::TalkArgs;
use super::durations::seconds;

/// What `sweep` takes.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The server's configuration
    #[arg(short = 'C', long = "config", value_name = "FILE", default_value = "/etc/imapd.conf")]
    pub config: PathBuf,
    /// Remove it; without this, nothing is changed
    #[arg(long)]
    pub apply: bool,
    /// Leave what was changed less than so many seconds ago, whoever made it
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub older_than: Duration,
    /// Tell which messages share their files with what is left; lists every directory of the spool
    #[arg(long)]
    pub messages: bool,
    #[command(flatten)]
    pub talk: TalkArgs,
}
