//! The storm does what it says, and the view that is left is the same for the same seed.

use testkit::cyrus_or_skip;
use testkit::storm::{Storm, StormPlan};

#[test]
fn clients_do_everything_and_stop_when_told() {
    let Some(builder) = cyrus_or_skip("clients_do_everything") else { return };
    let cyrus = builder.start().expect("Cyrus starts");
    for user in ["glad", "iris"] {
        cyrus.create_user(user).expect("a user");
    }
    let storm = Storm::start(&StormPlan::new(cyrus.imap_address(), &["glad", "iris"], 1));
    let enough =
        testkit::process::wait_until(std::time::Duration::from_secs(30), || storm.progress() > 600);
    let report = storm.stop().expect("no client fails");
    assert!(enough, "{report:?}");
    for name in ["append", "create", "delete", "rename", "store", "copy", "move", "expunge"] {
        assert!(report.done.contains_key(name), "no {name}: {report:?}");
    }
    let view = cyrus.view("glad").expect("a view");
    assert!(view.message_count() > 50, "{} messages, {report:?}", view.message_count());
}

#[test]
fn a_single_client_does_the_same_for_the_same_seed() {
    let Some(builder) = cyrus_or_skip("a_single_client_does_the_same") else { return };
    let views = [7, 7, 8].map(|seed| {
        let cyrus = builder.clone().start().expect("Cyrus starts");
        cyrus.create_user("glad").expect("a user");
        let plan = StormPlan {
            clients: 1,
            operations: Some(150),
            ..StormPlan::new(cyrus.imap_address(), &["glad"], seed)
        };
        let report = Storm::start(&plan).wait().expect("no client fails");
        assert_eq!(report.total() + report.refused.values().sum::<u64>(), 150, "{report:?}");
        let view = cyrus.view("glad").expect("a view");
        let mut messages = Vec::new();
        for (name, folder) in view.folders {
            for (uid, message) in folder.messages {
                messages.push((name.clone(), uid, message.guid, message.flags));
            }
        }
        messages
    });
    assert_eq!(views[0], views[1]);
    assert_ne!(views[0], views[2]);
}
