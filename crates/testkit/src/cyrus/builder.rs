//! How a Cyrus under test is to be set up.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::io_error;
use super::require::{CyrusUser, PROGRAMS};
use super::{Cyrus, CyrusError, Services};

/// Options of every Cyrus under test, unless a test says otherwise. Any password is good: what is
/// tested is the spool, not the door.
const BASE_OPTIONS: [(&str, &str); 11] = [
    ("admins", "cyrus"),
    ("allowplaintext", "yes"),
    ("altnamespace", "no"),
    ("defaultpartition", "default"),
    ("sasl_mech_list", "PLAIN"),
    ("sasl_pwcheck_method", "alwaystrue"),
    ("sync_try_imap", "no"),
    ("unixhierarchysep", "yes"),
    ("virtdomains", "off"),
    ("duplicatesuppression", "no"),
    ("mailnotifier", "null"),
];

/// Everything that can lie on a metapartition in Cyrus 3.6.
const META_FILES: &str = "header index cache expunge squat annotations lock dav archivecache";

/// Sets up a Cyrus: options, where its files lie, and how much care it takes of them.
#[derive(Clone, Debug)]
pub struct CyrusBuilder {
    user: CyrusUser,
    options: BTreeMap<String, String>,
    /// The options that hold directories; `None` is one of that name in the temporary directory.
    directories: BTreeMap<String, Option<PathBuf>>,
    give_to_cyrus: bool,
    eatmydata: bool,
}

impl CyrusBuilder {
    pub(super) fn new(user: CyrusUser) -> Self {
        let options =
            BASE_OPTIONS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let directories = ["configdirectory", "partition-default", "sievedir"];
        Self {
            user,
            options: options.collect(),
            directories: directories.map(|key| (key.to_owned(), None)).into(),
            give_to_cyrus: false,
            eatmydata: true,
        }
    }

    /// Sets an option of imapd.conf; see [`CyrusBuilder::directory`] for those that hold one.
    #[must_use]
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// New mailboxes lie in directories named like them, as before Cyrus 3.6.
    #[must_use]
    pub fn legacy_dirs(self, yes: bool) -> Self {
        self.switch("mailbox_legacy_dirs", yes)
    }

    /// Keeps conversations.db and the counters.
    #[must_use]
    pub fn conversations(self, yes: bool) -> Self {
        self.switch("conversations", yes)
    }

    /// Spreads mailboxes and locks over directories of one letter.
    #[must_use]
    pub fn hashimapspool(self, yes: bool) -> Self {
        self.switch("hashimapspool", yes)
    }

    /// Users of several domains: `userid` or `on`; those without a domain are of `internal.test`.
    #[must_use]
    pub fn virtdomains(self, mode: &str) -> Self {
        self.option("virtdomains", mode).option("defaultdomain", "internal.test")
    }

    /// Every kind of metadata file lies on a metapartition.
    #[must_use]
    pub fn metapartition(self) -> Self {
        self.metapartition_of(META_FILES)
    }

    /// These kinds of metadata files lie on a metapartition, as `header index`.
    #[must_use]
    pub fn metapartition_of(self, files: &str) -> Self {
        self.option("metapartition_files", files).own_directory("metapartition-default")
    }

    /// Messages move to an archive partition, when `cyr_expire -A` runs or when they are larger
    /// or older than options say.
    #[must_use]
    pub fn archive(self) -> Self {
        self.switch("archive_enabled", true).own_directory("archivepartition-default")
    }

    /// One more partition of that name, in the temporary directory.
    #[must_use]
    pub fn extra_partition(self, name: &str) -> Self {
        self.own_directory(&format!("partition-{name}"))
    }

    /// Uses a directory of one's own for an option that holds one: `configdirectory`, `sievedir`,
    /// `partition-NAME`, `metapartition-NAME`, `archivepartition-NAME` and the like. What is in
    /// it stays there. It is made if it does not exist.
    #[must_use]
    pub fn directory(mut self, option: &str, path: &Path) -> Self {
        self.directories.insert(option.to_owned(), Some(path.to_owned()));
        self
    }

    /// Takes an imapd.conf at its word: one option a line, and directories that are there.
    ///
    /// # Panics
    ///
    /// If a line is no option with a value.
    #[must_use]
    pub fn conf(self, text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.fold(self, |builder, line| {
            let (option, value) = line.split_once(": ").expect("an option and its value");
            let holds_directory = ["configdirectory", "sievedir"].contains(&option)
                || option.starts_with("partition-");
            match holds_directory {
                true => builder.directory(option, Path::new(value)),
                false => builder.option(option, value),
            }
        })
    }

    /// Uses the directories of another server, which must not run at the same time.
    #[must_use]
    pub fn directories_of(mut self, other: &Cyrus) -> Self {
        for (option, path) in &other.directories {
            self.directories.insert(option.clone(), Some(path.clone()));
        }
        self
    }

    /// Makes everything in existing directories belong to user cyrus first. Not done unasked, so
    /// that a restore that forgets the owner is found out.
    #[must_use]
    pub fn give_to_cyrus(mut self) -> Self {
        self.give_to_cyrus = true;
        self
    }

    /// Whether fsync does nothing, where libeatmydata is installed. On unless switched off, as
    /// the machine does not crash under most tests.
    #[must_use]
    pub fn eatmydata(mut self, yes: bool) -> Self {
        self.eatmydata = yes;
        self
    }

    /// Sets everything up and starts the servers.
    pub fn start(self) -> Result<Cyrus, CyrusError> {
        let mut cyrus = self.prepare()?;
        cyrus.start()?;
        Ok(cyrus)
    }

    /// Sets everything up without starting a server: enough for the tools.
    pub fn prepare(mut self) -> Result<Cyrus, CyrusError> {
        let directory = tempfile::Builder::new()
            .prefix("cylinder-cyrus-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .map_err(io_error("make a temporary directory"))?;
        let root = directory.path().to_owned();
        let number = next_number();
        let services = Services::reserve(number)?;

        let mut directories = BTreeMap::new();
        for (option, path) in &self.directories {
            let path = path.clone().unwrap_or_else(|| root.join(option));
            self.make_directory(&path)?;
            if self.give_to_cyrus {
                give(&path, self.user).map_err(io_error(format!("chown {}", path.display())))?;
            }
            directories.insert(option.clone(), path);
        }
        for name in ["socket", "proc", "db"] {
            self.make_directory(&directories["configdirectory"].join(name))?;
        }
        let name = format!("cyrus-{}-{number}.test.invalid", process::id());
        self.options.entry("servername".into()).or_insert_with(|| name.clone());
        let imapd_conf = root.join("imapd.conf");
        write(&imapd_conf, &self.imapd_conf_text(&directories))?;
        let cyrus_conf = root.join("cyrus.conf");
        write(&cyrus_conf, &services.cyrus_conf(&imapd_conf))?;
        Ok(Cyrus {
            server_name: self.options["servername"].clone(),
            user: self.user,
            services,
            imapd_conf,
            cyrus_conf,
            directories,
            preload: if self.eatmydata { find_eatmydata() } else { None },
            running: None,
            directory,
        })
    }

    fn switch(self, key: &str, yes: bool) -> Self {
        self.option(key, if yes { "yes" } else { "no" })
    }

    fn own_directory(mut self, option: &str) -> Self {
        self.directories.insert(option.to_owned(), None);
        self
    }

    fn imapd_conf_text(&self, directories: &BTreeMap<String, PathBuf>) -> String {
        let mut text = String::new();
        for (option, path) in directories {
            text.push_str(&format!("{option}: {}\n", path.display()));
        }
        for (option, value) in &self.options {
            text.push_str(&format!("{option}: {value}\n"));
        }
        text
    }

    /// Makes a directory that is not there yet, for user cyrus.
    fn make_directory(&self, path: &Path) -> Result<(), CyrusError> {
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(path)
            .and_then(|()| chown(path, Some(self.user.uid), Some(self.user.gid)))
            .map_err(io_error(format!("make directory {}", path.display())))
    }
}

impl Services {
    /// Finds free ports on a loopback address that no other test has: 127.0.0.0/8 is all ours,
    /// so the process id and the number make it unique, and nobody can take the ports meanwhile.
    fn reserve(number: u32) -> Result<Self, CyrusError> {
        let [_, high, middle, low] =
            process::id().wrapping_mul(61).wrapping_add(number).to_be_bytes();
        let address = Ipv4Addr::new(127, high.clamp(1, 254), middle, low.clamp(1, 254));
        let operation = format!("find a free port at {address}");
        let mut listeners = Vec::new();
        for _ in 0..4 {
            let listener = TcpListener::bind((address, 0)).map_err(io_error(&operation))?;
            listeners.push(listener);
        }
        let port = |at: usize| -> Result<SocketAddr, CyrusError> {
            listeners[at].local_addr().map_err(io_error(&operation))
        };
        Ok(Self { imap: port(0)?, lmtp: port(1)?, sync: port(2)?, sieve: port(3)? })
    }

    fn cyrus_conf(&self, imapd_conf: &Path) -> String {
        let program = |name: &str| format!("{PROGRAMS}/{name} -C {}", imapd_conf.display());
        format!(
            "START {{\n  recover cmd=\"{} -r\"\n}}\n\
             SERVICES {{\n  imap cmd=\"{} -U 100\" listen=\"{}\" prefork=0\n  \
             lmtp cmd=\"{} -a\" listen=\"{}\" prefork=0\n  \
             sync cmd=\"{}\" listen=\"{}\" prefork=0\n  \
             sieve cmd=\"{}\" listen=\"{}\" prefork=0\n}}\nEVENTS {{\n}}\n",
            program("ctl_cyrusdb"),
            program("imapd"),
            self.imap,
            program("lmtpd"),
            self.lmtp,
            program("sync_server"),
            self.sync,
            program("timsieved"),
            self.sieve,
        )
    }
}

/// Numbers the servers of this process.
fn next_number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn write(path: &Path, text: &str) -> Result<(), CyrusError> {
    fs::write(path, text).map_err(io_error(format!("write {}", path.display())))
}

/// Changes the owner of a directory and all below it; symbolic links are not followed.
fn give(path: &Path, user: CyrusUser) -> std::io::Result<()> {
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        lchown(&path, Some(user.uid), Some(user.gid))?;
        if path.symlink_metadata()?.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// The library that makes fsync and its kin return at once.
fn find_eatmydata() -> Option<PathBuf> {
    let entries = fs::read_dir("/usr/lib").ok()?;
    let candidates = entries.flatten().map(|entry| entry.path().join("libeatmydata.so"));
    candidates.into_iter().find(|path| path.exists())
}
