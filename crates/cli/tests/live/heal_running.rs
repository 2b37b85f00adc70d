//! `cylinder heal --through` and a real Cyrus that runs: what was healed, clients fetch, and nothing else of
//! the mailbox is another than before.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::imap::{Append, ImapView, MessageView, guid_of};
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::{Group, wait_until};
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, cyrus_or_skip, process};

use crate::program::{CYLINDER, PATIENCE, Ran, cylinder};
use crate::replicate::{Pair, document, fill};
use crate::restored::scratch;
use crate::watcher::Watcher;

/// A master whose mail a replica and a vault have, too.
struct Scene {
    pair: Pair,
    /// The bodies of each folder.
    mail: BTreeMap<&'static str, Vec<Vec<u8>>>,
    directory: TempDir,
}

const FOLDERS: [&str; 3] = ["INBOX", "INBOX/Sent", "INBOX/a"];

/// What is damaged: the mailbox, the number, the number that the good copy gets, and how.
const DAMAGED: [(&str, u32, u32, &str); 4] = [
    ("user.glad", 2, 7, "flipped-bit"),
    ("user.glad", 5, 8, "truncated"),
    ("user.glad.Sent", 4, 5, "truncated"),
    ("user.glad.a", 3, 4, "missing"),
];

impl Scene {
    fn start(test: &str, options: &[(&str, &str)]) -> Option<Self> {
        let pair = Pair::with(test, options)?;
        let mut all = MailGenerator::new(90, Sizes::Small);
        let mut mail: BTreeMap<&str, Vec<Vec<u8>>> = FOLDERS
            .into_iter()
            .zip([6, 3, 3])
            .map(|(folder, n)| (folder, all.messages(n)))
            .collect();
        let mut imap = pair.glad();
        for folder in &FOLDERS[1..] {
            imap.create(folder).expect("created");
        }
        mail.iter().for_each(|(folder, mail)| fill(&mut imap, folder, mail));
        imap.select("INBOX").expect("selected");
        imap.annotate("2", "/comment", "value.priv", "mine").expect("annotated");
        // This one has the same file.
        imap.copy("5", "INBOX/Sent").expect("copied");
        let copied = mail["INBOX"][4].clone();
        mail.get_mut("INBOX/Sent").expect("a folder").push(copied);
        pair.sync_and_compare();
        let scene = Self { pair, mail, directory: scratch() };
        let (conf, vault) = (scene.conf(), scene.beside("vault"));
        cylinder(["backup", "-C", &conf, "--vault", &vault, "glad"]).expect(0);
        Some(scene)
    }

    fn conf(&self) -> String {
        self.pair.master.imapd_conf().display().to_string()
    }

    fn beside(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn replica(&self) -> String {
        format!("csync://cyrus@{}", self.pair.replica.sync_address())
    }

    fn vault(&self) -> String {
        format!("vault:{}", self.beside("vault"))
    }

    fn command(&self, from: &str, through: SocketAddr, more: &[&str]) -> Command {
        let mut command = Command::new(CYLINDER);
        command.args(["heal", "glad", "--json", "-C", &self.conf(), "--from", from]);
        command.args(["--through", &format!("csync://cyrus@{through}")]);
        command.args(["--journal", &self.beside("healed.jsonl")]).args(more);
        command
    }

    fn heal_through(&self, from: &str, through: SocketAddr, more: &[&str]) -> Ran {
        let mut command = self.command(from, through, more);
        let output = process::run(&mut command, b"any\n", PATIENCE).expect("it ends");
        println!("{}", String::from_utf8_lossy(&output.stdout));
        Ran {
            code: output.status.code().expect("no signal ends it"),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn heal(&self, from: &str, more: &[&str]) -> Ran {
        self.heal_through(from, self.pair.master.sync_address(), more)
    }

    fn listed(&self) -> Vec<Value> {
        let ran = cylinder(["heal", "--list", "--json", "--journal", &self.beside("healed.jsonl")]);
        document(&ran.expect(0)).as_array().expect("a list").clone()
    }

    fn view(&self) -> ImapView {
        self.pair.master.view("glad").expect("a view")
    }

    fn file(&self, mailbox: &str, uid: u32) -> PathBuf {
        let directory = self.pair.master.mailbox_directory(mailbox).expect("a directory");
        directory.join(format!("{uid}."))
    }

    /// One flipped bit, a file that is cut, and so is another message, and a file that vanishes.
    fn damage(&self) {
        flip(&self.file("user/glad", 2));
        let cut = self.file("user/glad", 5);
        fs::OpenOptions::new()
            .write(true)
            .open(&cut)
            .and_then(|file| file.set_len(60))
            .expect("cut");
        fs::remove_file(self.file("user/glad/a", 3)).expect("it is ours");
    }

    /// What an audit finds at the spool: the code, and the messages.
    fn audit(&self) -> (i32, Vec<(String, u64)>) {
        let ran = cylinder(["audit", "glad", "--full", "--json", "-C", &self.conf()]);
        let found = document(&ran);
        let findings = found["accounts"][0]["findings"].as_array().expect("findings");
        let place = |finding: &Value| {
            let custody = &finding["custody"];
            assert_eq!(custody["recorded"]["expunged"], true, "{finding:#}");
            let name = custody["mailbox"].as_str().expect("a name").to_owned();
            (name, custody["uid"].as_u64().expect("a number"))
        };
        (ran.code, findings.iter().map(place).collect())
    }

    /// Clients get the good bytes, and all else of each message is what it was.
    fn assert_good(&self, before: &ImapView) {
        let (mut imap, after) = (self.pair.glad(), self.view());
        for (folder, mail) in &self.mail {
            imap.select(folder).expect("selected");
            let (was, is) = (&before.folders[*folder], &after.folders[*folder]);
            assert_eq!((was.messages.len(), mail.len()), (is.messages.len(), mail.len()));
            for (uid, message) in &was.messages {
                let name = format!("user.{}", folder.replace("INBOX", "glad").replace('/', "."));
                let moved =
                    DAMAGED.iter().find(|(mailbox, old, ..)| (*mailbox, old) == (&name, uid));
                let to = moved.map_or(*uid, |(_, _, to, _)| *to);
                let body = imap.body(to).expect("an answer").expect("a body");
                assert!(body == mail[*uid as usize - 1], "{folder} {uid} {to}");
                assert_eq!(guid_of(&body), message.guid);
                assert_eq!(kept(message), kept(&is.messages[&to]), "{folder} {uid}");
                let is_newer = is.messages[&to].modseq > was.highest_modseq;
                assert_eq!(is_newer, moved.is_some(), "{folder} {uid}");
            }
        }
    }

    /// Cyrus' own tools have nothing to complain of, and the replica gets all of it.
    fn assert_sound(&self) {
        let master = &self.pair.master;
        let audit = master.tool("ctl_conversationsdb", &["-A", "-v", "glad"]).expect("it runs");
        assert!(audit.stdout.ends_with("glad is OK\n"), "{audit:?}");
        self.pair.sync_and_compare();
        let staged = fs::read_dir(master.spool().join("sync.")).map(Iterator::count).unwrap_or(0);
        assert_eq!(staged, 0);
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a message");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("damage");
}

/// What belongs to a message, whatever its number is.
fn kept(message: &MessageView) -> impl PartialEq + std::fmt::Debug {
    let MessageView { flags, internaldate, guid, annotations, .. } = message;
    (flags.clone(), internaldate.clone(), *guid, annotations.clone())
}

/// What a report says of messages that were replaced, as [`DAMAGED`] has it.
#[track_caller]
fn replaced(report: &Value) -> Vec<(&str, u32, u32, &str)> {
    let messages = report["messages"].as_array().expect("messages");
    assert!(messages.iter().all(|message| message["outcome"] == "replaced"), "{report:#}");
    let number =
        |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).expect("a number");
    messages
        .iter()
        .map(|message| {
            let [mailbox, nature] =
                ["mailbox", "nature"].map(|name| message[name].as_str().expect("a text"));
            (mailbox, number(&message["uid"]), number(&message["new_uid"]), nature)
        })
        .collect()
}

fn healed_from(test: &str, from: fn(&Scene) -> String, mode: &str) {
    let Some(scene) = Scene::start(test, &[("expunge_mode", mode)]) else { return };
    let (from, before) = (from(&scene), scene.view());
    scene.damage();
    let files = [("user/glad", 2), ("user/glad", 5)].map(|(name, uid)| scene.file(name, uid));
    let bytes = || files.each_ref().map(|file| fs::read(file).expect("it is there"));
    let bad = bytes();
    // Without --through, nothing is done, and it is said how it can be.
    let refused = cylinder(["heal", "glad", "-C", &scene.conf(), "--from", &scene.vault()]);
    let refused = refused.expect(1);
    assert!(refused.stderr.contains("--through csync://"), "{}", refused.stderr);
    // A dry run says all, and changes nothing.
    let hurt = untouched(&scene.pair.master);
    let would = document(&scene.heal(&from, &["--dry-run"]).expect(0));
    assert_eq!((replaced(&would), would["healed"].as_u64()), (DAMAGED.to_vec(), Some(4)));
    assert_eq!((untouched(&scene.pair.master), bytes()), (hurt, bad));
    assert!(scene.listed().is_empty());

    let mut watchers = FOLDERS.map(|folder| Watcher::of(&scene.pair.master, folder));
    let report = document(&scene.heal(&from, &[]).expect(0));
    assert_eq!(replaced(&report), DAMAGED);
    // Who has the mailbox open sees the one come and the other go.
    let told = watchers.each_mut().map(|watcher| {
        let told = watcher.look();
        (told.gone, told.came, told.flags.len())
    });
    assert_eq!(told, [(vec![2, 5], vec![7, 8], 0), (vec![4], vec![5], 0), (vec![3], vec![4], 0)]);
    scene.assert_good(&before);
    // What is left of the damage is what the server keeps of expunged messages.
    let is_kept = mode == "delayed";
    let left = DAMAGED.map(|(mailbox, uid, ..)| (mailbox.to_owned(), u64::from(uid))).to_vec();
    assert_eq!(scene.audit(), if is_kept { (4, left) } else { (0, vec![]) });
    let again = document(&scene.heal(&from, &[]).expect(0));
    let expunged = if is_kept { 4 } else { 0 };
    assert_eq!((&again["healed"], &again["expunged"]), (&json!(0), &json!(expunged)), "{again:#}");
    scene.pair.master.tool("cyr_expire", &["-X", "0", "-E", "1"]).expect("it cleans up");
    assert_eq!(scene.audit(), (0, vec![]));
    let listed = scene.listed();
    let uids = |note: &Value| (note["uid"].as_u64(), note["new_uid"].as_u64());
    let expected = DAMAGED.map(|(_, uid, to, _)| (Some(uid.into()), Some(to.into())));
    assert_eq!(listed.iter().map(uids).collect::<Vec<_>>(), expected);
    assert!(listed.iter().all(|note| note["from"] == from.as_str()), "{listed:#?}");
    scene.assert_sound();
}

#[test]
fn a_server_that_runs_is_healed_from_its_replica() {
    healed_from("a_server_that_runs_is_healed_from_its_replica", Scene::replica, "delayed");
}

#[test]
fn a_server_that_runs_is_healed_from_a_vault() {
    healed_from("a_server_that_runs_is_healed_from_a_vault", Scene::vault, "immediate");
}

#[test]
fn what_nobody_has_is_left_alone_in_a_server_that_runs() {
    let test = "what_nobody_has_is_left_alone_in_a_server";
    let Some(scene) = Scene::start(test, &[]) else { return };
    let message = b"Subject: young\r\n\r\nnobody else has it\r\n";
    let append = Append { message, ..Append::default() };
    let uid = scene.pair.glad().append("INBOX", append).expect("appended");
    let file = scene.file("user/glad", uid);
    flip(&file);
    let (bad, before) = (fs::read(&file).expect("it is there"), scene.view());
    for from in [scene.replica(), scene.vault()] {
        let report = document(&scene.heal(&from, &[]).expect(4));
        assert_eq!(report["messages"][0]["outcome"], "no-copy", "{report:#}");
        assert_eq!(report["messages"].as_array().map(Vec::len), Some(1), "{report:#}");
    }
    assert_eq!((fs::read(&file).expect("it is there"), scene.view()), (bad, before));
    assert!(scene.listed().is_empty());
}

/// A replica has the same records; but not the damage.
#[test]
fn another_server_is_not_taken_for_that_of_the_spool() {
    let test = "another_server_is_not_taken_for_that_of_the";
    let Some(scene) = Scene::start(test, &[]) else { return };
    let before = [&scene.pair.master, &scene.pair.replica].map(untouched);
    scene.damage();
    let replica = scene.pair.replica.sync_address();
    let report = document(&scene.heal_through(&scene.vault(), replica, &[]).expect(4));
    let messages = report["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), DAMAGED.len(), "{report:#}");
    assert!(messages.iter().all(|message| message["outcome"] == "other-server"), "{report:#}");
    assert_eq!([&scene.pair.master, &scene.pair.replica].map(untouched), before);
    let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let ran = scene.heal_through(&scene.vault(), nobody, &[]).expect(1);
    assert!(document(&ran)["errors"][0].to_string().contains("127.0.0.1:1"), "{ran:?}");
    assert!(scene.listed().is_empty());
}

/// The counters of all folders, and the numbers of their messages.
fn untouched(server: &Cyrus) -> Vec<(String, u64, Vec<u32>)> {
    let mut imap = server.imap_as("glad").expect("a client");
    let mut found = Vec::new();
    for folder in FOLDERS {
        let modseq = imap.status(folder, &["HIGHESTMODSEQ"]).expect("told")[0];
        imap.examine(folder).expect("it opens");
        found.push((folder.to_owned(), modseq, imap.search("ALL").expect("found")));
    }
    found
}

/// A line to a server. Before the first command with these words gets to the end of it, something is done;
/// it says whether the line goes on.
fn line(
    to: SocketAddr,
    words: &'static [u8],
    meanwhile: impl FnOnce() -> bool + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        use std::io::{Read, Write};
        let Ok((mut client, _)) = listener.accept() else { return };
        let mut server = TcpStream::connect(to).expect("it listens");
        let (mut down, mut back) =
            (server.try_clone().expect("a descriptor"), client.try_clone().expect("a descriptor"));
        thread::spawn(move || {
            let _ = std::io::copy(&mut down, &mut back);
            let _ = back.shutdown(std::net::Shutdown::Both);
        });
        let (mut piece, mut meanwhile) = (vec![0; 1 << 16], Some(meanwhile));
        while let Ok(read @ 1..) = client.read(&mut piece) {
            let is_it = piece[..read].windows(words.len()).any(|window| window == words);
            if let Some(meanwhile) = meanwhile.take_if(|_| is_it)
                && !meanwhile()
            {
                break;
            }
            if server.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(std::net::Shutdown::Write);
    });
    address
}

#[test]
fn what_clients_do_meanwhile_stays_and_numbers_are_never_given_out_twice() {
    let test = "what_clients_do_meanwhile_stays";
    let Some(scene) = Scene::start(test, &[]) else { return };
    scene.damage();
    let message = b"Subject: meanwhile\r\n\r\nit has come in between\r\n";
    let mut imap = scene.pair.glad();
    let line = line(scene.pair.master.sync_address(), b"APPLY MAILBOX", move || {
        let append = Append { message, ..Append::default() };
        imap.append("INBOX", append).expect("appended");
        imap.select("INBOX").expect("selected");
        imap.store("5", "+FLAGS", &["\\Answered"]).expect("stored");
        true
    });
    let report = document(&scene.heal_through(&scene.replica(), line, &[]).expect(0));
    let numbers: Vec<(u32, u32)> =
        replaced(&report).into_iter().map(|(_, uid, to, _)| (uid, to)).collect();
    assert_eq!(numbers, [(2, 8), (5, 9), (4, 5), (3, 4)], "{report:#}");
    let view = scene.view();
    let inbox = &view.folders["INBOX"].messages;
    assert_eq!(inbox.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 6, 7, 8, 9]);
    assert_eq!(inbox[&7].guid, guid_of(message));
    assert_eq!(
        [&inbox[&8], &inbox[&9]].map(|m| m.guid),
        [1, 4].map(|at| guid_of(&scene.mail["INBOX"][at]))
    );
    // A flag that was set in between has come along.
    assert!(inbox[&9].flags.iter().any(|flag| flag == "\\Answered"), "{:?}", inbox[&9].flags);
    // What was refused is not listed.
    let listed = scene.listed();
    let uids: Vec<&Value> = listed.iter().map(|note| &note["new_uid"]).collect();
    assert_eq!(uids, [&json!(8), &json!(9), &json!(5), &json!(4)], "{listed:#?}");
    scene.assert_sound();
}

#[test]
fn what_its_owner_expunges_meanwhile_does_not_come_back() {
    let test = "what_its_owner_expunges_meanwhile";
    let Some(scene) = Scene::start(test, &[]) else { return };
    scene.damage();
    let mut imap = scene.pair.glad();
    let line = line(scene.pair.master.sync_address(), b"APPLY MAILBOX", move || {
        imap.select("INBOX").expect("selected");
        imap.store("2", "+FLAGS", &["\\Deleted"]).expect("stored");
        imap.uid_expunge("2").expect("expunged");
        true
    });
    let report = document(&scene.heal_through(&scene.vault(), line, &[]).expect(0));
    assert_eq!((&report["healed"], &report["expunged"]), (&json!(3), &json!(1)), "{report:#}");
    let uids: Vec<u32> = scene.view().folders["INBOX"].messages.keys().copied().collect();
    assert_eq!(uids, [1, 3, 4, 6, 7]);
    scene.assert_sound();
}

#[test]
fn a_heal_that_is_killed_is_finished_by_the_next_one() {
    let Some(scene) = Scene::start("a_heal_that_is_killed_is_finished", &[]) else { return };
    let guids = || {
        let folders = scene.view().folders;
        let folders = folders.values();
        let mut guids: Vec<_> =
            folders.flat_map(|folder| folder.messages.values().map(|m| m.guid)).collect();
        guids.sort();
        guids
    };
    let whole = guids();
    scene.damage();
    let hurt = untouched(&scene.pair.master);
    for words in [&b"GET USER"[..], b"GET FETCH", b"APPLY MESSAGE", b"APPLY MAILBOX"] {
        killed(&scene, words);
        let what = String::from_utf8_lossy(words);
        assert_eq!(untouched(&scene.pair.master), hurt, "{what}");
    }
    // Between the two mailboxes, and when all is done.
    for (words, left) in [(&b"MBOXNAME user.glad.a LAST_UID"[..], 1), (b"RESTART", 0)] {
        killed(&scene, words);
        let report = document(&scene.heal(&scene.vault(), &["--dry-run"]).expect(0));
        let counts = (&report["healed"], &report["expunged"]);
        assert_eq!(counts, (&json!(left), &json!(4 - left)), "{report:#}");
    }
    assert_eq!(guids(), whole);
    let report = document(&scene.heal(&scene.vault(), &[]).expect(0));
    assert_eq!(report["healed"], 0, "{report:#}");
    scene.assert_sound();
}

/// Kills the program when the server is about to hear these words.
fn killed(scene: &Scene, words: &'static [u8]) {
    let (seen, is_seen): (Sender<()>, _) = channel();
    let to = line(scene.pair.master.sync_address(), words, move || {
        let _ = seen.send(());
        false
    });
    let mut command = scene.command(&scene.vault(), to, &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut group = Group::spawn_guarded(&mut command).expect("it starts");
    let stdin = group.leader().stdin.take();
    std::io::Write::write_all(&mut stdin.expect("a pipe"), b"any\n").expect("it reads");
    is_seen.recv_timeout(PATIENCE).expect("it gets there");
    group.kill();
}

/// What no user owns is asked for by its name. What is large goes in pieces.
#[test]
fn a_large_message_of_a_shared_mailbox_is_healed_too() {
    let Some(pair) = Pair::start("a_large_message_of_a_shared_mailbox_is_healed") else { return };
    let mut admin = pair.master.admin().expect("an admin");
    admin.create("shared").expect("created");
    admin.set_acl("shared", "anyone", "lrswipte").expect("granted");
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcde\r\n".repeat(600_000)].concat();
    let mut imap = pair.glad();
    fill(&mut imap, "shared", &[b"Subject: small\r\n\r\n".to_vec(), large.clone()]);
    let (scratch, conf) = (scratch(), pair.master.imapd_conf().display().to_string());
    let beside = |name: &str| scratch.path().join(name).display().to_string();
    let (archive, journal) = (beside("shared.tar"), beside("healed.jsonl"));
    cylinder(["snapshot", "%shared", "-C", &conf, "-o", &archive]).expect(0);
    flip(&pair.master.mailbox_directory("shared").expect("a directory").join("2."));
    let through = format!("csync://cyrus@{}", pair.master.sync_address());
    let mut command = Command::new(CYLINDER);
    command.args(["heal", "%shared", "-C", &conf, "--from", &archive, "--through", &through]);
    command.args(["--journal", &journal]);
    let output = process::run(&mut command, b"any\n", PATIENCE).expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.ends_with("send to replicas once more: %shared\n"), "{text}");
    imap.select("shared").expect("selected");
    assert_eq!(imap.search("ALL").expect("found"), [1, 3]);
    assert!(imap.body(3).expect("an answer").as_deref() == Some(&large[..]));
}

/// Clients do all that they can meanwhile, and none of them is told anything that is not so.
#[test]
fn a_server_is_healed_in_a_storm() {
    let Some(scene) = Scene::start("a_server_is_healed_in_a_storm", &[]) else { return };
    let master = &scene.pair.master;
    let mail = MailGenerator::new(91, Sizes::Small).messages(ROUNDS * 2);
    let mut imap = scene.pair.glad();
    fill(&mut imap, "INBOX", &mail);
    let archive = scene.beside("glad.tar");
    cylinder(["snapshot", "glad", "-C", &scene.conf(), "-o", &archive]).expect(0);
    let inbox = master.mailbox_directory("user/glad").expect("a directory");
    let storm = Storm::start(&StormPlan::new(master.imap_address(), &["glad"], 92));
    let (mut healed, mut refused) = (0, 0);
    for round in 0..ROUNDS as u32 {
        let enough = storm.progress() + 20;
        assert!(wait_until(PATIENCE, || storm.progress() >= enough), "clients don't get on");
        for uid in [7 + 2 * round, 8 + 2 * round] {
            // Somebody may have removed it.
            let file = inbox.join(format!("{uid}."));
            let Ok(mut bytes) = fs::read(&file) else { continue };
            bytes[20] ^= 1;
            fs::write(&file, bytes).expect("damage");
        }
        let report = document(&scene.heal(&archive, &[]));
        for message in report["messages"].as_array().expect("messages") {
            // A folder may be renamed between the look at its files and the word to the server.
            let outcome = message["outcome"].as_str().expect("a word");
            assert!(["replaced", "expunged", "not-there"].contains(&outcome), "{report:#}");
        }
        assert_eq!(report["errors"], json!([]), "{report:#}");
        healed += report["healed"].as_u64().expect("a number");
        let lines = fs::read_to_string(scene.beside("healed.jsonl")).unwrap_or_default();
        refused = lines.lines().filter(|line| line.contains("\"refused\":true")).count();
    }
    let report = storm.stop().expect("no client fails");
    println!("{} things done, {healed} healed, {refused} refused", report.total());
    assert!(healed > 0, "{report:?}");
    scene.heal(&archive, &[]).expect(0);
    let report = document(&scene.heal(&archive, &[]).expect(0));
    assert_eq!((&report["healed"], &report["left"]), (&json!(0), &json!(0)), "{report:#}");
    // What is left is expunged.
    scene.audit();
    scene.assert_sound();
}

/// How often something is damaged and healed in the storm.
const ROUNDS: usize = 10;

/// Of the damaged message and the good copy, a replica that has had neither gets the bytes of the latter.
/// `sync_client` has to wait for that until the former is cleaned up.
#[test]
fn a_new_replica_gets_the_good_copy() {
    let test = "a_new_replica_gets_the_good_copy";
    let options = [("sync_authname", "cyrus"), ("sync_password", "any")];
    let Some(scene) = Scene::start(test, &options) else { return };
    let Some(builder) = cyrus_or_skip(test).map(|builder| builder.conversations(true)) else {
        return;
    };
    scene.damage();
    scene.heal(&scene.vault(), &[]).expect(0);
    let guids = |server: &Cyrus| -> Vec<_> {
        let folders = server.view("glad").expect("a view").folders.into_values();
        folders.flat_map(|folder| folder.messages.into_values().map(|m| m.guid)).collect()
    };
    let master = &scene.pair.master;
    let replica = builder.clone().start().expect("a replica");
    scene.pair.run_to(replica.sync_address(), &["--user", "glad"]).expect(0);
    assert_eq!(guids(&replica), guids(master));
    master.tool("cyr_expire", &["-X", "0", "-E", "1"]).expect("it cleans up");
    let replica = builder.start().expect("a replica");
    let to = replica.sync_address().to_string();
    master.tool("sync_client", &["-S", &to, "-u", "glad"]).expect("it is sent");
    assert_eq!(guids(&replica), guids(master));
}
