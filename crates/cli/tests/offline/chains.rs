//! Archives whose snapshots do not fit together.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::program::{Ran, cylinder};
use super::sample::{MESSAGES, check_maildir, sample, scratch, spool, write};

fn restored(to: &Path, archives: &[PathBuf], options: &[&str]) -> (Ran, usize) {
    let _ = std::fs::remove_dir_all(to);
    let mut arguments: Vec<OsString> = vec!["restore".into(), "glad".into(), "--to".into()];
    arguments.push(format!("maildir:{}", to.display()).into());
    for archive in archives {
        arguments.extend(["--from".into(), archive.into()]);
    }
    arguments.extend(options.iter().map(OsString::from));
    let ran = cylinder(arguments);
    let count = check_maildir(to);
    (ran, count)
}

fn snapshot_since(conf: &Path, archives: &[PathBuf]) -> Ran {
    let mut arguments: Vec<OsString> = vec!["snapshot".into(), "glad".into(), "-C".into()];
    arguments.push(conf.into());
    for archive in archives {
        arguments.extend(["--since".into(), archive.into()]);
    }
    cylinder(arguments)
}

#[test]
fn what_does_not_fit_together_is_refused_with_the_number_and_what_precedes_it_is_had() {
    let scratch = scratch();
    let sample = sample();
    let [one, two, three] = &sample.glad;
    let conf = spool(&scratch.path().join("spool"), 9).imapd_conf;
    let to = scratch.path().join("maildir");
    let cases: [(&str, Vec<&Vec<u8>>, &str, &str); 4] = [
        (
            "hole",
            vec![one, three],
            "snapshot 2 of glad is missing, and 3 is based on it",
            "all files",
        ),
        (
            "headless",
            vec![two, three],
            "snapshot 1 of glad is missing, and 2 is based on it",
            "all files",
        ),
        ("foreign", vec![&sample.other, two], "snapshot 2 of glad continues", "all files"),
        (
            "fork",
            vec![one, two, three, &sample.fork],
            "there are two snapshots 3 of glad",
            "one branch",
        ),
    ];
    for (name, segments, expected, hint) in cases {
        let together: Vec<u8> = segments.iter().flat_map(|segment| segment.to_vec()).collect();
        let together = vec![write(&scratch, name, &together)];
        let apart: Vec<PathBuf> = segments
            .iter()
            .enumerate()
            .map(|(n, segment)| write(&scratch, &format!("{name}.{n}"), segment))
            .collect();
        for archives in [together, apart] {
            let listed = cylinder(
                [OsString::from("list")]
                    .into_iter()
                    .chain(archives.iter().map(|path| path.clone().into_os_string())),
            );
            let count = format!("{} snapshots of 1 account", segments.len());
            assert!(listed.expect(0).text().contains(&count), "{name}");
            let (ran, count) = restored(&to, &archives, &[]);
            assert!(ran.error().contains(expected), "{name}: {}", ran.error());
            assert!(ran.hints(hint), "{name}: {}", ran.stderr);
            assert_eq!((ran.code, count), (1, 0), "{name}");
            let ran = snapshot_since(&conf, &archives).expect(1);
            assert!(ran.error().contains(expected), "{name}: {}", ran.error());
            assert!(ran.stdout.is_empty());
            let whole = match name {
                "hole" => (3, MESSAGES[0] + 2),
                "fork" => (3, MESSAGES[1] + 2),
                _ => (1, 0),
            };
            let (ran, count) = restored(&to, &archives, &["--salvage"]);
            assert_eq!((ran.code, count), whole, "{name}: {}", ran.stderr);
            assert!(ran.stderr.contains(expected), "{name}: {}", ran.stderr);
            let (ran, count) = restored(&to, &archives, &["--at", "1"]);
            let had = matches!(name, "hole" | "fork");
            let expected = if had { (0, MESSAGES[0] + 2) } else { (1, 0) };
            assert_eq!((ran.code, count), expected, "{name}: {}", ran.stderr);
        }
    }
}

#[test]
fn the_same_segment_twice_and_any_order_are_no_harm() {
    let scratch = scratch();
    let sample = sample();
    let [one, two, three] = &sample.glad;
    let to = scratch.path().join("maildir");
    for (name, segments) in [
        ("doubled", vec![one, one, two, three, two]),
        ("backwards", vec![three, two, one]),
        ("mixed", vec![&sample.iris, three, one, &sample.iris, two]),
    ] {
        let whole: Vec<u8> = segments.into_iter().flat_map(|segment| segment.to_vec()).collect();
        let path = write(&scratch, name, &whole);
        let (ran, count) = restored(&to, &[path], &[]);
        assert_eq!((ran.code, count), (0, MESSAGES[2] + 2), "{name}: {}", ran.stderr);
    }
}

#[test]
fn the_newest_chain_counts_and_an_older_one_is_had_by_itself() {
    let scratch = scratch();
    let sample = sample();
    let to = scratch.path().join("maildir");
    let old = write(&scratch, "old.tar", &sample.glad.concat());
    let new = write(&scratch, "new.tar", &sample.other);
    let (ran, count) = restored(&to, &[old, new.clone()], &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Its newest snapshot is of the third day, that of the other chain of the first.
    assert_eq!(count, MESSAGES[2] + 2);
    assert_eq!(restored(&to, &[new], &[]).1, MESSAGES[2] + 4);
}

#[test]
fn an_account_or_a_snapshot_that_is_not_there_is_told_with_what_is() {
    let scratch = scratch();
    let to = scratch.path().join("maildir");
    let path = write(&scratch, "iris.tar", &sample().iris);
    let (ran, _) = restored(&to, std::slice::from_ref(&path), &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.error().contains("no snapshot of glad"), "{}", ran.error());
    assert!(ran.hints("the archive holds iris"), "{}", ran.stderr);
    let list = |account: &str| {
        let arguments = ["list", "--account", account].map(OsString::from).into_iter();
        cylinder(arguments.chain([path.clone().into_os_string()]))
    };
    assert!(list("glad").expect(1).error().contains("no snapshot of glad"));
    list("iris").expect(0);

    let path = write(&scratch, "glad.tar", &sample().glad.concat());
    for at in ["4", "0", "99999999999", "1990-01-01", "@0"] {
        let (ran, _) = restored(&to, std::slice::from_ref(&path), &["--at", at]);
        assert_eq!(ran.code, 1, "{at}: {}", ran.stderr);
        assert!(ran.hints("cylinder list"), "{at}: {}", ran.stderr);
    }
    for (at, messages) in [
        ("1", MESSAGES[0]),
        ("2", MESSAGES[1]),
        ("2026-01-01T12:00:00Z", MESSAGES[0]),
        ("2026-01-03T11:59:59Z", MESSAGES[1]),
        ("9999-01-01", MESSAGES[2]),
    ] {
        let (ran, count) = restored(&to, std::slice::from_ref(&path), &["--at", at]);
        assert_eq!((ran.code, count), (0, messages + 2), "{at}: {}", ran.stderr);
    }
    let (ran, _) = restored(&to, &[path], &["--mailbox", "Snet"]);
    assert_eq!(ran.code, 1);
    assert!(ran.hints("INBOX, INBOX.Sent"), "{}", ran.stderr);
}
