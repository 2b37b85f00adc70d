//! `cylinder serve`: a replica that Cyrus' `sync_client` can send to.

mod around;

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use ::serve::replica::Session;
use ::serve::{Config, Door, Event, Limits, Tls, Users, UsersError, UsersFile, What};
use peer::Identity;
use spool::replica::{Replica, ReplicaError};

use crate::args::ServeArgs;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::plain;
use crate::signals::{Notify, Signals};
use crate::{password, vaults, when};

/// Runs the command.
pub fn run(args: &ServeArgs) -> Result<Exit, CliError> {
    match (&args.add_user, &args.spool) {
        (Some(name), _) => add_user(&args.users, name),
        (None, Some(spool)) => serve(args, spool),
        (None, None) => Err(CliError::usage("neither --spool nor --add-user is given")),
    }
}

fn serve(args: &ServeArgs, spool: &Path) -> Result<Exit, CliError> {
    // Before there is any thread: all of them are to leave the signals to us.
    let signals = Signals::block().map_err(|e| CliError::failed("cannot take signals", e))?;
    around::allow_descriptors();
    let users = UsersFile::open(&args.users).map_err(explain_users)?;
    if users.read().map_err(explain_users)?.is_empty() {
        return Err(CliError::plain(format!("nobody is in {}", args.users.display()))
            .hint("add the user that sync_authname names: --add-user NAME"));
    }
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::read(certificate, key);
            Some(identity.map_err(|e| CliError::failed("cannot offer TLS", e))?)
        }
        _ => None,
    };
    let doors = doors(args)?;
    check_doors(&doors, identity.is_some())?;
    let replica = Replica::open(spool).map_err(|error| {
        let hint = match &error {
            ReplicaError::Promoted { .. } => "replicate into a new directory",
            _ => "it is one that cylinder serve made, or a directory that is empty or not there",
        };
        CliError::failed(format!("cannot use the spool {}", spool.display()), error).hint(hint)
    })?;
    let replica = Arc::new(replica);
    for damage in replica.lock().damaged() {
        log(&format!("the spool is damaged: {}", damage.explained()));
    }
    let notify = Notify::from_env();
    let config = Config {
        name: vaults::host(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        identity,
        users,
        limits: Limits { connections_max: args.max_connections.into(), ..Limits::default() },
        deflate: args.compress,
        handlers: Box::new(move || Box::new(Session::new(replica.clone()))),
        watch: Box::new(move |event| watch(event, &notify)),
    };
    let served = ::serve::serve(doors, config, &signals, || signals.forget());
    served.map_err(|error| CliError::failed("cannot serve", error))?;
    Ok(Exit::Done)
}

/// The sockets that systemd opened, and those that were asked for.
fn doors(args: &ServeArgs) -> Result<Vec<Door>, CliError> {
    let mut doors = around::activated().map_err(|error| {
        CliError::failed("cannot use the sockets that systemd opened", error)
            .hint("they are to be of ListenStream= with an address and a port")
    })?;
    let asked = args.listen.iter().map(|address| (address, Tls::IfAsked));
    for (address, tls) in asked.chain(args.tls_listen.iter().map(|a| (a, Tls::AtOnce))) {
        let listener = TcpListener::bind(address).map_err(|error| {
            CliError::failed(format!("cannot listen at {address}"), error)
                .hint("an address and a port, as 127.0.0.1:2005 or [::]:2005, that nobody has")
        })?;
        doors.push(Door { listener, tls });
    }
    if doors.is_empty() {
        return Err(CliError::usage("it is not said where to listen")
            .hint("use --listen 127.0.0.1:2005, or a socket of systemd"));
    }
    Ok(doors)
}

/// Refuses what would look as if it worked: passwords are not taken in the clear from afar.
fn check_doors(doors: &[Door], has_tls: bool) -> Result<(), CliError> {
    for door in doors.iter().filter(|_| !has_tls) {
        let address = door.listener.local_addr();
        let address = address.map_err(|error| CliError::failed("cannot listen", error))?;
        if door.tls == Tls::AtOnce || !address.ip().to_canonical().is_loopback() {
            return Err(CliError::usage(format!("there is no TLS for {address}"))
                .hint("give --tls-cert and --tls-key: passwords are not taken in the clear")
                .hint("or listen at 127.0.0.1 only, behind a tunnel"));
        }
    }
    Ok(())
}

fn add_user(path: &Path, name: &str) -> Result<Exit, CliError> {
    let mut users = match path.try_exists() {
        Ok(false) => Users::default(),
        _ => UsersFile::open(path).and_then(|file| file.read()).map_err(explain_users)?,
    };
    let password = password::read(name);
    let password = password.map_err(|e| CliError::failed("cannot read the password", e))?;
    users.set(name, &password).map_err(explain_users)?;
    let failed = |error| CliError::failed(format!("cannot write {}", path.display()), error);
    let owner = around::owner(path).map_err(failed)?;
    let mut output = Output::open(Some(path))?;
    output.write_all(users.text().as_bytes()).and_then(|()| output.finish()).map_err(failed)?;
    around::give(path, owner).map_err(failed)?;
    Ok(Exit::Done)
}

fn explain_users(error: UsersError) -> CliError {
    let hint = match &error {
        UsersError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some("make it with --add-user NAME".to_owned())
        }
        UsersError::Open { path, .. } => Some(format!("chmod 600 {}", path.display())),
        _ => None,
    };
    let error = CliError::failed("cannot use the users", error);
    hint.into_iter().fold(error, CliError::hint)
}

/// Takes what happens: a line for people, and a word for systemd.
fn watch(event: &Event, notify: &Notify) {
    match event.what {
        What::Listening(_) => notify.say("READY=1"),
        What::Stopping(_) => notify.say("STOPPING=1"),
        _ => {}
    }
    log(&event.to_string());
}

/// One line on standard error. The journal knows the time; a file does not.
fn log(text: &str) {
    let mut line = format!("cylinder: {}\n", plain(text));
    if std::env::var_os("JOURNAL_STREAM").is_none() {
        line = format!("{} {line}", when::rfc3339(when::now()));
    }
    // One call, so that lines of two threads do not mix. Nobody is left to be told when it fails.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
