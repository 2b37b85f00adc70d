//! Many clients at once, while the master replicates without end.

use std::process::Stdio;

use testkit::process::{Group, wait_until};
use testkit::storm::{Storm, StormPlan};

use crate::pair::Pair;
use crate::server::LIMIT;

#[test]
fn a_storm_is_replicated_as_it_goes_on_and_a_cyrus_serves_all_of_it() {
    let Some(pair) = Pair::start("a_storm_is_replicated") else { return };
    let users = ["glad", "bob"];
    for user in users {
        pair.master.create_user(user).expect("a user");
    }
    let mut rolling = pair.master.tool_command("sync_client");
    rolling.args(["-S", &pair.server.plain.to_string(), "-R", "-d", "1"]);
    rolling.stdout(Stdio::null()).stderr(Stdio::null());
    let mut rolling = Group::spawn_guarded(&mut rolling).expect("it starts");
    let mut plan = StormPlan::new(pair.master.imap_address(), &users, 11);
    plan.operations = Some(60);
    let report = Storm::start(&plan).wait().expect("the clients are well");
    println!("{:?}", report.done);
    let log = pair.master.config_directory().join("sync");
    // It may give up over what changes under its hands; the next one makes up for it.
    let is_done = || ["log", "log-run"].iter().all(|name| !log.join(name).exists());
    wait_until(LIMIT, || is_done() || !rolling.is_running());
    rolling.terminate(LIMIT);
    for user in users {
        give_new_names(&pair, user);
        pair.sync(&["-u", user]);
        pair.assert_in_sync(user);
    }
    let lines = pair.lines();
    for wrong in ["bug in this program", "this machine cannot", "in the middle of a command"] {
        assert!(!lines.iter().any(|line| line.contains(wrong)), "{wrong}: {lines:#?}");
    }
    let promoted = pair.promote();
    for user in users {
        promoted.assert_same(user);
    }
}

/// Cyrus' sync_client has no way to tell that two folders have changed places, as they may have in the
/// storm.
fn give_new_names(pair: &Pair, user: &str) {
    let mut imap = pair.client(user);
    for (number, folder) in imap.list("INBOX/%").expect("listed").iter().enumerate() {
        imap.rename(folder, &format!("INBOX/new{number}")).expect("renamed");
    }
}
