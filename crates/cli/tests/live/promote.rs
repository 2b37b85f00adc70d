//! A real master, `cylinder serve`, `cylinder promote`, and a Cyrus on what comes of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::process::{self, Group};
use testkit::{Cyrus, cyrus_or_skip};

use crate::account::Rich;
use crate::program::{CYLINDER, PATIENCE, run};
use crate::restored::{Seen, builder_on, scratch};

/// Serves a spool while a master sends it all that it has.
fn replicate(master: &Cyrus, directory: &Path, spool: &Path) {
    let users = directory.join("users");
    let mut add = Command::new(CYLINDER);
    add.args(["serve", "--add-user", "repl", "--users"]).arg(&users);
    process::run(&mut add, b"secret\n", PATIENCE).expect("it runs");
    let mut serve = Command::new(CYLINDER);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--users"]).arg(&users);
    serve.arg("--spool").arg(spool).stderr(Stdio::piped());
    let mut server = Group::spawn_guarded(&mut serve).expect("it starts");
    let mut lines = BufReader::new(server.leader().stderr.take().expect("a pipe")).lines();
    let mut line = || lines.next().expect("it goes on").expect("a line");
    let address = loop {
        if let Some((_, address)) = line().split_once("listening at ") {
            break address.to_owned();
        }
    };
    master.tool("sync_client", &["-S", &address, "-A"]).expect("all is sent");
    server.terminate(PATIENCE);
}

/// What is left to do, done as it is printed.
fn take(steps: &str) {
    for step in steps.lines().filter_map(|line| line.strip_prefix("    ")) {
        if step.starts_with("systemctl ") {
            continue;
        }
        let script = format!("PATH=/usr/lib/cyrus/bin:$PATH; {step}");
        let mut command = Command::new("/bin/su");
        command.args(["-s", "/bin/sh", "cyrus", "-c", &script]);
        let output = process::run(&mut command, b"", PATIENCE).expect("it runs");
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_promoted_replica_serves_all_that_its_master_had() {
    let Some(builder) = cyrus_or_skip("a_promoted_replica_serves_all") else { return };
    let builder = builder.conversations(true).option("sync_authname", "repl");
    let builder = builder.option("sync_password", "secret");
    let master = builder.clone().start().expect("Cyrus starts");
    let account = Rich::named("glad");
    account.fill(&master);
    let seen = Seen::of(&master, &account.user);
    let scratch = scratch();
    let spool = scratch.path().join("replica");
    replicate(&master, scratch.path(), &spool);

    let mut cyrus = builder_on(&builder, &spool).prepare().expect("a Cyrus");
    let mut promote = Command::new(CYLINDER);
    promote.arg("promote").arg("--spool").arg(&spool).arg("-C").arg(cyrus.imapd_conf());
    let promoted = run(promote.arg("--full")).expect(0);
    let said = String::from_utf8_lossy(&promoted.stdout).into_owned();
    take(&said);
    cyrus.start().expect("the promoted replica starts");
    let found = Seen::of(&cyrus, &account.user);
    assert_eq!(seen.differences(&found), Vec::<String>::new(), "{said}");
}
