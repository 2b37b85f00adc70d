//! Lines of logs, and what is kept of them.

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::{self, Backlog, Scope};
use logwatch::book::BookLimits;
use logwatch::line::{Entry, LineReader};
use logwatch::time::Time;
use logwatch::{Mode, Watcher};

/// Limits that inputs can reach.
const TIGHT: BookLimits = BookLimits { templates_max: 16, wordings_max: 32, leaf_max: 4 };

/// Some lines: all of them are taken, nothing grows, and what is kept goes on alike.
pub(super) fn log_lines(bytes: &[u8]) {
    let mut watcher = Watcher::new(TIGHT);
    let mut reader = LineReader::new(Time(1_800_000_000));
    for line in bytes.split(|byte| *byte == b'\n') {
        let read = reader.read(line);
        assert!(read.message.len() <= line.len());
        watcher.explain(&read);
        watcher.take(&read, Mode::Watch);
        if let Ok(entry) = Entry::parse(line, 3600) {
            watcher.take(&entry.line(), Mode::Watch);
        }
    }
    assert!(watcher.templates().count() < TIGHT.templates_max);
    let mut again = Watcher::decode(&watcher.encode(), TIGHT).expect("what was written is a state");
    let later = watcher.now().plus(2);
    assert_eq!(watcher.noises(later), again.noises(later));
}

/// A state, written back.
pub(super) fn watch_state(bytes: &[u8]) {
    // Inputs rarely have the checksum that they should have.
    let Some((body, _)) = bytes.split_last_chunk::<4>() else { return };
    let whole = [body, &crc32fast::hash(body).to_le_bytes()].concat();
    if let Ok(watcher) = Watcher::decode(&whole, BookLimits::default()) {
        let kept = watcher.encode();
        let mut again = Watcher::decode(&kept, BookLimits::default()).expect("a state");
        assert_eq!(again.encode(), kept);
        again.noises(again.now().plus(86_400));
    }
}

/// A sync log: read in pieces like in one, and what is kept of it says the same as all of it.
pub(super) fn sync_log(bytes: &[u8]) {
    let rules = NameRules::v3();
    let mut whole = Backlog::new(&rules);
    whole.feed(bytes);
    let work = whole.finish();
    let mut pieces = Backlog::new(&rules);
    bytes.chunks(7).for_each(|piece| pieces.feed(piece));
    assert_eq!(pieces.finish(), work);
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').count() as u64;
    assert_eq!(work.lines, lines);
    let mut kept = Backlog::new(&rules);
    for entry in work.entries() {
        let line = entry.line();
        // What no log can hold: a name with a line end, from behind a backslash.
        assert!(!line[..line.len() - 1].contains(&b'\n'));
        assert_eq!(sync_log::Entry::parse(&line[..line.len() - 1]), Ok(Some(entry)));
        kept.feed(&line);
    }
    assert_eq!(kept.finish().accounts, work.accounts);
    for (account, scope) in &work.accounts {
        if let Scope::Mailboxes(names) = scope {
            let is_owner = |name| rules.owner(name).is_none_or(|owner| owner == *account);
            assert!(!names.is_empty() && names.iter().all(is_owner));
        }
    }
}
