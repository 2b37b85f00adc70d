//! A vault in an object store: the same commands, over a network that may fail.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::process::Group;
use testkit::s3::S3Server;
use testkit::spool_builder::{Era, Filling, SpoolBuilder, SpoolOptions, fill};

use crate::program::{CYLINDER, Ran, run};
use crate::sample::{belongs_to_us, check_maildir};
use crate::vaults::{SENT, Scene, backup_arguments};

fn cylinder<A: AsRef<OsStr>>(server: &S3Server, arguments: impl IntoIterator<Item = A>) -> Ran {
    run(Command::new(CYLINDER)
        .args(arguments)
        .envs(server.settings())
        .env("CYLINDER_CACHE_DIR", ""))
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
    command
        .args(&arguments)
        .envs(server.settings())
        .env("CYLINDER_CACHE_DIR", "")
        .env("AWS_SECRET_ACCESS_KEY", "wrong");
    let ran = run(&mut command).expect(1);
    assert!(ran.stderr.contains("x/cylinder-vault"), "{}", ran.stderr);
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[test]
fn a_missing_bucket_and_missing_credentials_are_called_so() {
    let server = S3Server::start().expect("a server");
    let scene = Scene::new();
    let spool = scene.spool(3);
    let nowhere = "s3://nowhere/mail";
    let ran = cylinder(&server, ["history", "--vault", nowhere, "glad"]).expect(1);
    assert!(ran.error().contains("no such bucket: s3://nowhere/mail"), "{}", ran.stderr);
    let ran = cylinder(&server, backup_arguments(&spool, nowhere, &["glad"])).expect(1);
    assert!(ran.stderr.contains("no such bucket"), "{}", ran.stderr);

    // The machine is asked for its role, and knows nothing of one.
    let settings = server.settings();
    let endpoint = settings.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL");
    let mut command = Command::new(CYLINDER);
    command.args(["history", "--vault", &server.url("x"), "glad"]).envs(settings.clone());
    command.env("AWS_METADATA_ENDPOINT", &endpoint.expect("an address").1);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let ran = run(&mut command).expect(1);
    assert!(ran.error().contains("no credentials for s3://vault/x"), "{}", ran.stderr);
    assert!(ran.hints("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{}", ran.stderr);
}

/// Two snapshots, all that can be asked of them, and the end of one; with a server that is not
/// well.
fn live_and_forget(server: &S3Server) {
    let scene = Scene::new();
    let vault = server.url("mail");
    for messages in [5, 9] {
        let spool = scene.spool(messages);
        // One by one, so that one has not all the bad luck that is meant for two.
        let mut arguments = backup_arguments(&spool, &vault, &["glad", "iris"]);
        arguments.push("--jobs=1".to_owned());
        let ran = cylinder(server, &arguments);
        assert_eq!(ran.code, 0, "{}", ran.text());
    }
    for (at, messages) in [("1", 5), ("2", 9)] {
        let out = scene.path(at);
        let to = format!("maildir:{}", out.display());
        let restore = ["restore", "--vault", &vault, "glad", "--at", at, "--to", &to];
        cylinder(server, restore).expect(0);
        assert_eq!(check_maildir(&out), messages + SENT);
    }
    cylinder(server, ["history", "--vault", &vault, "glad"]).expect(0);
    cylinder(server, ["verify", "--vault", &vault, "--read-data"]).expect(0);
    let rules = ["--keep-last", "1", "--max-garbage", "0", "--grace", "0"];
    for _ in 0..3 {
        cylinder(server, [&["prune", "--vault", &vault][..], &rules].concat()).expect(0);
    }
    for user in ["glad", "iris"] {
        let erase = ["prune", "--vault", &vault, "--forget", user, "--accept-removals"];
        cylinder(server, erase).expect(0);
    }
    assert_eq!(server.keys(), ["mail/cylinder-vault"]);
    assert_eq!(server.unfinished_uploads(), 0);
}

#[test]
fn a_server_that_is_busy_now_and_then_is_asked_again() {
    let server = S3Server::start().expect("a server");
    server.refuse_one_of(3);
    live_and_forget(&server);
}

#[test]
fn a_server_that_is_slow_is_waited_for() {
    let server = S3Server::start().expect("a server");
    server.delay(Duration::from_millis(20));
    live_and_forget(&server);
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    for bytes in [700, 2_000, 6_000] {
        let server = S3Server::start().expect("a server");
        server.cut_within(bytes);
        live_and_forget(&server);
    }
}

/// What a run may take that has nobody to talk to.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_server_that_is_gone_is_given_up_and_said_in_one_line() {
    let (server, scene) = (S3Server::start().expect("a server"), Scene::new());
    let (settings, vault) = (server.settings(), server.url("mail"));
    let spool = scene.spool(5);
    let mut backup = backup_arguments(&spool, &vault, &["glad", "iris"]);
    backup.retain(|argument| argument != "--json");
    let words = ["history", "--vault", &vault, "glad"].map(str::to_owned);
    let end = |arguments: &[String]| {
        let begun = Instant::now();
        let mut command = Command::new(CYLINDER);
        command.args(arguments).envs(settings.clone()).env("AWS_TIMEOUT", "100ms");
        let ran = run(&mut command).expect(1);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert!(ran.error().contains("mail/cylinder-vault"), "{}", ran.stderr);
        assert!(ran.hints("check the store"), "{}", ran.stderr);
    };
    // It takes calls and never answers; then it does not even take them.
    server.delay(Duration::from_secs(3_600));
    end(&backup);
    drop(server);
    end(&backup);
    end(&words);
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_not_waited_for_by_every_account() {
    let (server, scene) = (S3Server::start().expect("a server"), Scene::new());
    let options = SpoolOptions::new(Era::V3_6);
    let mut builder = SpoolBuilder::create(&scene.path("spool"), options).expect("a spool");
    let filling = Filling { users: 30, ..Filling::small(1, 1) };
    fill(&mut builder, &filling, &[]).expect("mail");
    let spool = builder.finish().expect("a spool");
    belongs_to_us(&spool.imapd_conf);
    let mut arguments = backup_arguments(&spool, &server.url("mail"), &["--all", "--jobs=1"]);
    arguments.retain(|argument| argument != "--json");
    let mut command = Command::new(CYLINDER);
    command.args(arguments).envs(server.settings()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut backup = Group::spawn_guarded(&mut command).expect("a backup");
    let told = BufReader::new(backup.leader().stderr.take().expect("what it says"));
    let (mut server, mut lines) = (Some(server), Vec::new());
    for line in told.lines() {
        lines.push(line.expect("a line"));
        // The second account is stored: from here on nobody answers.
        if lines.len() == 2 {
            server = None;
        }
    }
    assert!(server.is_none());
    assert_eq!(backup.leader().wait().expect("its end").code(), Some(1));
    let failed = lines.iter().filter(|line| line.contains("was not backed up")).count();
    assert_eq!(failed, 3, "{lines:#?}");
    let given_up = lines.iter().find(|line| line.contains("not tried"));
    assert!(given_up.is_some_and(|line| line.contains("failed 3 in a row")), "{lines:#?}");
}
