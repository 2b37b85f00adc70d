//! The hand-over of a sync log from Cyrus, which goes on writing (`imap/sync_log.c`, Cyrus 3.6).
//!
//! A writer opens `log`, locks it, and begins anew if the file is another one by then. So a reader
//! renames `log` to `log-run`, and asks for the lock once: when he has it, the last writer is done. What
//! is in `log-run` belongs to whoever reads the channel; a reader that died has left his.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cyrus_format::imapd_conf::ImapdConf;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::error::{Result, SpoolError};
use crate::lock::OrNone;
use crate::lock::ofd::{self, Mode};

/// A channel of a server's sync log.
#[derive(Clone, Debug)]
pub struct SyncLog {
    directory: PathBuf,
}

/// Nobody else reads the channel as long as this lives.
#[derive(Debug)]
pub struct Claim {
    /// The lock is on the directory itself: no file has to be made among Cyrus' own.
    _directory: File,
}

/// What waits to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How much there is.
    pub bytes: u64,
    /// When its first line was written, or a little before.
    pub since: SystemTime,
}

/// What there is to be taken.
#[derive(Debug)]
pub enum Taken {
    /// Nothing has happened since the last time.
    Nothing,
    /// The last writer has not ended yet, which takes him as long as a sync of the disk.
    Busy {
        /// What he writes.
        path: PathBuf,
        /// Whether it had been renamed before.
        was_left: bool,
    },
    /// A log.
    Log(TakenLog),
}

/// A log that no writer has any more. It stays `log-run` until it is moved or removed.
#[derive(Debug)]
pub struct TakenLog {
    path: PathBuf,
    /// What is in it.
    pub file: File,
    /// How much there is, and since when.
    pub waiting: Waiting,
    /// Whether it had been renamed before, by us or by somebody else.
    pub was_left: bool,
}

/// What came of renaming `log` to `log-run`.
enum Renamed {
    /// There is none, or nothing is in it yet.
    Nothing,
    /// It has the name now.
    Done,
    /// Another one has the name: somebody was faster.
    Taken,
}

impl SyncLog {
    /// Of this channel; without a name, of the default one.
    pub fn new(conf: &ImapdConf, channel: Option<&str>) -> Self {
        let directory = conf.configdirectory().join("sync");
        let directory = channel.map_or(directory.clone(), |channel| directory.join(channel));
        Self { directory }
    }

    /// Where it is. Cyrus makes the directory with the first line.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sees to it that nobody else reads the channel, as far as he asks likewise; Cyrus' own
    /// `sync_client` does not. `None` if somebody does.
    ///
    /// # Errors
    ///
    /// If there is no such directory, or the system does not lock it.
    #[expect(clippy::disallowed_methods, reason = "Cyrus locks no directories; others of us do")]
    pub fn claim(&self) -> Result<Option<Claim>> {
        let directory =
            File::open(&self.directory).map_err(|e| failed("open", &self.directory, e))?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Claim { _directory: directory })),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(failed("lock", &self.directory, errno.into())),
        }
    }

    /// What there is to be taken; `None` if nothing has happened since the last time. A log of which
    /// nothing is written yet is its writer's.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn waiting(&self) -> Result<Option<Waiting>> {
        let mut all: Option<Waiting> = None;
        for path in [self.left(), self.log()] {
            let found = fs::metadata(&path).or_none().map_err(|e| failed("examine", &path, e))?;
            let is_begun = |found: &fs::Metadata| path == self.left() || found.size() > 0;
            let Some(found) = found.filter(is_begun).map(|found| Waiting::of(&found)) else {
                continue;
            };
            all = Some(match all {
                Some(left) => {
                    Waiting { bytes: left.bytes + found.bytes, since: left.since.min(found.since) }
                }
                None => found,
            });
        }
        Ok(all)
    }

    /// Takes what a reader has left, or else what Cyrus has written. Until it was moved or removed, the
    /// next call gives the same. Nobody is waited for.
    ///
    /// # Errors
    ///
    /// What the system says; [`SpoolError::LogTakenAway`].
    pub fn take(&self) -> Result<Taken> {
        let path = self.left();
        let mut was_left = path.try_exists().map_err(|e| failed("examine", &path, e))?;
        if !was_left {
            match self.rename(&path)? {
                Renamed::Nothing => return Ok(Taken::Nothing),
                Renamed::Done => {}
                Renamed::Taken => was_left = true,
            }
        }
        // The lock is given back at once: those who wait for it are to find out that they begin anew.
        let is_ended = || -> io::Result<Option<bool>> {
            let file = OpenOptions::new().read(true).write(true).open(&path).or_none()?;
            file.map(|file| ofd::try_lock(&file, Mode::Exclusive)).transpose()
        };
        let open = || -> io::Result<Option<Taken>> {
            let Some(is_ended) = is_ended()? else { return Ok(None) };
            if !is_ended {
                return Ok(Some(Taken::Busy { path: path.clone(), was_left }));
            }
            let Some(file) = File::open(&path).or_none()? else { return Ok(None) };
            let waiting = Waiting::of(&file.metadata()?);
            Ok(Some(Taken::Log(TakenLog { path: path.clone(), file, waiting, was_left })))
        };
        let taken = open().map_err(|e| failed("take", &path, e))?;
        taken.ok_or(SpoolError::LogTakenAway { path })
    }

    /// Gives the log the name of one that is taken.
    fn rename(&self, path: &Path) -> Result<Renamed> {
        let log = self.log();
        // Whoever has just made it is about to lock it, and begins anew if it has lost its name by
        // then; after 64 times he gives up, and his line is lost. On a busy machine, a reader that is
        // woken by each new file gets in between every time.
        let found = fs::metadata(&log).or_none().map_err(|e| failed("examine", &log, e))?;
        if found.is_none_or(|found| found.size() == 0) {
            return Ok(Renamed::Nothing);
        }
        match rename_to_free(&log, path) {
            Ok(()) => Ok(Renamed::Done),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Renamed::Nothing),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Renamed::Taken),
            Err(error) => Err(failed("rename", &log, error)),
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn left(&self) -> PathBuf {
        self.directory.join("log-run")
    }
}

impl Waiting {
    fn of(found: &fs::Metadata) -> Self {
        let changed = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        // Where the file system does not know when a file was made, its last line has to do.
        let since = found.created().unwrap_or(changed);
        Self { bytes: found.size(), since: since.min(changed) }
    }
}

impl TakenLog {
    /// Gives it another name, in one step. `false` if that lies on another file system; then it is to
    /// be copied, and removed once the copy is on the disk.
    ///
    /// # Errors
    ///
    /// What the system says; [`SpoolError::LogTakenAway`].
    pub fn move_to(&self, path: &Path) -> Result<bool> {
        self.check_name()?;
        match fs::rename(&self.path, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
            Err(error) => Err(failed("rename", &self.path, error)),
        }
    }

    /// Removes it: all that is in it is kept elsewhere.
    ///
    /// # Errors
    ///
    /// What the system says; [`SpoolError::LogTakenAway`].
    pub fn remove(self) -> Result<()> {
        self.check_name()?;
        fs::remove_file(&self.path).map_err(|e| failed("remove", &self.path, e))
    }

    /// A `sync_client` on the same channel removes a log that is not its own, and renames the next one:
    /// that would be removed unread.
    fn check_name(&self) -> Result<()> {
        let path = &self.path;
        let own = self.file.metadata().map_err(|e| failed("examine", path, e))?;
        let there = fs::metadata(path).or_none().map_err(|e| failed("examine", path, e))?;
        match there {
            Some(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok(()),
            _ => Err(SpoolError::LogTakenAway { path: path.clone() }),
        }
    }
}

/// Renames a file unless there is one of that name; where the file system cannot see to that, whatever is
/// there.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

fn failed(op: &'static str, path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io { op, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    struct Stage {
        directory: TempDir,
        log: SyncLog,
    }

    impl Stage {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let log = SyncLog { directory: directory.path().to_owned() };
            Self { directory, log }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("written");
        }

        fn take(&self) -> Option<(TakenLog, String)> {
            let taken = loop {
                match self.log.take().expect("it can be taken") {
                    Taken::Log(taken) => break taken,
                    Taken::Nothing => return None,
                    Taken::Busy { .. } => thread::yield_now(),
                }
            };
            let mut text = String::new();
            (&taken.file).read_to_string(&mut text).expect("readable");
            Some((taken, text))
        }
    }

    #[test]
    fn what_a_dead_reader_left_comes_first_and_again_until_it_is_removed() {
        let stage = Stage::new();
        assert!(stage.take().is_none() && stage.log.waiting().expect("a look").is_none());
        stage.write("log-run", "MAILBOX user.a\n");
        stage.write("log", "MAILBOX user.bb\n");
        assert_eq!(stage.log.waiting().expect("a look").map(|waiting| waiting.bytes), Some(31));
        for _ in 0..2 {
            let (taken, text) = stage.take().expect("a log");
            assert_eq!((taken.was_left, text.as_str()), (true, "MAILBOX user.a\n"));
        }
        let (taken, _) = stage.take().expect("a log");
        taken.remove().expect("removed");
        let (taken, text) = stage.take().expect("a log");
        assert_eq!((taken.was_left, text.as_str()), (false, "MAILBOX user.bb\n"));
        assert!(taken.move_to(&stage.path("kept")).expect("moved"));
        assert!(stage.take().is_none());
        assert_eq!(fs::read_to_string(stage.path("kept")).expect("kept"), "MAILBOX user.bb\n");
    }

    #[test]
    fn the_last_writer_is_waited_for_and_the_next_one_begins_anew() {
        let stage = Stage::new();
        stage.write("log", "MAILBOX user.early\n");
        let mut writer = OpenOptions::new().append(true).open(stage.path("log")).expect("a log");
        assert!(ofd::try_lock(&writer, Mode::Exclusive).expect("it locks"));
        let text = thread::scope(|scope| {
            let reader = scope.spawn(|| stage.take().map(|(_, text)| text));
            let run = stage.path("log-run");
            while !run.exists() {
                thread::yield_now();
            }
            writer.write_all(b"MAILBOX user.late\n").expect("written");
            drop(writer);
            reader.join().expect("it ends")
        });
        assert_eq!(text.as_deref(), Some("MAILBOX user.early\nMAILBOX user.late\n"));
    }

    #[test]
    fn a_writer_that_does_not_end_holds_nobody_up() {
        let stage = Stage::new();
        stage.write("log", "MAILBOX user.a\n");
        let writer = OpenOptions::new().append(true).open(stage.path("log")).expect("a log");
        assert!(ofd::try_lock(&writer, Mode::Exclusive).expect("it locks"));
        for again in [false, true] {
            let taken = stage.log.take().expect("it can be seen");
            let Taken::Busy { path, was_left } = taken else { panic!("{taken:?}") };
            assert_eq!((path, was_left), (stage.path("log-run"), again));
        }
        drop(writer);
        assert_eq!(stage.take().expect("a log").1, "MAILBOX user.a\n");
    }

    /// As a `sync_client` on the same channel does it.
    #[test]
    fn what_somebody_else_takes_away_meanwhile_is_noticed_and_his_next_log_stays() {
        let stage = Stage::new();
        let is_lost = |error| matches!(error, Err(SpoolError::LogTakenAway { .. }));
        for next in [None, Some("MAILBOX user.b\n")] {
            stage.write("log", "MAILBOX user.a\n");
            let (moved, removed) = (stage.take().expect("a log").0, stage.take().expect("a log").0);
            fs::remove_file(stage.path("log-run")).expect("it is there");
            // As long as that is open, it cannot be the very same file again.
            next.into_iter().for_each(|next| stage.write("log-run", next));
            assert!(
                is_lost(moved.move_to(&stage.path("kept")).map(drop)) && is_lost(removed.remove())
            );
            assert!(!stage.path("kept").exists());
            let there = fs::read_to_string(stage.path("log-run")).ok();
            assert_eq!(there.as_deref(), next);
        }
    }

    #[test]
    fn a_log_does_not_replace_one_that_somebody_else_has_renamed() {
        let stage = Stage::new();
        stage.write("log", "MAILBOX user.a\n");
        stage.write("log-run", "MAILBOX user.b\n");
        let renamed = rename_to_free(&stage.path("log"), &stage.path("log-run"));
        assert_eq!(renamed.map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        assert!(matches!(stage.log.rename(&stage.path("log-run")), Ok(Renamed::Taken)));
        let (taken, text) = stage.take().expect("a log");
        assert_eq!((taken.was_left, text.as_str()), (true, "MAILBOX user.b\n"));
        assert!(stage.path("log").exists());
    }

    #[test]
    fn a_log_that_is_only_made_yet_keeps_its_name() {
        let stage = Stage::new();
        let path = stage.path("log");
        // As Cyrus writes a line; the reader is there at every step.
        let mut writer = OpenOptions::new().append(true).create(true).open(&path).expect("a log");
        assert!(stage.log.waiting().expect("a look").is_none() && stage.take().is_none());
        assert!(ofd::try_lock(&writer, Mode::Exclusive).expect("it locks"));
        assert!(stage.take().is_none());
        let has_its_name = || {
            let (own, there) = (writer.metadata().expect("a file"), fs::metadata(&path));
            there.is_ok_and(|there| there.ino() == own.ino())
        };
        assert!(has_its_name(), "the writer would have to begin anew, 64 times at most");
        writer.write_all(b"MAILBOX user.a\n").expect("written");
        drop(writer);
        assert!(stage.log.waiting().expect("a look").is_some());
        assert_eq!(stage.take().expect("a log").1, "MAILBOX user.a\n");
    }

    #[test]
    fn a_channel_has_one_reader() {
        let stage = Stage::new();
        let claim = stage.log.claim().expect("it locks");
        assert!(claim.is_some());
        assert!(stage.log.claim().expect("it locks").is_none());
        drop(claim);
        assert!(stage.log.claim().expect("it locks").is_some());
    }

    #[test]
    fn channels_have_directories_of_their_own() {
        let conf = b"configdirectory: /var/lib/cyrus\n";
        let mut none = |_: &str| Err(String::new());
        let conf = ImapdConf::parse("imapd.conf", conf, &mut none).expect("a configuration");
        let directory = |channel| SyncLog::new(&conf, channel).directory().display().to_string();
        assert_eq!(directory(None), "/var/lib/cyrus/sync");
        assert_eq!(directory(Some("far")), "/var/lib/cyrus/sync/far");
    }
}
