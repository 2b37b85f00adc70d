//! cyrus.header in both forms.

use cyrus_format::header::{HeaderForm, MAGIC, MailboxHeader, file_crc};
use cyrus_format::{EncodeError, FormatError};
use model::{MboxName, SystemFlags, UniqueId, UserFlags};
use proptest::prelude::*;

fn file(body: &str) -> Vec<u8> {
    [MAGIC, body.as_bytes()].concat()
}

fn acl(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs
        .iter()
        .map(|(who, rights)| (who.as_bytes().to_vec(), rights.as_bytes().to_vec()))
        .collect()
}

fn flags(names: &[&str]) -> Vec<Option<Vec<u8>>> {
    names.iter().map(|name| (!name.is_empty()).then(|| name.as_bytes().to_vec())).collect()
}

#[track_caller]
fn check_both_ways(body: &str, header: &MailboxHeader) {
    let bytes = file(body);
    assert_eq!(MailboxHeader::parse(&bytes).as_ref(), Ok(header));
    assert_eq!(header.write(), Ok(bytes));
}

#[test]
fn lines_as_cyrus_2_writes_them() {
    let header = MailboxHeader {
        form: HeaderForm::Lines,
        quotaroot: Some(MboxName::from("user.glad")),
        uniqueid: Some(UniqueId::from("3c5e1f2a4b6d8e90")),
        acl: acl(&[("glad", "lrswipkxtecda"), ("anyone", "p")]),
        user_flags: flags(&["$Forwarded", "NonJunk"]),
        ..MailboxHeader::default()
    };
    check_both_ways(
        "user.glad\t3c5e1f2a4b6d8e90\n$Forwarded NonJunk \nglad\tlrswipkxtecda\tanyone\tp\t\n",
        &header,
    );
}

#[test]
fn lines_with_nothing_on_them() {
    let header = MailboxHeader { form: HeaderForm::Lines, ..MailboxHeader::default() };
    check_both_ways("\n\n\n", &header);
    let named = MailboxHeader { uniqueid: Some(UniqueId::from("1")), ..header };
    check_both_ways("\t1\n\n\n", &named);
}

#[test]
fn lines_read_with_and_without_the_trailing_separators() {
    let bytes = file("user.glad\tabc\tmore\na b\nglad\tlrs\n");
    let header = MailboxHeader::parse(&bytes).expect("Cyrus reads it");
    assert_eq!(header.uniqueid, Some(UniqueId::from("abc")));
    assert_eq!(header.user_flags, flags(&["a", "b"]));
    assert_eq!(header.acl, acl(&[("glad", "lrs")]));
}

#[test]
fn a_slot_without_a_name_keeps_the_following_names_in_place() {
    let holes = flags(&["", "one", "", "", "four"]);
    for form in [HeaderForm::Lines, HeaderForm::Dlist] {
        let header = MailboxHeader { form, user_flags: holes.clone(), ..MailboxHeader::default() };
        let bytes = header.write().expect("nothing is too large");
        assert_eq!(MailboxHeader::parse(&bytes).map(|read| read.user_flags), Ok(holes.clone()));
    }
}

#[test]
fn a_dlist_as_cyrus_3_6_writes_it() {
    let header = MailboxHeader {
        form: HeaderForm::Dlist,
        mbtype: b"e".to_vec(),
        name: Some(MboxName::from("user.glad")),
        uniqueid: Some(UniqueId::from("c1fkpvrdaax34z2hoxb6fgjh")),
        jmapid: None,
        quotaroot: Some(MboxName::from("user.glad")),
        acl: acl(&[("glad", "lrswipkxtecdan"), ("cyrus", "lrswipkxtecda")]),
        user_flags: flags(&["$Forwarded", "", "NonJunk"]),
    };
    check_both_ways(
        "%(T e N user.glad I c1fkpvrdaax34z2hoxb6fgjh Q user.glad \
         A %(glad lrswipkxtecdan cyrus lrswipkxtecda) U ($Forwarded NIL NonJunk))\n",
        &header,
    );
    let newer = MailboxHeader { form: HeaderForm::DlistWithJmapId, ..header };
    let text = "%(T e N user.glad I c1fkpvrdaax34z2hoxb6fgjh J NIL Q user.glad \
         A %(glad lrswipkxtecdan cyrus lrswipkxtecda) U ($Forwarded NIL NonJunk))\n";
    check_both_ways(text, &newer);
    let with_id = MailboxHeader { jmapid: Some(b"P1".to_vec()), ..newer };
    check_both_ways(&text.replace("J NIL", "J P1"), &with_id);
}

#[test]
fn the_sync_crc_of_flags_follows_the_names_of_the_header() {
    let header =
        MailboxHeader { user_flags: flags(&["", "$Forwarded"]), ..MailboxHeader::default() };
    let mut user = UserFlags::default();
    user.insert(1);
    let system = SystemFlags(SystemFlags::FLAGGED.0 | SystemFlags::SEEN.0);
    assert_eq!(header.flag_crcs().of(system, user), 3_321_097_127);
}

#[test]
fn the_file_crc_covers_the_whole_file() {
    assert_eq!(file_crc(b"123456789"), 0xcbf4_3926);
}

#[test]
fn another_file_is_foreign_and_a_broken_one_damaged() {
    for foreign in [&b""[..], b"garbage", &MAGIC[..MAGIC.len() - 1]] {
        let parsed = MailboxHeader::parse(foreign);
        assert!(matches!(parsed, Err(FormatError::Foreign { .. })), "{parsed:?}");
    }
    for damaged in ["", "\n", "\n\n", "a\tb\nc \nd\te", "%(T e", "%(A (a b))\n", "%(U %(a b))\n"] {
        let parsed = MailboxHeader::parse(&file(damaged));
        assert!(matches!(parsed, Err(FormatError::Damaged { .. })), "{damaged:?}: {parsed:?}");
    }
}

#[test]
fn more_flags_than_a_record_has_bits_are_neither_read_nor_written() {
    let names = vec!["f"; 200].join(" ");
    let lines = MailboxHeader::parse(&file(&format!("\n{names} \n\n"))).expect("Cyrus reads it");
    let dlist = MailboxHeader::parse(&file(&format!("%(U ({names}))\n"))).expect("whole");
    assert_eq!((lines.user_flags.len(), dlist.user_flags.len()), (128, 128));
    let many = MailboxHeader { user_flags: flags(&["f"; 129]), ..MailboxHeader::default() };
    assert!(matches!(many.write(), Err(EncodeError::Range { field: "user flags", .. })));
}

#[test]
fn lines_refuse_a_value_that_would_end_them() {
    let plain = MailboxHeader { form: HeaderForm::Lines, ..MailboxHeader::default() };
    for (field, header) in [
        ("quota root", MailboxHeader { quotaroot: Some(MboxName::from("a\tb")), ..plain.clone() }),
        ("uniqueid", MailboxHeader { uniqueid: Some(UniqueId::from("a\nb")), ..plain.clone() }),
        ("user flag", MailboxHeader { user_flags: flags(&["a b"]), ..plain.clone() }),
        ("ACL", MailboxHeader { acl: acl(&[("a", "l\t")]), ..plain.clone() }),
    ] {
        let written = header.write();
        let refused =
            matches!(&written, Err(EncodeError::Range { field: found, .. }) if *found == field);
        assert!(refused, "{field}: {written:?}");
    }
}

prop_compose! {
    fn any_header(form: HeaderForm)(
        mbtype in "[a-z]{0,3}",
        name in proptest::option::of("[ -~]{1,20}"),
        uniqueid in proptest::option::of("[0-9a-z-]{1,36}"),
        jmapid in proptest::option::of("[ -~]{0,12}"),
        quotaroot in proptest::option::of("[a-z.!]{1,20}"),
        acl in proptest::collection::vec(("[!-~é]{1,8}", "[a-z]{0,12}"), 0..5),
        names in proptest::collection::vec(proptest::option::of("[!-~]{1,8}"), 0..20),
        last in "[!-~]{1,8}",
    ) -> MailboxHeader {
        let lines = form == HeaderForm::Lines;
        let mut user_flags: Vec<_> = names.into_iter().map(|name| name.map(Vec::from)).collect();
        user_flags.push(Some(last.into_bytes()));
        MailboxHeader {
            form,
            mbtype: if lines { Vec::new() } else { mbtype.into_bytes() },
            name: name.filter(|_| !lines).map(MboxName::new),
            uniqueid: uniqueid.map(UniqueId::new),
            jmapid: jmapid.filter(|_| form == HeaderForm::DlistWithJmapId).map(Vec::from),
            quotaroot: quotaroot.map(MboxName::new),
            acl: acl.into_iter().map(|(who, rights)| (who.into(), rights.into())).collect(),
            user_flags,
        }
    }
}

fn any_form() -> impl Strategy<Value = HeaderForm> {
    prop_oneof![Just(HeaderForm::Lines), Just(HeaderForm::Dlist), Just(HeaderForm::DlistWithJmapId)]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(header in any_form().prop_flat_map(any_header)) {
        let bytes = header.write().expect("the generator keeps to the form");
        prop_assert_eq!(MailboxHeader::parse(&bytes), Ok(header));
        for cut in 0..bytes.len() {
            prop_assert!(MailboxHeader::parse(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
    }

    #[test]
    fn any_body_is_read_or_refused(body in "[ -~\t\n]{0,80}") {
        if let Ok(header) = MailboxHeader::parse(&file(&body)) {
            prop_assert!(header.user_flags.len() <= UserFlags::MAX);
            prop_assert!(header.user_flags.last().is_none_or(Option::is_some));
        }
    }
}
