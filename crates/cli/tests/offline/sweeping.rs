//! `cylinder sweep` as a program: what it says, what it leaves, and what its exit code means.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Ran, cylinder};
use super::sample::scratch;

/// Above the highest number that Linux gives a process (PID_MAX_LIMIT).
const DEAD: u32 = 4_194_305;

/// As many links as an operator of 2009 found in his `sync.` directories.
const LINKS: usize = 40_000;

/// A message, and the GUID of its bytes.
const MESSAGE: (&str, &str) = ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d");

struct Scene {
    scratch: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { scratch: scratch() };
        let root = scene.scratch.path().display();
        let conf = format!("configdirectory: {root}/conf\npartition-default: {root}/spool\n");
        fs::write(scene.path("imapd.conf"), conf).expect("written");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn file(&self, name: &str, bytes: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    fn sweep(&self, more: &[&str]) -> Ran {
        let conf = self.path("imapd.conf").display().to_string();
        cylinder([&["sweep", "-C", &conf][..], more].concat())
    }

    fn document(&self, more: &[&str], code: i32) -> Value {
        let ran = self.sweep(&[&["--json"][..], more].concat()).expect(code);
        serde_json::from_str(&ran.text()).expect("a JSON document")
    }
}

fn names_below(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn nothing_is_changed_until_it_is_asked_for() {
    let scene = Scene::new();
    assert_eq!(scene.sweep(&[]).expect(0).text(), "nothing waits\n");
    let staged = scene.file(&format!("spool/sync./{DEAD}/{}", MESSAGE.1), MESSAGE.0);
    let delivered = scene.file(&format!("spool/stage./{DEAD}-1700000000-0"), "delivered");

    let said = scene.sweep(&["--older-than", "0"]).expect(0).text();
    let directory = scene.path(&format!("spool/sync./{DEAD}"));
    assert!(said.contains(&format!("{}: 1 file, 3 B; its process is gone", directory.display())));
    assert!(
        said.contains(&format!("stage. of {DEAD}: 1 file, 9 B; its process is gone")),
        "{said}"
    );
    assert!(said.contains("2 files of dead processes (12 B, "), "{said}");
    assert!(said.ends_with("; --apply removes them\n"), "{said}");
    let new = scene.sweep(&["--apply"]).expect(0).text();
    assert!(new.contains("too new to tell") && new.contains("2 left to others"), "{new}");
    assert!(staged.exists() && delivered.exists());

    let said = scene.sweep(&["--older-than", "0", "--apply"]).expect(0).text();
    assert!(said.contains("2 files removed (12 B, "), "{said}");
    assert!(!directory.exists() && !delivered.exists());
    assert_eq!(scene.sweep(&["--older-than", "0"]).expect(0).text(), "nothing waits\n");
}

#[test]
fn forty_thousand_links_are_told_and_swept() {
    let scene = Scene::new();
    // A file has so many links at most (EXT4_LINK_MAX is 65,000).
    let message = scene.file("spool/user/glad/1.", MESSAGE.0);
    for at in 0..LINKS {
        let directory = scene.path(&format!("spool/sync./{}", DEAD as usize + at / 1_000));
        if at % 1_000 == 0 {
            fs::create_dir_all(&directory).expect("made");
        }
        fs::hard_link(&message, directory.join(format!("{at}."))).expect("linked");
    }
    let found = scene.document(&["--older-than", "0"], 0);
    assert_eq!(found["gone"]["files"], LINKS);
    assert_eq!((&found["gone"]["linked"], &found["gone"]["held"]), (&LINKS.into(), &0.into()));
    assert_eq!(found["groups"].as_array().map(Vec::len), Some(LINKS / 1_000));
    assert_eq!(found["groups"][0]["files"].as_array().map(Vec::len), Some(1_000));
    let swept = scene.document(&["--older-than", "0", "--apply"], 0);
    let removed = swept["groups"].as_array().expect("groups").iter();
    assert_eq!(removed.filter_map(|group| group["removed"].as_u64()).sum::<u64>(), LINKS as u64);
    assert_eq!(names_below(&scene.path("spool/sync.")), 0);
    assert_eq!(fs::read_to_string(&message).expect("a message"), MESSAGE.0);
}

#[test]
fn a_message_that_was_cut_short_is_named_with_what_to_do() {
    let scene = Scene::new();
    let staged = scene.file(&format!("spool/sync./{DEAD}/{}", MESSAGE.1), MESSAGE.0);
    let message = scene.path("spool/user/glad/7.");
    fs::create_dir_all(message.parent().expect("a directory")).expect("made");
    fs::hard_link(&staged, &message).expect("linked");
    assert!(!scene.sweep(&["--older-than", "0"]).expect(0).text().contains("finding"));
    // As 2.3 opens what is there already: in place, under all its names.
    fs::OpenOptions::new().write(true).truncate(true).open(&staged).expect("truncated");

    let said = scene.sweep(&["--older-than", "0"]).expect(3).text();
    assert!(said.contains("finding: ") && said.contains(MESSAGE.1), "{said}");
    assert!(said.contains(&format!("the same file is {}", message.display())), "{said}");
    assert!(said.contains("to do: look for"), "{said}");
    let found = scene.document(&["--older-than", "0", "--apply"], 3);
    let cut = &found["cut_short"][0];
    assert_eq!(cut["guid"], MESSAGE.1);
    assert_eq!(cut["messages"][0], message.display().to_string());
    assert!(!staged.exists() && message.exists());
}

#[test]
fn what_is_not_cyrus_is_told_and_left() {
    let scene = Scene::new();
    let note = scene.file("spool/sync./NOTE\u{1b}[2J", "an operator's");
    let ran = scene.sweep(&["--older-than", "0", "--apply"]).expect(3);
    assert!(ran.text().contains("is none of Cyrus' and is left"), "{}", ran.text());
    assert!(!ran.text().contains('\u{1b}'), "a name must not reach the terminal as it is");
    assert!(note.exists());
}

#[test]
fn a_configuration_that_is_not_there_is_one_line_with_a_hint() {
    let ran = cylinder(["sweep", "-C", "/nowhere/imapd.conf"]).expect(1);
    assert!(ran.stderr.contains("/nowhere/imapd.conf") && ran.stderr.contains("hint: "));
}
