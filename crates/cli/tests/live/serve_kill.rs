//! `cylinder serve` is killed at random instants while a real master replicates to it. The mail is
//! not harmed, nothing is left behind, and the next run of the master makes both equal.

use std::path::Path;

use testkit::cyrus_or_skip;
use testkit::kills::{Campaign, left_by};
use testkit::leftovers::Leftovers;
use testkit::served::{NAME, PASSWORD, Served};

use crate::program::CYLINDER;

/// How often each test kills; `CYLINDER_SERVE_KILLS` asks for more.
const KILLS: u64 = 10;

fn kill(test: &str, seed: u64) {
    let Some(builder) = cyrus_or_skip(test) else { return };
    let builder = builder.option("sync_authname", NAME).option("sync_password", PASSWORD);
    let master = builder.start().expect("a master");
    let mut replica = Served::start(Path::new(CYLINDER)).expect("a replica");
    let mut campaign = Campaign::begin(&master, seed).expect("a user");
    let asked = std::env::var("CYLINDER_SERVE_KILLS").ok();
    let kills = asked.map_or(KILLS, |asked| asked.parse().expect("a number"));
    for number in 0..kills {
        campaign.change().expect("a change");
        assert!(campaign.strike(&mut replica).expect("it comes up again"));
        let left = left_by(&replica).expect("a spool");
        assert_eq!(left, Leftovers::default(), "seed {seed}, kill {number}: {}", replica.log());
        assert!(!replica.log().contains("damaged"), "{}", replica.log());
        let equal = campaign.converges(&replica).expect("both can be asked");
        assert!(equal, "seed {seed}, kill {number}: {}", replica.log());
    }
}

#[test]
fn a_server_killed_at_random_leaves_nothing_behind() {
    kill("a_server_killed_at_random", 1);
}

#[test]
fn another_server_killed_at_random_leaves_nothing_behind() {
    kill("another_server_killed_at_random", 2);
}

#[test]
fn a_third_server_killed_at_random_leaves_nothing_behind() {
    kill("a_third_server_killed_at_random", 3);
}

#[test]
fn a_fourth_server_killed_at_random_leaves_nothing_behind() {
    kill("a_fourth_server_killed_at_random", 4);
}
