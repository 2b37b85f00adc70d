//! Who sends to whom.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::Cyrus;
use testkit::bench::{Outcome, Run, measure, median, micros};
use testkit::process::Group;
use testkit::served::{NAME, PASSWORD};

/// Both masters read the same spool, and each replica is sent to by one of them at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// `sync_client` to `sync_server`.
    Theirs,
    /// `cylinder replicate` to `sync_server`.
    OursToTheirs,
    /// `sync_client` to `cylinder serve`.
    TheirsToOurs,
    /// `cylinder replicate` to `cylinder serve`.
    Ours,
}

impl Pair {
    /// All of them.
    pub const ALL: [Pair; 4] = [Pair::Theirs, Pair::OursToTheirs, Pair::TheirsToOurs, Pair::Ours];

    /// Its name in the answer.
    pub fn name(self) -> &'static str {
        match self {
            Pair::Theirs => "theirs",
            Pair::OursToTheirs => "ours_to_theirs",
            Pair::TheirsToOurs => "theirs_to_ours",
            Pair::Ours => "ours",
        }
    }

    /// Whether the replica is a real `sync_server`.
    pub fn is_to_cyrus(self) -> bool {
        matches!(self, Pair::Theirs | Pair::OursToTheirs)
    }

    /// The client, and what it reads.
    pub fn client(self, master: &Cyrus, cylinder: &Path, to: SocketAddr, what: What) -> Client {
        let is_ours = matches!(self, Pair::OursToTheirs | Pair::Ours);
        if !is_ours {
            let mut command = master.tool_command("sync_client");
            command.args(["-S", &to.to_string()]);
            match what {
                What::User(user) => command.args(["-u", user]),
                What::All => command.arg("-A"),
                What::Rolling => command.arg("-R"),
            };
            return Client { command, input: Vec::new() };
        }
        let mut command = Command::new(cylinder);
        command.args(["replicate", "--to", &format!("csync://{NAME}@{to}"), "-C"]);
        command.arg(master.imapd_conf());
        match what {
            What::User(user) => command.args(["--user", user]),
            What::All => command.arg("--all"),
            What::Rolling => command.arg("--rolling"),
        };
        Client { command, input: format!("{PASSWORD}\n").into_bytes() }
    }
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// One account.
    User(&'static str),
    /// All of them.
    All,
    /// What happens, as it happens, until it is stopped.
    Rolling,
}

/// A master's program that is not started yet.
pub struct Client {
    command: Command,
    input: Vec<u8>,
}

impl Client {
    /// Runs it to its end.
    pub fn measure(mut self) -> Outcome<Run> {
        measure(&mut self.command, &self.input)
    }

    /// Lets it run until it is dropped.
    pub fn keep(mut self) -> Outcome<Group> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut group = Group::spawn_guarded(&mut self.command)?;
        let pipe = group.leader().stdin.take();
        pipe.map(|mut pipe| pipe.write_all(&self.input)).transpose()?;
        Ok(group)
    }
}

/// Medians of what a pair took.
pub fn document(runs: &[Run]) -> Value {
    json!({
        "times": runs.len(),
        "wall_us": micros(median(runs.iter().map(|run| run.wall))),
        "client_cpu_us": micros(median(runs.iter().map(|run| run.client_cpu))),
    })
}
