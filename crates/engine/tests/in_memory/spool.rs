//! Export as a Cyrus spool.

use std::path::{Path, PathBuf};

use cyrus_format::db::{self, DbFormat, flat};
use cyrus_format::imapd_conf::ImapdConf;
use cyrus_format::index::{CrcState, Index};
use cyrus_format::mboxlist::{MailboxEntry, MailboxType, MboxList, MboxListEra};
use cyrus_format::names::NameRules;
use engine::export::{ExportError, Form, Layout, SpoolOptions, Summary, export};
use engine::ports::Silent;
use model::{FindingKind, MboxName, SystemFlags, UidValidity, UniqueId};

use super::account::{Account, EPOCH, Mailbox, options};
use super::tree::MemoryTree;

const INBOX_ID: &str = "a1b2c3d4e5f6a7b8c9d0e1f2";
const WORK_ID: &str = "z1b2c3d4e5f6a7b8c9d0e1f2";

/// An account of that version, with its entries of mailboxes.db in that form.
fn account(version: u32, era: MboxListEra) -> Account {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", INBOX_ID, version);
    inbox.add(b"one", EPOCH);
    inbox.add(b"two", EPOCH + 60);
    inbox.add(b"one", EPOCH);
    inbox.add(b"one", EPOCH + 120);
    let mut work = Mailbox::new("user.glad.Work", WORK_ID, version);
    work.add(b"two", EPOCH + 60);
    account.mailboxes = vec![inbox, work];
    let entries: Vec<MailboxEntry> = account.mailboxes.iter().map(entry).collect();
    account.files.insert("mailboxes".to_owned(), dump(&entries, era));
    account.files.insert("quota/user.glad".to_owned(), b"%(S (6 100))\n".to_vec());
    for (name, bytes) in [("sub", "INBOX.Work\t\n"), ("seen", "s"), ("counters", "c")] {
        account.files.insert(name.to_owned(), bytes.as_bytes().to_vec());
    }
    account.files.insert("sieve/main.script".to_owned(), b"keep;".to_vec());
    account.files.insert("sieve.active".to_owned(), b"main".to_vec());
    account
}

fn entry(mailbox: &Mailbox) -> MailboxEntry {
    MailboxEntry {
        name: MboxName::from(mailbox.name.as_str()),
        uniqueid: mailbox.id.as_deref().map(UniqueId::from),
        mbtype: MailboxType::default(),
        partition: Some(mailbox.partition.clone().into_bytes()),
        acl: vec![(b"glad".to_vec(), b"lrs".to_vec()), (b"anyone".to_vec(), b"p".to_vec())],
        uidvalidity: Some(UidValidity(mailbox.uidvalidity)),
        ..MailboxEntry::default()
    }
}

fn dump(entries: &[MailboxEntry], era: MboxListEra) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for entry in entries {
        match era {
            MboxListEra::ById => records.extend(entry.to_by_id(&NameRules::v3()).expect("records")),
            MboxListEra::Dlist => records.push(entry.to_dlist()),
            MboxListEra::Text => records.push(entry.to_text()),
        }
    }
    flat::write(&records).expect("a dump")
}

fn given(account: &Account, layout: Layout) -> (MemoryTree, Summary) {
    let mut tree = MemoryTree::default();
    let summary = try_given(account, layout, &mut tree).expect("an export");
    (tree, summary)
}

fn try_given(
    account: &Account,
    layout: Layout,
    tree: &mut MemoryTree,
) -> Result<Summary, ExportError> {
    let (source, messages) = account.source();
    let form = Form::Spool(SpoolOptions { layout, root: PathBuf::from("/srv/restored") });
    export(&source, &messages, &form, tree, &options(EPOCH + 999), &Silent)
}

fn by_id(id: &str) -> String {
    format!("spool/default/uuid/{}/{}/{id}", &id[..1], &id[1..2])
}

/// The mailboxes that the written mailboxes.db lists.
fn listed(tree: &MemoryTree, format: DbFormat, era: MboxListEra) -> Vec<MailboxEntry> {
    let database = db::read(tree.read("conf/mailboxes.db")).expect("a database");
    assert_eq!(database.format, format);
    let records = database.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
    let list = MboxList::parse(records, &NameRules::v3());
    assert_eq!(list.era, era);
    assert!(list.unreadable.is_empty());
    list.entries
}

fn conf(tree: &MemoryTree) -> ImapdConf {
    let text = tree.read("imapd.conf");
    ImapdConf::parse("imapd.conf", text, &mut |path| Err(format!("{path} is not there")))
        .expect("a configuration")
}

#[test]
fn a_spool_of_3_6_comes_back_where_it_was() {
    let account = account(17, MboxListEra::ById);
    let (tree, summary) = given(&account, Layout::Source);
    assert_eq!((summary.mailboxes, summary.messages, summary.bytes), (2, 5, 15));
    assert!(summary.findings.is_empty());
    for mailbox in &account.mailboxes {
        let dir = PathBuf::from(by_id(mailbox.id.as_deref().expect("an id")));
        for (name, bytes) in mailbox.files() {
            assert_eq!(tree.read(dir.join(name)), bytes);
        }
        for (uid, body) in &mailbox.bodies {
            assert_eq!(tree.read(dir.join(format!("{uid}."))), body);
        }
    }
    let expected: Vec<MailboxEntry> = account.mailboxes.iter().map(entry).collect();
    assert_eq!(listed(&tree, DbFormat::Twoskip, MboxListEra::ById), expected);
    let user = format!("conf/user/uuid/a/1/{INBOX_ID}");
    for name in ["sub", "seen", "counters"] {
        assert_eq!(tree.read(format!("{user}/{name}.db")), account.files[name]);
    }
    assert_eq!(tree.read("conf/quota/g/user.glad"), account.files["quota/user.glad"]);
    let conf = conf(&tree);
    assert_eq!(conf.configdirectory(), Path::new("/srv/restored/conf"));
    assert_eq!(conf.partition(b"default"), Some(Path::new("/srv/restored/spool/default")));
    assert!(!conf.hashimapspool() && !conf.fulldirhash() && !conf.mailbox_legacy_dirs());
}

#[test]
fn sieve_scripts_come_back_with_the_one_that_is_active() {
    let by_name = given(&account(12, MboxListEra::Text), Layout::Source).0;
    let by_id = given(&account(17, MboxListEra::ById), Layout::Source).0;
    let of_id = format!("conf/sieve/uuid/a/1/{INBOX_ID}");
    for (tree, dir) in [(by_name, "conf/sieve/g/glad"), (by_id, of_id.as_str())] {
        assert_eq!(tree.read(format!("{dir}/main.script")), b"keep;");
        let link = tree.link_of(format!("{dir}/defaultbc"));
        assert_eq!(link, Some(Path::new("main.bc")), "Cyrus looks for the bytecode");
    }
}

#[test]
fn messages_bear_their_dates_and_share_a_file_where_these_agree() {
    let (tree, _) = given(&account(17, MboxListEra::ById), Layout::Source);
    let (inbox, work) = (by_id(INBOX_ID), by_id(WORK_ID));
    let path = |uid: u32| format!("{inbox}/{uid}.");
    assert!(tree.is_same(path(1), path(3)), "same bytes, same date");
    assert!(!tree.is_same(path(1), path(4)), "same bytes, another date");
    assert!(tree.is_same(path(2), format!("{work}/1.")), "also across mailboxes");
    for (uid, date) in [(1, 0), (2, 60), (3, 0), (4, 120)] {
        assert_eq!(tree.mtime(path(uid)), EPOCH + date, "uid {uid}");
    }
    assert_eq!(tree.mtime(format!("{inbox}/cyrus.index")), EPOCH + 999);
}

#[test]
fn files_are_not_shared_between_partitions() {
    let mut account = account(17, MboxListEra::ById);
    account.mailboxes[1].partition = "fast".to_owned();
    let entries: Vec<MailboxEntry> = account.mailboxes.iter().map(entry).collect();
    account.files.insert("mailboxes".to_owned(), dump(&entries, MboxListEra::ById));
    let (tree, _) = given(&account, Layout::Source);
    let work = by_id(WORK_ID).replace("default", "fast");
    assert!(!tree.is_same(format!("{}/2.", by_id(INBOX_ID)), format!("{work}/1.")));
    assert_eq!(conf(&tree).partition(b"fast"), Some(Path::new("/srv/restored/spool/fast")));
}

#[test]
fn where_a_file_has_all_the_names_it_may_have_another_is_made() {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", INBOX_ID, 17);
    for _ in 0..10 {
        inbox.add(b"again", EPOCH);
    }
    account.mailboxes.push(inbox);
    let mut tree = MemoryTree::default();
    tree.names_max = Some(4);
    let summary = try_given(&account, Layout::Uuid, &mut tree).expect("an export");
    assert_eq!(summary.messages, 10);
    let inbox = by_id(INBOX_ID);
    for (one, other, same) in [(1, 4, true), (4, 5, false), (5, 8, true), (8, 9, false)] {
        let path = |uid: u32| format!("{inbox}/{uid}.");
        assert_eq!(tree.read(path(other)), b"again");
        assert_eq!(tree.is_same(path(one), path(other)), same, "{one} and {other}");
    }
}

#[test]
fn a_copy_is_whole_where_the_first_was_not_to_be_had() {
    let mut account = account(17, MboxListEra::ById);
    account.mailboxes[0].bodies.insert(1, b"somebody else's".to_vec());
    let (tree, summary) = given(&account, Layout::Source);
    let findings: Vec<_> = summary.findings.iter().map(|f| (f.kind, f.uid)).collect();
    assert_eq!(findings, [(FindingKind::ArchiveDamaged, Some(1))]);
    assert_eq!(summary.messages, 4);
    let inbox = by_id(INBOX_ID);
    assert!(!tree.has(format!("{inbox}/1.")));
    assert_eq!(tree.read(format!("{inbox}/3.")), b"one");
}

#[test]
fn no_record_claims_to_be_on_an_archive_partition() {
    let mut account = account(17, MboxListEra::ById);
    let archived = &mut account.mailboxes[0].records[1].system_flags;
    *archived = SystemFlags(SystemFlags::ARCHIVED.0 | SystemFlags::SEEN.0);
    let before = account.mailboxes[0].files();
    let (tree, _) = given(&account, Layout::Source);
    let bytes = tree.read(format!("{}/cyrus.index", by_id(INBOX_ID)));
    let index = Index::parse(bytes).expect("an index");
    assert!(index.problems().is_empty(), "{:?}", index.problems());
    let original = Index::parse(&before["cyrus.index"]).expect("an index");
    for (at, (new, old)) in index.records().zip(original.records()).enumerate() {
        let mut expected = old;
        expected.system_flags.0 &= !SystemFlags::ARCHIVED.0;
        assert_eq!(new, expected);
        assert_eq!(index.record_crc(at), Some(CrcState::Good));
    }
    assert_eq!(index.header(), original.header());
}

/// A development version of Cyrus 3.13 wrote records of version 19 into the room of version 20.
#[test]
fn archived_records_are_found_where_they_are() {
    let mut account = account(19, MboxListEra::ById);
    account.mailboxes[0].records[2].system_flags = SystemFlags::ARCHIVED;
    let (mut source, messages) = account.source();
    let index = source.mailboxes[0].files.get_mut("cyrus.index").expect("an index");
    *index = stretched(index, 144);
    let before = index.clone();
    let mut tree = MemoryTree::default();
    let form = SpoolOptions { layout: Layout::Source, root: PathBuf::from("/r") };
    export(&source, &messages, &Form::Spool(form), &mut tree, &options(EPOCH), &Silent)
        .expect("an export");
    let written = tree.read(format!("{}/cyrus.index", by_id(INBOX_ID)));
    let (new, old) = (Index::parse(written).expect("one"), Index::parse(&before).expect("one"));
    for (at, (new, old)) in new.records().zip(old.records()).enumerate() {
        assert!(!new.is_archived());
        assert_eq!((new.uid, new.guid, new.size), (old.uid, old.guid, old.size), "record {at}");
    }
    assert!((0..new.len()).all(|at| new.record_crc(at) == Some(CrcState::Good)));
}

/// An index whose records are that long, with zeros behind what they were.
fn stretched(bytes: &[u8], record_size: usize) -> Vec<u8> {
    let index = Index::parse(bytes).expect("an index");
    let mut stretched = bytes[..index.header().start_offset as usize].to_vec();
    stretched[16..20].copy_from_slice(&(record_size as u32).to_be_bytes());
    let (covered, sum) = stretched.split_at_mut(index.header().start_offset as usize - 4);
    sum.copy_from_slice(&model::crc::crc32(covered).to_be_bytes());
    for raw in index.raw_records() {
        stretched.extend_from_slice(raw);
        stretched.resize(stretched.len() + record_size - raw.len(), 0);
    }
    stretched
}

#[test]
fn a_live_message_is_not_expunged_by_what_a_crash_left() {
    let mut account = account(10, MboxListEra::Text);
    let inbox = &mut account.mailboxes[0];
    inbox.expunged = vec![inbox.records[0].clone(), inbox.records.remove(2)];
    let (tree, summary) = given(&account, Layout::Source);
    assert_eq!(summary.messages, 5, "what is expunged but kept is given back");
    let inbox = "spool/default/user/glad";
    let expunge = Index::parse(tree.read(format!("{inbox}/cyrus.expunge"))).expect("an index");
    let uids: Vec<u32> = expunge.keys().map(|key| key.uid.0).collect();
    assert_eq!(uids, [3]);
    assert!(tree.has(format!("{inbox}/3.")));
}

#[test]
fn old_releases_come_back_in_their_own_form_and_by_name() {
    for (version, era, format) in [
        (10, MboxListEra::Text, DbFormat::Flat),
        (12, MboxListEra::Text, DbFormat::Flat),
        (13, MboxListEra::Dlist, DbFormat::Twoskip),
        (16, MboxListEra::Dlist, DbFormat::Twoskip),
    ] {
        let account = account(version, era);
        let (tree, summary) = given(&account, Layout::Source);
        assert_eq!(summary.messages, 5, "{era:?}");
        assert_eq!(tree.read("spool/default/user/glad/1."), b"one");
        assert_eq!(tree.read("spool/default/user/glad/Work/1."), b"two");
        let entries = listed(&tree, format, era);
        let names: Vec<String> = entries.iter().map(|entry| entry.name.to_string()).collect();
        assert_eq!(names, ["user.glad", "user.glad.Work"]);
        assert_eq!(entries[0].acl, entry(&account.mailboxes[0]).acl);
        assert_eq!(tree.read("conf/user/g/glad.sub"), account.files["sub"]);
        assert_eq!(tree.read("conf/user/g/glad.seen"), account.files["seen"]);
        let mboxlist_db = conf(&tree).get("mboxlist_db").map(<[u8]>::to_vec);
        assert_eq!(mboxlist_db.is_some(), era == MboxListEra::Text, "{mboxlist_db:?}");
    }
}

#[test]
fn an_old_spool_can_be_laid_out_by_id() {
    for era in [MboxListEra::Text, MboxListEra::Dlist] {
        let mut account = account(13, era);
        let annotations: [(&[u8], &[u8]); 3] = [
            (b"user.glad.Work\0/comment\0glad", b"his"),
            (b"user.glad.Work\0/comment\0iris", b"hers"),
            (b"user.other\0/comment\0", b"not ours"),
        ];
        account.files.insert("annotations".to_owned(), flat::write(&annotations).expect("a dump"));
        let (tree, _) = given(&account, Layout::Uuid);
        assert_eq!(tree.read(format!("{}/1.", by_id(WORK_ID))), b"two");
        let entries = listed(&tree, DbFormat::Twoskip, MboxListEra::ById);
        let ids: Vec<_> = entries.iter().map(|entry| entry.uniqueid.clone()).collect();
        assert_eq!(ids, [Some(UniqueId::from(INBOX_ID)), Some(UniqueId::from(WORK_ID))]);
        assert!(entries.iter().all(|entry| !entry.mbtype.legacy_dirs));
        assert!(tree.has(format!("conf/user/uuid/a/1/{INBOX_ID}/sub.db")));
        let annotations = db::read(tree.read("conf/annotations.db")).expect("a database");
        let key = |user: &str| format!("{WORK_ID}\0/comment\0{user}").into_bytes();
        assert_eq!(annotations.get(&key("[.OwNeR.]")), Some(b"his".as_slice()));
        assert_eq!(annotations.get(&key("iris")), Some(b"hers".as_slice()));
    }
}

#[test]
fn a_new_spool_can_be_laid_out_by_name() {
    let (tree, _) = given(&account(17, MboxListEra::ById), Layout::Name);
    assert_eq!(tree.read("spool/default/user/glad/Work/1."), b"two");
    let entries = listed(&tree, DbFormat::Twoskip, MboxListEra::ById);
    assert!(entries.iter().all(|entry| entry.mbtype.legacy_dirs), "type l says so");
    assert_eq!(tree.read("conf/user/g/glad.sub"), b"INBOX.Work\t\n");
    assert!(conf(&tree).mailbox_legacy_dirs());
}

#[test]
fn without_a_list_the_mailboxes_say_who_they_are() {
    let mut account = account(17, MboxListEra::ById);
    account.files.remove("mailboxes");
    let (tree, _) = given(&account, Layout::Uuid);
    let entries = listed(&tree, DbFormat::Twoskip, MboxListEra::ById);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].uidvalidity, Some(UidValidity(1_400_000_000)));
    assert_eq!(entries[0].acl, [(b"glad".to_vec(), b"lrswipkxtecdan".to_vec())]);
    assert!(tree.has(format!("{}/1.", by_id(INBOX_ID))));
}

#[test]
fn what_cannot_be_placed_is_refused_and_nothing_leads_out() {
    let refused = |edit: &dyn Fn(&mut Account), layout| {
        let mut account = account(17, MboxListEra::ById);
        account.files.remove("mailboxes");
        edit(&mut account);
        let mut tree = MemoryTree::default();
        let error = try_given(&account, layout, &mut tree).expect_err("it is refused");
        assert!(matches!(error, ExportError::Layout { .. }), "{error:?}");
    };
    let name = |name: &'static str| move |a: &mut Account| a.mailboxes[1].name = name.to_owned();
    for hostile in ["user.glad...", "user.glad.a/../../b", "user.glad.a\0b", "user.glad."] {
        refused(&name(hostile), Layout::Name);
    }
    refused(&|a| a.mailboxes[1].id = None, Layout::Uuid);
    for id in ["../../../../etc", "ab/cd", "..", "a"] {
        refused(&|a| a.mailboxes[1].id = Some(id.to_owned()), Layout::Uuid);
    }
    for partition in ["..", "../up", "a/b", ".hidden", "x: /tmp\nadmins", "a b", "a\0"] {
        refused(&|a| a.mailboxes[1].partition = partition.to_owned(), Layout::Uuid);
    }
    for script in ["../../../x.script", "/etc/x.script", "a/b.script", "..", "", "x"] {
        let file = format!("sieve/{script}");
        refused(&|a| drop(a.files.insert(file.clone(), Vec::new())), Layout::Uuid);
    }
    for root in ["../../x", "user.glad/../..", "user.glad\0"] {
        let file = format!("quota/{root}");
        refused(&|a| drop(a.files.insert(file.clone(), Vec::new())), Layout::Uuid);
    }
    for script in ["../x", "/etc/passwd", "a\0b", ""] {
        let bytes = script.as_bytes().to_vec();
        refused(&|a| drop(a.files.insert("sieve.active".into(), bytes.clone())), Layout::Uuid);
    }
}

#[test]
fn a_copy_in_another_mailbox_is_linked_without_being_read() {
    let account = account(17, MboxListEra::ById);
    let (source, messages) = account.source();
    let form = Form::Spool(SpoolOptions { layout: Layout::Source, root: PathBuf::from("/r") });
    let mut tree = MemoryTree::default();
    export(&source, &messages, &form, &mut tree, &options(EPOCH), &Silent).expect("an export");
    assert!(!messages.opened().contains(&(1, 1)), "it was read: {:?}", messages.opened());
    let (first, copy) = (format!("{}/2.", by_id(INBOX_ID)), format!("{}/1.", by_id(WORK_ID)));
    assert!(tree.is_same(first, copy));

    let (source, messages) = account.source();
    let mut tree = MemoryTree::default();
    tree.names_max = Some(1);
    let summary = export(&source, &messages, &form, &mut tree, &options(EPOCH), &Silent);
    assert!(messages.opened().contains(&(1, 1)), "a name too many takes the bytes once more");
    assert_eq!(tree.read(format!("{}/1.", by_id(WORK_ID))), b"two");
    let summary = summary.expect("an export");
    assert_eq!((summary.messages, summary.bytes), (5, 15));
}
