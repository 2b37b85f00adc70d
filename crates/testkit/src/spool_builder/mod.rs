//! Spools written without Cyrus, as any of its releases would have left them: for benchmarks of
//! up to a million messages, and for releases that nobody runs any more.

mod account;
mod cache;
mod delivery;
mod era;
mod fill;
mod mailbox;
mod mailbox_list;
mod names;
mod skiplist;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cyrus_format::{EncodeError, FormatError};

pub use delivery::deliver;
pub use era::Era;
pub use fill::{Filling, fill};
pub use mailbox::{MailboxBuilder, NewMessage, StoredMessage};

use crate::rng::Rng;
use mailbox_list::ListedMailbox;
use names::Name;

/// The moment from which the times of a built spool are counted: 2014-05-13.
pub const EPOCH: i64 = 1_400_000_000;

/// What kind of spool to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// As which release.
    pub era: Era,
    /// Whether names are spread over directories of one letter.
    pub hashimapspool: bool,
    /// Whether header, index, cache and expunge lie on a metapartition.
    pub metapartition: bool,
    /// Whether to make up a cyrus.cache. Most benchmarks want one, for what it weighs; a server
    /// that is to open the spool does without.
    pub cache: bool,
    /// Whether Cyrus 2.3.10 and later knew the GUIDs (`guid_mode: sha1`).
    pub guids: bool,
    /// Whether mailboxes.db is a flat file, up to 2.4.
    pub flat_mailbox_list: bool,
    /// Uniqueids follow from this.
    pub seed: u64,
}

impl SpoolOptions {
    /// A plain spool of that release, with GUIDs where there can be some.
    pub fn new(era: Era) -> Self {
        Self {
            era,
            hashimapspool: false,
            metapartition: false,
            cache: false,
            guids: true,
            flat_mailbox_list: false,
            seed: 1,
        }
    }
}

/// Why a spool could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The system refused something.
    #[error("write {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A value does not fit the format.
    #[error("encode {}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Which value.
        #[source]
        source: EncodeError,
    },
    /// A file that is there already is not understood.
    #[error("read {}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
}

/// A spool under construction.
#[derive(Debug)]
pub struct SpoolBuilder {
    spool: Spool,
    rng: Rng,
    mailboxes: BTreeMap<String, ListedMailbox>,
    accounts: BTreeMap<String, account::Account>,
}

/// Where the parts of a spool are.
#[derive(Clone, Debug)]
pub struct Spool {
    /// What kind it is.
    pub options: SpoolOptions,
    /// imapd.conf.
    pub imapd_conf: PathBuf,
    /// The configuration directory.
    pub config_directory: PathBuf,
    /// The default partition.
    pub partition: PathBuf,
    /// The metapartition, where there is one.
    pub metapartition: Option<PathBuf>,
}

impl SpoolBuilder {
    /// Starts a spool below `root`, which is created.
    pub fn create(root: &Path, options: SpoolOptions) -> Result<Self, BuildError> {
        let spool = Spool {
            options,
            imapd_conf: root.join("imapd.conf"),
            config_directory: root.join("conf"),
            partition: root.join("spool"),
            metapartition: options.metapartition.then(|| root.join("meta")),
        };
        for path in [&spool.config_directory, &spool.partition] {
            make_directory(path)?;
        }
        write(&spool.imapd_conf, spool.imapd_conf_text().as_bytes())?;
        let rng = Rng::new(options.seed);
        Ok(Self { spool, rng, mailboxes: BTreeMap::new(), accounts: BTreeMap::new() })
    }

    /// Starts a mailbox with that internal name, `user.glad.Sent` or `other.test!user.ann`. It
    /// belongs to the spool once it is finished.
    pub fn mailbox(&mut self, name: &str) -> Result<MailboxBuilder, BuildError> {
        let number = self.mailboxes.len() as u64;
        let uniqueid = self.uniqueid(name, number);
        let uidvalidity = u32::try_from(EPOCH).unwrap_or(1) + number as u32;
        self.mailbox_again(name, uniqueid, uidvalidity)
    }

    /// The same for a mailbox that an earlier spool had, perhaps under another name.
    pub fn mailbox_again(
        &mut self,
        name: &str,
        uniqueid: String,
        uidvalidity: u32,
    ) -> Result<MailboxBuilder, BuildError> {
        let parsed = Name::of(name);
        let directory = if self.spool.options.era.by_uniqueid() {
            names::directory_of_id(&uniqueid)
        } else {
            parsed.directory(self.spool.options.hashimapspool)
        };
        let data = self.spool.partition.join(&directory);
        let root = self.spool.metapartition.as_ref().unwrap_or(&self.spool.partition);
        let metadata = root.join(&directory);
        make_directory(&data)?;
        make_directory(&metadata)?;
        let owner = parsed.owner();
        let quota_root = owner.is_some().then(|| inbox_of(&parsed));
        let listed = ListedMailbox { uniqueid, uidvalidity, acl: acl_of(owner.as_deref()) };
        Ok(MailboxBuilder::new(self.spool.options, name, data, metadata, listed, owner, quota_root))
    }

    /// Writes a mailbox's metadata and takes it into the list of mailboxes.
    pub fn finish_mailbox(&mut self, mailbox: MailboxBuilder) -> Result<(), BuildError> {
        let finished = mailbox.finish()?;
        if let Some(owner) = &finished.owner {
            let account = self.accounts.entry(owner.clone()).or_default();
            account.count(&finished);
        }
        self.mailboxes.insert(finished.name, finished.listed);
        Ok(())
    }

    /// Subscribes a user to a mailbox, both by their internal names.
    pub fn subscribe(&mut self, userid: &str, mailbox: &str) {
        let account = self.accounts.entry(userid.to_owned()).or_default();
        account.subscriptions.insert(mailbox.to_owned());
    }

    /// Limits a user's storage, in KiB.
    pub fn limit(&mut self, userid: &str, storage: u64) {
        self.accounts.entry(userid.to_owned()).or_default().storage_limit = Some(storage);
    }

    /// Writes the databases and the accounts' files.
    pub fn finish(self) -> Result<Spool, BuildError> {
        mailbox_list::write(&self.spool, &self.mailboxes)?;
        for (userid, account) in &self.accounts {
            account.write(&self.spool, userid, &self.mailboxes)?;
        }
        Ok(self.spool)
    }

    /// The form that the release gave to uniqueids.
    fn uniqueid(&mut self, name: &str, number: u64) -> String {
        let word = self.rng.next_u64();
        match self.spool.options.era {
            Era::V2_3_9 | Era::V2_3 | Era::V2_4 | Era::V2_5 => {
                format!("{:08x}{:08x}", crc32fast::hash(name.as_bytes()), EPOCH as u64 + number)
            }
            Era::V3_0 | Era::V3_2 | Era::V3_4 => {
                let other = self.rng.next_u64();
                format!(
                    "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                    word >> 32,
                    word >> 16 & 0xffff,
                    word & 0xfff,
                    other >> 52,
                    other & 0xffff_ffff_ffff
                )
            }
            Era::V3_6 | Era::V3_10 | Era::V3_13 => {
                const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
                (0..24).map(|_| char::from(*self.rng.pick(DIGITS))).collect()
            }
        }
    }
}

impl Spool {
    fn imapd_conf_text(&self) -> String {
        let hashed = if self.options.hashimapspool { "yes" } else { "no" };
        let mut text = format!(
            "configdirectory: {}\npartition-default: {}\ndefaultpartition: default\n\
             hashimapspool: {hashed}\nunixhierarchysep: yes\naltnamespace: no\nadmins: cyrus\n",
            self.config_directory.display(),
            self.partition.display(),
        );
        if let Some(path) = &self.metapartition {
            let files = "header index cache expunge";
            text.push_str(&format!("metapartition-default: {}\n", path.display()));
            text.push_str(&format!("metapartition_files: {files}\n"));
        }
        if self.options.flat_mailbox_list {
            text.push_str("mboxlist_db: flat\n");
        }
        text
    }
}

/// Everybody's own mailbox gives all rights to its owner, and some to the admin.
fn acl_of(owner: Option<&str>) -> Vec<(String, String)> {
    let everything = match owner {
        Some(owner) => (owner.to_owned(), "lrswipkxtecdan".to_owned()),
        None => ("anyone".to_owned(), "lrsp".to_owned()),
    };
    vec![everything, ("cyrus".into(), "lrswipkxtecda".into())]
}

/// The internal name of the INBOX above a user's mailbox.
fn inbox_of(name: &Name<'_>) -> String {
    let own = match name.components.as_slice() {
        ["DELETED", rest @ ..] => rest,
        all => all,
    };
    let local = own[..own.len().min(2)].join(".");
    name.domain.map_or_else(|| local.clone(), |domain| format!("{domain}!{local}"))
}

fn make_directory(path: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(path).map_err(|source| BuildError::Io { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    fs::write(path, bytes).map_err(|source| BuildError::Io { path: path.to_owned(), source })
}

fn encode_error(path: &Path) -> impl FnOnce(EncodeError) -> BuildError {
    move |source| BuildError::Encode { path: path.to_owned(), source }
}
