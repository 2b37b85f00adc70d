//! Trouble with processes, doors and other servers.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use testkit::process::{Group, wait_until};

use super::{LIMIT, visit};
use crate::everyday::{encrypted, mistake_of, wrong_password};
use crate::sieve::put_script;
use crate::tamper::{processes, with_fault};
use crate::{Lab, Outcome};

/// Waits for a line.
fn await_line(lab: &Lab, text: &str) -> Outcome {
    let came = wait_until(LIMIT, || lab.log.has(text));
    if came { Ok(()) } else { Err(format!("{text:?} was not logged").into()) }
}

/// The first process that is wanted is not to be had.
pub fn no_processes(lab: &mut Lab, user: &str) -> Outcome {
    let master = processes(&lab.master, "cyrmaster")?;
    let fault = "clone,clone3,fork,vfork:error=EAGAIN:when=1";
    with_fault(&master, fault, None, || put_script(lab.master.sieve_address(), user))
}

pub fn replica_down(lab: &mut Lab, user: &str) -> Outcome {
    lab.replica.crash();
    let mut client = lab.master.tool_command("sync_client");
    client.args(["-l", "-u", user]);
    let mut group = Group::spawn_guarded(&mut client)?;
    let outcome = await_line(lab, "Connection refused");
    group.kill();
    lab.replica.start()?;
    outcome
}

/// The password for the replica is no longer right.
pub fn replica_refuses(lab: &mut Lab, user: &str) -> Outcome {
    let path = lab.master.imapd_conf();
    let right = fs::read_to_string(path)?;
    let wrong = right.replace("sync_password: any", "sync_password: old");
    fs::write(path, wrong)?;
    let mut client = lab.master.tool_command("sync_client");
    client.args(["-l", "-u", user]);
    let mut group = Group::spawn_guarded(&mut client)?;
    let outcome = await_line(lab, "authenticate");
    group.kill();
    fs::write(path, right)?;
    outcome
}

/// The directory of the sync log belongs to somebody else.
pub fn unwritable_sync_log(lab: &mut Lab, user: &str) -> Outcome {
    let directory = lab.master.config_directory().join("sync");
    let cyrus = lab.master.user();
    let give = |uid, gid| -> Outcome {
        chown(&directory, Some(uid), Some(gid))?;
        for entry in fs::read_dir(&directory)? {
            chown(entry?.path(), Some(uid), Some(gid))?;
        }
        Ok(())
    };
    give(0, 0)?;
    let outcome = visit(lab, user);
    give(cyrus.uid, cyrus.gid)?;
    outcome
}

pub fn wrong_names(lab: &mut Lab, _: &str) -> Outcome {
    (0..80).try_for_each(|_| mistake_of(lab, "iris", "glad"))
}

pub fn wrong_passwords(lab: &mut Lab, _: &str) -> Outcome {
    (0..80).try_for_each(|_| wrong_password(lab, "ann"))
}

/// Nobody is there who knows the passwords.
pub fn no_saslauthd(lab: &mut Lab, user: &str) -> Outcome {
    lab.passwords.without(|| {
        // The server says no.
        let _ = lab.master.imap_as(user);
        let _ = lab.master.imap_as("glad");
    })?;
    Ok(())
}

pub fn unreadable_key(lab: &mut Lab, _: &str) -> Outcome {
    let key = lab.files.path().join("key.pem");
    chown(&key, Some(0), Some(0))?;
    let outcome = encrypted(lab);
    let cyrus = lab.master.user();
    chown(&key, Some(cyrus.uid), Some(cyrus.gid))?;
    outcome
}

/// Runs a master of its own with these services, until it says something.
fn second_master(lab: &Lab, conf: &str, says: &str) -> Outcome {
    let path = lab.master.root().join("second.conf");
    fs::write(&path, conf)?;
    let mut second = Command::new("/usr/sbin/cyrmaster");
    second.arg("-C").arg(lab.master.imapd_conf()).arg("-M").arg(path);
    second.arg("-p").arg(lab.master.root().join("second.pid")).arg("-D");
    let mut group = Group::spawn_guarded(&mut second)?;
    let outcome = await_line(lab, says);
    group.kill();
    outcome
}

/// A second master finds its ports taken.
pub fn taken_port(lab: &mut Lab, _: &str) -> Outcome {
    let conf = fs::read_to_string(lab.master.root().join("cyrus.conf"))?;
    second_master(lab, &conf, "unable to bind")
}

pub fn missing_program(lab: &mut Lab, _: &str) -> Outcome {
    let conf = "START {\n}\nSERVICES {\n}\nEVENTS {\n  tidy cmd=\"/nowhere/tidy\" period=1\n}\n";
    second_master(lab, conf, "/nowhere/tidy")
}

/// A service that ends as soon as it is started.
pub fn failing_service(lab: &mut Lab, _: &str) -> Outcome {
    let socket = lab.master.config_directory().join("socket/failing");
    let conf = format!(
        "START {{\n}}\nSERVICES {{\n  failing cmd=\"/bin/false\" listen=\"{}\" prefork=1\n}}\n",
        socket.display(),
    );
    second_master(lab, &conf, "disabling until")
}
