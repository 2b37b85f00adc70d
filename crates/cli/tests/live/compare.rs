//! A real master and its replica, compared while both are at work: what is in flight is no difference.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::imap::Append;
use testkit::storm::{Storm, StormPlan};
use testkit::{Cyrus, cyrus_or_skip};

use crate::program::{CYLINDER, Ran, run};
use crate::rolling::Rolling;

/// How long the storm lasts, in seconds; `CYLINDER_COMPARE_SECONDS` asks for more.
const SECONDS: u64 = 15;

const USERS: [&str; 2] = ["glad", "iris"];

fn compare(master: &Cyrus, replica: &Cyrus, password: &Path, more: &[&str]) -> Ran {
    let mut command = Command::new(CYLINDER);
    command.arg("compare").arg(format!("spool:{}", master.imapd_conf().display()));
    command.arg(format!("csync://cyrus@{}", replica.sync_address()));
    command.args(USERS).args(more).arg("--password-file").arg(password);
    run(&mut command)
}

fn text(ran: &Ran) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn what_is_in_flight_is_no_difference() {
    let Some(builder) = cyrus_or_skip("what_is_in_flight_is_no_difference") else { return };
    let asked = std::env::var("CYLINDER_COMPARE_SECONDS").ok();
    let seconds = asked.map_or(SECONDS, |asked| asked.parse().expect("a number"));
    let builder = builder.conversations(true);
    let replica = builder.clone().start().expect("a replica");
    let master = builder.option("sync_log", "yes").start().expect("a master");
    for user in USERS {
        master.create_user(user).expect("a user");
    }
    let mut rolling = Rolling::start(master.imapd_conf(), replica.sync_address());
    let password = rolling.password();
    let storm = Storm::start(&StormPlan::new(master.imap_address(), &USERS, 6));
    let begun = Instant::now();
    let mut looks = [0; 2];
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (depth, looks) in ["--quick", "--records"].iter().zip(&mut looks) {
            let ran = compare(&master, &replica, &password, &[depth]);
            // 75: it changed each time that it was looked at.
            assert!([0, 75].contains(&ran.code), "{depth}: {}\n{}", text(&ran), ran.stderr);
            *looks += 1;
        }
    }
    storm.stop().expect("the clients are well");
    rolling.settle();
    let ran = compare(&master, &replica, &password, &["--full"]).expect(0);
    assert!(text(&ran).ends_with("2 equal, 0 differ, 0 cannot be told, 0 failed\n"), "{ran:?}");
    // A replica that is behind for good differs.
    assert_eq!(rolling.end(), Some(0));
    let mut client = master.imap_as("glad").expect("a client");
    let message = Append { message: b"Subject: late\r\n\r\nlate\r\n", ..Append::default() };
    let uid = client.append("INBOX", message).expect("a message");
    let late = compare(&master, &replica, &password, &["--records", "--settle", "0"]).expect(4);
    let alone = format!("user.glad: uid {uid}: only spool:");
    assert!(text(&late).contains(&alone), "{}", text(&late));
    assert!(looks.iter().all(|looks| *looks > 0));
}
