//! mailboxes.db as a real Cyrus wrote it.

use std::collections::BTreeMap;

use cyrus_format::db::{self, twoskip};
use cyrus_format::mboxlist::{MailboxEntry, MboxList, MboxListEra};
use cyrus_format::names::NameRules;
use model::{MboxName, Modseq, UidValidity, Userid};

const FILE: &[u8] = include_bytes!("fixtures/account/mailboxes.db");

fn list() -> MboxList {
    let db = db::read(FILE).expect("it is whole");
    assert_eq!(db.recovered, None);
    let records = db.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
    MboxList::parse(records, &NameRules::v3())
}

fn get<'a>(list: &'a MboxList, name: &str) -> &'a MailboxEntry {
    list.get(&name.into()).unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn every_kind_of_entry_is_there() {
    let list = list();
    assert_eq!((list.era, list.unreadable.as_slice()), (MboxListEra::ById, &[][..]));
    let ann = get(&list, "other.com!user.ann");
    assert_eq!(ann.acl, [(b"ann@other.com".to_vec(), b"lrswipkxtecdan".to_vec())]);
    assert_eq!(ann.uidvalidity, Some(UidValidity(1_795_466_959)));
    assert_eq!(ann.partition.as_deref(), Some(b"default".as_slice()));
    assert!(get(&list, "user.leg^acy.x").mbtype.legacy_dirs);
    assert!(!get(&list, "user.fred^smith.a^b").mbtype.legacy_dirs);
    assert_eq!(get(&list, "user.glad.with space").createdmodseq, Some(Modseq(3)));

    let renamed = get(&list, "user.glad.newer");
    let former: Vec<_> = renamed.history.iter().map(|former| former.name.to_string()).collect();
    assert_eq!(former, ["user.glad.new", "user.glad.old"]);
    let tombstone = get(&list, "user.glad.old");
    assert!(tombstone.mbtype.deleted && !tombstone.mbtype.has_data());
    assert_eq!(tombstone.uniqueid, renamed.uniqueid);
    assert!(get(&list, "DELETED.user.bob.6B04A6FB").mbtype.has_data());
}

#[test]
fn accounts_own_what_they_should() {
    let (list, rules) = (list(), NameRules::v3());
    let accounts = list.accounts(&rules);
    let accounts: Vec<_> = accounts.iter().map(Userid::to_string).collect();
    assert_eq!(accounts, ["ann@other.com", "fred.smith", "glad", "glad2", "leg.acy", "old.hat"]);
    let owned = |userid: &str| -> Vec<String> {
        let userid = Userid::from(userid);
        list.of_account(&userid, &rules).map(|entry| entry.name.to_string()).collect()
    };
    assert_eq!(owned("ann@other.com"), ["other.com!user.ann", "other.com!user.ann.x"]);
    assert_eq!(owned("bob"), ["DELETED.user.bob.6B04A6FB"]);
    assert_eq!(
        owned("glad"),
        [
            "DELETED.user.glad.gone.6B04A6CF",
            "user.glad",
            "user.glad.Entw&APw-rfe",
            "user.glad.Sent",
            "user.glad.deep",
            "user.glad.deep.er",
            "user.glad.deep.er.still",
            "user.glad.newer",
            "user.glad.with space",
        ]
    );
    assert_eq!(rules.owner(&MboxName::from("shared.list")), None);
}

#[test]
fn every_record_is_written_back_byte_for_byte() {
    let (list, rules) = (list(), NameRules::v3());
    let written = list.entries.iter().flat_map(|entry| entry.to_by_id(&rules).expect("good names"));
    let written: BTreeMap<Vec<u8>, Vec<u8>> = written.collect();
    let original = db::read(FILE).expect("it is whole");
    let original: BTreeMap<Vec<u8>, Vec<u8>> =
        original.entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(written, original);

    let records: Vec<_> = written.into_iter().collect();
    let fresh = twoskip::write_fresh(&records).expect("in order");
    let again = db::read(&fresh).expect("just written");
    assert_eq!(again.recovered, None);
    assert!(again.entries.iter().map(|(key, _)| key.as_ref()).eq(original.keys()));
}
