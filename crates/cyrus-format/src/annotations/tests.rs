use proptest::prelude::*;

use super::*;

fn key(annotated: Annotated, entry: &str, audience: Audience) -> AnnotationKey {
    AnnotationKey { annotated, entry: entry.into(), audience }
}

#[test]
fn keys_of_both_databases() {
    let mailbox = || Annotated::Mailbox(b"c1fkpvrdaax34z2hoxb6fgjh".to_vec());
    let checks: [(AnnotationDb, &[u8], AnnotationKey); 5] = [
        (AnnotationDb::Global, b"\0/motd\0\0", key(Annotated::Server, "/motd", Audience::Shared)),
        (
            AnnotationDb::Global,
            b"c1fkpvrdaax34z2hoxb6fgjh\0/comment\0[.OwNeR.]\0",
            key(mailbox(), "/comment", Audience::Owner),
        ),
        (
            AnnotationDb::Global,
            b"c1fkpvrdaax34z2hoxb6fgjh\0/comment\0bob\0",
            key(mailbox(), "/comment", Audience::User("bob".into())),
        ),
        (
            AnnotationDb::Messages,
            b"17\0/altsubject\0\0",
            key(Annotated::Message(Uid(17)), "/altsubject", Audience::Shared),
        ),
        (
            AnnotationDb::Global,
            b"user.glad\0/comment",
            key(Annotated::Mailbox(b"user.glad".to_vec()), "/comment", Audience::Unsaid),
        ),
    ];
    for (db, bytes, expected) in checks {
        assert_eq!(AnnotationKey::parse(db, bytes).as_ref(), Ok(&expected));
        assert_eq!(expected.write(), bytes);
    }
}

#[test]
fn keys_that_are_none() {
    for bytes in [&b""[..], b"17", b"17\0/a\0\0\0", b"17\0/a\0u\0x"] {
        assert!(AnnotationKey::parse(AnnotationDb::Global, bytes).is_err(), "{bytes:?}");
    }
    for bytes in
        [&b"\0/a\0\0"[..], b"x\0/a\0\0", b"+1\0/a\0\0", b"0\0/a\0\0", b"4294967296\0/a\0\0"]
    {
        assert!(AnnotationKey::parse(AnnotationDb::Messages, bytes).is_err(), "{bytes:?}");
    }
}

/// What 3.6.1 on amd64 writes for the value `hi`.
const MODERN: &[u8] = b"\0\0\0\x02\0\0\0\0hi\0text/plain\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0";

#[test]
fn a_value_of_today() {
    let annotation = Annotation::parse(MODERN).expect("it comes out even");
    assert_eq!(annotation, Annotation::new("hi", Modseq(5)));
    assert_eq!(annotation.write(), MODERN);
}

#[test]
fn values_of_older_versions_end_earlier() {
    // Before the flags, before the modseq, and what no known version writes but walks.
    for (end, modseq, content_type) in
        [(1, true, true), (9, false, true), (17, false, true), (28, false, false)]
    {
        let bytes = &MODERN[..MODERN.len() - end];
        let annotation = Annotation::parse(bytes).expect("it comes out even");
        assert_eq!(annotation.value, b"hi");
        assert_eq!(annotation.deleted, None);
        assert_eq!(annotation.modseq.is_some(), modseq);
        assert_eq!(annotation.content_type.is_some(), content_type);
        assert_eq!(annotation.write(), bytes);
    }
}

#[test]
fn values_of_other_hosts() {
    let word32 = b"\0\0\0\x02hi\0text/plain\0\x4e\0\0\x01";
    let annotation = Annotation::parse(word32).expect("it comes out even");
    assert_eq!((annotation.word, annotation.value.as_slice()), (HostWord::Any32, &b"hi"[..]));
    assert_eq!(annotation.modified_since, Some(0x4e00_0001));
    assert_eq!(annotation.write(), word32);
    let big64 = b"\0\0\0\0\0\0\0\x02hi\0text/plain\0\0\0\0\0\x4e\0\0\x01";
    let annotation = Annotation::parse(big64).expect("it comes out even");
    assert_eq!((annotation.word, annotation.value.as_slice()), (HostWord::Big64, &b"hi"[..]));
    assert_eq!(annotation.modified_since, Some(0x4e00_0001));
}

#[test]
fn a_tombstone_has_no_value() {
    let tombstone = Annotation::new("", Modseq(7));
    assert_eq!(tombstone.deleted, Some(true));
    assert_eq!(Annotation::parse(&tombstone.write()), Ok(tombstone));
    let mut odd = MODERN.to_vec();
    *odd.last_mut().expect("not empty") = 1;
    let odd = Annotation::parse(&odd).expect("it comes out even");
    assert_eq!((odd.value.as_slice(), odd.deleted), (&b""[..], Some(true)));
}

#[test]
fn truncated_values_are_refused_or_end_at_a_part() {
    for end in 0..MODERN.len() {
        if let Ok(annotation) = Annotation::parse(&MODERN[..end]) {
            assert_eq!(annotation.write(), &MODERN[..end], "{end}");
        }
    }
    assert!(Annotation::parse(&[MODERN, b"x"].concat()).is_err());
    assert!(Annotation::parse(b"\xff\xff\xff\xff\0\0\0\0hi\0").is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in prop::collection::vec(any::<u8>(), 1..40), modseq in any::<u64>()) {
        let annotation = Annotation::new(value, Modseq(modseq));
        prop_assert_eq!(Annotation::parse(&annotation.write()), Ok(annotation));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for db in [AnnotationDb::Global, AnnotationDb::Messages] {
            if let Ok(key) = AnnotationKey::parse(db, &bytes) {
                prop_assert_eq!(AnnotationKey::parse(db, &key.write()), Ok(key));
            }
        }
        let length = u8::try_from(bytes.len() / 2).expect("short");
        let led = [&[0, 0, 0, length, 0, 0, 0, 0], bytes.as_slice()].concat();
        for bytes in [bytes, led] {
            if let Ok(annotation) = Annotation::parse(&bytes) {
                prop_assert!(annotation.value.len() < bytes.len());
            }
        }
    }
}
