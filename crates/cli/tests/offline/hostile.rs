//! Archives made to do harm: nothing is written outside of the target, no wrong byte inside, and
//! no memory beyond reason is taken.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use segment::compress::{Compression, Writer};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::forge::Forgery;
use super::program::{Ran, cylinder_within};
use super::sample::{check_maildir, files, sample, scratch, write};

/// What a run may take: several times what it needs.
const KIB: u64 = 1 << 20;

/// A word that no file outside of the target may bear.
const MARK: &str = "cylinder-was-here";

fn forged(change: impl FnOnce(&mut Forgery)) -> Vec<u8> {
    let mut forgery = Forgery::of(&sample().glad[0]);
    change(&mut forgery);
    forgery.build()
}

/// Lists an archive, and restores it in every way there is. Gives what each run said.
fn handle(archive: &[u8]) -> Vec<Ran> {
    let scratch = scratch();
    let path = write(&scratch, "archive", archive);
    let deep = scratch.path().join("a/b/c/d/e");
    fs::create_dir_all(&deep).expect("directories");
    let mut runs = vec![cylinder_within(KIB, [OsString::from("list"), path.clone().into()])];
    for (number, options) in [
        vec!["dir:", "--layout", "source"],
        vec!["dir:", "--layout", "name"],
        vec!["dir:", "--layout", "uuid", "--salvage"],
        vec!["maildir:"],
        vec!["mbox:", "--salvage"],
        vec!["tar:"],
    ]
    .into_iter()
    .enumerate()
    {
        let target = deep.join(number.to_string());
        let mut arguments: Vec<OsString> = vec!["restore".into(), "glad".into(), "--to".into()];
        arguments.push(format!("{}{}", options[0], target.display()).into());
        arguments.extend(["--from".into(), path.clone().into()]);
        arguments.extend(options[1..].iter().map(OsString::from));
        runs.push(cylinder_within(KIB, arguments));
        check_maildir(&target);
    }
    check_nothing_outside(&scratch, &path, &deep);
    for ran in &runs {
        assert!(matches!(ran.code, 0 | 1 | 3), "exit {}: {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains('\x1b') && !ran.text().contains('\x1b'), "{}", ran.stderr);
    }
    runs
}

fn check_nothing_outside(scratch: &TempDir, archive: &Path, deep: &Path) {
    let outside: Vec<PathBuf> = files(scratch.path())
        .into_iter()
        .filter(|path| path != archive && !path.starts_with(deep))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
    let temporary = std::env::temp_dir();
    for directory in [Path::new("/"), Path::new("/etc"), &temporary] {
        for name in [MARK.to_owned(), format!("{MARK}.script"), format!("{MARK}.sub")] {
            assert!(!directory.join(&name).exists(), "{name} in {}", directory.display());
        }
    }
}

/// Whether every run ended with an error that has these words.
#[track_caller]
fn all_refuse(runs: &[Ran], words: &str) {
    for ran in runs {
        assert_ne!(ran.code, 0, "{}", ran.text());
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

#[test]
fn a_forgery_that_changes_nothing_is_an_archive_like_any_other() {
    for ran in handle(&forged(|_| {})) {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

#[test]
fn names_in_manifests_lead_nowhere() {
    let climbing = format!("../../../../../../../../../../../../tmp/{MARK}");
    let absolute = format!("/tmp/{MARK}");
    for name in [climbing.as_str(), &absolute, "..", ".", "", "a%00b", "a%1B[2Jb", "a%0Ab"] {
        for field in ["name", "uniqueid", "partition"] {
            handle(&forged(|forgery| {
                forgery.mailbox(1)[field] = json!(name);
                // Otherwise what mailboxes.db said of it is taken.
                drop_file(&mut forgery.fields, "mailboxes");
            }));
        }
        let prefixed = format!("user.glad.{name}");
        handle(&forged(|forgery| {
            forgery.mailbox(1)["name"] = json!(prefixed);
            drop_file(&mut forgery.fields, "mailboxes");
        }));
    }
    for name in [
        format!("sieve/{climbing}.script"),
        format!("sieve/{absolute}.script"),
        format!("quota/{climbing}"),
        format!("quota/user.glad/../../../../../../../../tmp/{MARK}"),
        climbing.clone(),
        absolute.clone(),
        "sub/../../x".to_owned(),
        "sieve/a\u{1b}[2J.script".to_owned(),
        "sieve/a\u{0}b.script".to_owned(),
    ] {
        handle(&forged(|forgery| forgery.fields["account_files"][0]["name"] = json!(name)));
        handle(&forged(|forgery| forgery.mailbox(0)["files"][0]["name"] = json!(name)));
    }
}

fn drop_file(fields: &mut Value, name: &str) {
    let list = fields["account_files"].as_array_mut().expect("a list");
    list.retain(|file| file["name"] != name);
}

#[test]
fn components_that_nobody_writes_are_refused() {
    for component in ["../x", "..", "/etc", "a/b", "%41", "", "a b", "-rf"] {
        let archive = forged(|forgery| forgery.mailbox(0)["dir"] = json!(component));
        all_refuse(&handle(&archive), "glad 1");
        let archive = forged(|forgery| forgery.fields["links"][0]["link"] = json!(component));
        all_refuse(&handle(&archive), "glad 1");
    }
    // Two mailboxes of one name, or in one place.
    for field in ["name", "dir", "uniqueid"] {
        handle(&forged(|forgery| {
            let first = forgery.mailbox(0)[field].clone();
            forgery.mailbox(1)[field] = first;
        }));
    }
}

#[test]
fn files_that_are_elsewhere_are_refused() {
    for (field, value) in [
        ("offset", json!(1_u64 << 63)),
        ("offset", json!(u64::MAX)),
        ("offset", json!(511)),
        ("size", json!(1_u64 << 63)),
        ("size", json!(u64::MAX)),
        ("size", json!(1_u64 << 40)),
        ("seq", json!(2)),
        ("seq", json!(0)),
        ("seq", json!(u32::MAX)),
        ("sha256", json!("0".repeat(64))),
    ] {
        let archive = forged(|forgery| forgery.mailbox(0)["files"][0][field] = value.clone());
        all_refuse(&handle(&archive)[1..], "cyrus.");
        let archive = forged(|forgery| forgery.fields["account_files"][0][field] = value.clone());
        all_refuse(&handle(&archive)[1..], "quota/user.glad");
    }
    for (field, value) in [("offset", json!(-1)), ("size", json!(1.5)), ("sha256", json!("x"))] {
        let archive = forged(|forgery| forgery.mailbox(0)["files"][0][field] = value.clone());
        all_refuse(&handle(&archive), "glad 1");
    }
}

#[test]
fn a_message_table_that_points_elsewhere_gives_no_wrong_message() {
    let row = |change: &dyn Fn(&mut Vec<u8>)| forged(|forgery| change(&mut forgery.rows[0]));
    // Row: quote, 40 digits, blank, 16 of offset, blank, 12 of size.
    for (field, digits) in [
        (42..58, "ffffffffffffffff"),
        (42..58, "7fffffffffffffff"),
        (42..58, "0000000000000000"),
        (42..58, "0000000000000001"),
        (59..71, "ffffffffffff"),
        (59..71, "7fffffffffff"),
    ] {
        let archive = row(&|row| row[field.clone()].copy_from_slice(digits.as_bytes()));
        all_refuse(&handle(&archive)[1..], "");
    }
    // Another message's place, or a part of it: its hash tells.
    let overlapping = forged(|forgery| {
        let place = forgery.rows[0][42..71].to_vec();
        forgery.rows.iter_mut().for_each(|row| row[42..71].copy_from_slice(&place));
    });
    let shorter = row(&|row| row[59..71].copy_from_slice(b"000000000001"));
    for archive in [overlapping, shorter] {
        for ran in &handle(&archive)[1..] {
            assert_eq!(ran.code, 3, "{}", ran.stderr);
            assert!(ran.stderr.contains("its SHA-1 is wrong"), "{}", ran.stderr);
        }
    }
    // Rows that are none, out of order, there twice or not at all.
    let wrong: [&dyn Fn(&mut Forgery); 5] = [
        &|forgery| forgery.rows[0][0] = b'\'',
        &|forgery| forgery.rows[0][5] = b'G',
        &|forgery| forgery.rows.swap(0, 1),
        &|forgery| forgery.rows.insert(0, forgery.rows[0].clone()),
        &|forgery| forgery.rows.clear(),
    ];
    for change in wrong {
        handle(&forged(change));
    }
    let archive = forged(|forgery| forgery.rows.clear());
    all_refuse(&handle(&archive)[1..], "message-missing");
}

#[test]
fn manifests_without_end_or_sense_are_refused_in_little_memory() {
    let nested = format!(",\"x\":{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let objects = format!(",\"x\":{}1{}", "{\"x\":".repeat(500_000), "}".repeat(500_000));
    for more in [",\"x\":[", ",", ",\"seq\":1", ",\"x\":\"\\ud800", ",\"x\":[[}]]"] {
        let archive = forged(|forgery| forgery.more_fields = more.to_owned());
        all_refuse(&handle(&archive), "glad 1");
    }
    // A field that nobody knows is no harm, however deep it goes.
    for more in [",\"later\":[1,{}]", &nested, &objects] {
        let archive = forged(|forgery| forgery.more_fields = more.to_owned());
        assert!(handle(&archive).iter().all(|ran| ran.code == 0));
    }
    let archive = forged(|forgery| forgery.more_fields = nested.replace('x', "gone"));
    all_refuse(&handle(&archive), "glad 1");
    for (field, value) in [
        ("format", json!(2)),
        ("format", json!(0)),
        ("account", json!("iris")),
        ("seq", json!(7)),
        ("chain", json!("0".repeat(64))),
        ("parent", json!({"seq": 0, "sha256": "0".repeat(64)})),
        ("mailboxes", json!(null)),
        ("taken_at", json!({"unix": i64::MAX, "text": "a\u{1b}[2J"})),
        ("taken_at", json!({"unix": i64::MIN, "text": "x".repeat(100_000)})),
        ("program", json!("\u{1b}]0;x\u{7}")),
        ("userid", json!("../../x")),
    ] {
        let mut forgery = Forgery::of(&sample().glad[0]);
        let (seq, account) = (forgery.fields["seq"].clone(), forgery.fields["account"].clone());
        forgery.fields[field] = value;
        let archive = forgery.build_with(|end| {
            end.seq = u32::try_from(seq.as_u64().expect("a number")).expect("small");
            end.account = account.as_str().expect("text").to_owned();
        });
        handle(&archive);
    }
    let archive = forged(|forgery| {
        let finding = json!({"code": "\u{1b}[2J", "place": "\u{1b}c", "detail": "\n\u{9b}31m"});
        forgery.fields["findings"] = json!([finding]);
    });
    handle(&archive);
}

#[test]
fn an_end_that_lies_is_found_out() {
    let forgery = Forgery::of(&sample().glad[0]);
    let lies: [&dyn Fn(&mut segment::end::EndBlock); 12] = [
        &|end| end.segment_bytes = u64::MAX,
        &|end| end.segment_bytes = 0,
        &|end| end.segment_bytes += 512,
        &|end| end.segment_bytes -= 512,
        &|end| end.manifest_offset = u64::MAX - 511,
        &|end| end.manifest_offset += 512,
        &|end| end.manifest_bytes = 1 << 50,
        &|end| end.manifest_bytes -= 1,
        &|end| end.rows = u64::MAX,
        &|end| end.rows += 1,
        &|end| end.rows_offset = 0,
        &|end| end.account = "iris".to_owned(),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        for ran in handle(&forgery.build_with(lie)) {
            assert_ne!(ran.code, 0, "lie {number}: {}", ran.text());
        }
    }
}

#[test]
fn headers_that_lie_are_named_when_an_archive_is_read_from_the_front() {
    let forgery = Forgery::of(&sample().glad[0]);
    let huge = |first: u8| [&[0x80, 0, 0, 0, first][..], &[0xff; 7]].concat();
    for (field, value) in [
        (0, [b"/etc/passwd".as_slice(), &[0; 89]].concat()),
        (0, [b"../../../x".as_slice(), &[0; 90]].concat()),
        (0, [b"glad/\x1b[2J".as_slice(), &[0; 91]].concat()),
        (124, huge(0x7f)),
        (124, huge(0xff)),
        (124, vec![0xff; 12]),
        (124, b"77777777777\0".to_vec()),
        (156, b"3".to_vec()),
        (156, b"x".to_vec()),
        (156, b"L".to_vec()),
        (156, b"S".to_vec()),
    ] {
        let archive = forgery.entries_with("glad/account/", field, &value);
        for ran in &handle(&archive)[..1] {
            assert_eq!(ran.code, 1);
            assert!(ran.error().contains("byte"), "{}", ran.error());
        }
    }
    for target in ["/etc/passwd", "../../../../etc", "glad/account/sub", "\x1b[2J"] {
        let mut link = target.as_bytes().to_vec();
        link.resize(100, 0);
        for entry in ["glad/mailboxes/", "glad/folders/"] {
            let kind = if entry == "glad/folders/" { "glad/folders/INBOX" } else { entry };
            let archive = forgery.entries_with(kind, 157, &link);
            assert_eq!(handle(&archive)[0].code, 1);
        }
    }
}

#[test]
fn a_seek_table_that_lies_takes_no_memory_and_gives_no_wrong_byte() {
    use std::io::Write as _;
    let mut writer = Writer::new(Vec::new(), Compression::Zstd, 0);
    writer.write_all(&sample().glad[0]).expect("a Vec takes all");
    let archive = writer.finish().expect("a Vec takes all");
    // One frame: its two sizes, the number of frames, flags, magic.
    let at = |from_end: usize| archive.len() - from_end;
    for (place, value) in [
        (at(13), u32::MAX),
        (at(13), 0),
        (at(13), 512),
        (at(17), u32::MAX),
        (at(17), 0),
        (at(17), 100),
        (at(9), u32::MAX),
        (at(9), 0),
        (at(9), 2),
        (at(21), u32::MAX),
        (at(21), 0),
    ] {
        let mut archive = archive.clone();
        archive[place..place + 4].copy_from_slice(&value.to_le_bytes());
        handle(&archive);
    }
    // A frame that says it has 2^60 bytes.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0];
    all_refuse(&handle(&frame), "");
}
