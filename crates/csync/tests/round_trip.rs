//! Whatever can be said is understood as it was meant.

use csync::banner::Banner;
use csync::client::{Client, Event};
use csync::command::{
    Apply, Command, Expunge, Fetch, Get, Rename, Reserve, Restore, SieveName, SieveScript,
    Subscription,
};
use csync::framer::{self, FileHead, Framer, Limits, Stream};
use csync::mailbox::{Contents, Mailbox, Records, Since};
use csync::meta::{AnnotationOf, Quota, Seen, SieveFile};
use csync::record::{Annotation, Record};
use csync::reply::Reply;
use csync::sasl::SaslData;
use csync::server::{Action, Server};
use csync::untagged::{self, Untagged};
use cyrus_format::seen::{self, UidSet};
use model::{
    Guid, MboxName, Modseq, Partition, SystemFlags, Timestamp, Uid, UidValidity, UniqueId, Userid,
};
use proptest::prelude::*;

/// Bytes that are awkward in one way or another: none, many, `NIL`, quotes, line ends, NUL.
fn bytes() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "[a-z.]{1,20}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "", "NIL", "nil", "a b", "\"", "%(", "{3+}", ")", "\\Seen", "\r\n"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        (1020_usize..1030).prop_map(|length| vec![b'x'; length]),
    ]
    .boxed()
}

fn name() -> impl Strategy<Value = MboxName> {
    bytes().prop_map(MboxName::new)
}

fn userid() -> impl Strategy<Value = Userid> {
    bytes().prop_map(Userid::new)
}

fn guid() -> impl Strategy<Value = Guid> {
    any::<[u8; 20]>().prop_map(Guid)
}

fn date() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(0), 0..i64::MAX, Just(i64::MAX)].prop_map(Timestamp::from_secs)
}

fn modseq() -> impl Strategy<Value = Modseq> {
    prop_oneof![Just(0), any::<u64>(), Just(u64::MAX)].prop_map(Modseq)
}

fn uid() -> impl Strategy<Value = Uid> {
    any::<u32>().prop_map(Uid)
}

fn list<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(item, 0..4)
}

fn annotation() -> impl Strategy<Value = Annotation> {
    (bytes(), userid(), modseq(), bytes()).prop_map(|(entry, userid, modseq, value)| Annotation {
        entry,
        userid,
        modseq,
        value,
    })
}

fn annotation_of() -> BoxedStrategy<AnnotationOf> {
    (name(), bytes(), userid(), bytes())
        .prop_map(|(mboxname, entry, userid, value)| AnnotationOf {
            mboxname,
            entry,
            userid,
            value,
        })
        .boxed()
}

fn record() -> impl Strategy<Value = Record> {
    let flags = [
        SystemFlags::ANSWERED,
        SystemFlags::FLAGGED,
        SystemFlags::DELETED,
        SystemFlags::DRAFT,
        SystemFlags::SEEN,
        SystemFlags::EXPUNGED,
    ];
    let system = prop::sample::subsequence(flags.to_vec(), 0..=flags.len())
        .prop_map(|flags| SystemFlags(flags.iter().fold(0, |word, flag| word | flag.0)));
    let user = list(bytes().prop_filter("no system flag", |flag| !flag.starts_with(b"\\")));
    let numbers = (uid(), modseq(), any::<u32>());
    let dates = (date(), date());
    (numbers, dates, system, user, guid(), list(annotation())).prop_map(
        |((uid, modseq, size), dates, system_flags, user_flags, guid, annotations)| Record {
            uid,
            modseq,
            last_updated: dates.0,
            system_flags,
            user_flags,
            internaldate: dates.1,
            size,
            guid,
            annotations,
        },
    )
}

fn contents(records: Records) -> impl Strategy<Value = Contents> {
    let since = (modseq(), any::<u32>(), any::<u32>())
        .prop_map(|(modseq, sync_crc, sync_crc_annot)| Since { modseq, sync_crc, sync_crc_annot });
    let options = (
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        prop::option::of(date()),
        prop::option::of(modseq()),
        prop::option::of(modseq()),
        prop::option::of(since),
    );
    let dates = (date(), date(), date());
    let strings = (bytes(), bytes(), bytes(), prop::option::of(name()));
    (options, dates, strings, any::<[u32; 3]>(), list(annotation())).prop_map(
        move |(options, dates, strings, numbers, annotations)| Contents {
            sync_crc: options.0,
            sync_crc_annot: options.1,
            pop3_show_after: options.2,
            xconvmodseq: options.3,
            raclmodseq: options.4,
            since: options.5,
            recenttime: dates.0,
            last_appenddate: dates.1,
            pop3_last_login: dates.2,
            partition: Some(Partition::new(strings.0)),
            acl: strings.1,
            options: strings.2,
            quotaroot: strings.3,
            last_uid: Uid(numbers[0]),
            recentuid: Uid(numbers[1]),
            uidvalidity: UidValidity(numbers[2]),
            annotations,
            records,
        },
    )
}

fn mailbox(records: Records) -> BoxedStrategy<Mailbox> {
    let identity = (bytes(), name(), prop::sample::select(vec!["", "e", "f", "ae"]));
    let modseqs = (modseq(), prop::option::of(modseq()), prop::option::of(modseq()));
    (identity, modseqs, contents(records))
        .prop_map(|(identity, modseqs, contents)| Mailbox {
            uniqueid: UniqueId::new(identity.0),
            mboxname: identity.1,
            mboxtype: identity.2.into(),
            highestmodseq: modseqs.0,
            createdmodseq: modseqs.1,
            foldermodseq: modseqs.2,
            contents: Some(contents),
        })
        .boxed()
}

fn entry() -> BoxedStrategy<Mailbox> {
    let entry = |mailbox| Mailbox { mboxtype: b"d".to_vec(), contents: None, ..mailbox };
    mailbox(Records::Omitted).prop_map(entry).boxed()
}

fn quota() -> BoxedStrategy<Quota> {
    // The number that means "unlimited" cannot be a limit of storage by itself, but beside STORAGE.
    (name(), any::<[Option<u64>; 4]>(), prop::option::of(modseq()))
        .prop_map(|(root, limits, modseq)| Quota { root, limits, modseq })
        .boxed()
}

fn seen_state() -> BoxedStrategy<Seen> {
    (bytes(), date(), uid(), date(), list(1_u32..))
        .prop_map(|(id, read, last_uid, change, uids)| {
            let uids = UidSet::from_uids(uids.into_iter().map(Uid));
            let (last_read, last_change) = (read.secs, change.secs);
            let state = seen::Seen { last_read, last_uid, last_change, uids };
            Seen { uniqueid: UniqueId::new(id), state }
        })
        .boxed()
}

fn get() -> BoxedStrategy<Get> {
    let fetch = (name(), bytes(), bytes(), guid(), uid());
    prop_oneof![
        userid().prop_map(Get::User),
        list(name()).prop_map(Get::Mailboxes),
        list(bytes().prop_map(UniqueId::new)).prop_map(Get::UniqueIds),
        name().prop_map(Get::FullMailbox),
        name().prop_map(Get::Quota),
        userid().prop_map(Get::Meta),
        name().prop_map(Get::Annotation),
        fetch.prop_map(|(mboxname, partition, uniqueid, guid, uid)| Get::Fetch(Fetch {
            mboxname,
            partition: Partition::new(partition),
            uniqueid: UniqueId::new(uniqueid),
            guid,
            uid,
        })),
        (userid(), bytes()).prop_map(|(userid, filename)| Get::FetchSieve { userid, filename }),
    ]
    .boxed()
}

fn apply() -> BoxedStrategy<Apply> {
    let sub =
        || (userid(), name()).prop_map(|(userid, mboxname)| Subscription { userid, mboxname });
    let sieve =
        || (userid(), bytes()).prop_map(|(userid, filename)| SieveName { userid, filename });
    let removed = |annotation| AnnotationOf { value: Vec::new(), ..annotation };
    let mailboxes = prop_oneof![mailbox(Records::Listed), entry()];
    let reserve = (bytes(), list(name()), list(guid()));
    let rename = (name(), name(), prop::option::of(bytes()), any::<Option<u32>>());
    let things = prop_oneof![
        reserve.prop_map(|(partition, mailboxes, guids)| {
            Apply::Reserve(Reserve { partition: Partition::new(partition), mailboxes, guids })
        }),
        mailboxes.prop_map(|mailbox| Apply::Mailbox(Box::new(mailbox))),
        rename.prop_map(|(old, new, partition, uidvalidity)| Apply::Rename(Rename {
            old,
            new,
            partition: partition.map(Partition::new),
            uidvalidity: uidvalidity.map(UidValidity),
        })),
        (name(), bytes(), list(uid())).prop_map(|(mboxname, id, uids)| {
            Apply::Expunge(Expunge { mboxname, uniqueid: UniqueId::new(id), uids })
        }),
        quota().prop_map(Apply::Quota),
        (userid(), seen_state()).prop_map(|(userid, seen)| Apply::Seen { userid, seen }),
        annotation_of().prop_map(Apply::Annotation),
        annotation_of().prop_map(move |annotation| Apply::UnAnnotation(removed(annotation))),
        (userid(), bytes(), date(), bytes()).prop_map(
            |(userid, filename, last_update, content)| {
                Apply::Sieve(SieveScript { userid, filename, last_update, content })
            }
        ),
        list(bytes()).prop_map(Apply::Capabilities),
    ];
    prop_oneof![
        3 => things,
        1 => prop_oneof![
            Just(Apply::Message),
            Just(Apply::Force),
            name().prop_map(Apply::UnMailbox),
            name().prop_map(Apply::UnQuota),
            sub().prop_map(Apply::Sub),
            sub().prop_map(Apply::UnSub),
            sieve().prop_map(Apply::UnSieve),
            sieve().prop_map(Apply::ActivateSieve),
            userid().prop_map(Apply::UnactivateSieve),
            userid().prop_map(Apply::UnUser),
        ],
    ]
    .boxed()
}

fn command() -> BoxedStrategy<Command> {
    let restore = (name(), prop::option::of(bytes()), prop::option::of(modseq()));
    prop_oneof![
        4 => get().prop_map(Command::Get),
        8 => apply().prop_map(Command::Apply),
        1 => restore.prop_map(|(mboxname, id, highestmodseq)| Command::Restore(Box::new(Restore {
            mboxname,
            uniqueid: id.map(UniqueId::new),
            highestmodseq,
            ..Restore::default()
        }))),
        1 => prop::option::of(bytes()).prop_map(|initial| Command::Authenticate {
            mechanism: "PLAIN".to_owned(),
            initial: initial.map(SaslData::new),
        }),
        1 => prop::sample::select(vec![
            Command::StartTls,
            Command::Compress { algorithm: "DEFLATE".to_owned() },
            Command::Noop,
            Command::Restart,
            Command::Exit,
        ]),
    ]
    .boxed()
}

fn untagged() -> BoxedStrategy<Untagged> {
    let file = (bytes(), date(), guid(), any::<bool>());
    prop_oneof![
        mailbox(Records::Omitted).prop_map(|mailbox| Untagged::Mailbox(Box::new(mailbox))),
        list(guid()).prop_map(Untagged::Missing),
        list(name()).prop_map(Untagged::Lsub),
        seen_state().prop_map(Untagged::Seen),
        file.prop_map(|(filename, last_update, guid, active)| Untagged::Sieve(SieveFile {
            filename,
            last_update,
            guid,
            active,
        })),
        (userid(), bytes(), bytes()).prop_map(|(userid, filename, content)| {
            Untagged::SieveScript { userid, filename, content }
        }),
        quota().prop_map(Untagged::Quota),
        annotation_of().prop_map(Untagged::Annotation),
        list(bytes()).prop_map(Untagged::Enabled),
        Just(Untagged::Message),
    ]
    .boxed()
}

proptest! {
    #[test]
    fn a_command_is_read_as_it_was_written(command in command(), tagged in any::<bool>()) {
        let mut text = Vec::new();
        command.write(tagged.then_some("S7"), &mut text);
        let stream = if tagged { Stream::ImapCommands } else { Stream::Commands };
        let mut framer = Framer::new(stream, Limits::default());
        let mut input = text.as_slice();
        let read = loop {
            match framer.next(&mut input).expect("a good stream").expect("a whole command") {
                framer::Event::Line(line) if tagged => {
                    break Command::from_imap_line(line).map(|(_, command)| command);
                }
                framer::Event::Line(line) => break Command::from_line(line),
                framer::Event::Data(data) => break Command::from_data(data),
                framer::Event::Records(_) => {}
                other => panic!("{other:?}"),
            }
        };
        prop_assert_eq!(read, Ok(command));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_command_cut_short_is_none(command in command()) {
        let mut text = Vec::new();
        command.write(None, &mut text);
        for length in 0..text.len() {
            let mut framer = Framer::new(Stream::Commands, Limits::default());
            let mut input = &text[..length];
            while let Some(event) = framer.next(&mut input).expect("a good stream") {
                prop_assert!(matches!(event, framer::Event::Records(_)), "{:?}", event);
            }
        }
    }

    #[test]
    fn an_untagged_reply_is_read_as_it_was_written(untagged in untagged()) {
        let mut text = Vec::new();
        untagged.write(&mut text);
        let mut framer = Framer::new(Stream::Replies, Limits::default());
        let mut input = text.as_slice();
        let read = match framer.next(&mut input).expect("a good stream") {
            Some(framer::Event::Data(data)) => Untagged::from_data(data),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(read, Ok(untagged));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_mailbox_arrives_with_its_records(
        mailbox in mailbox(Records::Listed),
        records in list(record()),
    ) {
        let mailbox = Mailbox { mboxtype: Vec::new(), ..mailbox };
        let (mut server, mut out) = (admin(), Vec::new());
        let mut client = greeted_client();
        let mut text = Vec::new();
        let mut writer = client.send_mailbox(&mailbox, &mut text).expect("nothing is under way");
        records.iter().for_each(|record| writer.record(record, &mut text));
        writer.finish(&mut text);

        let mut arrived = Vec::new();
        let mut input = text.as_slice();
        let whole = Command::Apply(Apply::Mailbox(Box::new(mailbox)));
        while let Some(action) = server.next(&mut input, &mut out).expect("a good stream") {
            match action {
                Action::Records(head) => prop_assert_eq!(head.as_deref(), Some(&whole)),
                Action::Record(record) => arrived.push(record),
                Action::Apply(apply) => prop_assert_eq!(&Command::Apply(apply), &whole),
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(arrived, records);
        server.done(&mut out);
        prop_assert_eq!(
            client.next(&mut out.as_slice()),
            Ok(Some(Event::Done(Reply::Ok("success".to_owned()))))
        );
    }

    #[test]
    fn a_full_mailbox_arrives_with_its_records(
        mailbox in mailbox(Records::Listed),
        records in list(record()),
    ) {
        let mut client = greeted_client();
        client.send(&Command::Get(Get::FullMailbox(MboxName::from("a"))), &mut Vec::new())
            .expect("nothing is under way");
        let mut text = Vec::new();
        let mut writer = untagged::begin_mailbox(&mailbox, &mut text);
        records.iter().for_each(|record| writer.record(record, &mut text));
        writer.finish(&mut text);

        let mut arrived = Vec::new();
        let mut input = text.as_slice();
        let mailbox = Box::new(mailbox);
        while let Some(event) = client.next(&mut input).expect("a good answer") {
            match event {
                Event::Records(head) => prop_assert_eq!(head.as_ref(), Some(&mailbox)),
                Event::Record(record) => arrived.push(record),
                Event::Untagged(read) => {
                    prop_assert_eq!(read, Untagged::Mailbox(mailbox.clone()));
                }
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(arrived, records);
    }

    #[test]
    fn messages_arrive_as_they_were_sent(
        messages in list((guid(), bytes())),
        cut in 1_usize..40,
    ) {
        let (mut server, mut out) = (admin(), Vec::new());
        let mut text = Vec::new();
        let mut files = greeted_client().send_files(&mut text).expect("nothing is under way");
        for (guid, bytes) in &messages {
            let (partition, size) = (Partition::from("default"), bytes.len() as u32);
            files.file(&FileHead { partition, guid: *guid, size }, &mut text);
            text.extend_from_slice(bytes);
        }
        files.finish(&mut text);

        let mut arrived: Vec<(Guid, Vec<u8>)> = Vec::new();
        let mut ends = 0;
        let mut applied = false;
        for mut piece in text.chunks(cut) {
            while let Some(action) = server.next(&mut piece, &mut out).expect("a good stream") {
                match action {
                    Action::File(head) => arrived.push((head.guid, Vec::new())),
                    Action::FileBytes(bytes) => {
                        arrived.last_mut().expect("a file").1.extend_from_slice(bytes);
                    }
                    Action::FileEnd => ends += 1,
                    Action::Apply(Apply::Message) => applied = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        prop_assert!(applied);
        prop_assert_eq!(ends, messages.len());
        prop_assert_eq!(arrived, messages);
    }

    #[test]
    fn no_value_is_read_that_is_none(
        name in prop::sample::select(NAMES),
        words in prop::collection::vec(prop::sample::select(WORDS), 0..20),
    ) {
        // Whatever the fields, the answer is one of Cyrus'.
        let text = format!("{name} %({})\r\n", words.join(" "));
        let (mut server, mut out) = (admin(), Vec::new());
        let mut input = text.as_bytes();
        while let Some(action) = server.next(&mut input, &mut out).expect("a good stream") {
            if matches!(action, Action::Apply(_) | Action::Get(_) | Action::Restore(_)) {
                server.done(&mut out);
            }
        }
        let reply = out.split(|byte| *byte == b'\n').rev().nth(1).expect("an answer");
        prop_assert!(Reply::parse(reply.trim_ascii_end()).is_ok());
        prop_assert!(server.is_idle());
    }
}

const NAMES: &[&str] = &[
    "APPLY MAILBOX",
    "APPLY RESERVE",
    "APPLY RENAME",
    "APPLY QUOTA",
    "APPLY SEEN",
    "APPLY SIEVE",
    "APPLY ANNOTATION",
    "APPLY EXPUNGE",
    "APPLY SUB",
    "APPLY NOSUCH",
    "GET FETCH",
    "GET MAILBOXES",
    "GET USER",
    "RESTORE MAILBOX",
    "RESTORE X",
];

const WORDS: &[&str] = &[
    "UNIQUEID x",
    "MBOXNAME a",
    "MBOXNAME (a)",
    "PARTITION p",
    "GUID (abc)",
    "GUID",
    "UID 1",
    "UID -1",
    "UID (1 x)",
    "RECORD ()",
    "RECORD (%(UID 1))",
    "HIGHESTMODSEQ 99999999999999999999",
    "LAST_UID 4294967296",
    "RECENTTIME 9223372036854775808",
    "ACL NIL",
    "SEENUIDS 1:*",
    "ROOT r",
    "LIMIT x",
    "USERID alice",
    "FILENAME ../../x",
    "LAST_UPDATE 1",
    "CONTENT {2+}\r\n\r\n",
    "NIL",
    "\"\"",
    "()",
    "%()",
];

fn admin() -> Server {
    Server::start_trusted(Banner::new("r", "1"), Limits::default(), &mut Vec::new())
}

fn greeted_client() -> Client {
    let mut client = Client::default();
    assert_eq!(client.next(&mut &b"* OK r\r\n"[..]), Ok(Some(Event::Banner)));
    client
}
