//! Snapshot, restore, and a Cyrus on what was restored, which must show the same account: on
//! servers of every set-up.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::account::Rich;
use crate::program::{Snapshot, list, restore};
use crate::restored::{Seen, admin_name, check_reconstructed, scratch, serve};

/// A server with a rich account, and what its snapshots brought.
struct Scene {
    /// Of servers on restored trees, which are laid out plainly whatever they came from.
    plain: CyrusBuilder,
    cyrus: Cyrus,
    rich: Rich,
    scratch: TempDir,
}

impl Scene {
    fn new(plain: &CyrusBuilder, configured: CyrusBuilder, user: &str) -> Self {
        let cyrus = configured.start().expect("Cyrus starts");
        let rich = Rich::named(user);
        rich.fill(&cyrus);
        Self { plain: plain.clone(), cyrus, rich, scratch: scratch() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }

    /// Restores into a new directory and looks at what a Cyrus there shows.
    fn restored(&self, from: &[&Path], options: &[&str]) -> (Cyrus, Seen) {
        let tree = self.path("restored");
        let to = format!("dir:{}", tree.display());
        restore(&self.rich.user, from, &to, options);
        let cyrus = serve(&self.plain, &tree);
        let seen = Seen::of(&cyrus, &self.rich.user);
        (cyrus, seen)
    }
}

/// Takes a full snapshot and an incremental one, restores both together, and compares.
fn check(plain: &CyrusBuilder, configured: CyrusBuilder, user: &str) {
    check_after(plain, configured, user, |_| ());
}

/// Likewise, with something done to the server in between.
fn check_after(
    plain: &CyrusBuilder,
    configured: CyrusBuilder,
    user: &str,
    between: impl FnOnce(&Scene),
) {
    let scene = Scene::new(plain, configured, user);
    let (full, more) = (scene.path("full.tar"), scene.path("more.tar"));
    let conf = scene.cyrus.imapd_conf();
    Snapshot::full(conf, user).take(&full);
    scene.rich.change(&scene.cyrus);
    between(&scene);
    let want = Seen::of(&scene.cyrus, user);
    assert!(!want.deleted.folders.is_empty(), "no deleted mailbox is kept");
    let kept: Vec<_> = want.expunged.iter().filter(|(_, list)| !list.is_empty()).collect();
    assert!(!kept.is_empty(), "no expunged message is kept");
    Snapshot { since: &[&full], ..Snapshot::full(conf, user) }.take(&more);

    let (cyrus, seen) = scene.restored(&[&full, &more], &[]);
    assert_eq!(want.differences(&seen), Vec::<String>::new());
    compare_what_others_see(&scene, &cyrus);
    check_reconstructed(&scene.cyrus, &cyrus, user);
}

/// The guest's notes, and what the owner has seen of others' mail.
fn compare_what_others_see(scene: &Scene, restored: &Cyrus) {
    let [want, have] = [&scene.cyrus, restored].map(|cyrus| {
        let mut view = cyrus.view(&scene.rich.guest).expect("the guest's view");
        view.folders.retain(|name, _| !name.contains("iris"));
        view
    });
    assert!(want.folders.values().any(|folder| folder.annotations.len() > 1), "{want:?}");
    assert_eq!(want.differences(&have), Vec::<String>::new(), "as the guest sees it");
    let neighbours = format!("{}\u{1f}Open", scene.rich.neighbour.split('@').next().expect("one"));
    for (file, format, expected) in [("seen", "twoskip", " 2:3"), ("sub", "flat", &neighbours)] {
        let show = |cyrus| user_database(cyrus, &scene.rich.user, file, format);
        let [want, have] = [&scene.cyrus, restored].map(show);
        assert!(want.contains(expected), "{file}: {want:?} lacks {expected:?}");
        assert_eq!(want, have, "{file}");
    }
}

/// A database of the account, as Cyrus' own tool shows it.
fn user_database(cyrus: &Cyrus, user: &str, suffix: &str, format: &str) -> String {
    let paths = cyrus.tool("mbpath", &["-u", "-a", user]);
    let paths = paths.expect("mbpath knows a user's directory").stdout;
    let directory = paths.lines().find_map(|line| line.strip_prefix("User: "));
    let directory = Path::new(directory.unwrap_or_else(|| panic!("no directory: {paths}")));
    let local = user.split('@').next().unwrap_or(user);
    let names = [format!("{suffix}.db"), format!("{local}.{suffix}")];
    let path = names.iter().map(|name| directory.join(name)).find(|path| path.exists());
    let path = path.unwrap_or_else(|| panic!("no {suffix} in {}", directory.display()));
    let path = path.to_str().expect("a plain path");
    cyrus.tool("cyr_dbtool", &[path, format, "show"]).expect("a database").stdout
}

#[test]
fn an_account_in_directories_named_by_uniqueid_comes_back() {
    let Some(builder) = cyrus_or_skip("an_account_in_directories_named_by") else { return };
    check(&builder, builder.clone(), "glad");
}

#[test]
fn an_account_in_directories_named_like_its_mailboxes_comes_back() {
    let Some(builder) = cyrus_or_skip("an_account_in_directories_named_like") else { return };
    check(&builder, builder.clone().legacy_dirs(true), "fred.smith");
}

#[test]
fn an_account_in_hashed_directories_comes_back() {
    let Some(builder) = cyrus_or_skip("an_account_in_hashed_directories") else { return };
    let hashed = builder.clone().legacy_dirs(true).hashimapspool(true).option("fulldirhash", "yes");
    check(&builder, hashed, "jo.smith");
}

#[test]
fn an_account_with_metadata_on_another_partition_comes_back() {
    let Some(builder) = cyrus_or_skip("an_account_with_metadata") else { return };
    check(&builder, builder.clone().metapartition(), "glad");
}

#[test]
fn an_account_of_another_domain_comes_back() {
    let Some(builder) = cyrus_or_skip("an_account_of_another_domain") else { return };
    check(&builder, builder.clone().virtdomains("userid"), "glad@other.test");
}

#[test]
fn an_account_with_messages_on_an_archive_partition_comes_back() {
    let Some(builder) = cyrus_or_skip("an_account_with_messages_on_an_archive") else { return };
    check_after(&builder, builder.clone().archive(), "glad", |scene| {
        scene.cyrus.tool("cyr_expire", &["-A", "0", "-x"]).expect("messages move");
        let archive = scene.cyrus.directory("archivepartition-default").expect("it is set");
        assert!(count_messages(archive) > 10, "nothing was archived");
    });
}

fn count_messages(directory: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        match entry.file_type().expect("a type").is_dir() {
            true => count += count_messages(&entry.path()),
            false => count += usize::from(entry.file_name().to_string_lossy().ends_with('.')),
        }
    }
    count
}

#[test]
fn an_account_by_uniqueid_is_given_back_by_name_and_the_other_way_round() {
    let Some(builder) = cyrus_or_skip("an_account_by_uniqueid_is_given_back") else { return };
    for (legacy, layout) in [(false, "name"), (true, "uuid")] {
        let scene = Scene::new(&builder, builder.clone().legacy_dirs(legacy), "glad");
        let full = scene.path("full.tar");
        Snapshot::full(scene.cyrus.imapd_conf(), "glad").take(&full);
        let want = Seen::of(&scene.cyrus, "glad");
        let (cyrus, seen) = scene.restored(&[&full], &["--layout", layout]);
        assert_eq!(want.differences(&seen), Vec::<String>::new(), "{layout}");
        compare_what_others_see(&scene, &cyrus);
        let directory = cyrus.mailbox_directory("user/glad/Sent").expect("a path");
        let by_name = directory.ends_with("user/glad/Sent");
        assert_eq!(by_name, layout == "name", "{}", directory.display());
        assert!(directory.join("cyrus.index").exists(), "{}", directory.display());
        check_reconstructed(&scene.cyrus, &cyrus, "glad");
    }
}

#[test]
fn sieve_scripts_and_which_one_is_active_come_back() {
    let Some(builder) = cyrus_or_skip("sieve_scripts_and_which_one") else { return };
    let cyrus = builder.clone().legacy_dirs(true).start().expect("Cyrus starts");
    cyrus.create_user("glad").expect("a user");
    let scripts = cyrus.directory("sievedir").expect("it is set").join("g/glad");
    fs::create_dir_all(&scripts).expect("a directory");
    for (name, script) in [("Vacation", "keep;\n"), ("spam ä", "discard;\n")] {
        fs::write(scripts.join(format!("{name}.script")), script).expect("a script");
    }
    std::os::unix::fs::symlink("Vacation.bc", scripts.join("defaultbc")).expect("a link");
    let scratch = scratch();
    let (full, tree) = (scratch.path().join("full.tar"), scratch.path().join("restored"));
    Snapshot::full(cyrus.imapd_conf(), "glad").take(&full);
    restore("glad", &[&full], &format!("dir:{}", tree.display()), &[]);

    let restored = serve(&builder, &tree);
    let again = restored.directory("sievedir").expect("it is set").join("g/glad");
    for name in ["Vacation.script", "spam ä.script"] {
        let [want, have] = [&scripts, &again].map(|dir| fs::read(dir.join(name)).expect(name));
        assert_eq!(want, have);
    }
    assert_eq!(fs::read_link(again.join("defaultbc")).expect("a link"), Path::new("Vacation.bc"));
}

#[test]
fn an_earlier_snapshot_comes_back_as_it_was_then() {
    let Some(builder) = cyrus_or_skip("an_earlier_snapshot_comes_back") else { return };
    let scene = Scene::new(&builder, builder.clone(), "glad");
    let archive = scene.path("glad.tar");
    let conf = scene.cyrus.imapd_conf();
    Snapshot::full(conf, "glad").take(&archive);
    let first = Seen::of(&scene.cyrus, "glad");
    scene.rich.change(&scene.cyrus);
    let more = scene.path("more.tar");
    Snapshot { since: &[&archive], ..Snapshot::full(conf, "glad") }.take(&more);
    let second = Seen::of(&scene.cyrus, "glad");
    assert_ne!(first.differences(&second), Vec::<String>::new());
    let mut both = fs::read(&archive).expect("readable");
    both.extend(fs::read(&more).expect("readable"));
    fs::write(&archive, both).expect("concatenated");
    let taken: Vec<_> = list(&[&archive]).iter().map(|s| s["taken_at"].clone()).collect();
    assert_eq!(taken.len(), 2);

    for (name, at, want) in [("one", "1", &first), ("two", "2", &second)] {
        let tree = scene.path(name);
        let to = format!("dir:{}", tree.display());
        let report = restore("glad", &[&archive], &to, &["--at", at]);
        assert_eq!(report["seq"], at.parse::<u64>().expect("a number"));
        let cyrus = serve(&scene.plain, &tree);
        let differences = want.differences(&Seen::of(&cyrus, "glad"));
        assert_eq!(differences, Vec::<String>::new(), "--at {at}");
    }
    let at = taken[1].as_str().expect("a time");
    let report = restore(
        "glad",
        &[&archive],
        &format!("tar:{}", scene.path("now.tar").display()),
        &["--at", at],
    );
    assert_eq!(report["seq"], 2);
}

#[test]
fn single_mailboxes_come_back_alone() {
    let Some(builder) = cyrus_or_skip("single_mailboxes_come_back") else { return };
    let scene = Scene::new(&builder, builder.clone(), "glad");
    let full = scene.path("full.tar");
    Snapshot::full(scene.cyrus.imapd_conf(), "glad").take(&full);
    let want = scene.cyrus.view("glad").expect("a view");
    let tree = scene.path("restored");
    let to = format!("dir:{}", tree.display());
    let picks = ["--mailbox", "INBOX/Sent", "--mailbox", "user.glad.x.y.z"];
    let report = restore("glad", &[&full], &to, &picks);
    assert_eq!(report["mailboxes"], 2);
    let cyrus = serve(&scene.plain, &tree);
    let mut admin = cyrus.admin().expect("the admin");
    let names = admin.list("*").expect("a list");
    assert_eq!(names, ["user/glad/Sent", "user/glad/x/y/z"]);
    admin.select(&admin_name("glad", "INBOX/Sent")).expect("a mailbox");
    let sent = &want.folders["INBOX/Sent"];
    for (uid, message) in &sent.messages {
        let body = admin.body(*uid).expect("an answer").expect("a message");
        assert_eq!(testkit::imap::guid_of(&body), message.guid);
    }
    let nowhere =
        ["restore", "glad", "--from", full.to_str().expect("plain"), "--to", "dir:/nowhere/x"];
    let ran = crate::program::cylinder(nowhere.iter().chain(&["--mailbox", "INBOX/Nothing"]));
    assert!(ran.expect(1).stderr.contains("INBOX/Nothing"));
}

#[test]
fn what_was_restored_belongs_to_cyrus_alone() {
    use std::os::unix::fs::MetadataExt;
    let Some(builder) = cyrus_or_skip("what_was_restored_belongs") else { return };
    let scene = Scene::new(&builder, builder.clone(), "glad");
    let full = scene.path("full.tar");
    Snapshot::full(scene.cyrus.imapd_conf(), "glad").take(&full);
    let tree = scene.path("restored");
    restore("glad", &[&full], &format!("dir:{}", tree.display()), &[]);
    let cyrus = scene.cyrus.user();
    let mut pending = vec![tree];
    let mut files = 0;
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).expect("it is there");
        assert_eq!((stat.uid(), stat.gid()), (cyrus.uid, cyrus.gid), "{}", path.display());
        assert_eq!(stat.mode() & 0o077, 0, "{}: {:o}", path.display(), stat.mode());
        if stat.is_dir() {
            pending
                .extend(fs::read_dir(&path).expect("a directory").map(|e| e.expect("one").path()));
        } else {
            files += 1;
        }
    }
    assert!(files > 30, "only {files} files");
}
