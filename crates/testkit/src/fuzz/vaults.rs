//! What a vault takes from whoever lists it: names of objects, and notes.

use model::Userid;
use model::state::Digest;
use sha2::{Digest as _, Sha256};
use vault::keys::{KEY_MAX, NoteName, account_key, component_of, is_shortened, key_of};
use vault::store::Object;
use vault::{History, Note, SegmentName, What};

/// Any name: of an object, of an account's directory, or of an account.
pub(super) fn vault_names(bytes: &[u8]) {
    let key = account_key(&Userid::new(bytes));
    assert!(!key.is_empty() && key.len() <= KEY_MAX && key != "." && key != "..", "{key:?}");
    let is_safe = |byte: u8| byte.is_ascii_graphic() && !br#"/\"'*?<>|:;()[]{}"#.contains(&byte);
    assert!(key.bytes().all(is_safe), "{key:?}");
    if component_of(&key).is_none() {
        assert!(is_shortened(&key), "{key:?} is nobody's");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(component) = component_of(text) {
        assert!(!is_shortened(text), "{text:?} is two things");
        assert_eq!(key_of(&component), text);
    }
    if let Some(name) = SegmentName::parse(text) {
        assert_eq!(name.to_string(), text);
        assert!(NoteName::parse(text).is_none(), "{text:?} is two things");
    }
    if let Some(name) = NoteName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
}

/// A listing, a name in each line. Notes speak of all the lines.
pub(super) fn vault_history(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let objects: Vec<Object> =
        text.lines().map(|line| Object { name: line.to_owned(), size: 1 }).collect();
    let note = |_: &str, name: &NoteName| -> Result<Note, std::convert::Infallible> {
        let about = objects.iter().map(|object| object.name.clone()).step_by(2).collect();
        Ok(Note::new(name.what, name.at, "host", "fuzz", about))
    };
    let Ok(history) = History::new(&objects, note);
    let (heads, snapshots) = (history.heads(), history.snapshots());
    if let Some(tip) = history.tip() {
        assert!(heads.contains(&tip) && history.lineage(&tip.name.own).torn.is_none());
        assert!(tip.name.seq < history.next_seq() || tip.name.seq == u32::MAX);
    }
    if let Some(newest) = history.newest() {
        assert!(snapshots.contains(&&newest));
    }
    for entry in history.segments() {
        let lineage = history.lineage(&entry.name.own);
        assert_eq!(lineage.entries.last(), Some(entry));
        let ascends = |pair: &[vault::Entry]| pair[0].name.seq < pair[1].name.seq;
        assert!(lineage.entries.windows(2).all(ascends), "{lineage:?}");
    }
    for snapshot in snapshots {
        assert!(!history.is_dead(&snapshot.name.own));
        assert!(history.lineage(&snapshot.name.own).torn.is_none());
    }
}

/// A note under a name that fits its bytes, for each that it could be about.
pub(super) fn vault_notes(bytes: &[u8]) {
    let sha256 = Digest(Sha256::digest(bytes).into());
    for what in
        [What::Hidden, What::Dropped, What::Erased, What::Hold, What::Joined, What::Verified]
    {
        let Ok(note) = Note::decode("note", &NoteName { at: 0, what, sha256 }, bytes) else {
            continue;
        };
        assert_eq!(note.what, what);
        let (name, written) = note.encode().expect("what was read can be written");
        assert_eq!(Note::decode("note", &name, &written).expect("the same"), note);
    }
}
