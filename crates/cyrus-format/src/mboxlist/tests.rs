use proptest::prelude::*;

use super::*;

fn parse(records: &[(&[u8], &[u8])]) -> MboxList {
    MboxList::parse(records.iter().copied(), &NameRules::v3())
}

#[test]
fn records_of_3_6_are_read_with_their_history_and_written_back_byte_for_byte() {
    let records: &[(&[u8], &[u8])] = &[
        (
            b"Nuser\x1fglad\x1fnewname",
            b"%(T e I pxcg P default V 1795444978 C 158 F 160 M 1795444977 A %(glad lrs cyrus lrswi))",
        ),
        (
            b"Ipxcg",
            b"%(T e N user\x1fglad\x1fnewname P default V 1795444978 C 158 F 160 M 1795444977 \
              A %(glad lrs cyrus lrswi) H (%(N user\x1fglad\x1foldname M 1795444977 V 1795444978 \
              C 158 F 160 T ed)))",
        ),
        (
            b"Nuser\x1fglad\x1foldname",
            b"%(T ed I pxcg V 1795444978 C 158 F 160 M 1795444977 A %())",
        ),
    ];
    let list = parse(records);
    assert_eq!(list.era, MboxListEra::ById);
    assert_eq!(list.unreadable, []);
    let names: Vec<String> = list.entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["user.glad.newname", "user.glad.oldname"]);
    let entry = &list.entries[0];
    assert_eq!(entry.history[0].name, MboxName::from("user.glad.oldname"));
    assert_eq!(entry.acl[1], (b"cyrus".to_vec(), b"lrswi".to_vec()));
    assert_eq!(entry.uidvalidity, Some(UidValidity(1_795_444_978)));
    let written = entry.to_by_id(&NameRules::v3()).expect("it has a dbname");
    let expected: Vec<(Vec<u8>, Vec<u8>)> =
        records[..2].iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(written, expected);
    assert!(!list.entries[1].mbtype.has_data());
}

#[test]
fn an_account_has_its_own_and_its_deleted_mailboxes_and_no_other() {
    let list = parse(&[
        (b"Nuser\x1fglad", b"%(T e I a P default V 1 A %())"),
        (b"Nuser\x1fglad2", b"%(T e I b P default V 1 A %())"),
        (b"Nuser\x1fglad\x1fa.b", b"%(T el I c P default V 1 A %())"),
        (b"Nuser\x1fglad\x1flevel", b"%(T i V 1 A %())"),
        (b"NDELETED\x1fuser\x1fglad\x1fx\x1f6B0450F1", b"%(T e I d P default V 1 A %())"),
        (b"Nshared\x1fnews", b"%(T e I e P default V 1 A %())"),
        (b"Ia", b"%(T e N user\x1fglad P default V 1 A %())"),
        (b"$RACL\x1fglad", b""),
        (b"AUglad", b""),
    ]);
    let rules = NameRules::v3();
    let glad = Userid::from("glad");
    let own: Vec<String> =
        list.of_account(&glad, &rules).map(|entry| entry.name.to_string()).collect();
    assert_eq!(own, ["DELETED.user.glad.x.6B0450F1", "user.glad", "user.glad.a^b"]);
    assert_eq!(list.accounts(&rules), [Userid::from("glad"), Userid::from("glad2")]);
    assert!(list.get(&"user.glad.a^b".into()).is_some_and(|entry| entry.mbtype.legacy_dirs));
}

#[test]
fn a_record_that_cleanup_left_behind_is_no_mailbox() {
    let list = parse(&[
        (b"Ia", b"%(T e N DELETED\x1fuser\x1fglad\x1fx\x1f6B0450F1 P default V 1 A %(glad lrs))"),
        (b"Ib", b"%(T e N user\x1fglad P default V 1 A %(glad lrs))"),
        (b"Nuser\x1fglad", b"%(T e I b P default V 1 A %(glad lrs))"),
    ]);
    assert_eq!(list.era, MboxListEra::ById);
    let names: Vec<String> = list.entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["user.glad"]);
}

#[test]
fn older_forms_are_told_by_their_structure() {
    let dlist = parse(&[
        (b"user.glad", b"%(A %(glad lrs) I 5f P default V 17 C 1 F 2 M 3)"),
        (b"Nogood.I", b"%(A %() I 60 P default T d V 17 M 3)"),
        (b"$RACL$U$glad$user.glad", b""),
    ]);
    assert_eq!(dlist.era, MboxListEra::Dlist);
    assert_eq!(dlist.entries.len(), 2);
    let (key, value) = dlist.entries[1].to_dlist();
    assert_eq!(key, b"user.glad");
    assert_eq!(value, b"%(A %(glad lrs) I 5f P default V 17 C 1 F 2 M 3)");
    let tombstone = &dlist.entries[0];
    assert!(tombstone.mbtype.deleted);
    let old = |letters: &str| MailboxType::from_letters(letters.as_bytes()).old_letters();
    assert_eq!((old("e"), old("ed"), old("crmd")), (vec![], b"d".to_vec(), b"dmrc".to_vec()));

    let text = parse(&[
        (b"user.glad", b"0 default glad\tlrswipcda\tanyone\tp\t"),
        (b"user.far", b"1 mail2!default far\tlrs\t"),
        (b"user.vendor", b"(uniqueid 5f specialuse \\Sent) 0 default vendor\tlrs\t"),
        (b"user.bad", b"what"),
    ]);
    assert_eq!(text.era, MboxListEra::Text);
    assert_eq!(text.unreadable.len(), 1);
    let glad = text.get(&"user.glad".into()).expect("an entry");
    assert_eq!(glad.to_text().1, b"0 default glad\tlrswipcda\tanyone\tp\t");
    let far = text.get(&"user.far".into()).expect("an entry");
    assert_eq!(far.server.as_deref(), Some(b"mail2".as_slice()));
    assert!(!far.mbtype.has_data());
    let vendor = text.get(&"user.vendor".into()).expect("an entry");
    assert_eq!(vendor.uniqueid, Some("5f".into()));
}

proptest! {
    #[test]
    fn entries_are_read_as_they_were_written(
        names in proptest::collection::btree_set("[a-zA-Z0-9 ^&-]{1,8}", 1..6),
        letters in "[enf][mil]{0,2}",
        rights in "[a-z]{0,9}",
        number in any::<u32>(),
    ) {
        let rules = NameRules::v3();
        let entries = names.iter().map(|name| MailboxEntry {
            name: MboxName::new(format!("user.glad.{name}").into_bytes()),
            uniqueid: Some(UniqueId::new(name.as_bytes())),
            mbtype: MailboxType::from_letters(letters.as_bytes()),
            partition: Some(b"default".to_vec()),
            acl: vec![(b"glad".to_vec(), rights.clone().into_bytes())],
            uidvalidity: Some(UidValidity(number)),
            mtime: Some(number.into()),
            ..MailboxEntry::default()
        });
        let entries: Vec<MailboxEntry> = entries.collect();
        let mut by_id = Vec::new();
        for entry in &entries {
            by_id.extend(entry.to_by_id(&rules).expect("a dbname"));
        }
        let read = MboxList::parse(by_id.iter().map(|(k, v)| (&k[..], &v[..])), &rules);
        let mut sorted = entries.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(read.entries, sorted);
    }

    #[test]
    fn foreign_records_are_entries_or_unreadable_but_never_a_panic(
        records in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..8),
    ) {
        let list = MboxList::parse(
            records.iter().map(|(k, v)| (&k[..], &v[..])),
            &NameRules::v3(),
        );
        prop_assert!(list.entries.len() + list.unreadable.len() <= records.len());
    }
}

#[test]
fn tombstones_alone_are_known_by_their_dbnames() {
    let key: &[u8] = b"Nuser\x1fglad\x1fGone";
    let list = MboxList::parse([(key, b"%(T ed I someid V 1 M 5)".as_slice())], &NameRules::v3());
    assert_eq!(list.era, MboxListEra::ById);
    assert_eq!(list.entries[0].name, "user.glad.Gone".into());
    let key: &[u8] = b"Nshared";
    let records = [(key, b"%(T ed I someid V 1 M 5)".as_slice())];
    let list = MboxList::parse_as(MboxListEra::ById, records, &NameRules::v3());
    assert_eq!(list.entries[0].name, "shared".into());
}
