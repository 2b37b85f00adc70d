use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<ImapdConf, ConfError> {
    let mut include = |path: &str| -> Result<Vec<u8>, String> {
        match path {
            "/etc/more.conf" => Ok(b"hashimapspool: yes\n".to_vec()),
            "/etc/loop.conf" => Ok(b"# round and round\n@include: /etc/loop.conf\n".to_vec()),
            "/etc/outer.conf" => Ok(b"@include: /etc/imapd.conf\n".to_vec()),
            "/etc/bad.conf" => Ok(b"\n\nnonsense\n".to_vec()),
            _ if path.starts_with("deep") => Ok(format!("@include: {path}x").into_bytes()),
            _ => Err("no such file".to_owned()),
        }
    };
    ImapdConf::parse("/etc/imapd.conf", text.as_bytes(), &mut include)
}

fn good(text: &str) -> ImapdConf {
    parse(&format!("configdirectory: /var/lib/cyrus\n{text}")).expect("a good configuration")
}

#[track_caller]
fn refused(text: &str, message: &str) {
    let error = parse(text).expect_err("Cyrus would refuse it").to_string();
    assert_eq!(error, message);
}

#[test]
fn lines_as_cyrus_reads_them() {
    let conf = good(
        "  Partition-Default:\t/var/spool # not a comment  \r\n\
         # a comment that goes on \\\n\
         configdirectory: still the comment\n\
         \n\
         sievedir:{configdirectory}/sie\\\n\
         ve\n\
         sasl_pwcheck_method: auxprop\n\
         mboxlist_db_path: {ConfigDirectory}/mboxlist\n\
         deletedprefix: back\\",
    );
    assert_eq!(conf.partition(b"default"), Some(Path::new("/var/spool # not a comment")));
    assert_eq!(conf.partition(b"Default"), conf.partition(b"default"));
    assert_eq!(conf.partition(b"news"), None);
    let root = Path::new("/var/spool # not a comment");
    assert_eq!(conf.partitions().collect::<Vec<_>>(), [("default", root)]);
    assert_eq!(conf.sievedir(), Path::new("/var/lib/cyrus/sieve"));
    assert_eq!(conf.get("sasl_pwcheck_method"), Some(b"auxprop".as_slice()));
    assert_eq!(conf.mboxlist_db_path(), Path::new("/var/lib/cyrus/mboxlist"));
    assert_eq!(conf.deletedprefix(), b"back\\");
    assert_eq!(conf.place("sasl_pwcheck_method").map(|place| place.line), Some(8));
}

#[test]
fn what_is_not_said_has_the_default_of_its_era() {
    let conf = good("");
    assert_eq!(conf.configdirectory(), Path::new("/var/lib/cyrus"));
    assert_eq!(conf.lockpath(), Path::new("/var/lib/cyrus/lock"));
    assert_eq!(conf.proc_path(), Path::new("/var/lib/cyrus/proc"));
    assert_eq!(conf.sievedir(), Path::new("/usr/sieve"));
    assert_eq!(conf.mboxlist_db_path(), Path::new("/var/lib/cyrus/mailboxes.db"));
    assert_eq!(conf.annotation_db_path(), Path::new("/var/lib/cyrus/annotations.db"));
    assert_eq!(conf.quota_root(), Path::new("/var/lib/cyrus"));
    assert_eq!(conf.userpath(), Path::new("/var/lib/cyrus"));
    assert_eq!(conf.defaultpartition(), None);
    assert_eq!(conf.sync_log_channels(), [None]);
    assert!(!conf.hashimapspool() && !conf.archive_enabled() && !conf.sync_log());
    assert!(conf.username_tolower() && conf.global_lock());
    assert_eq!(conf.name_rules(NameEra::V3), NameRules::v3());
    assert_eq!(conf.name_rules(NameEra::V2), NameRules::v2());
}

#[test]
fn switches_words_and_channels() {
    let conf = good(
        "unixhierarchysep: off\nfulldirhash: t\nvirtdomains: yes\ndefaultdomain: example.com\n\
         hashimapspool: 1\nsync_log: on\nsync_log_channels: main \"\"  squatter\n\
         quota_db_path: /other/quotas.db\ncyrus_user: imap\ndefaultpartition: Main\n",
    );
    let rules = conf.path_rules(NameEra::V3);
    assert_eq!(rules.names.separator, Separator::Dot);
    assert!(rules.names.virtdomains && rules.hashimapspool);
    assert_eq!(rules.dirhash, DirHash::Full);
    assert_eq!(rules.names.defaultdomain.as_deref(), Some(b"example.com".as_slice()));
    let channels = conf.sync_log_channels();
    assert_eq!(channels, [Some("main".to_owned()), None, Some("squatter".to_owned())]);
    assert_eq!(conf.quota_root(), Path::new("/other"));
    assert_eq!(conf.cyrus_user(), Some(b"imap".as_slice()));
    assert_eq!(conf.defaultpartition(), Some("main"));
    assert_eq!(good("virtdomains: userid\n").virtdomains(), VirtDomains::Userid);
}

#[test]
fn every_metadata_file_is_found_where_cyrus_puts_it() {
    let text = "partition-a: /a\npartition-b: /b\nmetapartition-a: /meta\n\
                archivepartition-a: /arch\nmetapartition_files: header index  annotations\n\
                metadir-index-a: /fast\n";
    let conf = good(text);
    let root = |meta| conf.meta_root(meta, b"a").map(|path| path.display().to_string());
    let is = |path: &str| Some(path.to_owned());
    assert_eq!(root(Meta::Header), is("/meta"));
    assert_eq!(root(Meta::Index), is("/fast"));
    assert_eq!(root(Meta::Annotations), is("/fast"));
    assert_eq!(root(Meta::Cache), is("/a"));
    assert_eq!(root(Meta::Expunge), is("/a"));
    assert_eq!(root(Meta::ArchiveCache), is("/a"));
    assert_eq!(conf.archive_root(b"a"), Some(Path::new("/a")));
    for meta in Meta::ALL {
        assert_eq!(conf.meta_root(meta, b"b"), Some(Path::new("/b")));
        assert_eq!(conf.meta_root(meta, b"c"), None);
    }
    let archiving = good(&format!("{text}archive_enabled: yes\n"));
    assert_eq!(archiving.meta_root(Meta::ArchiveCache, b"a"), Some(Path::new("/arch")));
    assert_eq!(archiving.archive_root(b"a"), Some(Path::new("/arch")));
    let all = good(
        "partition-a: /a\nmetapartition-a: /meta\narchivepartition-a: /arch\narchive_enabled: 1\n\
         metapartition_files: expunge squat lock dav cache archivecache\n",
    );
    for meta in [Meta::Expunge, Meta::Squat, Meta::Dav, Meta::Cache, Meta::ArchiveCache] {
        assert_eq!(all.meta_root(meta, b"a"), Some(Path::new("/meta")));
    }
}

#[test]
fn a_service_may_see_other_values() {
    let conf = good("partition-a: /a\nbackup_partition-a: /b\nBackup_hashimapspool: yes\n");
    assert_eq!(conf.partition(b"a"), Some(Path::new("/a")));
    assert!(!conf.hashimapspool());
    let backup = conf.for_service("backup").expect("good for that service");
    assert_eq!(backup.partition(b"a"), Some(Path::new("/b")));
    assert!(backup.hashimapspool());
    let broken = good("backup_fulldirhash: maybe\n").for_service("backup");
    assert_eq!(
        broken.map_err(|error| error.to_string()),
        Err("/etc/imapd.conf:2: option backup_fulldirhash is \"maybe\"; write yes or no, in \
             lower case"
            .to_owned())
    );
}

#[test]
fn files_may_include_others_once() {
    assert!(good("@include: /etc/more.conf\n").hashimapspool());
    assert!(good("@INCLUDE: /etc/more.conf\n").hashimapspool());
    refused(
        "@include: /etc/more.conf\nfulldirhash: 0\n@include: /etc/more.conf\n",
        "/etc/imapd.conf:3: /etc/more.conf is included a second time; include it once only",
    );
    refused(
        "@include: /etc/loop.conf\n",
        "/etc/loop.conf:2: /etc/loop.conf is included a second time; include it once only",
    );
    refused(
        "@include: /etc/outer.conf\n",
        "/etc/outer.conf:1: /etc/imapd.conf is included a second time; include it once only",
    );
    refused(
        "@include: /nowhere\n",
        "/etc/imapd.conf:1: cannot include /nowhere: no such file; correct the path or its \
         permissions",
    );
    refused(
        "hashimapspool: no\n@include: /etc/more.conf\n",
        "/etc/more.conf:1: option hashimapspool is set a second time, first at \
         /etc/imapd.conf:1; remove one of the two",
    );
    refused(
        "@include: /etc/bad.conf\n",
        "/etc/bad.conf:3: \"nonsense\" is not an option; write it as \"name: value\", or put # \
         before it",
    );
    assert!(matches!(parse("@include: deep"), Err(ConfError::TooManyFiles { limit: 64, .. })));
}

#[test]
fn what_cyrus_refuses_is_refused() {
    refused(
        "admins: a\nadmins: b\n",
        "/etc/imapd.conf:2: option admins is set a second time, first at /etc/imapd.conf:1; \
         remove one of the two",
    );
    refused(
        "sievedir: \n",
        "/etc/imapd.conf:1: option sievedir has no value; give it one or remove the line",
    );
    refused("@import: x\n", "/etc/imapd.conf:1: @import is not a directive; only @include is");
    refused(
        "admins: a\n",
        "/etc/imapd.conf: option configdirectory is missing; is this the file that Cyrus reads?",
    );
    refused(
        "configdirectory: /c\nhashimapspool: Yes\n",
        "/etc/imapd.conf:2: option hashimapspool is \"Yes\"; write yes or no, in lower case",
    );
    refused(
        "configdirectory: /c\nvirtdomains: both\n",
        "/etc/imapd.conf:2: option virtdomains does not know \"both\"; it takes off, userid or on",
    );
    refused(
        "configdirectory: /c\nmetapartition_files: index messages\n",
        "/etc/imapd.conf:2: option metapartition_files does not know \"messages\"; it takes \
         header, index, cache, expunge, annotations, squat, lock, dav, archivecache",
    );
    refused(
        "configdirectory: /c\ndefaultpartition: my-own\n",
        "/etc/imapd.conf:2: \"my-own\" cannot name a partition; use letters and digits only",
    );
    for line in ["key value", "key : value", "=: x", ": x", "a.b: x", "key: v\0w"] {
        let error = parse(line).expect_err("no option");
        assert!(matches!(error, ConfError::NotAnOption { .. }), "{line:?}: {error}");
    }
}

enum Verdict {
    Refused,
    Ignored,
    Is(&'static str, &'static str),
}

/// Lines and what `cyr_info conf` of 3.6.1 made of them: nothing, an option's value, or an error.
const VERDICTS: &[(&str, Verdict)] = &[
    ("admins: a\nadmins: b\n", Verdict::Refused),
    ("sasl_x: a\nsasl_x: b\n", Verdict::Refused),
    ("sievedir: a\nSIEVEDIR: b\n", Verdict::Refused),
    ("sievedir:\n", Verdict::Refused),
    ("hashimapspool: Yes\n", Verdict::Refused),
    ("hashimapspool: on\n", Verdict::Is("hashimapspool", "on")),
    ("hashimapspool: txyz\n", Verdict::Is("hashimapspool", "txyz")),
    ("hashimapspool: o\n", Verdict::Refused),
    ("hashimapspool: enable\n", Verdict::Refused),
    ("virtdomains: true\n", Verdict::Is("virtdomains", "true")),
    ("virtdomains: On\n", Verdict::Refused),
    ("virtdomains: both\n", Verdict::Refused),
    ("sievedir : /x\n", Verdict::Refused),
    ("sievedir /x\n", Verdict::Refused),
    ("@import: /x\n", Verdict::Refused),
    ("@include: /nonexistent\n", Verdict::Refused),
    ("# c \\\nsievedir: /never\n", Verdict::Ignored),
    ("sievedir: /a\\\nb\n", Verdict::Is("sievedir", "/ab")),
    ("sievedir: /a\\\n", Verdict::Ignored),
    ("sievedir: /a\\", Verdict::Is("sievedir", "/a\\")),
    ("sievedir: /a\r\n", Verdict::Is("sievedir", "/a")),
    ("sievedir: /a\x0b\n", Verdict::Is("sievedir", "/a")),
    ("\tsievedir:\t/a\t\n", Verdict::Is("sievedir", "/a")),
    ("sievedir: /a # b\n", Verdict::Is("sievedir", "/a # b")),
    ("metapartition_files: header foo\n", Verdict::Refused),
    ("metapartition_files: Header\n", Verdict::Refused),
    ("partition-Foo: /foo\n", Verdict::Is("partition-foo", "/foo")),
    ("imap_sievedir: /a\n", Verdict::Ignored),
    ("defaultpartition: de-fault\n", Verdict::Refused),
    ("a.b: x\n", Verdict::Refused),
];

#[test]
fn cyrus_would_say_the_same() {
    for (text, verdict) in VERDICTS {
        let conf = parse(&format!("configdirectory: /c\n{text}"));
        match (verdict, conf) {
            (Verdict::Refused, conf) => assert!(conf.is_err(), "{text:?}"),
            (Verdict::Ignored, conf) => {
                let conf = conf.expect("Cyrus takes it");
                assert_eq!(conf.get("sievedir"), None, "{text:?}");
            }
            (Verdict::Is(key, value), conf) => {
                let conf = conf.expect("Cyrus takes it");
                assert_eq!(conf.get(key), Some(value.as_bytes()), "{text:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(text in prop::collection::vec(
        prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\\'), Just(b':'), Just(b'@'), Just(b'a')], 0..200,
    )) {
        let mut text = text;
        text.extend_from_slice(b"\nconfigdirectory: /c\n");
        let mut include = |_: &str| Err("none".to_owned());
        if let Ok(conf) = ImapdConf::parse("fuzz", &text, &mut include) {
            prop_assert_eq!(conf.configdirectory(), Path::new("/c"));
        }
    }
}
