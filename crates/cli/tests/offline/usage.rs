//! What can be typed wrong, what is promised in the help, and the names in JSON.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use super::program::{Ran, cylinder};
use super::sample::{sample, scratch, spool, write};

/// Whether it is refused as a wrong command line, with these words in the line that says so.
#[track_caller]
fn refused(arguments: &[&str], words: &str) {
    let ran = cylinder(arguments).expect(2);
    let first = ran.stderr.lines().next().unwrap_or_default();
    let said = first.starts_with("error: ") || first.starts_with("cylinder: ");
    assert!(said && first.len() > 15, "{arguments:?}: {}", ran.stderr);
    let hint = ran.stderr.lines().skip(1).any(|line| {
        ["hint: ", "  tip: ", "For more information", "Usage: ", "  ["]
            .iter()
            .any(|help| line.starts_with(help))
    });
    assert!(hint, "{arguments:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(words), "{arguments:?}: {}", ran.stderr);
    assert!(ran.stdout.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_with_help() {
    let restore = ["restore", "glad", "--from", "x.tar"];
    let with = |more: &[&'static str]| [restore.as_slice(), more].concat();
    for (arguments, words) in [
        (vec!["snapshto"], "snapshot"),
        (vec!["--frobnicate"], "--frobnicate"),
        (vec!["snapshot"], "<ACCOUNT>"),
        (vec!["snapshot", "glad", "iris"], "iris"),
        (vec!["snapshot", "glad", "--compress", "rar"], "possible values: none, gzip, zstd"),
        (vec!["snapshot", "glad", "--jobs", "0"], "0 is not in 1..=256"),
        (vec!["snapshot", "glad", "--jobs", "many"], "many"),
        (vec!["snapshot", "glad", "--lock-wait", "soon"], "not a number of seconds"),
        (vec!["snapshot", "glad", "--lock-wait=-1"], "not a possible length of time"),
        (vec!["snapshot", "glad", "--lock-wait", "NaN"], "not a possible length of time"),
        (vec!["snapshot", "glad", "--lock-wait", "1e300"], "not a possible length of time"),
        (vec!["snapshot", "glad", "--since"], "--since"),
        (vec!["list"], "<FILE>"),
        (vec!["audit"], "ACCOUNT"),
        (vec!["audit", "--all", "glad"], "--all"),
        (vec!["audit", "--all", "--quick", "--full"], "--quick"),
        (vec!["audit", "--all", "--share", "1/3"], "--state"),
        (vec!["audit", "glad", "--share", "1/3", "--state", "x"], "--all"),
        (vec!["audit", "--all", "--share", "2/3", "--state", "x"], "one of so many, as 1/30"),
        (vec!["audit", "--all", "--share", "1/0", "--state", "x"], "one of so many, as 1/30"),
        (vec!["audit", "--all", "--every", "30", "--state", "x"], "with s, m, h or d"),
        (vec!["audit", "--all", "--rate", "0"], "0 is not in"),
        (vec!["list", "x", "--account"], "--account"),
        (vec!["restore", "glad"], "--from"),
        (restore.to_vec(), "--to"),
        (with(&["--to", "x"]), "dir:PATH, maildir:PATH, mbox:PATH, tar:FILE or csync://HOST"),
        (with(&["--to", "zip:x"]), "dir:PATH"),
        (with(&["--to", "dir:"]), "dir:PATH"),
        (with(&["--to", "dir:x", "--layout", "flat"]), "possible values: source, uuid, name"),
        (with(&["--to", "dir:x", "--in-place"]), "--in-place is for a server that runs"),
        (with(&["--to", "tar:x", "--undo", "u"]), "--undo is for a server that runs"),
        (with(&["--to", "csync://h", "--in-place", "--into", "x"]), "--into"),
        (
            with(&["--to", "csync://h", "--flags-only", "--into", "x"]),
            "--flags-only makes no folder",
        ),
        (with(&["--to", "csync://h", "--undo-from", "u"]), "--undo-from"),
        (vec!["restore", "glad", "--undo-from", "u", "--to", "dir:x"], "--undo-from is for"),
        (vec!["demo", "extra"], "extra"),
    ] {
        refused(&arguments, words);
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    let scratch = scratch();
    let archive = write(&scratch, "glad.tar", &sample().glad[0]);
    let archive = archive.display().to_string();
    for at in ["tuesday", "", "-1", "2026-13-01", "2026-01-01T99:00", "1.5", "@x", "@"] {
        let at = format!("--at={at}");
        let to = format!("maildir:{}", scratch.path().join("out").display());
        refused(&["restore", "glad", "--from", &archive, "--to", &to, &at], "2026-11-23T19:00:00Z");
    }
}

#[test]
fn a_server_that_cannot_be_read_is_told_with_the_place() {
    let scratch = scratch();
    let built = spool(&scratch.path().join("spool"), 5);
    let conf = |name: &str, text: &str| write(&scratch, name, text.as_bytes());
    let base = std::fs::read_to_string(&built.imapd_conf).expect("imapd.conf");
    let nowhere = scratch.path().join("nowhere");
    let elsewhere = format!("configdirectory: {}\npartition-default: /x\n", nowhere.display());
    let user = base.replace("cyrus_user: root", "cyrus_user: nobody-at-all");
    let partition = base.replace("/spool\n", "/other\n");
    for (path, words) in [
        (nowhere.clone(), "No such file"),
        (scratch.path().to_owned(), "directory"),
        (conf("empty", ""), "configdirectory"),
        (conf("nonsense", "this is not a configuration\n"), "nonsense:1: "),
        (conf("elsewhere", &elsewhere), "nowhere"),
        (conf("partition", &partition), "other"),
        (conf("user", &user), "nobody-at-all"),
    ] {
        let ran = snapshot(&path, "glad", &[]);
        if path.ends_with("user") && !super::sample::is_root() {
            continue;
        }
        // A partition that is not there is a finding for each mailbox, or an error.
        assert!(matches!(ran.code, 1 | 3), "{}: {}", path.display(), ran.stderr);
        assert!(ran.stderr.contains(words), "{}: {}", path.display(), ran.stderr);
        assert!(ran.code == 3 || ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    }
    let ran = snapshot(&built.imapd_conf, "glda", &[]).expect(1);
    assert!(ran.error().contains("glda"), "{}", ran.error());
    assert!(ran.hints("did you mean glad?"), "{}", ran.stderr);
    for account in ["", "..", "../glad", "a/b", "user.glad", "\u{e9}", &"x".repeat(5000)] {
        let ran = snapshot(&built.imapd_conf, account, &[]).expect(1);
        assert!(!ran.error().is_empty());
        assert!(ran.stdout.is_empty());
    }
    let ran = snapshot(&built.imapd_conf, "glad", &["--cyrus-version", "1.x"]).expect(1);
    assert!(ran.hints("2.4 or 3.6"), "{}", ran.stderr);
}

fn snapshot(conf: &Path, account: &str, options: &[&str]) -> Ran {
    let mut arguments: Vec<OsString> = vec!["snapshot".into(), "-C".into(), conf.into()];
    arguments.extend(options.iter().map(OsString::from));
    arguments.extend(["--".into(), account.into()]);
    cylinder(arguments)
}

#[test]
fn json_has_the_names_that_programs_rely_on() {
    let scratch = scratch();
    let conf = spool(&scratch.path().join("spool"), 5).imapd_conf;
    let archive = scratch.path().join("glad.tar");
    let shown = archive.display().to_string();
    let ran = snapshot(&conf, "glad", &["--json", "-o", &shown]).expect(0);
    let report = ran.report();
    assert_eq!(
        names(&report),
        "account bytes_new findings links_new locks mailboxes mailboxes_created mailboxes_removed \
         mailboxes_renamed mailboxes_updated messages messages_new segment_bytes seq"
    );
    assert_eq!(names(&report["locks"][0]), "file held_us kind waited_us");
    assert_eq!(report["account"], "glad");
    assert_eq!(report["mailboxes_created"], 2);

    let listed = cylinder(["list", "--json", &shown]).expect(0).document();
    assert_eq!(names(&listed), "snapshots");
    let snapshot = &listed["snapshots"][0];
    assert_eq!(
        names(snapshot),
        "account bytes_new cyrus findings full gone locks mailboxes manifest_sha256 messages \
         messages_new parent_sha256 part program segment_bytes seq taken_at"
    );
    assert_eq!(
        names(&snapshot["mailboxes"][1]),
        "deleted exists expunged folder highestmodseq index_version last_uid name partition type \
         uidvalidity uniqueid"
    );
    assert_eq!(snapshot["mailboxes"][1]["folder"], "INBOX.Sent");
    assert_eq!(snapshot["full"], true);
    assert_eq!(snapshot["part"], false);
    assert_eq!(snapshot["parent_sha256"], Value::Null);

    let to = format!("maildir:{}", scratch.path().join("maildir").display());
    let arguments = ["restore", "glad", "--json", "--from", &shown, "--to", &to];
    let report = cylinder(arguments).expect(0).report();
    assert_eq!(names(&report), "account bytes findings flags_only mailboxes messages seq to");
    assert_eq!(report["messages"], 7);
    // The target is no longer empty.
    let error = cylinder(arguments).expect(1).report();
    assert_eq!(names(&error), "causes error hints");
}

/// The names of a JSON object's fields, sorted.
#[track_caller]
fn names(value: &Value) -> String {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

#[test]
fn help_names_every_verb_option_and_exit_code() {
    let help = cylinder(["--help"]).expect(0).text();
    for word in ["snapshot", "list", "restore", "demo", "Exit codes", "75", "--version"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for (verb, options) in [
        (
            "snapshot",
            &["--since", "--compress", "--output", "--config", "--lock-wait", "--jobs"][..],
        ),
        ("snapshot", &["--cyrus-version", "--json", "--no-progress", "<ACCOUNT>"]),
        ("list", &["--account", "--json", "<FILE>"]),
        ("restore", &["--from", "--to", "--at", "--mailbox", "--layout", "--salvage", "--dry-run"]),
        ("demo", &["--keep"]),
    ] {
        for flag in ["--help", "-h"] {
            let help = cylinder([verb, flag]).expect(0).text();
            for option in options {
                assert!(help.contains(option), "{verb} {option}: {help}");
            }
            let long = help.lines().find(|line| line.chars().count() > 100);
            assert_eq!(long, None, "{verb}");
        }
    }
    let promise = |verb: &str| cylinder([verb, "--help"]).expect(0).text().replace('\n', " ");
    assert!(promise("snapshot").contains("appended to the former archive"));
    assert!(promise("restore").contains("nothing is ever overwritten"));
    let version = cylinder(["--version"]).expect(0).text();
    assert_eq!(version, format!("cylinder {}\n", env!("CARGO_PKG_VERSION")));
    // Without a verb, the help is an error.
    let ran = cylinder::<&str>([]).expect(2);
    assert!(ran.stderr.contains("Usage: cylinder"), "{}", ran.stderr);
    let man = cylinder(["man"]).expect(0).text();
    assert!(man.contains(".TH cylinder"), "{man}");
}

#[test]
fn the_demo_keeps_what_it_promises() {
    let ran = cylinder(["demo"]).expect(0);
    assert!(ran.stdout.is_empty() || ran.text().contains("snapshot"), "{}", ran.text());
    let said = normalised(&ran.stderr);
    for line in [
        "== A snapshot: one account at one instant, as a tar",
        "$ cylinder snapshot -C server/imapd.conf glad -o glad.tar",
        "== An incremental: only what changed since",
        "$ cat glad.tar glad.1.tar iris.tar > backup.tar",
        "$ cylinder list backup.tar",
        "== A folder is lost",
        "$ cylinder restore glad --from backup.tar --mailbox INBOX.Travel --to dir:restored",
        "  (TIME)",
        "Done in TIME.",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert!(said.contains("finding: "), "the lost folder is found missing: {said}");
    assert!(ran.text().contains("3 snapshots of 2 accounts"), "{}", ran.text());

    let scratch = scratch();
    let kept = scratch.path().join("kept");
    let shown = kept.display().to_string();
    cylinder(["demo", "--keep", &shown]).expect(0);
    for name in ["backup.tar", "glad.tar", "glad.1.tar", "iris.tar", "restored/imapd.conf"] {
        assert!(kept.join(name).exists(), "{name}");
    }
    let ran = cylinder(["demo", "--keep", &shown]).expect(1);
    assert!(ran.hints("does not exist yet"), "{}", ran.stderr);
    cylinder(["list", &kept.join("backup.tar").display().to_string()]).expect(0);
}

/// The same text with every length of time called so.
fn normalised(text: &str) -> String {
    let is_number = |word: &str| word.trim_start_matches('(').parse::<f64>().is_ok();
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let mut said: Vec<String> = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let unit = words.get(at + 1).map(|unit| unit.trim_end_matches([')', '.']));
            if is_number(words[at]) && matches!(unit, Some("us" | "ms" | "s")) {
                let open = if words[at].starts_with('(') { "(" } else { "" };
                let close = words[at + 1].trim_start_matches(char::is_alphabetic);
                said.push(format!("{open}TIME{close}"));
                at += 2;
            } else {
                said.push(words[at].to_owned());
                at += 1;
            }
        }
        lines.push(said.join(" "));
    }
    lines.join("\n")
}
