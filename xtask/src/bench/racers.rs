//! The programs that race: what each is asked to do, with its everyday options.

use std::path::PathBuf;

use super::sample::Words;
use super::workbench::{Spool, Workbench};
use crate::words;

/// What is raced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A first snapshot of everything.
    Full,
    /// Another one, nothing having changed.
    Unchanged,
    /// Another one after one message was delivered.
    Delivered,
}

/// A program as it takes part.
#[derive(Debug)]
pub struct Racer {
    /// What tables call it.
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Cylinder { base: &'static str, compress: &'static [&'static str] },
    Vault,
    Tar { options: &'static [&'static str], filter: &'static [&'static str] },
    IncrementalTar,
    Restic,
    Borg { compression: &'static [&'static str] },
    Rsync,
    Cat,
}

/// Names that goals refer to.
pub const CYLINDER: &str = "cylinder";
pub const CYLINDER_ZSTD: &str = "cylinder --compress zstd";
pub const TAR: &str = "GNU tar";
pub const TAR_ZSTD: &str = "GNU tar, zstd -3";
pub const RESTIC: &str = "restic";
pub const RSYNC: &str = "rsync -a";
pub const CAT: &str = "cat of the metadata";

/// All that take part.
pub const RACERS: &[Racer] = &[
    Racer { name: CYLINDER, kind: Kind::Cylinder { base: "base.tar", compress: &[] } },
    Racer { name: TAR, kind: Kind::Tar { options: &[], filter: &[] } },
    Racer {
        name: "GNU tar without cyrus.cache",
        kind: Kind::Tar { options: &["--exclude=cyrus.cache"], filter: &[] },
    },
    Racer {
        name: CYLINDER_ZSTD,
        kind: Kind::Cylinder { base: "base.tar.zst", compress: &["--compress", "zstd"] },
    },
    Racer { name: TAR_ZSTD, kind: Kind::Tar { options: &[], filter: &["zstd", "-3"] } },
    Racer {
        name: "GNU tar, zstd -3 -T0",
        kind: Kind::Tar { options: &[], filter: &["zstd", "-3", "-T0"] },
    },
    Racer { name: "GNU tar -g", kind: Kind::IncrementalTar },
    Racer { name: "cylinder backup", kind: Kind::Vault },
    Racer { name: RESTIC, kind: Kind::Restic },
    Racer { name: "borg", kind: Kind::Borg { compression: &[] } },
    Racer {
        name: "borg --compression none",
        kind: Kind::Borg { compression: &["--compression", "none"] },
    },
    Racer { name: RSYNC, kind: Kind::Rsync },
    Racer { name: CAT, kind: Kind::Cat },
];

/// Where a racer runs.
#[derive(Debug)]
pub struct Ground<'a> {
    /// Programs and places.
    pub bench: &'a Workbench,
    /// What is to be saved.
    pub spool: &'a Spool,
    /// The racer's own directory, empty at the start of each round.
    pub own: PathBuf,
}

impl Racer {
    /// The program it needs that not every machine has, and the Debian package of it.
    pub fn needs(&self) -> Option<(&'static str, &'static str)> {
        match &self.kind {
            Kind::Tar { filter: ["zstd", ..], .. } => Some(("zstd", "zstd")),
            Kind::Restic => Some(("restic", "restic")),
            Kind::Borg { .. } => Some(("borg", "borgbackup")),
            Kind::Rsync => Some(("rsync", "rsync")),
            Kind::Cylinder { .. } | Kind::Vault => None,
            Kind::Tar { .. } | Kind::IncrementalTar | Kind::Cat => None,
        }
    }

    /// Where it keeps what it saved, if it is not what it writes to the pipe.
    pub fn store(&self, ground: &Ground<'_>) -> Option<PathBuf> {
        let store =
            matches!(&self.kind, Kind::Vault | Kind::Restic | Kind::Borg { .. } | Kind::Rsync);
        store.then(|| ground.own.join("store"))
    }

    /// What has to be done, without being timed, before a phase.
    pub fn before(&self, ground: &Ground<'_>, phase: Phase) -> Vec<Words> {
        match (&self.kind, phase) {
            (Kind::Cylinder { base, compress }, Phase::Unchanged) => {
                let mut command = ground.snapshot(compress);
                command.extend(words!["--output", ground.own(base)]);
                vec![command]
            }
            // For /dev/null, tar reads no contents: it only writes down what there is.
            (Kind::IncrementalTar, Phase::Unchanged) => vec![
                words!["tar", "cf", "/dev/null", "-g", ground.own("first"), ground.tree()],
                words!["cp", ground.own("first"), ground.own("copy")],
            ],
            (Kind::IncrementalTar, Phase::Delivered) => {
                vec![words!["cp", ground.own("first"), ground.own("copy")]]
            }
            (Kind::Restic, Phase::Full) => ground.new_restic(),
            (Kind::Borg { .. }, Phase::Full) => ground.new_borg(),
            _ => Vec::new(),
        }
    }

    /// What is timed in a phase, if it takes part in it.
    pub fn timed(&self, ground: &Ground<'_>, phase: Phase) -> Result<Option<Words>, String> {
        let tree = ground.tree();
        let command = match (&self.kind, phase) {
            (Kind::Cylinder { base, compress }, phase) => {
                let mut command = ground.snapshot(compress);
                if phase != Phase::Full {
                    command.extend(words!["--since", ground.own(base)]);
                }
                piped(command, if compress.is_empty() { &["cat"] } else { &["wc", "-c"] })
            }
            (Kind::Vault, _) => ground.backup(),
            (Kind::Tar { options, filter }, Phase::Full) => {
                let mut command = words!["tar", "cf", "-"];
                command.extend(options.iter().map(|option| option.to_string()));
                command.push(tree);
                match filter.is_empty() {
                    true => piped(command, &["cat"]),
                    false => piped(piped(command, filter), &["wc", "-c"]),
                }
            }
            (Kind::IncrementalTar, Phase::Unchanged | Phase::Delivered) => {
                piped(words!["tar", "cf", "-", "-g", ground.own("copy"), tree], &["cat"])
            }
            (Kind::Restic, _) => ground.restic(&["backup", &tree]),
            (Kind::Borg { compression }, _) => {
                let archive = format!("{}::{{now:%s.%f}}", ground.own("store"));
                ground.borg(&[&["create"], *compression, &[&archive, &tree]].concat())
            }
            (Kind::Rsync, _) => {
                words!["rsync", "-a", format!("{tree}/"), ground.own("store")]
            }
            (Kind::Cat, Phase::Unchanged) => ground.spool.cat_metadata()?,
            (Kind::Tar { .. } | Kind::IncrementalTar | Kind::Cat, _) => return Ok(None),
        };
        Ok(Some(command))
    }
}

impl Ground<'_> {
    /// Something of the racer's own.
    pub fn own(&self, name: &str) -> String {
        self.own.join(name).display().to_string()
    }

    /// What programs that know nothing of Cyrus save.
    pub fn tree(&self) -> String {
        self.spool.partition.display().to_string()
    }

    /// `cylinder snapshot`; its report says how long locks were held.
    pub fn snapshot(&self, options: &[&str]) -> Words {
        let mut command = words![self.bench.cylinder, "snapshot", self.spool.account];
        command.extend(words!["--config", self.spool.conf, "--json"]);
        command.extend(options.iter().map(|option| option.to_string()));
        command
    }

    /// `cylinder backup` into a vault of this round.
    fn backup(&self) -> Words {
        let mut command = words![self.bench.cylinder, "backup", self.spool.account];
        command.extend(words!["--config", self.spool.conf, "--vault", self.own("store")]);
        piped(command, &["cat"])
    }

    /// Makes a repository for restic.
    pub fn new_restic(&self) -> Vec<Words> {
        let password = format!("echo tablet > '{}'", self.own("password"));
        vec![words!["sh", "-c", password], self.restic(&["init"])]
    }

    /// Makes one for borg.
    pub fn new_borg(&self) -> Vec<Words> {
        vec![self.borg(&["init", "--encryption", "none", &self.own("store")])]
    }

    /// restic with a repository and a cache of this round.
    pub fn restic(&self, arguments: &[&str]) -> Words {
        let mut command = words!["restic", "--quiet", "--repo", self.own("store")];
        command.extend(words!["--password-file", self.own("password")]);
        command.extend(words!["--cache-dir", self.own("cache")]);
        command.extend(arguments.iter().map(|argument| argument.to_string()));
        command
    }

    /// borg with its caches in this round's directory.
    pub fn borg(&self, arguments: &[&str]) -> Words {
        let mut command = words!["env", format!("BORG_BASE_DIR={}", self.own("base")), "borg"];
        command.extend(arguments.iter().map(|argument| argument.to_string()));
        command
    }
}

fn piped(mut command: Words, into: &[&str]) -> Words {
    command.push("|".to_string());
    command.extend(into.iter().map(|word| word.to_string()));
    command
}
