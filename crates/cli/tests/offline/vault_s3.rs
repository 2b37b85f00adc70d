//! A vault in an object store: the same commands, over a network that may fail.

use std::ffi::OsStr;
use std::process::Command;

use testkit::s3::S3Server;

use crate::program::{CYLINDER, Ran, run};
use crate::sample::check_maildir;
use crate::vaults::{SENT, Scene, backup_arguments};

fn cylinder<A: AsRef<OsStr>>(server: &S3Server, arguments: impl IntoIterator<Item = A>) -> Ran {
    run(Command::new(CYLINDER).args(arguments).envs(server.settings()))
}

#[test]
fn a_vault_in_a_bucket_does_what_one_in_a_directory_does() {
    let server = S3Server::start().expect("a server");
    let scene = Scene::new();
    let vault = server.url("mail/of all");
    for messages in [5, 8] {
        let spool = scene.spool(messages);
        cylinder(&server, backup_arguments(&spool, &vault, &["glad", "iris"])).expect(0);
    }
    let history = cylinder(&server, ["history", "--vault", &vault, "glad", "--json"]).expect(0);
    assert_eq!(history.document()["snapshots"].as_array().expect("a list").len(), 2);
    let out = scene.path("out");
    let to = format!("maildir:{}", out.display());
    cylinder(&server, ["restore", "--vault", &vault, "glad", "--at", "1", "--to", &to]).expect(0);
    assert_eq!(check_maildir(&out), 5 + SENT);
    cylinder(&server, ["verify", "--vault", &vault, "--read-data"]).expect(0);
    cylinder(&server, ["prune", "--vault", &vault, "--keep-last", "1"]).expect(0);
    let erase = ["prune", "--vault", &vault, "--forget", "glad", "--accept-removals"];
    cylinder(&server, erase).expect(0);
    let left = server.keys();
    assert!(left.iter().all(|key| !key.contains("glad")), "{left:?}");
    assert_eq!(server.unfinished_uploads(), 0);
}

#[test]
fn a_bucket_that_is_not_there_or_not_ours_is_said_to_be() {
    let server = S3Server::start().expect("a server");
    let scene = Scene::new();
    let spool = scene.spool(3);
    let ran = cylinder(&server, ["history", "--vault", &server.url("x"), "glad"]).expect(1);
    assert!(ran.error().contains("is not a vault"), "{}", ran.stderr);
    let arguments = backup_arguments(&spool, &server.url("x"), &["glad"]);
    let mut command = Command::new(CYLINDER);
    command.args(&arguments).envs(server.settings()).env("AWS_SECRET_ACCESS_KEY", "wrong");
    let ran = run(&mut command).expect(1);
    assert!(ran.stderr.contains("x/cylinder-vault"), "{}", ran.stderr);
    assert_eq!(server.keys(), Vec::<String>::new());
}
