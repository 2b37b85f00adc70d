//! A fleet whose replicas have all of it, looked at by those who can tell.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use testkit::Cyrus;
use testkit::bench::{Options, Outcome, cyrus, measure, micros};
use testkit::mail::Sizes;
use testkit::relay::Relay;
use testkit::served::{NAME, PASSWORD, Served};
use testkit::spool_builder::Filling;

use crate::race::{Ground, race};

/// Who looks, and at which replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Racer {
    /// `sync_client -A`, at a `sync_server`: it would send what differs.
    Theirs,
    /// `cylinder compare --quick`, at a `sync_server`, one account after the other as theirs.
    OneByOne,
    /// The same as it is called without more.
    Ours,
    /// The same at `cylinder serve`.
    AtOurs,
    /// The same between the spools of both.
    Spools,
}

impl Racer {
    const ALL: [Self; 5] = [Self::Theirs, Self::OneByOne, Self::Ours, Self::AtOurs, Self::Spools];

    fn name(self) -> &'static str {
        match self {
            Self::Theirs => "theirs",
            Self::OneByOne => "one_by_one",
            Self::Ours => "ours",
            Self::AtOurs => "at_ours",
            Self::Spools => "spools",
        }
    }
}

/// A spool, and replicas that have all of it.
struct Fleet<'f> {
    cylinder: &'f Path,
    ground: Ground,
    theirs: Cyrus,
    ours: Served,
    password: std::path::PathBuf,
}

impl<'f> Fleet<'f> {
    fn start(options: &'f Options, filling: &Filling) -> Outcome<Self> {
        let ground = Ground::build(filling, &[], true)?;
        let password = ground.scratch.path().join("password");
        fs::write(&password, format!("{PASSWORD}\n"))?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        // What is measured reads alone.
        let theirs = cyrus()?.eatmydata(true).start()?;
        let ours = Served::start(&options.cylinder)?;
        let fleet = Self { cylinder: &options.cylinder, ground, theirs, ours, password };
        for to in [fleet.theirs.sync_address(), fleet.ours.address()] {
            eprintln!("sending {} messages to {to}", fleet.ground.messages);
            let mut command = Command::new(fleet.cylinder);
            command.args(["replicate", "--all", "--no-progress", "--to", &url(to), "-C"]);
            command.arg(&fleet.ground.conf).arg("--password-file").arg(&fleet.password);
            measure(&mut command, b"")?;
        }
        Ok(fleet)
    }

    /// The command, to a server that may be at another address.
    fn command(&self, racer: Racer, at: Option<SocketAddr>) -> Outcome<Command> {
        let theirs = at.unwrap_or(self.theirs.sync_address());
        let own = format!("spool:{}", self.ground.conf.display());
        let (other, more): (String, &[&str]) = match racer {
            Racer::Theirs => {
                let master = self.ground.cyrus.as_ref().ok_or("there is no Cyrus")?;
                let mut command = master.tool_command("sync_client");
                command.args(["-S", &theirs.to_string(), "-A"]);
                return Ok(command);
            }
            Racer::OneByOne => (url(theirs), &["--jobs", "1"]),
            Racer::Ours => (url(theirs), &[]),
            Racer::AtOurs => (url(at.unwrap_or(self.ours.address())), &[]),
            Racer::Spools => (format!("spool:{}", self.ours.spool().display()), &[]),
        };
        let mut command = Command::new(self.cylinder);
        command.args(["compare", &own, &other, "--all", "--quick", "--no-progress"]).args(more);
        command.arg("--password-file").arg(&self.password);
        Ok(command)
    }

    /// How often a racer waits for a server in one run, and how many connections it makes.
    fn trips(&self, racer: Racer) -> Outcome<Value> {
        let to = match racer {
            Racer::AtOurs => self.ours.address(),
            _ => self.theirs.sync_address(),
        };
        let relay = Relay::start(to)?;
        measure(&mut self.command(racer, Some(relay.address()))?, b"")?;
        let (connections, trips) = relay.counts();
        Ok(json!({ "connections": connections, "trips": trips }))
    }
}

fn url(address: SocketAddr) -> String {
    format!("csync://{NAME}@{address}")
}

pub fn run(options: &Options) -> Outcome<Value> {
    let number = |name: &str| -> Outcome<usize> { Ok(usize::try_from(options.number(name)?)?) };
    let (users, mailboxes) = (number("--accounts")?, number("--mailboxes")?);
    let (messages, sizes) = (number("--messages")?, Sizes::Small);
    let filling = Filling { users, sizes, ..Filling::small(mailboxes, messages) };
    let fleet = Fleet::start(options, &filling)?;
    // What theirs finds to do behind ours is done before it is measured; then all is in memory, too.
    for _ in 0..2 {
        measure(&mut fleet.command(Racer::Theirs, None)?, b"")?;
    }
    let commands = Racer::ALL.map(|racer| fleet.command(racer, None));
    let mut commands: Vec<Command> = commands.into_iter().collect::<Outcome<_>>()?;
    race(&mut commands, 1, &|| Ok(()))?;
    let times = race(&mut commands, options.number("--repeat")?, &|| Ok(()))?;
    let mut racers = Map::new();
    for (racer, time) in Racer::ALL.into_iter().zip(times) {
        racers.insert(racer.name().to_owned(), document(&fleet, racer, time)?);
    }
    Ok(json!({
        "accounts": users,
        "mailboxes": users * mailboxes,
        "messages": fleet.ground.messages,
        "rounds": options.number("--repeat")?,
        "racers": racers,
    }))
}

fn document(fleet: &Fleet<'_>, racer: Racer, time: Duration) -> Outcome<Value> {
    let trips = match racer {
        Racer::Spools => Value::Null,
        _ => fleet.trips(racer)?,
    };
    Ok(json!({ "wall_us": micros(time), "line": trips }))
}
