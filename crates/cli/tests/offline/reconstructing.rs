//! `cylinder reconstruct` on spools that are damaged in every way there is: all is told before it is
//! done, what is left of the old is kept, and an audit finds nothing behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::Index;
use model::{Record, SystemFlags};
use serde_json::Value;
use testkit::damage::{self, Checksum};
use testkit::imap::guid_of;
use testkit::spool_builder::{Era, SpoolOptions};

use super::auditing_damage::{Scene, findings, named};
use super::program::{Ran, cylinder};

/// Runs it.
pub fn reconstruct(conf: &Path, more: &[&str]) -> Ran {
    let conf = conf.display().to_string();
    cylinder(["reconstruct", "-C", &conf].iter().chain(more))
}

/// What a run told.
struct Told(Value);

impl Told {
    fn of(scene: &Scene, more: &[&str], code: i32) -> Self {
        let arguments = [&["glad", "--json"], more].concat();
        Self(reconstruct(&scene.conf, &arguments).expect(code).document())
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.0["told"].as_array().expect("a list").iter()
    }

    /// The reasons of changes, with the UID where there is one.
    fn changes(&self) -> Vec<(String, Option<u64>)> {
        let changes = self.all().filter(|told| told["told"] == "change");
        let mut all: Vec<_> = changes
            .map(|change| {
                (change["why"].as_str().expect("a word").to_owned(), change["uid"].as_u64())
            })
            .collect();
        all.sort();
        all
    }

    /// What stays wrong.
    fn left(&self) -> Vec<(String, Option<u64>)> {
        let mut all: Vec<_> = self.all().filter(|told| told["told"] == "left").map(named).collect();
        all.sort();
        all
    }

    /// The field of a change.
    #[track_caller]
    fn field(&self, why: &str, name: &str) -> (Value, Value) {
        let change = self.all().find(|told| told["why"] == why).expect("such a change");
        let fields = change["fields"].as_array().expect("fields");
        let field = fields.iter().find(|field| field["field"] == name).expect("such a field");
        (field["old"].clone(), field["new"].clone())
    }
}

fn some(list: &[(&str, Option<u64>)]) -> Vec<(String, Option<u64>)> {
    let mut list: Vec<_> = list.iter().map(|(code, uid)| ((*code).to_owned(), *uid)).collect();
    list.sort();
    list
}

/// Dates the files of messages, as Cyrus does.
fn date(scene: &Scene) {
    for record in records(&scene.index()) {
        let file = fs::File::options().append(true).open(scene.message(record.uid.0));
        let arrived = UNIX_EPOCH + Duration::from_secs(record.internaldate.secs.unsigned_abs());
        file.and_then(|file| file.set_modified(arrived)).expect("dated");
    }
}

fn records(index: &Path) -> Vec<Record> {
    let bytes = fs::read(index).expect("an index");
    Index::parse(&bytes).expect("an index").records().collect()
}

/// Looks first, and nothing may change; then does it: the changes are those that were told, another run has
/// nothing left to do, and an audit finds what was left and nothing else.
#[track_caller]
fn mend(
    scene: &Scene,
    more: &[&str],
    changes: &[(&str, Option<u64>)],
    left: &[(&str, Option<u64>)],
) -> Told {
    let before = scene.state();
    let looked = Told::of(scene, more, 4);
    assert_eq!(looked.changes(), some(changes), "{:#}", looked.0);
    assert_eq!(looked.left(), some(left), "{:#}", looked.0);
    assert!(scene.state() == before, "without --apply nothing changes");
    let code = if left.is_empty() { 0 } else { 4 };
    let done = Told::of(scene, &[more, &["--apply"]].concat(), code);
    assert_eq!(done.changes(), looked.changes());
    let again = Told::of(scene, more, code);
    assert_eq!(again.changes(), [], "{:#}", again.0);
    assert_eq!(again.left(), some(left), "{:#}", again.0);
    let found = findings(&scene.document(&["glad", "--full"], code));
    let mut found: Vec<_> = found.iter().map(named).collect();
    found.sort();
    assert_eq!(found, some(left), "{found:?}");
    looked
}

#[test]
fn what_is_whole_stays_as_it_is_in_every_era() {
    for era in Era::ALL {
        let scene = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(era) });
        let before = scene.state();
        for more in [&[][..], &["--apply"], &["-G"]] {
            // Version 9 has no GUIDs.
            if era == Era::V2_3_9 && more == ["-G"] {
                continue;
            }
            let told = Told::of(&scene, more, 0);
            assert_eq!(told.all().count(), 0, "{era:?} {more:?}: {:#}", told.0);
            assert_eq!(told.0["messages"], 8, "{era:?}");
        }
        assert!(scene.state() == before, "{era:?}: nothing changes");
    }
}

#[test]
fn one_flipped_bit_is_put_back_wherever_it_is() {
    let scene = Scene::new();
    let good = fs::read(scene.index()).expect("an index");
    let index = Index::parse(&good).expect("an index");
    let header = index.header().start_offset as usize;
    for (byte, uid) in
        [(33, None), (45, None), (header - 1, None), (header, Some(1)), (header + 115, Some(2))]
    {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        fs::write(scene.index(), &bad).expect("damage");
        mend(&scene, &[], &[("bit-put-back", uid)], &[]);
        assert_eq!(fs::read(scene.index()).expect("an index"), good, "byte {byte}");
    }
}

#[test]
fn records_outlive_the_header_of_their_index() {
    let scene = Scene::new();
    damage::edit_record(&scene.index(), 2, Checksum::Fixed, |record| record[35] |= 2)
        .expect("flagged");
    damage::edit_header(&scene.index(), Checksum::Fixed, |header| {
        header[59] = 1;
        header[28..32].copy_from_slice(&9_u32.to_be_bytes());
    })
    .expect("flagged");
    let before = records(&scene.index());
    let mut bytes = fs::read(scene.index()).expect("an index");
    bytes[..64].fill(0);
    fs::write(scene.index(), bytes).expect("damage");
    mend(&scene, &[], &[("index-remade", None)], &[]);
    assert_eq!(records(&scene.index()), before);
    assert!(before[2].system_flags.contains(SystemFlags::FLAGGED));
}

#[test]
fn without_an_index_files_keep_their_numbers_and_dates() {
    let scene = Scene::new();
    date(&scene);
    let before = records(&scene.index());
    damage::remove_message(&scene.inbox, 2).expect("damage");
    fs::remove_file(scene.index()).expect("damage");
    let kept = [1, 3, 4, 5, 6];
    let mut changes: Vec<_> = kept.iter().map(|uid| ("adopted", Some(*uid))).collect();
    changes.extend([("index-remade", None), ("quota", None)]);
    mend(&scene, &[], &changes, &[]);
    let after = records(&scene.index());
    assert_eq!(after.iter().map(|record| u64::from(record.uid.0)).collect::<Vec<_>>(), kept);
    for record in &after {
        let old = before.iter().find(|old| old.uid == record.uid).expect("it was there");
        assert_eq!((record.guid, record.size), (old.guid, old.size));
        assert_eq!(record.header_size, old.header_size);
        assert_eq!(record.internaldate, old.internaldate);
    }
}

#[test]
fn an_index_that_was_cut_or_counts_too_few_gets_its_messages_back() {
    let cut = Scene::new();
    damage::truncate(&cut.index(), 150).expect("damage");
    let changes = [("adopted", Some(5)), ("adopted", Some(6)), ("counters", None)];
    mend(&cut, &[], &changes, &[]);
    assert_eq!(records(&cut.index()).len(), 6);

    let few = Scene::new();
    let before = records(&few.index());
    damage::lie_about_records(&few.index(), 4).expect("damage");
    damage::edit_header(&few.index(), Checksum::Fixed, |header| {
        header[28..32].copy_from_slice(&4_u32.to_be_bytes());
    })
    .expect("damage");
    let changes =
        [("tail", None), ("from-tail", Some(5)), ("from-tail", Some(6)), ("counters", None)];
    mend(&few, &[], &changes, &[]);
    assert_eq!(records(&few.index()), before);
}

#[test]
fn a_record_that_fails_its_sum_is_believed_as_far_as_its_file_bears_it_out() {
    // Two bits: no sum can tell which.
    let believed = Scene::new();
    let before = records(&believed.index());
    damage::edit_record(&believed.index(), 3, Checksum::Stale, |record| {
        record[35] |= 4;
        record[83] ^= 1;
    })
    .expect("damage");
    let told = mend(&believed, &[], &[("record-believed", Some(4)), ("counters", None)], &[]);
    assert_eq!(told.field("counters", "deleted").1, 1);
    let after = records(&believed.index());
    assert!(after[3].system_flags.contains(SystemFlags::DELETED), "what can be true stays");
    assert_eq!((after[3].guid, after[3].internaldate), (before[3].guid, before[3].internaldate));

    let remade = Scene::new();
    date(&remade);
    damage::edit_record(&remade.index(), 3, Checksum::Stale, |record| record.fill(0xa5))
        .expect("damage");
    mend(&remade, &[], &[("record-remade", Some(4)), ("counters", None)], &[]);
    let after = records(&remade.index());
    assert_eq!((after[3].uid, after[3].guid), (before[3].uid, before[3].guid));
    assert_eq!(after[3].internaldate, before[3].internaldate, "the file has its date");

    let dropped = Scene::new();
    damage::remove_message(&dropped.inbox, 4).expect("damage");
    damage::edit_record(&dropped.index(), 3, Checksum::Stale, |record| record.fill(0xa5))
        .expect("damage");
    let changes = [("record-dropped", Some(0xa5a5_a5a5)), ("counters", None), ("quota", None)];
    mend(&dropped, &[], &changes, &[]);
    assert_eq!(records(&dropped.index()).len(), 5);
}

#[test]
fn of_two_records_with_one_number_the_file_decides() {
    let scene = Scene::new();
    damage::edit_record(&scene.index(), 5, Checksum::Fixed, |record| {
        record[..4].copy_from_slice(&2_u32.to_be_bytes());
    })
    .expect("damage");
    // The file of the other one is a stray then: all records that are counted were there.
    let changes = [("uid-twice", Some(2)), ("appended", Some(6)), ("counters", None)];
    mend(&scene, &[], &changes, &[]);
    let after = records(&scene.index());
    assert_eq!(after.last().expect("a record").guid, guid_of(&scene.mail[5]));
    assert_eq!(after.last().expect("a record").uid.0, 7);
    assert_eq!(fs::read(scene.message(7)).expect("its file"), scene.mail[5]);
    assert!(!scene.message(6).exists());
}

#[test]
fn strays_are_taken_by_cyrus_rules() {
    let scene = Scene::new();
    let index = scene.index();
    damage::edit_header(&index, Checksum::Fixed, |header| {
        header[28..32].copy_from_slice(&20_u32.to_be_bytes());
    })
    .expect("damage");
    damage::add_orphan(&scene.inbox, 10, b"Subject: old\r\n\r\nbelow\r\n").expect("damage");
    damage::add_orphan(&scene.inbox, 30, b"Subject: new\r\n\r\nabove\r\n").expect("damage");
    // Nothing is in it.
    damage::add_orphan(&scene.inbox, 31, b"").expect("damage");
    let modseq = Index::parse(&fs::read(&index).expect("an index"))
        .expect("an index")
        .header()
        .highestmodseq;
    let changes =
        [("appended", Some(10)), ("adopted", Some(30)), ("counters", None), ("quota", None)];
    let told = mend(&scene, &[], &changes, &[("orphan-file", Some(31))]);
    assert_eq!(told.field("appended", "uid"), ("10".into(), "32".into()));
    let after = records(&index);
    let uids: Vec<u32> = after.iter().map(|record| record.uid.0).collect();
    assert_eq!(uids, [1, 2, 3, 4, 5, 6, 30, 32]);
    assert!(scene.message(31).exists(), "no file is removed");
    assert!(after[6].modseq > modseq && after[7].modseq > modseq, "clients are to hear of it");
}

#[test]
fn messages_are_only_given_up_on_demand() {
    let scene = Scene::new();
    damage::remove_message(&scene.inbox, 3).expect("damage");
    fs::write(scene.message(4), b"").expect("damage");
    let before = scene.state();
    let left = [("guid-mismatch", Some(4)), ("message-missing", Some(3))];
    let told = Told::of(&scene, &["--apply"], 4);
    assert_eq!((told.changes(), told.left()), (some(&[]), some(&left)));
    assert!(scene.state() == before, "they may yet be brought back");
    let changes =
        [("given-up", Some(3)), ("given-up", Some(4)), ("counters", None), ("quota", None)];
    mend(&scene, &["--accept-losses"], &changes, &[]);
    let after = records(&scene.index());
    assert!(after[2].is_expunged() && after[2].is_unlinked() && !after[1].is_expunged());
}

#[test]
fn guids_change_only_with_g() {
    let scene = Scene::new();
    damage::change_message(&scene.inbox, 1).expect("damage");
    damage::shorten_message(&scene.inbox, 2, 9).expect("damage");
    damage::zero_guid(&scene.index(), 4, Checksum::Fixed).expect("damage");
    let told = Told::of(&scene, &[], 4);
    assert_eq!(told.left(), some(&[("guid-mismatch", Some(2))]), "what need not be read is not");
    assert_eq!(told.changes(), some(&[("counters", None)]), "a sum of a GUID that was there");
    let changes = [
        ("counters", None),
        ("guid", Some(1)),
        ("guid", Some(2)),
        ("guid", Some(5)),
        ("quota", None),
    ];
    let told = mend(&scene, &["-G"], &changes, &[]);
    let (old, new) = told.field("guid", "guid");
    assert_eq!(old, guid_of(&scene.mail[0]).to_string());
    assert_ne!(old, new);
    assert_eq!(records(&scene.index())[4].guid, guid_of(&scene.mail[4]));
}

#[test]
fn a_header_comes_back_from_the_list_of_mailboxes() {
    let scene = Scene::new();
    let path = scene.metadata.join("cyrus.header");
    let good = fs::read(&path).expect("a header");
    let before = MailboxHeader::parse(&good).expect("a header");
    fs::remove_file(&path).expect("damage");
    let told = mend(&scene, &[], &[("header-remade", None)], &[]);
    assert_eq!(told.field("header-remade", "quotaroot").1, "user.glad");
    assert_eq!(
        MailboxHeader::parse(&fs::read(&path).expect("a header")).expect("a header"),
        before
    );

    // Its flags have lost their names, and keep their messages.
    damage::edit_record(&scene.index(), 1, Checksum::Fixed, |record| record[39] |= 4)
        .expect("flagged");
    fs::write(&path, "rubbish").expect("damage");
    let changes = [("header-remade", None), ("counters", None)];
    mend(&scene, &[], &changes, &[]);
    let after = MailboxHeader::parse(&fs::read(&path).expect("a header")).expect("a header");
    assert_eq!(after.user_flags.last(), Some(&Some(b"$Lost2".to_vec())));
}

#[test]
fn flags_without_names_go_and_caches_are_forgotten() {
    let scene = Scene::new();
    damage::edit_record(&scene.index(), 1, Checksum::Fixed, |record| record[39] |= 4)
        .expect("flagged");
    damage::flip(&scene.metadata.join("cyrus.cache"), 40).expect("damage");
    let changes = [("flags-unnamed", Some(2)), ("cache", Some(1)), ("counters", None)];
    mend(&scene, &[], &changes, &[]);

    // Servers before 3.0 cannot do without.
    let old = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V2_4) });
    damage::flip(&old.metadata.join("cyrus.cache"), 40).expect("damage");
    let told = Told::of(&old, &["--apply"], 4);
    assert_eq!((told.changes(), told.left()), (some(&[]), some(&[("cache-damaged", None)])));
}

#[test]
fn quotas_are_counted_and_directories_that_are_gone_are_left() {
    let scene = Scene::new();
    damage::edit_header(&scene.index(), Checksum::Fixed, |header| header[39] ^= 1).expect("damage");
    mend(&scene, &[], &[("counters", None)], &[]);
    let mut quotas: Vec<PathBuf> = super::sample::files(&scene.path("spool"));
    quotas.retain(|path| path.to_string_lossy().ends_with("/quota/g/user.glad"));
    let [quota] = &quotas[..] else { panic!("one quota: {quotas:?}") };
    let good = fs::read_to_string(quota).expect("a quota");
    fs::write(quota, good.replacen("(S (", "(S (1", 1)).expect("damage");
    mend(&scene, &[], &[("quota", None)], &[]);
    assert_eq!(fs::read_to_string(quota).expect("a quota"), good);

    damage::claim_version(&scene.index(), 99).expect("damage");
    let before = scene.state();
    let told = Told::of(&scene, &["--apply"], 4);
    assert_eq!((told.changes(), told.left()), (some(&[]), some(&[("index-too-new", None)])));
    assert!(scene.state() == before);
}

#[test]
fn expunged_messages_of_old_servers_are_no_strays() {
    let scene = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V2_3) });
    let expunge = scene.metadata.join("cyrus.expunge");
    let index = fs::read(scene.index()).expect("an index");
    let parsed = Index::parse(&index).expect("an index");
    let all: Vec<Record> = parsed.records().collect();
    let (live, gone) = all.split_at(4);
    let write = |records: &[Record]| {
        cyrus_format::index::write_index(parsed.header(), records).expect("an index")
    };
    fs::write(&expunge, write(gone)).expect("expunged");
    fs::write(scene.index(), write(live)).expect("expunged");
    mend(&scene, &[], &[("counters", None), ("quota", None)], &[]);
    // A crash amid an expunge.
    fs::write(&expunge, write(&[&live[3..], gone].concat())).expect("damage");
    mend(&scene, &[], &[("overlap", Some(4))], &[]);
    assert_eq!(records(&expunge).len(), 2);
}

#[test]
fn text_says_old_and_new() {
    let scene = Scene::new();
    damage::edit_record(&scene.index(), 2, Checksum::Stale, |record| record[35] ^= 2)
        .expect("damage");
    let text = reconstruct(&scene.conf, &["glad"]).expect(4).text();
    let first = "user.glad uid 3: one bit was flipped, and its CRC tells which: system_flags";
    assert!(text.starts_with(first), "{text}");
    assert!(text.ends_with("1 change to make; --apply makes them\n"), "{text}");
    let text = reconstruct(&scene.conf, &["--all", "--apply"]).expect(0).text();
    assert!(text.ends_with("1 change made\n"), "{text}");
    let text = reconstruct(&scene.conf, &["--all"]).expect(0).text();
    assert!(text.starts_with("2 accounts, 3 mailboxes, 11 messages"), "{text}");
    let unknown = reconstruct(&scene.conf, &["nobody"]).expect(1);
    assert!(unknown.stderr.contains("nobody was not reconstructed"), "{}", unknown.stderr);
}

/// All that can be wrong with the word that says how the rest is to be read.
#[test]
fn a_flipped_bit_of_the_version_is_put_back() {
    let scene = Scene::new();
    let good = fs::read(scene.index()).expect("an index");
    for bit in 0..32 {
        let mut bad = good.clone();
        bad[11 - bit / 8] ^= 1 << (bit % 8);
        fs::write(scene.index(), &bad).expect("damage");
        let told = Told::of(&scene, &["--apply"], 0);
        assert_eq!(told.changes(), some(&[("bit-put-back", None)]), "bit {bit}: {:#}", told.0);
        assert_eq!(fs::read(scene.index()).expect("an index"), good, "bit {bit}");
    }
}

#[test]
fn a_header_that_fails_its_sum_can_do_no_harm() {
    let scene = Scene::new();
    let before = records(&scene.index());
    damage::edit_header(&scene.index(), Checksum::Stale, |header| {
        // No record is counted, the mailbox is to be removed, and its UIDVALIDITY is another one.
        header[20..24].fill(0);
        header[60] |= 0x80;
        header[44..48].fill(9);
        header[68..84].fill(0xff);
    })
    .expect("damage");
    damage::edit_record(&scene.index(), 2, Checksum::Stale, |record| record[35] ^= 2)
        .expect("damage");
    let changes = [("bit-put-back", Some(3)), ("index-header-believed", None)];
    mend(&scene, &[], &changes, &[]);
    assert_eq!(records(&scene.index()), before, "all of them are there");
    let bytes = fs::read(scene.index()).expect("an index");
    let header = Index::parse(&bytes).expect("an index").header().clone();
    assert_eq!(header.options.0 >> 5, 0, "nobody removes it");
    assert!(header.highestmodseq.0 < 1 << 30);
    assert_ne!(header.uidvalidity.0, 0x0909_0909);
}

#[test]
fn what_a_damaged_record_says_of_a_message_that_is_gone_is_kept() {
    let scene = Scene::new();
    damage::remove_message(&scene.inbox, 4).expect("damage");
    let change = |record: &mut [u8]| {
        record[35] |= 2;
        record[15] ^= 1;
    };
    damage::edit_record(&scene.index(), 3, Checksum::Stale, change).expect("damage");
    let changes = [("record-believed", Some(4)), ("counters", None), ("quota", None)];
    mend(&scene, &[], &changes, &[("message-missing", Some(4))]);
    let kept = &records(&scene.index())[3];
    assert_eq!((kept.uid.0, kept.guid), (4, guid_of(&scene.mail[3])), "heal can look for it");

    // And one that is there does not vanish by a flag that nothing vouches for.
    let hidden = Scene::new();
    let change = |record: &mut [u8]| {
        record[32] |= 0x80;
        record[83] ^= 1;
    };
    damage::edit_record(&hidden.index(), 3, Checksum::Stale, change).expect("damage");
    mend(&hidden, &[], &[("record-believed", Some(4)), ("counters", None)], &[]);
    assert!(!records(&hidden.index())[3].is_expunged());
}

#[test]
fn what_cannot_be_read_is_not_made_anew() {
    for (name, code) in [
        ("cyrus.index", "index-unreadable"),
        ("cyrus.header", "header-unreadable"),
        ("cyrus.annotations", "metadata-unreadable"),
    ] {
        let scene = Scene::new();
        let path = scene.metadata.join(name);
        drop(fs::remove_file(&path));
        fs::create_dir(&path).expect("damage");
        let before = scene.state();
        let told = Told::of(&scene, &["--apply"], 4);
        assert_eq!((told.changes(), told.left()), (some(&[]), some(&[(code, None)])), "{name}");
        assert!(scene.state() == before, "{name}");
    }
}

#[test]
fn a_flipped_bit_of_a_header_is_put_back_by_the_sum_in_the_index() {
    let scene = Scene::new();
    let path = scene.metadata.join("cyrus.header");
    let good = fs::read(&path).expect("a header");
    for byte in [3, good.len() / 2, good.len() - 2] {
        let mut bad = good.clone();
        bad[byte] ^= 0x20;
        fs::write(&path, &bad).expect("damage");
        mend(&scene, &[], &[("bit-put-back", None)], &[]);
        assert_eq!(fs::read(&path).expect("a header"), good);
    }
}

#[test]
fn old_servers_keep_their_caches_and_versions() {
    // Version 9 has no room for a GUID.
    let oldest = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V2_3_9) });
    let told = Told::of(&oldest, &["-G", "--apply"], 0);
    assert_eq!(told.changes(), [], "{:#}", told.0);

    let old = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V2_3) });
    let before = records(&old.index());
    damage::zero_guid(&old.index(), 1, Checksum::Fixed).expect("damage");
    let told = Told::of(&old, &["-G", "--apply"], 0);
    assert_eq!(told.changes(), some(&[("guid", Some(2)), ("counters", None)]), "{:#}", told.0);
    let after = records(&old.index());
    assert_eq!((after[1].guid, after[1].cache_offset), (before[1].guid, before[1].cache_offset));

    // The last page did not reach the disk: no sum says so.
    let cut = Scene::with(SpoolOptions { cache: true, ..SpoolOptions::new(Era::V2_3) });
    for record in [4, 5] {
        damage::edit_record(&cut.index(), record, Checksum::Fixed, |record| record.fill(0))
            .expect("damage");
    }
    let told = Told::of(&cut, &["--apply"], 4);
    assert_eq!(told.left(), some(&[("cache-damaged", None)]), "{:#}", told.0);
    let uids: Vec<u32> = records(&cut.index()).iter().map(|record| record.uid.0).collect();
    assert_eq!(uids, [1, 2, 3, 4, 5, 6], "they keep their numbers");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it is a lock of our own")]
fn one_run_at_a_time_changes_anything() {
    let scene = Scene::new();
    damage::break_record(&scene.index(), 2).expect("damage");
    let directory = fs::File::open(scene.config()).expect("a directory");
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let refused = reconstruct(&scene.conf, &["glad", "--apply"]).expect(1);
    assert!(refused.stderr.contains("another cylinder reconstruct"), "{}", refused.stderr);
    reconstruct(&scene.conf, &["glad"]).expect(4);
    drop(directory);
    reconstruct(&scene.conf, &["glad", "--apply"]).expect(0);
}

#[test]
fn a_disk_for_metadata_that_is_new_is_filled_again() {
    let scene = Scene::with(SpoolOptions { metapartition: true, ..SpoolOptions::new(Era::V3_6) });
    date(&scene);
    let before = records(&scene.index());
    assert_ne!(scene.metadata, scene.inbox);
    fs::remove_dir_all(&scene.metadata).expect("damage");
    let told = Told::of(&scene, &["--apply"], 0);
    assert_eq!(told.0["changes"], 8, "{:#}", told.0);
    assert_eq!(Told::of(&scene, &[], 0).changes(), []);
    let after = records(&scene.index());
    let facts = |records: &[Record]| -> Vec<_> {
        records.iter().map(|record| (record.uid, record.guid, record.internaldate)).collect()
    };
    assert_eq!(facts(&after), facts(&before));
    let header = fs::read(scene.metadata.join("cyrus.header")).expect("a header");
    let header = MailboxHeader::parse(&header).expect("a header");
    assert_eq!(header.quotaroot.map(|root| root.to_string()).as_deref(), Some("user.glad"));
    scene.check(&[]);
}
