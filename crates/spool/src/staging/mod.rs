//! What processes that are gone have left where messages wait: `stage.` and `sync.`.
//!
//! Cyrus puts a message into `stage.` while it is delivered, and into `sync./<pid>` while it is
//! replicated, and gives it its place by a hard link. Whoever is killed in between, or merely told
//! to end, leaves it there, and nobody ever comes back for it (`imap/sync_support.c`, Cyrus 3.6):
//! what was expunged since still takes its room on the disk.
//!
//! [`Survey::take`] says what is there, whose it is, and whether that process is gone;
//! [`Survey::remove`] removes what is left of one that is, and looks again before it does.

mod area;
mod contents;
mod process;
mod remove;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cyrus_format::imapd_conf::ImapdConf;
use model::Guid;

use crate::error::{Result, SpoolError};
use crate::privileges::Identity;
use crate::server::cyrus_user;
use area::Area;
pub(crate) use area::roots;
use process::Processes;

pub use contents::{Cut, messages_of};
pub use process::{Maker, Process};
pub use remove::Removed;

/// A file, whatever its names: device and inode.
pub type Inode = (u64, u64);

/// What for messages wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To be delivered, appended or copied: `stage.`.
    Append,
    /// To be replicated: `sync.`.
    Replication,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Append, Self::Replication];

    /// The directory's name, below each root of a partition.
    pub fn directory(self) -> &'static str {
        match self {
            Purpose::Append => "stage.",
            Purpose::Replication => "sync.",
        }
    }
}

/// A name in such a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Below the directory of its [`Group`].
    pub name: OsString,
    /// Which file it is.
    pub inode: Inode,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// All its names, wherever they are.
    pub links: u64,
    /// When its content was last changed, nanoseconds since 1970.
    pub mtime: i128,
    /// When anything of it was last changed, its names included, likewise.
    pub ctime: i128,
}

impl Staged {
    /// The GUID that its bytes should have, since 2.4 its name in `sync.`.
    pub fn guid(&self) -> Option<Guid> {
        Guid::from_hex(self.name.as_encoded_bytes())
    }
}

/// What one process has left in one place.
#[derive(Clone, Debug)]
pub struct Group {
    /// What for.
    pub purpose: Purpose,
    /// The directory that has the names: `sync./<pid>`, or `stage.` itself.
    pub directory: PathBuf,
    /// The process.
    pub pid: Option<u32>,
    /// Whether it is still at work.
    pub maker: Maker,
    /// When anything of it was last changed, nanoseconds since 1970.
    pub changed_at: i128,
    /// The files.
    pub files: Vec<Staged>,
    /// Which of the survey's areas it is in.
    area: usize,
    /// If it is a directory of its own.
    own: Option<Own>,
}

/// A directory that one process has below an area.
#[derive(Clone, Debug)]
struct Own {
    name: OsString,
    inode: Inode,
    /// When a name in it last came or went, nanoseconds since 1970.
    ctime: i128,
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What was changed later than so long ago is left, whoever made it: where Cyrus runs in a
    /// container, and this program in another one, nothing tells that a process is alive.
    pub older_than: Duration,
}

/// Everything that waits.
#[derive(Debug)]
pub struct Survey {
    /// By place and process.
    pub groups: Vec<Group>,
    /// What is no message that waits, and is never touched.
    pub strange: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub unread: Vec<(PathBuf, io::Error)>,
    areas: Vec<Area>,
    cyrus_uid: Option<u32>,
    options: Options,
}

/// What some groups amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Names.
    pub files: u64,
    /// Bytes of all files, each counted once.
    pub bytes: u64,
    /// Bytes on the disk of those files that have no other names: what a sweep sets free.
    pub held: u64,
    /// Names of files that have others besides: messages in mailboxes.
    pub linked: u64,
}

impl Survey {
    /// Looks through all partitions of a server. What is not there holds nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be told which processes there are.
    pub fn take(conf: &ImapdConf, options: Options) -> Result<Self> {
        // Not knowing it only makes more processes suspects.
        let cyrus_uid = Identity::find(&cyrus_user(conf)).ok().flatten().map(|cyrus| cyrus.uid);
        let processes = Processes::now(cyrus_uid).map_err(unreadable)?;
        let (areas, unread) = Area::open_all(conf);
        let (groups, strange) = (Vec::new(), Vec::new());
        let mut survey = Self { groups, strange, unread, areas, cyrus_uid, options };
        for at in 0..survey.areas.len() {
            survey.list(at);
        }
        for group in &mut survey.groups {
            group.maker = maker(group, &processes, options).map_err(unreadable)?;
        }
        survey.groups.sort_by(|a, b| (&a.directory, a.pid).cmp(&(&b.directory, b.pid)));
        Ok(survey)
    }

    /// What these groups weigh, if they are removed together.
    pub fn weigh<'g>(&self, groups: impl IntoIterator<Item = &'g Group>) -> Weight {
        let mut files: BTreeMap<Inode, (&Staged, u64)> = BTreeMap::new();
        for file in groups.into_iter().flat_map(|group| &group.files) {
            files.entry(file.inode).or_insert((file, 0)).1 += 1;
        }
        let mut weight = Weight::default();
        for (file, names) in files.into_values() {
            weight.files += names;
            weight.bytes += file.size;
            match names < file.links {
                true => weight.linked += names,
                false => weight.held += file.allocated,
            }
        }
        weight
    }

    /// What is left of processes that are gone.
    pub fn gone(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.maker.is_gone())
    }
}

/// Who made a group.
fn maker(group: &Group, processes: &Processes, options: Options) -> io::Result<Maker> {
    let Some(pid) = group.pid else { return Ok(Maker::Unknown) };
    let maker = processes.maker(pid, group.changed_at)?;
    let age = u128::try_from(process::now() - group.changed_at).unwrap_or(0);
    Ok(match maker.is_gone() && age < options.older_than.as_nanos() {
        true => Maker::TooNew,
        false => maker,
    })
}

fn unreadable(source: io::Error) -> SpoolError {
    SpoolError::Io { op: "read", path: "/proc".into(), source }
}
