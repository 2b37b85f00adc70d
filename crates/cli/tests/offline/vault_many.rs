//! Many accounts in one vault: what is asked of the store grows with them, and no faster.

use std::ffi::OsStr;
use std::process::Command;

use testkit::mail::Sizes;
use testkit::s3::S3Server;
use testkit::spool_builder::{Era, Filling, Spool, SpoolBuilder, SpoolOptions, fill};

use crate::program::{CYLINDER, Ran, run};
use crate::sample::belongs_to_us;
use crate::vaults::{Scene, backup_arguments};

/// How many accounts; `CYLINDER_ACCOUNTS` asks for more.
fn accounts() -> usize {
    let asked = std::env::var("CYLINDER_ACCOUNTS").ok();
    asked.map_or(300, |asked| asked.parse().expect("a number of accounts"))
}

/// Names in a page of a listing.
const PAGE: usize = 1_000;

/// Whatever the number of accounts: the marker, once more where one is made, and the like.
const FEW: u64 = 5;

fn spool(scene: &Scene, users: usize) -> Spool {
    let options = SpoolOptions::new(Era::V3_6);
    let mut builder = SpoolBuilder::create(&scene.path("spool"), options).expect("a spool");
    let filling = Filling { users, sizes: Sizes::Small, ..Filling::small(1, 1) };
    fill(&mut builder, &filling, &[]).expect("mail");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    spool
}

/// Runs the program, and tells how many requests that took.
fn count<A: AsRef<OsStr>>(server: &S3Server, arguments: impl IntoIterator<Item = A>) -> (Ran, u64) {
    let before = server.requests();
    let ran = run(Command::new(CYLINDER)
        .args(arguments)
        .envs(server.settings())
        .env("CYLINDER_CACHE_DIR", ""))
    .expect(0);
    (ran, server.requests() - before)
}

#[test]
fn requests_grow_with_the_accounts_and_no_faster() {
    let (server, scene, users) = (S3Server::start().expect("a server"), Scene::new(), accounts());
    let spool = spool(&scene, users);
    let vault = server.url("mail");
    let (all, pages) = (users as u64, users.div_ceil(PAGE) as u64);
    let mut arguments = backup_arguments(&spool, &vault, &[]);
    arguments.push("--all".to_owned());

    let (ran, requests) = count(&server, &arguments);
    assert_eq!(ran.document()["stored"], users);
    assert!(requests <= 3 * all + FEW, "listed, put and listed again: {requests}");
    let keys = server.keys();

    let (ran, requests) = count(&server, &arguments);
    assert_eq!(ran.document()["unchanged"], users);
    assert!(requests <= 2 * all + FEW, "listed and read: {requests}");
    assert_eq!(server.keys(), keys, "nothing new costs no object");

    let (ran, requests) = count(&server, ["history", "--vault", &vault, "--json", "u7"]);
    assert_eq!(ran.document()["snapshots"].as_array().map(Vec::len), Some(1));
    assert!(requests <= FEW, "an account is looked at without the others: {requests}");

    let (ran, requests) = count(&server, ["verify", "--vault", &vault, "--read-data", "--json"]);
    assert_eq!(ran.document()["accounts"].as_array().map(Vec::len), Some(users));
    assert!(requests <= 3 * all + pages + FEW, "listed, read and noted: {requests}");

    let rules = ["prune", "--vault", &vault, "--keep-last", "2", "--json"];
    let (ran, requests) = count(&server, rules);
    assert_eq!(ran.document()["accounts"].as_array().map(Vec::len), Some(users));
    assert!(requests <= 2 * all + pages + FEW, "listed, and a note read: {requests}");
}
