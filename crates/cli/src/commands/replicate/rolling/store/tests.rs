use std::collections::BTreeSet;

use cyrus_format::imapd_conf::ImapdConf;
use spool::sync_log::{SyncLog, Taken};
use tempfile::TempDir;

use super::*;

struct Stage {
    directory: TempDir,
    log: SyncLog,
    rules: NameRules,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let conf = format!("configdirectory: {}\n", directory.path().display());
        let mut none = |_: &str| Err(String::new());
        let conf = ImapdConf::parse("imapd.conf", conf.as_bytes(), &mut none);
        let log = SyncLog::new(&conf.expect("a configuration"), None);
        fs::create_dir(log.directory()).expect("made");
        Self { directory, log, rules: NameRules::v3() }
    }

    fn store(&self) -> Store {
        Store::new(&self.directory.path().join("state"), "[::1]:2005", Some("a/b"))
    }

    fn write(&self, text: &str) {
        fs::write(self.log.directory().join("log"), text).expect("written");
    }

    fn log(&self) -> TakenLog {
        let Ok(Taken::Log(log)) = self.log.take() else { panic!("there is no log") };
        log
    }

    fn take(&self, store: &mut Store) -> Vec<Chunk> {
        store.take(self.log(), &self.rules).expect("taken").chunks
    }
}

const NOW: Now = Now { moment: Moment(90_000), calendar: 1_800_000_000_000 };

#[test]
fn a_long_log_is_cut_and_a_short_one_is_moved() {
    let stage = Stage::new();
    let mut store = stage.store();
    let _lock = store.lock().expect("nobody else");
    let long: String = (0..50_000)
        .map(|at| format!("APPEND user.u{}.{}\n", at % 25_000, "x".repeat(20)))
        .collect();
    stage.write(&long);
    let lines: Vec<u64> = stage.take(&mut store).iter().map(|chunk| chunk.lines).collect();
    assert_eq!(lines, [10_000, 10_000, 5_000]);
    let short = "MAILBOX user.a\nMAILBOX user.a\nMAILBOX user.b";
    stage.write(short);
    assert_eq!(stage.take(&mut store)[0].lines, 3);
    assert_eq!(fs::read_dir(stage.log.directory()).expect("a directory").count(), 0);
    // All of it is there for whoever comes next.
    let mut next = stage.store();
    let chunks = next.chunks().expect("readable");
    assert_eq!(chunks.len(), 4);
    let accounts = |chunk: &Chunk| next.read(chunk, &stage.rules).expect("readable").accounts;
    let all: usize = chunks.iter().map(|chunk| accounts(chunk).len()).sum();
    assert_eq!(all, 25_002);
    assert_eq!(fs::read(&chunks[3].path).expect("readable"), short.as_bytes());
    chunks.iter().for_each(|chunk| next.forget(chunk).expect("removed"));
    assert!(next.chunks().expect("readable").is_empty());
}

/// It was read once to see how long it is.
#[test]
fn a_short_log_of_many_lines_is_cut_and_nothing_of_it_is_lost() {
    let stage = Stage::new();
    let mut store = stage.store();
    let _lock = store.lock().expect("nobody else");
    let log: String = (0..10_001).map(|at| format!("USER u{at}\n")).collect();
    assert!((log.len() as u64) < SHORT_BYTES);
    stage.write(&log);
    let chunks = stage.take(&mut store);
    assert_eq!(chunks.iter().map(|chunk| chunk.lines).collect::<Vec<_>>(), [10_000, 1]);
    let works = chunks.iter().map(|chunk| store.read(chunk, &stage.rules).expect("readable"));
    let accounts: BTreeSet<Userid> = works.flat_map(|work| work.accounts.into_keys()).collect();
    let expected = (0..10_001).map(|at| Userid::from(format!("u{at}").as_str()));
    assert_eq!(accounts, expected.collect());
}

#[test]
fn what_is_no_line_of_a_long_log_is_counted_as_well() {
    let stage = Stage::new();
    let mut store = stage.store();
    let _lock = store.lock().expect("nobody else");
    let log = "MAILBOX user.a\n".repeat(10_001) + "NONSENSE x\n\nANNOTATION \"\"\nx y z\n";
    stage.write(&log);
    let cut = store.take(stage.log(), &stage.rules).expect("taken");
    assert_eq!((cut.chunks.len(), cut.malformed.lines, cut.of_server), (1, 2, 1));
    let (line, _) = cut.malformed.example.expect("an example");
    assert_eq!(line, b"NONSENSE x");
}

#[test]
fn a_log_of_which_nothing_comes_is_not_removed() {
    let stage = Stage::new();
    let mut store = stage.store();
    let _lock = store.lock().expect("nobody else");
    for lines in [1, 10_001, 100_000] {
        stage.write(&"MAILBOX user.a\n".repeat(lines));
        let log = stage.log();
        // Whatever has read it before.
        io::copy(&mut &log.file, &mut io::sink()).expect("readable");
        let error = store.take(log, &stage.rules).expect_err("nothing is left to be read");
        let expected = format!("of {} bytes of the sync log, 0 were read", 15 * lines);
        assert!(error.line().contains(&expected), "{error:?}");
        assert_eq!(stage.take(&mut store).len(), 1);
    }
}

#[test]
fn a_log_that_cannot_be_cut_leaves_nothing_behind_but_itself() {
    let stage = Stage::new();
    let mut store = stage.store();
    let _lock = store.lock().expect("nobody else");
    stage.write(&(0..20_001).map(|at| format!("USER u{at}\n")).collect::<String>());
    let log = stage.log();
    // The third one cannot be written where there is a directory.
    let third = store.directory.join(format!("chunk-{:010}-{}", 3, millis_of(log.waiting.since)));
    fs::create_dir(&third).expect("made");
    store.take(log, &stage.rules).expect_err("it is in the way");
    fs::remove_dir(&third).expect("it is ours");
    assert!(store.chunks().expect("readable").is_empty());
    assert_eq!(stage.take(&mut store).len(), 3);
}

#[test]
fn a_log_that_somebody_else_takes_away_is_kept_all_the_same() {
    for lines in [1, 10_001] {
        let stage = Stage::new();
        let mut store = stage.store();
        let _lock = store.lock().expect("nobody else");
        stage.write(&"MAILBOX user.a\n".repeat(lines));
        let log = stage.log();
        fs::remove_file(stage.log.directory().join("log-run")).expect("it is there");
        let error = store.take(log, &stage.rules).expect_err("it is gone");
        assert_eq!(error.exit_code(), Exit::TryAgain);
        assert_eq!(store.chunks().expect("readable").len(), 1, "{lines}");
    }
}

#[test]
fn what_was_left_for_a_replica_of_another_name_is_found() {
    let stage = Stage::new();
    let mut store = stage.store();
    let _lock = store.lock().expect("nobody else");
    stage.write("USER glad\n");
    stage.take(&mut store);
    let state = stage.directory.path().join("state");
    assert_eq!(store.abandoned(), Vec::<PathBuf>::new());
    let other = Store::new(&state, "localhost:2005", Some("a/b"));
    let _other = other.lock().expect("nobody else");
    assert_eq!(other.abandoned(), [store.directory]);
    let other = Store::new(&state, "localhost:2005", None);
    assert_eq!(other.abandoned(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_ill_is_kept_whatever_its_names_are() {
    let stage = Stage::new();
    let store = stage.store();
    let _lock = store.lock().expect("nobody else");
    assert_eq!(store.ill(NOW).expect("nothing"), []);
    let thing = |mailbox: Option<&[u8]>| IllThing {
        complaint: Complaint {
            mailbox: mailbox.map(MboxName::new),
            code: "damaged".to_owned(),
            reason: "it is \"damaged\"\n".to_owned(),
        },
        since: Moment(17),
    };
    let things = vec![thing(None), thing(Some(b"user.\xff%.a b"))];
    let account = Userid::new(b"\xff%".as_slice());
    let ill = [IllAccount { account, tries: 0, next: Moment(0), things }];
    store.keep_ill(&ill, NOW).expect("kept");
    assert_eq!(store.ill(NOW).expect("readable"), ill);
    // After this machine was started anew.
    let later = Now { moment: Moment(1_000), calendar: NOW.calendar + 60_000 };
    let kept = store.ill(later).expect("readable");
    assert_eq!(kept[0].things[0].since, Moment(1_000 - 60_000 - (90_000 - 17)));
    fs::write(store.directory.join("ill.json"), "[{}]").expect("written");
    assert!(store.ill(NOW).is_err());
}

#[test]
fn a_second_one_hears_who_is_there() {
    let stage = Stage::new();
    let store = stage.store();
    assert!(!store.is_locked());
    let lock = store.lock().expect("nobody else");
    // A lock of this kind keeps only other processes out, so this one looks at what it says.
    let who = fs::read_to_string(store.directory.join("lock")).expect("readable");
    assert_eq!(who, format!("{}\n", std::process::id()));
    drop(lock);
}
