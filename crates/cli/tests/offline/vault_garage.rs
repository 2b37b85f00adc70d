//! A vault in a store of three servers of which one dies in the middle of a backup. Only where there
//! is Garage: `cargo xtask test --garage`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use testkit::garage::Garage;
use testkit::process::Group;
use testkit::spool_builder::{Era, Filling, Spool, SpoolBuilder, SpoolOptions, fill};

use crate::program::{CYLINDER, Ran, run};
use crate::sample::{belongs_to_us, files};
use crate::vaults::{Scene, backup_arguments};

/// How many accounts there are, with how many messages each.
const USERS: usize = 12;
const MESSAGES: usize = 50;

fn spool(scene: &Scene) -> Spool {
    let options = SpoolOptions::new(Era::V3_6);
    let mut builder = SpoolBuilder::create(&scene.path("spool"), options).expect("a spool");
    let filling = Filling { users: USERS, ..Filling::small(1, MESSAGES) };
    fill(&mut builder, &filling, &[]).expect("mail");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

fn cylinder(garage: &Garage, node: usize, arguments: &[&str]) -> Ran {
    run(Command::new(CYLINDER).args(arguments).envs(garage.settings(node)))
}

/// Backs all accounts up over the first server, kills one when three of them are stored, and gives
/// the exit code.
fn backup_while_dying(garage: &mut Garage, spool: &Spool, victim: usize) -> Option<i32> {
    let mut arguments = backup_arguments(spool, &garage.url("mail"), &["--all", "--jobs=1"]);
    arguments.retain(|argument| argument != "--json");
    let mut command = Command::new(CYLINDER);
    command.args(arguments).envs(garage.settings(0)).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut backup = Group::spawn_guarded(&mut command).expect("a backup");
    let told = backup.leader().stderr.take().expect("what it says");
    for (number, line) in (1..).zip(BufReader::new(told).lines()) {
        line.expect("a line");
        if number == 3 {
            garage.kill(victim);
        }
    }
    backup.leader().wait().expect("its end").code()
}

/// All is stored, whole, and comes back.
fn assert_whole(garage: &Garage, node: usize, scene: &Scene) {
    let vault = garage.url("mail");
    let verify = ["verify", "--vault", &vault, "--read-data", "--json"];
    let verified = cylinder(garage, node, &verify).expect(0).document();
    let accounts = verified["accounts"].as_array().expect("a list");
    assert_eq!(accounts.len(), USERS);
    for user in 0..USERS {
        let out = scene.path(&format!("out{user}"));
        let (name, to) = (format!("u{user}"), format!("maildir:{}", out.display()));
        cylinder(garage, node, &["restore", "--vault", &vault, &name, "--to", &to]).expect(0);
        let is_message = |path: &&std::path::PathBuf| path.to_string_lossy().contains(",S=");
        assert_eq!(files(&out).iter().filter(is_message).count(), MESSAGES);
    }
}

#[test]
fn a_server_that_dies_behind_another_one_is_not_missed() {
    let Some(mut garage) = Garage::or_skip("a_server_that_dies_behind_another_one") else { return };
    let scene = Scene::new();
    let spool = spool(&scene);
    assert_eq!(backup_while_dying(&mut garage, &spool, 1), Some(0));
    assert_whole(&garage, 2, &scene);
}

#[test]
fn a_server_that_dies_in_front_costs_the_rest_of_the_run_and_nothing_that_was_stored() {
    let Some(mut garage) = Garage::or_skip("a_server_that_dies_in_front") else { return };
    let scene = Scene::new();
    let spool = spool(&scene);
    assert_eq!(backup_while_dying(&mut garage, &spool, 0), Some(1));
    let vault = garage.url("mail");
    cylinder(&garage, 1, &["verify", "--vault", &vault, "--read-data"]).expect(0);
    let again = backup_arguments(&spool, &vault, &["--all"]);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let report = cylinder(&garage, 1, &again).expect(0).document();
    assert!(report["unchanged"].as_u64() >= Some(2), "{report}");
    assert_whole(&garage, 2, &scene);
}
