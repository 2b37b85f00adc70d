//! Folders and users that come, go, and change their names.

use testkit::mail::{MailGenerator, Sizes};

use crate::pair::{Pair, append};

/// A user with a message in each of some folders.
fn fill(pair: &Pair, user: &str, folders: &[&str]) {
    pair.master.create_user(user).expect("a user");
    let mut imap = pair.client(user);
    let mut mail = MailGenerator::new(6, Sizes::Small);
    for folder in folders {
        imap.create(folder).expect("created");
        append(&mut imap, folder, &mail.message());
    }
    append(&mut imap, "INBOX", &mail.message());
}

#[test]
fn folders_move_up_in_a_chain_and_down_into_new_parents() {
    let Some(pair) = Pair::start("folders_move_up_in_a_chain") else { return };
    fill(&pair, "glad", &["INBOX/a", "INBOX/b", "INBOX/c", "INBOX/mv", "INBOX/o.dot"]);
    pair.sync(&["-u", "glad"]);
    let mut imap = pair.client("glad");
    for (from, to) in [("c", "d"), ("b", "c"), ("a", "b"), ("mv", "deep/er/leaf"), ("o.dot", "a")] {
        imap.rename(&format!("INBOX/{from}"), &format!("INBOX/{to}")).expect("renamed");
    }
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    // The same by the log, there and back.
    imap.rename("INBOX/deep", "INBOX/deeper").expect("renamed");
    imap.rename("INBOX/b", "INBOX/deep").expect("renamed");
    pair.sync_log();
    imap.rename("INBOX/deep", "INBOX/b").expect("renamed");
    pair.sync_log();
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}

#[test]
fn two_folders_that_change_places_wait_until_one_of_them_moves_on() {
    let Some(pair) = Pair::start("two_folders_that_change_places") else { return };
    fill(&pair, "glad", &["INBOX/a", "INBOX/b"]);
    pair.sync(&["-u", "glad"]);
    let mut imap = pair.client("glad");
    for (from, to) in [("a", "x"), ("b", "a"), ("x", "b")] {
        imap.rename(&format!("INBOX/{from}"), &format!("INBOX/{to}")).expect("renamed");
    }
    // Cyrus' own sync_client has no way to say it, whatever the replica is.
    let to = pair.server.plain.to_string();
    let failed = pair.master.tool("sync_client", &["-S", &to, "-u", "glad"]);
    assert!(failed.is_err(), "{failed:?}");
    assert!(!pair.lines().iter().any(|line| line.contains("was answered with")));
    imap.rename("INBOX/b", "INBOX/elsewhere").expect("renamed");
    pair.sync(&["-u", "glad"]);
    pair.assert_in_sync("glad");
    pair.promote().assert_same("glad");
}

#[test]
fn what_is_deleted_goes_at_once_or_waits_to_be_expired() {
    for mode in ["delayed", "immediate"] {
        let name = format!("what_is_deleted_goes_{mode}");
        let mode = |builder: testkit::CyrusBuilder| builder.option("delete_mode", mode);
        let Some(pair) = Pair::start_with(&name, mode) else { return };
        fill(&pair, "glad", &["INBOX/a", "INBOX/a/b", "INBOX/again", "INBOX/c"]);
        pair.sync_log();
        let mut imap = pair.client("glad");
        imap.delete("INBOX/a/b").expect("deleted");
        pair.sync_log();
        imap.delete("INBOX/again").expect("deleted");
        // Cyrus' sync_client does not get over both at once, if mailboxes go at once.
        pair.sync_log();
        imap.create("INBOX/again").expect("another one");
        append(&mut imap, "INBOX/again", b"Subject: other\r\n\r\nbody\r\n");
        imap.delete("INBOX/c").expect("deleted");
        pair.sync_log();
        pair.sync(&["-u", "glad"]);
        pair.assert_in_sync("glad");
        pair.master.tool("cyr_expire", &["-E", "0", "-D", "0"]).expect("expired");
        pair.sync_log();
        pair.sync(&["-u", "glad"]);
        pair.assert_in_sync("glad");
        pair.promote().assert_same("glad");
    }
}

#[test]
fn users_are_renamed_and_deleted() {
    for mode in ["delayed", "immediate"] {
        let name = format!("users_are_renamed_and_deleted_{mode}");
        let mode = |builder: testkit::CyrusBuilder| builder.option("delete_mode", mode);
        let Some(pair) = Pair::start_with(&name, mode) else { return };
        for user in ["bob", "carol", "glad"] {
            fill(&pair, user, &["INBOX/a", "INBOX/a/b"]);
            pair.client(user).subscribe("INBOX/a").expect("subscribed");
        }
        pair.sync_log();
        let mut admin = pair.master.admin().expect("an admin");
        admin.rename("user/bob", "user/rob").expect("renamed");
        admin.set_acl("user/carol", "cyrus", "lrswipkxtecda").expect("granted");
        admin.delete("user/carol").expect("deleted");
        pair.sync_log();
        // The subscriptions of a user that is renamed are lost until he is looked at as a whole: his
        // files are named by his INBOX, which UNUSER takes with the old name in Cyrus 3.6.
        pair.sync(&["-u", "rob"]);
        pair.assert_in_sync("rob");
        let state = pair.replica.lock();
        assert!(state.mailboxes_of(&"bob".into()).is_empty());
        assert_eq!(state.mailboxes_of(&"rob".into()).len(), 3);
        let carol = state.mailboxes_of(&"carol".into());
        assert!(carol.iter().all(|entry| entry.name.as_bytes().starts_with(b"DELETED.")));
        drop(state);
        let promoted = pair.promote();
        promoted.assert_same("rob");
        promoted.assert_same("glad");
    }
}
