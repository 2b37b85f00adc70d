//! A real Cyrus reads what we write, and we read what it writes.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use cyrus_format::db::{self, DbFormat, flat, twoskip};
use testkit::{Cyrus, Rng, cyrus_or_skip};

use crate::batch::{Command, Pairs, parse_show, states, to_text};
use crate::{check_clean, pairs};

/// A Cyrus whose tools are used, and a database in its configuration directory.
struct Tool {
    cyrus: Cyrus,
    path: PathBuf,
    format: DbFormat,
}

impl Tool {
    fn new(test: &str, format: DbFormat) -> Option<Self> {
        let cyrus = cyrus_or_skip(test)?.prepare().expect("a Cyrus without servers");
        // Older than any skiplist, so that opening one does not make Cyrus repack it.
        let stamp = cyrus.config_directory().join("db/skipstamp");
        fs::write(stamp, [0, 0, 0, 1]).expect("write to the configuration directory");
        let path = cyrus.config_directory().join("test.db");
        Some(Self { cyrus, path, format })
    }

    fn run(&self, options: &[&str], action: &str, input: &[u8]) -> String {
        let path = self.path.to_str().expect("a path of letters");
        let format = match self.format {
            DbFormat::Twoskip => "twoskip",
            DbFormat::Skiplist => "skiplist",
            DbFormat::Flat => "flat",
        };
        let arguments = [options, &[path, format, action]].concat();
        let output = self.cyrus.tool_with_input("cyr_dbtool", &arguments, input);
        let output = output.expect("cyr_dbtool does its work");
        assert_eq!(output.stderr, "");
        output.stdout
    }

    fn batch(&self, commands: &[Command]) {
        self.run(&["-n"], "batch", &to_text(commands));
    }

    /// Lets Cyrus abort within a transaction.
    fn crash(&self, commands: &[Command]) {
        let path = self.path.to_str().expect("a path of letters");
        let arguments = [path, "twoskip", "batch"];
        let output = self.cyrus.tool_with_input("cyr_dbtool", &arguments, &to_text(commands));
        assert!(output.is_err(), "cyr_dbtool does not survive an open transaction");
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).expect("the database is there")
    }

    /// Puts a file of ours in the place of the database.
    fn put(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).expect("write the database");
        give(&self.path, &self.cyrus);
    }

    #[track_caller]
    fn check_cyrus_finds(&self, expected: &Pairs) {
        assert_eq!(self.run(&[], "consistent", b""), "Yes, consistent\n");
        let shown = self.run(&[], "batch", b"SHOW\n");
        assert_eq!(&parse_show(shown.as_bytes()), expected);
    }
}

fn give(path: &Path, cyrus: &Cyrus) {
    let user = cyrus.user();
    chown(path, Some(user.uid), Some(user.gid)).expect("root may");
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    let user = rng.below(12);
    match rng.below(4) {
        0 => format!("user.u{user}"),
        1 => format!("user.u{user}.folder.f{}", rng.below(5)),
        2 => format!("user.u{user}-x f"),
        _ => format!("{}", rng.below(100)),
    }
    .into_bytes()
}

/// Random changes, of text only, as the output of the tool is read as text.
fn random_changes(rng: &mut Rng, count: u64) -> Vec<Command> {
    let change = |rng: &mut Rng| match rng.below(3) {
        0 => Command::Delete(random_key(rng)),
        _ => Command::Set(random_key(rng), vec![b'a' + rng.below(26) as u8; rng.index(90)]),
    };
    (0..count).map(|_| change(rng)).collect()
}

/// Random transactions of one or several changes.
fn random_transactions(rng: &mut Rng, count: u64) -> Vec<Command> {
    let mut commands = Vec::new();
    for _ in 0..count {
        let size = rng.between(1, 6);
        if size == 1 {
            commands.extend(random_changes(rng, 1));
        } else {
            commands.push(Command::Begin);
            commands.extend(random_changes(rng, size));
            commands.push(Command::Commit);
        }
    }
    commands
}

fn last(start: &Pairs, commands: &[Command]) -> Pairs {
    states(start, commands).pop().expect("the first, at least")
}

#[test]
fn cyrus_takes_our_twoskip_files_and_goes_on_with_them() {
    let test = "cyrus_takes_our_twoskip_files_and_goes_on_with_them";
    let Some(tool) = Tool::new(test, DbFormat::Twoskip) else { return };
    for count in [0, 1, 2, 3, 64, 700] {
        let mut entries: Pairs = (0..count)
            .map(|number| (format!("user.u{number}.f"), "x".repeat(number % 50)))
            .map(|(key, value)| (key.into_bytes(), value.into_bytes()))
            .collect();
        if count > 3 {
            entries.insert(vec![b'k'; 70_000], vec![b'v'; 70_000]);
            entries.insert(b"control \t\r\n\x01\x7f".to_vec(), b"\n\n\t".to_vec());
        }
        let list: Vec<_> = entries.iter().collect();
        tool.put(&twoskip::write_fresh(&list).expect("in order"));
        tool.check_cyrus_finds(&entries);

        let changes = random_transactions(&mut Rng::new(count as u64), 20);
        tool.batch(&changes);
        let changed = last(&entries, &changes);
        tool.check_cyrus_finds(&changed);
        check_clean(&tool.bytes(), DbFormat::Twoskip, &changed);
        tool.run(&[], "repack", b"");
        check_clean(&tool.bytes(), DbFormat::Twoskip, &changed);
    }
}

#[test]
fn cyrus_takes_our_flat_files_and_goes_on_with_them() {
    let test = "cyrus_takes_our_flat_files_and_goes_on_with_them";
    let Some(tool) = Tool::new(test, DbFormat::Flat) else { return };
    let mut entries = last(&Pairs::new(), &random_changes(&mut Rng::new(42), 200));
    entries.insert(b"control \t\r\n\x01\x7f".to_vec(), b"\n\n\t".to_vec());
    let list: Vec<_> = entries.iter().collect();
    tool.put(&flat::write(&list).expect("no key twice"));
    tool.check_cyrus_finds(&entries);
    for (key, value) in &entries {
        // Looked up by halving, which only works in the right order.
        let delete = to_text(&[Command::Delete(key.clone())]);
        let get = [b"GET", &delete["DELETE".len()..]].concat();
        let shown = tool.run(&[], "batch", &get);
        assert_eq!(parse_show(shown.as_bytes()), [(key.clone(), value.clone())].into());
    }
    let changes = random_transactions(&mut Rng::new(43), 20);
    tool.batch(&changes);
    let changed = last(&entries, &changes);
    check_clean(&tool.bytes(), DbFormat::Flat, &changed);
    let list: Vec<_> = changed.iter().collect();
    assert_eq!(flat::write(&list), Ok(tool.bytes()));
}

#[test]
fn we_read_what_cyrus_makes_of_random_transactions() {
    let test = "we_read_what_cyrus_makes_of_random_transactions";
    for format in [DbFormat::Twoskip, DbFormat::Skiplist, DbFormat::Flat] {
        let Some(tool) = Tool::new(test, format) else { return };
        let mut rng = Rng::new(0x5eed);
        let mut now = Pairs::new();
        // Enough for Cyrus to repack the files by itself.
        for _ in 0..25 {
            let commands = random_transactions(&mut rng, 25);
            tool.batch(&commands);
            now = last(&now, &commands);
            check_clean(&tool.bytes(), format, &now);
        }
        tool.check_cyrus_finds(&now);
    }
}

#[test]
fn after_a_crash_we_find_what_cyrus_finds() {
    let test = "after_a_crash_we_find_what_cyrus_finds";
    let Some(tool) = Tool::new(test, DbFormat::Twoskip) else { return };
    let mut rng = Rng::new(0xdead);
    let mut now = Pairs::new();
    for round in 0..10 {
        let commands = random_transactions(&mut rng, 10);
        tool.batch(&commands);
        now = last(&now, &commands);

        let mut open = vec![Command::Begin, Command::Set(b"k".to_vec(), vec![b'v'; round])];
        open.extend(random_changes(&mut rng, 5));
        tool.crash(&open);
        let crashed = tool.bytes();
        let db = db::read(&crashed).expect("nothing is damaged");
        assert_eq!(pairs(&db), now, "round {round}");
        let told = db.recovered.expect("an unclean file");
        assert!(told.contains("unfinished") && !told.contains("rebuilt"), "{told}");

        tool.check_cyrus_finds(&now);
        check_clean(&tool.bytes(), DbFormat::Twoskip, &now);
        // The next round goes on with our own file, as it is after the crash.
        let list: Vec<_> = db.entries.iter().map(|(key, value)| (key, value)).collect();
        tool.put(&twoskip::write_fresh(&list).expect("in order"));
    }
}
