//! A master, our replica, and the Cyrus that the replica becomes.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csync::framer::{Event, Framer, Limits as FramerLimits, Stream};
use csync::mailbox::Mailbox;
use csync::record::Record;
use csync::untagged::Untagged;
use engine::audit::{self, Depth};
use serve::replica::Session;
use spool::replica::{Replica, ReplicaError};
use spool::tree::Owner;
use tempfile::TempDir;
use testkit::imap::{Append, ImapClient};
use testkit::process::wait_until;
use testkit::{Cyrus, CyrusBuilder, ImapView, cyrus_or_skip};

use crate::server::{LIMIT, Server, limits};

/// A master and a replica, which know nothing of each other yet.
pub struct Pair {
    pub master: Cyrus,
    pub server: Server,
    pub replica: Arc<Replica>,
    pub builder: CyrusBuilder,
    top: TempDir,
}

/// The same, once the replica has become a Cyrus.
pub struct Promoted {
    pub master: Cyrus,
    pub cyrus: Cyrus,
    _top: TempDir,
}

impl Pair {
    pub fn start(test: &str) -> Option<Self> {
        Self::start_with(test, |builder| builder)
    }

    pub fn start_with(test: &str, more: impl FnOnce(CyrusBuilder) -> CyrusBuilder) -> Option<Self> {
        let mut builder = cyrus_or_skip(test)?.conversations(true);
        for (option, value) in [
            ("admins", "cyrus repl"),
            ("sync_authname", "repl"),
            ("sync_password", "secret"),
            ("sync_log", "yes"),
            ("sync_repeat_interval", "1"),
            ("allowusermoves", "yes"),
            ("delete_mode", "delayed"),
        ] {
            builder = builder.option(option, value);
        }
        let builder = more(builder);
        let master = builder.clone().start().expect("a master");
        let mut top = tempfile::Builder::new();
        // Cyrus' user has to be able to look into it.
        top.prefix("cylinder-replica-").permissions(Permissions::from_mode(0o755));
        let top = top.tempdir().expect("a temporary directory");
        let replica = Arc::new(Replica::open(&top.path().join("replica")).expect("a replica"));
        let shared = Arc::clone(&replica);
        let handlers = Box::new(move || Box::new(Session::new(Arc::clone(&shared))) as _);
        let server = Server::of(limits(), handlers);
        Some(Self { master, server, replica, builder, top })
    }

    /// A client of the master's.
    pub fn client(&self, user: &str) -> ImapClient {
        self.master.imap_as(user).expect("a client")
    }

    /// Lets the master's `sync_client` run with these arguments; what the replica logged meanwhile.
    pub fn sync(&self, arguments: &[&str]) -> Vec<String> {
        self.sync_from(&self.master, arguments)
    }

    /// The same from another master.
    pub fn sync_from(&self, master: &Cyrus, arguments: &[&str]) -> Vec<String> {
        let to = self.server.plain.to_string();
        self.sync_to(master, &to, arguments)
    }

    /// The same to a certain address of the replica.
    pub fn sync_to(&self, master: &Cyrus, to: &str, arguments: &[&str]) -> Vec<String> {
        let before = self.lines().len();
        let arguments = [&["-v", "-v", "-S", to][..], arguments].concat();
        if let Err(error) = master.tool("sync_client", &arguments) {
            panic!("{error}; {:#?}", &self.lines()[before..]);
        }
        let ended = |lines: &[String]| lines.iter().any(|line| line.contains("the master is done"));
        assert!(wait_until(LIMIT, || ended(&self.lines()[before..])), "{:#?}", self.lines());
        self.lines().split_off(before)
    }

    /// What the replica has logged.
    pub fn lines(&self) -> Vec<String> {
        self.server.log.lock().expect("no panic").clone()
    }

    /// Works off what the master has noted since the last time.
    pub fn sync_log(&self) {
        self.sync(&["-R", "-1"]);
    }

    /// The master finds nothing to send: all it asks is GET USER.
    pub fn assert_in_sync(&self, user: &str) {
        let lines = self.sync(&["-u", user]);
        let last = lines.last().expect("it was there");
        assert!(last.contains("the master is done; commands: 1"), "{lines:#?}");
    }

    /// Where the replica is.
    pub fn tree(&self) -> PathBuf {
        self.top.path().join("replica")
    }

    /// Promotes the replica, does what has to be done then, and starts a Cyrus on it.
    pub fn promote(mut self) -> Promoted {
        self.server.stop();
        self.server.join();
        let tree = self.tree();
        let Self { master, replica, builder, top, .. } = self;
        assert!(wait_until(LIMIT, || Arc::strong_count(&replica) == 1), "a session goes on");
        let replica = Arc::into_inner(replica).expect("nobody else has it");
        let text = fs::read_to_string(tree.join("imapd.conf")).expect("an imapd.conf");
        let mut cyrus = builder.conf(&text).prepare().expect("a Cyrus");
        let conf = spool::read_conf(cyrus.imapd_conf()).expect("an imapd.conf");
        let mut findings = replica.lock().misplaced(&conf);
        let state = replica.lock();
        let examined =
            audit::examine(&state, Depth::Full, 2, &mut |finding| findings.push(finding));
        drop(state);
        assert_eq!(findings, []);
        replica.promote(&conf, Owner::of_conf(&conf)).expect("it is promoted");
        assert_eq!(left_of_the_replica(&tree), [tree.join("conf/cylinder-promoted")]);
        assert!(matches!(Replica::open(&tree), Err(ReplicaError::Promoted { .. })));
        cyrus.tool("ctl_cyrusdb", &["-r"]).expect("databases as they should be");
        if examined.sieve_mailboxes > 0 {
            cyrus.tool("reconstruct", &["user/%/#sieve", "user/%/#sieve@*"]).expect("compiled");
        }
        cyrus.tool("ctl_conversationsdb", &["-R", "-r", ""]).expect("rebuilt");
        cyrus.start().expect("a promoted replica");
        Promoted { master, cyrus, _top: top }
    }
}

impl Promoted {
    /// Both show a user the same, over IMAP and to a replica of theirs.
    pub fn assert_same(&self, user: &str) {
        let [master, cyrus] = [&self.master, &self.cyrus].map(|cyrus| view(cyrus, user));
        assert_eq!(master.differences(&cyrus), Vec::<String>::new());
        let of_user = [format!("GET USER {user}")];
        let names = told(&self.master, &of_user).into_keys().filter(|name| !name.is_empty());
        let full = names.map(|name| format!("GET FULLMAILBOX {name}"));
        self.assert_told(&of_user.iter().cloned().chain(full).collect::<Vec<_>>());
    }

    /// Both tell a replica of theirs the same of some mailboxes and of the server.
    pub fn assert_same_mailboxes(&self, names: &[&str]) {
        let full = names.iter().map(|name| format!("GET FULLMAILBOX {name}"));
        let of_server = std::iter::once("GET ANNOTATION \"\"".to_owned());
        self.assert_told(&of_server.chain(full).collect::<Vec<_>>());
    }

    fn assert_told(&self, commands: &[String]) {
        let [master, mut cyrus] = [&self.master, &self.cyrus].map(|cyrus| told(cyrus, commands));
        // What a master expires for good, a replica has to expire by itself.
        cyrus.retain(|name, _| master.contains_key(name) || !name.starts_with("DELETED."));
        assert_eq!(master.keys().collect::<Vec<_>>(), cyrus.keys().collect::<Vec<_>>());
        for (name, lines) in &master {
            assert_eq!(lines, &cyrus[name], "{name}");
        }
    }
}

fn view(cyrus: &Cyrus, user: &str) -> ImapView {
    let mut view = cyrus.view(user).expect("a view");
    for folder in view.folders.values_mut() {
        // Each server's own log of itself.
        folder.annotations.retain(|entry, _| !entry.ends_with("/lastpop"));
    }
    view
}

/// What a server of Cyrus tells its replica, by mailbox: records with their CRCs. Under no name there
/// is the rest: seen state, subscriptions, quotas, annotations.
fn told(cyrus: &Cyrus, commands: &[String]) -> BTreeMap<String, Vec<String>> {
    let heard = ask(cyrus.sync_address(), commands);
    let mut framer = Framer::new(Stream::Replies, FramerLimits::default());
    let (mut input, mut records) = (heard.as_slice(), Vec::new());
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        match event {
            Event::Line(line) => assert_eq!(line, b"OK success"),
            Event::Record(record) => records.push(Record::parse(record).expect("a record")),
            Event::Data(data) => match Untagged::from_data(data).expect("a reply") {
                Untagged::Mailbox(mailbox) => {
                    let lines = told.entry(mailbox.mboxname.to_string()).or_default();
                    lines.extend(lines_of(*mailbox, std::mem::take(&mut records)));
                }
                other => told.entry(String::new()).or_default().push(format!("{other:?}")),
            },
            _ => {}
        }
    }
    told
}

/// A mailbox without what a promoted replica finds out anew, or counts otherwise.
fn lines_of(mut mailbox: Mailbox, mut records: Vec<Record>) -> Vec<String> {
    let is_reconstructed = mailbox.mboxtype == b"f";
    if let Some(contents) = &mut mailbox.contents {
        contents.xconvmodseq = None;
        contents.sync_crc = contents.sync_crc.filter(|_| !is_reconstructed);
    }
    // What was expunged on both sides is not told again; its files may be kept by one of them.
    records.retain(|record| !record.is_expunged());
    for record in &mut records {
        record.user_flags.sort();
        if is_reconstructed {
            (record.modseq, record.last_updated) = Default::default();
        }
    }
    if is_reconstructed {
        mailbox.highestmodseq = Default::default();
    }
    let lines = records.iter().map(|record| format!("{record:?}"));
    std::iter::once(format!("{mailbox:?}")).chain(lines).collect()
}

/// What a server of Cyrus answers to its admin.
fn ask(address: SocketAddr, commands: &[String]) -> Vec<u8> {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("it can wait");
    let mut stream = BufReader::new(stream);
    read_to(&mut stream, &["* OK"]);
    // cyrus, and any password
    let login = ["AUTHENTICATE PLAIN AGN5cnVzAGFueQ==", "APPLY CAPABILITIES (SIEVE-MAILBOX)"];
    let mut answers = Vec::new();
    for command in login.into_iter().chain(commands.iter().map(String::as_str)) {
        let said = format!("{command}\r\n");
        stream.get_mut().write_all(said.as_bytes()).expect("it listens");
        answers.push(read_to(&mut stream, &["OK ", "NO ", "BAD "]));
    }
    answers.split_off(login.len()).concat()
}

/// The lines up to one that begins like that.
fn read_to(stream: &mut BufReader<TcpStream>, ends: &[&str]) -> Vec<u8> {
    let mut lines = Vec::new();
    loop {
        let begin = lines.len();
        assert!(stream.read_until(b'\n', &mut lines).expect("it answers") > 0, "it closed");
        if ends.iter().any(|end| lines[begin..].starts_with(end.as_bytes())) {
            return lines;
        }
    }
}

/// What only a replica has.
fn left_of_the_replica(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = entry.path();
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(left_of_the_replica(&path)),
            false => {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_ours = name.contains("cylinder") || name.ends_with(".NEW");
                found.extend(is_ours.then_some(path));
            }
        }
    }
    found
}

/// Appends a message.
pub fn append(imap: &mut ImapClient, folder: &str, message: &[u8]) {
    let append = Append { message, flags: &[], internaldate: None };
    imap.append(folder, append).expect("appended");
}
