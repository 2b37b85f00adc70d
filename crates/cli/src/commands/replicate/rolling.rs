//! `cylinder replicate --rolling`: follows the sync log, in place of `sync_client -r`.

mod bulletin;
mod clock;
mod daemon;
mod hands;
mod intake;
mod others;
mod status;
mod store;
mod talk;
mod wake;
mod worker;

use std::sync::Arc;

use spool::sync_log::SyncLog;

use super::Sending;
use super::target::Url;
use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit};
use crate::signals::Signals;
use store::Store;

/// Runs until a signal comes, or with `--once` until there is nothing to do.
pub fn run(args: &ReplicateArgs, sending: Sending) -> Result<Exit, CliError> {
    // Before there is any thread: all of them are to leave the signals to this one.
    let signals = Signals::block().map_err(|e| CliError::failed("cannot take signals", e))?;
    let conf = sending.server.conf();
    let channel = args.rolling.channel.as_deref();
    if !conf.sync_log() {
        return Err(CliError::plain("this server writes no sync log")
            .hint("set sync_log: yes in imapd.conf, and restart Cyrus"));
    }
    if !conf.sync_log_channels().iter().any(|one| one.as_deref() == channel) {
        let name = channel.map_or("one without a name".to_owned(), |name| format!("{name:?}"));
        return Err(CliError::plain(format!("the sync log has no such channel: {name}"))
            .hint("sync_log_channels in imapd.conf lists them; \"\" is the one without a name"));
    }
    let mut store = store(args)?;
    let lock = store.lock()?;
    let log = SyncLog::new(conf, channel);
    others::refuse(&args.server.config, channel)?;
    let ended = daemon::run(args, Arc::new(sending), &mut store, log, &signals);
    drop(lock);
    ended
}

/// Tells how it is doing.
pub fn status(args: &ReplicateArgs) -> Result<Exit, CliError> {
    status::tell(&store(args)?, args.talk.json)
}

fn store(args: &ReplicateArgs) -> Result<Store, CliError> {
    let url = Url::parse(&args.to).ok_or_else(|| Url::wrong(&args.to))?;
    Ok(Store::new(&args.rolling.state, &url.place(), args.rolling.channel.as_deref()))
}
