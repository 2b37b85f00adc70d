//! What replaces files of a spool has to be alone there.

use spool::Server;

use crate::error::CliError;

/// Refuses if somebody is at work in the spool of a server: its Cyrus, or a replica that is served.
pub fn refuse(server: &Server, hint: &'static str) -> Result<(), CliError> {
    let running = server.running();
    let running = running.map_err(|error| CliError::failed("cannot look at processes", error))?;
    let Some(running) = running else { return Ok(()) };
    let what = match running.file {
        Some(file) => format!("has {} open to write to", file.display()),
        None => "is the master of this server".to_owned(),
    };
    let who = format!("process {} ({}) {what}", running.pid, running.command);
    Err(CliError::plain(format!("somebody is at work in this spool: {who}")).hint(hint))
}
