//! The message files of a frozen account, within reach until they are read, however long that
//! takes.
//!
//! A mailbox's name lock keeps its message files in place, and clients don't mind it. But the
//! server's own cleanup does: `cyr_expire` takes the user's lock, then waits for the name lock
//! (Cyrus 3.4+), and from then on all clients of the account wait too. A snapshot that goes through
//! a slow line would stop them for hours. So a name lock is kept only until the mailbox is read or
//! for [`NAME_LOCK_HOLD`], whichever is shorter. After that time the files that are still to be
//! read are opened, which keeps their bytes whatever becomes of their names, and the lock is given
//! back.
//!
//! Only where more files are to be read than may be open at once, the lock stays until enough of
//! them are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::Uid;

use crate::files;
use crate::limits;
use crate::mailbox::FrozenMailbox;

/// How long name locks are kept for messages that nobody has read yet: a client may be made to
/// wait this long, if cleanup of its account begins at that very moment.
pub const NAME_LOCK_HOLD: Duration = Duration::from_secs(1);

/// The message files of a frozen account. May be used by several threads.
#[derive(Debug)]
pub struct MessageFiles {
    shared: Arc<Shared>,
    /// Gives locks back when their time has come.
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mailboxes: Vec<Slot>,
    /// How many files may be open at once.
    room: usize,
    /// Nothing is asked for any more.
    is_over: AtomicBool,
}

/// One mailbox.
#[derive(Debug)]
struct Slot {
    /// `None` when it is done with.
    mailbox: RwLock<Option<FrozenMailbox>>,
    /// Messages up to this UID are not asked for any more.
    passed: AtomicU32,
    /// Whether there is anything in `opened`, which most runs never see.
    has_opened: AtomicBool,
    /// Files that were opened so that the lock could be given back.
    opened: Mutex<BTreeMap<Uid, Arc<File>>>,
}

impl MessageFiles {
    /// Takes charge of mailboxes, whose locks are kept for at most about `hold`.
    pub fn new(mailboxes: Vec<FrozenMailbox>, hold: Duration) -> Self {
        let room = limits::open_messages(mailboxes.len());
        let mailboxes = mailboxes.into_iter().map(Slot::new).collect();
        let shared = Arc::new(Shared { mailboxes, room, is_over: AtomicBool::new(false) });
        let keeper = thread::Builder::new().name("name-locks".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.keep(hold)
        });
        // Without a thread the locks stay until the messages are read, which is correct too.
        Self { shared, keeper: keeper.ok() }
    }

    /// Opens the file of a message in mailbox number `mailbox`; `archived` says where its record
    /// claims it to be.
    ///
    /// # Errors
    ///
    /// As [`FrozenMailbox::open_message`].
    pub fn open(&self, mailbox: usize, uid: Uid, archived: bool) -> io::Result<MessageFile> {
        let slot = self.slot(mailbox)?;
        if let Some(file) = slot.opened(uid) {
            return Ok(MessageFile::new(file));
        }
        match slot.with(|mailbox| mailbox.open_message(uid, archived)) {
            // It may have been opened, and removed, since we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                slot.opened(uid).map(MessageFile::new).ok_or(error)
            }
            found => Ok(MessageFile::new(Arc::new(found?))),
        }
    }

    /// See [`FrozenMailbox::list_messages`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn list(&self, mailbox: usize) -> io::Result<Vec<Uid>> {
        self.slot(mailbox)?.with(FrozenMailbox::list_messages)
    }

    /// `cyrus.index` as it is now, if messages may have vanished since the account was frozen:
    /// in 2.3, or because the lock was given back. See [`FrozenMailbox::reread_index`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn reread_index(&self, mailbox: usize) -> io::Result<Option<Vec<u8>>> {
        self.slot(mailbox)?.with(FrozenMailbox::reread_index)
    }

    /// Messages up to this UID will not be asked for any more, or hardly any of them: their files
    /// are not kept.
    pub fn pass(&self, mailbox: usize, uid: Uid) {
        let Ok(slot) = self.slot(mailbox) else { return };
        slot.passed.fetch_max(uid.0, Ordering::Relaxed);
        if slot.has_opened.load(Ordering::Acquire) {
            slot.drop_passed(&mut slot.lock_opened());
        }
    }

    /// Nothing of this mailbox will be asked for any more: its lock is given back.
    pub fn release(&self, mailbox: usize) {
        let Ok(slot) = self.slot(mailbox) else { return };
        drop(slot.mailbox.write().unwrap_or_else(PoisonError::into_inner).take());
        slot.lock_opened().clear();
    }

    fn slot(&self, mailbox: usize) -> io::Result<&Slot> {
        self.shared.mailboxes.get(mailbox).ok_or_else(released)
    }
}

impl Drop for MessageFiles {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            // If it panicked, that is no reason to do so too.
            drop(keeper.join());
        }
    }
}

impl Shared {
    /// Gives one lock after the other back, as soon as they were held for `hold`.
    fn keep(&self, hold: Duration) {
        loop {
            // May end early, which only makes the time shorter.
            thread::park_timeout(hold);
            if self.is_over() || self.let_go() {
                return;
            }
        }
    }

    /// Whether no lock is held any more.
    fn let_go(&self) -> bool {
        let mut all = true;
        for slot in &self.mailboxes {
            let open: usize = self.mailboxes.iter().map(|slot| slot.lock_opened().len()).sum();
            all &= slot.let_go(self.room.saturating_sub(open), &self.is_over);
        }
        all
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Slot {
    fn new(mailbox: FrozenMailbox) -> Self {
        Self {
            mailbox: RwLock::new(Some(mailbox)),
            passed: AtomicU32::new(0),
            has_opened: AtomicBool::new(false),
            opened: Mutex::default(),
        }
    }

    /// Looks at the mailbox, which is not released meanwhile.
    fn with<T>(&self, look: impl FnOnce(&FrozenMailbox) -> io::Result<T>) -> io::Result<T> {
        let mailbox = self.mailbox.read().unwrap_or_else(PoisonError::into_inner);
        mailbox.as_ref().map_or_else(|| Err(released()), look)
    }

    fn lock_opened(&self) -> MutexGuard<'_, BTreeMap<Uid, Arc<File>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, uid: Uid) -> Option<Arc<File>> {
        if !self.has_opened.load(Ordering::Acquire) {
            return None;
        }
        self.lock_opened().get(&uid).cloned()
    }

    fn drop_passed(&self, opened: &mut BTreeMap<Uid, Arc<File>>) {
        let passed = self.passed.load(Ordering::Relaxed);
        match passed.checked_add(1) {
            Some(next) => *opened = opened.split_off(&Uid(next)),
            None => opened.clear(),
        }
    }

    /// Opens the files that are still to be read and gives the lock back, if that takes no more
    /// than `room` files. Whether the mailbox is without a lock now.
    fn let_go(&self, room: usize, is_over: &AtomicBool) -> bool {
        let passed = self.passed.load(Ordering::Relaxed);
        let opened = self.with(|mailbox| {
            let open_all = || open_all(mailbox, passed, room, is_over);
            Ok(mailbox.is_held().then(open_all))
        });
        let mut opened = match opened {
            Ok(Some(Some(opened))) => opened,
            Ok(Some(None)) => return false,
            // Its lock was given back before, or all of it is done with.
            Ok(None) | Err(_) => return true,
        };
        self.drop_passed(&mut opened);
        *self.lock_opened() = opened;
        self.has_opened.store(true, Ordering::Release);
        let mut mailbox = self.mailbox.write().unwrap_or_else(PoisonError::into_inner);
        match mailbox.as_mut() {
            Some(mailbox) => mailbox.let_go(),
            // Released meanwhile.
            None => self.lock_opened().clear(),
        }
        true
    }
}

/// Opens all message files above `passed`; `None` if that cannot be done now.
fn open_all(
    mailbox: &FrozenMailbox,
    passed: u32,
    room: usize,
    is_over: &AtomicBool,
) -> Option<BTreeMap<Uid, Arc<File>>> {
    // If the directory cannot be listed, neither can its files be opened later.
    let mut wanted = mailbox.list_messages().unwrap_or_default();
    wanted.retain(|uid| uid.0 > passed);
    if wanted.len() > room {
        return None;
    }
    let mut opened = BTreeMap::new();
    for uid in wanted {
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        match mailbox.open_message(uid, false) {
            Ok(file) => drop(opened.insert(uid, Arc::new(file))),
            Err(error) if files::is_exhaustion(&error) => return None,
            // Whoever asks for it will be told the same.
            Err(_) => {}
        }
    }
    Some(opened)
}

fn released() -> io::Error {
    io::Error::other("its mailbox is not held any more")
}

/// A message file, read from its start.
#[derive(Debug)]
pub struct MessageFile {
    // Others may read the same open file, so that its own position is nobody's.
    file: Arc<File>,
    at: u64,
}

impl MessageFile {
    fn new(file: Arc<File>) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for MessageFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
