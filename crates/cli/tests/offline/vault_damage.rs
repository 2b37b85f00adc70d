//! Damaged vaults: what is wrong is named, what it costs is listed, and the rest comes back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::damage;

use crate::program::cylinder;
use crate::vaults::{SENT, Scene};

fn segment(scene: &Scene, seq: u32) -> PathBuf {
    let objects = scene.objects();
    let prefix = format!("{seq:08}-");
    let found = objects.into_iter().find(|(name, _)| name.starts_with(&prefix));
    found.expect("a segment").1
}

/// What `verify` says of glad, which must not be that all is well.
fn verdict(scene: &Scene) -> Value {
    let vault = scene.vault();
    let ran = cylinder(["verify", "--vault", &vault, "--read-data", "--json", "glad"]).expect(3);
    ran.document()["accounts"][0].clone()
}

/// The numbers of the snapshots that lose something, each once.
fn affected(verdict: &Value) -> Vec<u64> {
    let list = verdict["affected"].as_array().expect("a list");
    let mut numbers: Vec<u64> = list.iter().map(|one| one["seq"].as_u64().expect("one")).collect();
    numbers.dedup();
    numbers
}

fn is_named(verdict: &Value, path: &Path) -> bool {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let damage = verdict["damage"].as_array().expect("a list");
    damage.iter().any(|one| one["object"] == name.as_str())
}

/// Iris has nothing to do with what happens to glad.
fn iris_is_whole(scene: &Scene) {
    cylinder(["verify", "--vault", &scene.vault(), "--read-data", "iris"]).expect(0);
}

#[test]
fn a_lost_segment_costs_what_continues_it_and_nothing_else() {
    for (lost, whole) in [(1, [0; 0].as_slice()), (2, &[1]), (3, &[1, 2])] {
        let scene = Scene::grown();
        fs::remove_file(segment(&scene, lost)).expect("a segment");
        let numbers = scene.numbers_or_none();
        assert_eq!(numbers, whole, "without {lost}");
        if lost < 3 {
            let verdict = verdict(&scene);
            let torn: Vec<u64> = (u64::from(lost) + 1..=3).collect();
            assert_eq!(affected(&verdict), torn, "{verdict}");
        }
        for at in whole {
            let messages = [5, 8, 9][usize::try_from(*at).expect("few") - 1];
            assert_eq!(scene.restored(&at.to_string()), messages + SENT);
        }
        iris_is_whole(&scene);
        // The next backup goes on from what is whole.
        scene.backup(9).expect(0);
        assert_eq!(scene.restored("9999-01-01"), 9 + SENT);
    }
}

#[test]
fn a_flipped_bit_costs_the_messages_it_hit_and_they_are_named() {
    let scene = Scene::grown();
    let path = segment(&scene, 2);
    let size = usize::try_from(fs::metadata(&path).expect("there").len()).expect("small");
    let mut hit = 0;
    for at in (0..size).step_by(size / 24) {
        let whole = fs::read(&path).expect("a segment");
        damage::flip(&path, at).expect("damage");
        let verdict = verdict(&scene);
        assert!(is_named(&verdict, &path), "byte {at}: {verdict}");
        assert!(affected(&verdict).iter().all(|seq| *seq >= 2), "byte {at}: {verdict}");
        hit += verdict["affected"].as_array().expect("a list").len();
        assert_eq!(scene.restored("1"), 5 + SENT, "byte {at}");
        iris_is_whole(&scene);
        fs::write(&path, whole).expect("a segment");
    }
    assert!(hit > 0, "no message was ever hit");
    cylinder(["verify", "--vault", &scene.vault(), "--read-data"]).expect(0);
}

#[test]
fn a_cut_segment_is_named_wherever_it_is_cut() {
    let scene = Scene::grown();
    let path = segment(&scene, 3);
    let whole = fs::read(&path).expect("a segment");
    for part in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..part]).expect("damage");
        let verdict = verdict(&scene);
        assert!(is_named(&verdict, &path), "{part} bytes: {verdict}");
        assert_eq!(affected(&verdict), [3]);
        assert_eq!(scene.restored("2"), 8 + SENT);
        let ran = scene.glad("restore", &["--to", "maildir:/nowhere"]).expect(1);
        assert!(!ran.stderr.contains("nowhere"), "{}", ran.stderr);
    }
}

#[test]
fn a_segment_of_somebody_else_under_this_name_is_seen() {
    let scene = Scene::grown();
    let path = segment(&scene, 3);
    let other = crate::vaults::objects_of(&scene.path("vault"), "iris");
    fs::copy(other.values().next().expect("a segment"), &path).expect("damage");
    let verdict = verdict(&scene);
    assert!(is_named(&verdict, &path) && affected(&verdict) == [3], "{verdict}");
    let ran = scene.glad("history", &[]).expect(1);
    assert!(ran.text().contains("damaged"), "{}", ran.text());
}

#[test]
fn a_damaged_note_is_an_error_and_never_passed_over() {
    let scene = Scene::grown();
    cylinder(["prune", "--vault", &scene.vault(), "glad", "--keep-last", "1"]).expect(0);
    let objects = scene.objects();
    let note = objects.iter().find(|(name, _)| name.ends_with(".note.json")).expect("a note").1;
    damage::flip(note, 40).expect("damage");
    for verb in ["history", "restore", "verify"] {
        let more: &[&str] = if verb == "restore" { &["--to", "maildir:/nowhere"] } else { &[] };
        let ran = scene.glad(verb, more).expect(1);
        assert!(ran.stderr.contains("note"), "{verb}: {}", ran.stderr);
    }
    scene.backup(9).expect(1);
    iris_is_whole(&scene);
}

#[test]
fn an_object_that_nobody_may_read_is_named() {
    if crate::sample::is_root() {
        // Root may read whatever it likes; then a directory in its place must do.
        let scene = Scene::grown();
        let path = segment(&scene, 3);
        fs::remove_file(&path).expect("a segment");
        fs::create_dir(&path).expect("damage");
        assert_eq!(scene.numbers_or_none(), [1, 2]);
        return;
    }
    let scene = Scene::grown();
    let path = segment(&scene, 3);
    damage::make_unreadable(&path).expect("damage");
    assert!(File::open(&path).is_err());
    assert!(is_named(&verdict(&scene), &path));
}
