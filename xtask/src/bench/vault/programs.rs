//! The programs that race, and what each is asked to do, with its everyday options.

use crate::bench::racers::Ground;
use crate::bench::sample::Words;
use crate::words;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Cylinder,
    Restic,
    Borg,
    Tar,
}

/// What it is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// A first backup.
    First,
    /// Another one, nothing having changed.
    Unchanged,
    /// One message of the newest backup.
    Message,
    /// All of it, as files.
    Restore,
    /// All that is stored, read and checked.
    Verify,
}

/// The message that is asked for: its UID in INBOX.
const UID: u64 = 100;

impl Program {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Cylinder, Self::Restic, Self::Borg, Self::Tar];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cylinder => "cylinder",
            Self::Restic => "restic",
            Self::Borg => "borg",
            Self::Tar => "GNU tar",
        }
    }

    /// The program it needs that not every machine has.
    pub fn needs(self) -> Option<&'static str> {
        match self {
            Self::Cylinder | Self::Tar => None,
            Self::Restic => Some("restic"),
            Self::Borg => Some("borg"),
        }
    }

    /// What has to be done, without being timed, before a first backup.
    pub fn before(self, ground: &Ground<'_>) -> Vec<Words> {
        match self {
            Self::Cylinder => Vec::new(),
            Self::Restic => ground.new_restic(),
            Self::Borg => ground.new_borg(),
            // What it is to unpack; how fast it packs is measured elsewhere.
            Self::Tar => vec![words!["tar", "cf", ground.own("store"), ground.tree()]],
        }
    }

    /// What is timed, if the program takes part. `run` tells repetitions of a task apart.
    pub fn words(self, task: Task, ground: &Ground<'_>, run: usize) -> Option<Words> {
        let message = ground.spool.inbox.join(format!("{UID}.")).display().to_string();
        let relative = message.trim_start_matches('/');
        let target = ground.own(&format!("restored-{run}"));
        let first = format!("{}::first", ground.own("store"));
        Some(match (self, task) {
            (Self::Cylinder, Task::First | Task::Unchanged) => {
                let mut command = words![ground.bench.cylinder, "backup"];
                command.extend(words!["--config", ground.spool.conf, "--all"]);
                command.extend(words!["--vault", ground.own("store")]);
                command
            }
            (Self::Cylinder, Task::Message) => {
                let mut command = cylinder(ground, "show");
                command.extend(words!["--mailbox", "INBOX", "--uid", UID]);
                command
            }
            (Self::Cylinder, Task::Restore) => {
                let mut command = cylinder(ground, "restore");
                command.extend(words!["--to", format!("dir:{target}")]);
                command
            }
            (Self::Cylinder, Task::Verify) => {
                let command = words![ground.bench.cylinder, "verify", "--read-data"];
                [command, words!["--vault", ground.own("store")]].concat()
            }
            (Self::Restic, Task::First | Task::Unchanged) => {
                ground.restic(&["backup", &ground.tree()])
            }
            (Self::Restic, Task::Message) => ground.restic(&["dump", "latest", &message]),
            (Self::Restic, Task::Restore) => {
                ground.restic(&["restore", "latest", "--target", &target])
            }
            (Self::Restic, Task::Verify) => ground.restic(&["check", "--read-data"]),
            (Self::Borg, Task::First) => ground.borg(&["create", &first, &ground.tree()]),
            (Self::Borg, Task::Unchanged) => {
                let again = format!("{}::again-{run}", ground.own("store"));
                ground.borg(&["create", &again, &ground.tree()])
            }
            (Self::Borg, Task::Message) => ground.borg(&["extract", "--stdout", &first, relative]),
            (Self::Borg, Task::Restore) => within(&target, ground.borg(&["extract", &first])),
            (Self::Borg, Task::Verify) => {
                ground.borg(&["check", "--verify-data", &ground.own("store")])
            }
            (Self::Tar, Task::Restore) => within(&target, words!["tar", "xf", ground.own("store")]),
            (Self::Tar, _) => return None,
        })
    }
}

fn cylinder(ground: &Ground<'_>, command: &str) -> Words {
    let vault = words!["--vault", ground.own("store"), ground.spool.account];
    [words![ground.bench.cylinder, command], vault].concat()
}

/// A command in a new directory.
fn within(directory: &str, command: Words) -> Words {
    let script = "mkdir \"$0\" && cd \"$0\" && exec \"$@\"";
    [words!["sh", "-c", script, directory], command].concat()
}
